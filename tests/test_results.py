"""docs/results.md is what the committed runs come to, number by number."""

from __future__ import annotations

import re

from iolab.registry import MODELS
from iolab_client.report.words import middle
from scripts import results


def test_the_page_is_written_from_the_runs_beside_it() -> None:
    made = results.pages()
    assert results.PAGE.read_text() == made[results.PAGE], "run scripts/results.py"
    for path in made:
        assert path.exists()


def test_every_model_has_its_row_and_nothing_was_left_out_unsaid() -> None:
    text = results.PAGE.read_text()
    rows = set(re.findall(r"^\| ([a-z_]+) \| [\d.,]+ \(", text, flags=re.MULTILINE))
    left_out = results.figures("closed").run.left_out
    assert rows | set(left_out) == set(MODELS)
    assert all(name in text for name in left_out)


def test_a_number_that_changes_in_the_data_changes_on_the_page() -> None:
    figures = results.figures("closed")
    cell = figures.cell("epoll_loop", 128)
    assert cell.cost
    assert f"| epoll_loop | {middle(cell.cost)} (" in results.PAGE.read_text()

"""The tables of a terminal: whole at 80 columns."""

from __future__ import annotations

import pytest
from rich.console import Console

from iolab.registry import MODELS
from iolab_client.report import tables
from iolab_client.report.versus import versus
from iolab_client.results.measurement import Errors, Run
from iolab_client.results.summary import summarise
from iolab_client.results.verdicts import judge_one
from iolab_client.terminal import screen
from tests.client.runs import comparison, measurement, run_of


@pytest.fixture(scope="module")
def run() -> Run:
    """All models and numbers as long as they get; one errs."""
    made = comparison(["yardstick"], rounds=2, connections=(64,), rates=())
    for number in range(2):
        for place, slug in enumerate(MODELS):
            one = measurement(subject=slug, round=number, rate=123_456.0 - 777 * place, cost=7.9, mean=123_456.0)
            if slug == "thread_per_connection":
                one.errors = Errors(wrong=1, samples=["byte 7 is other"])
                one.verdict = judge_one(one)
            made.measurements.append(one)
    return made


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Console:
    made = Console(width=request.param, highlight=False, record=True)
    monkeypatch.setattr(screen, "console", lambda: made)
    return made


@pytest.mark.parametrize("console", [80, tables.WIDE], indirect=True)
def test_each_row_of_a_comparison_is_one_whole_line_and_a_reason_stands_below(run: Run, console: Console) -> None:
    tables.show(summarise(run))
    lines = console.export_text().splitlines()
    assert all(len(line) <= console.width for line in lines)
    assert not any("…" in line for line in lines)
    for slug in MODELS:
        (line,) = [line for line in lines if f" {slug} " in line.split(" is ")[0]]
        word = "ERRORS" if slug == "thread_per_connection" else "VALID"
        assert line.rstrip().endswith(word)
    assert "thread_per_connection is ERRORS: in 2 of 2 rounds: 1 errors (1 wrong)" in " ".join(lines)


@pytest.mark.parametrize("console", [80], indirect=True)
def test_each_row_of_two_runs_is_one_whole_line(run: Run, console: Console) -> None:
    tables.show_versus(versus(run, run_of([*run.measurements])))
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    rows = [line for line in lines if line.startswith("io_uring_ring ")]
    assert [row.split()[1] for row in rows] == ["cost", "rate", "p99"]
    assert all(row.rstrip().endswith("not told apart") for row in rows)
    assert any(line.startswith("thread_per_connection is not judged: ERRORS in the first") for line in lines)


@pytest.mark.parametrize("console", [screen.PIPE_WIDTH], indirect=True)
def test_in_a_pipe_the_reason_is_in_the_row(run: Run, console: Console) -> None:
    tables.show(summarise(run))
    (line,) = [line for line in console.export_text().splitlines() if "thread_per_connection" in line]
    assert "ERRORS: in 2 of 2 rounds: 1 errors (1 wrong)" in line

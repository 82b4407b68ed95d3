"""docs/paths.md is what its data says, and the data is about what there is."""

from __future__ import annotations

import json

from iolab_client.path.examination import EXAMINED
from scripts.between import PATHS
from scripts.paths import DATA, PAGE, page


def test_the_page_is_what_its_data_says() -> None:
    assert PAGE.read_text() == page(json.loads(DATA.read_text())), "python -m scripts.paths render"


def test_the_data_has_every_path_and_every_clause() -> None:
    paths = json.loads(DATA.read_text())["paths"]
    assert [path["name"] for path in paths] == list(PATHS)
    names = [(one.clause, one.way and one.way.value) for one in EXAMINED]
    for path in paths:
        assert [(one["clause"], one["way"]) for one in path["clauses"]] == names


def test_a_direct_connection_kept_every_clause_so_that_what_the_others_break_is_theirs() -> None:
    direct = json.loads(DATA.read_text())["paths"][0]
    assert [one for one in direct["clauses"] if not one["kept"]] == []

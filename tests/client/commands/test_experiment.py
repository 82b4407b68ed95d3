"""`experiment` as a user meets it: the list, a real trial, a prediction, the page of it, and what can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iolab_client.__main__ import main
from iolab_client.experiments import pool_cap
from iolab_client.trial import claim as claims
from iolab_client.trial import trials
from iolab_client.trial.finding import CANNOT_TELL, HOLDS
from tests.support.waiting import eventually


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments], input=typed)


def test_without_a_name_it_tells_which_there_are_and_what_each_takes() -> None:
    for result in (run(), run("list")):
        assert result.exit_code == 0, result.output
        for name in claims.names():
            assert f"{name} " in result.stdout
    listed = json.loads(run("list", "--json").stdout)
    assert [one["name"] for one in listed] == claims.names()


def test_a_claim_is_tried_predicted_judged_and_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_cap, "CLIENTS", (2, 8))
    made = tmp_path / "made"
    asked = ("pool-cap", "--quick", "--predict", "--place", "processes", "--out", "made", "--json")

    def told() -> tuple[Result, dict[str, Any]] | None:
        """What was told, where the machine was not too busy to tell."""
        shutil.rmtree(made, ignore_errors=True)
        result = run(*asked, typed="2\n")
        assert result.exit_code == 0, result.output
        (trial,) = json.loads(result.stdout)["trials"]
        return None if trial["finding"]["word"] == CANNOT_TELL else (result, trial)

    result, trial = eventually(told, "a moment in which the machine was not too busy")
    assert (trial["name"], trial["finding"]["word"], trial["predicted"]) == ("pool-cap", HOLDS, "FAILS")
    assert "What do you think?" in result.stderr
    assert "you said FAILS. Of clients that stay, the pool of 4 answered 2 of 2, 4 of 8." in result.stderr
    (folder,) = made.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [trials.CLAIMS, "report.html"]
    page = (folder / "report.html").read_text()
    assert "pool-cap" in page
    assert "(predicted: FAILS)" in page
    again = run("--from", str(folder), "--markdown", "docs/claims.md")
    assert again.exit_code == 0, again.output
    assert HOLDS in again.stdout
    assert "**HOLDS**. Of clients that stay" in Path("docs/claims.md").read_text()
    assert Path("docs/results/claims/pool-cap.svg").read_text().startswith("<?xml")


def test_what_was_measured_is_judged_anew_and_not_believed(tmp_path: Path) -> None:
    points = [
        {"side": side, "at": clients, "round": 1, "values": {"answered": clients}}
        for side in ("blocking_pool", "thread_per_connection")
        for clients in (2, 4, 8, 16)
    ]
    file = tmp_path / trials.CLAIMS
    file.write_text(json.dumps(docket(points)))
    result = run("--from", str(file), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["trials"][0]["finding"]["word"] == "FAILS"


def docket(points: Sequence[object], name: str = "pool-cap") -> dict[str, object]:
    machine = {"place": "processes", "kernel": "6", "cpu": "c", "cores": 2, "memory_bytes": 1, "python": "3"}
    trial = {"name": name, "quick": True, "seconds": 1, "finding": {"word": HOLDS, "why": ""}, "points": points}
    return {"command": "", "started": "", "environment": {**machine, "libraries": {}}, "trials": [trial]}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pool_cup"], "no experiment is called 'pool_cup'; there are: "),
        (
            ["--from", "nowhere.json"],
            "nowhere.json: no such file or directory; expected a file that `experiment` wrote",
        ),
        (["--from", "bad.json"], "bad.json: expected the JSON that `experiment` wrote: "),
        (["--from", "other.json"], "other.json: no experiment is called 'pool_cup'; expected one of "),
    ],
)
def test_what_cannot_be_is_told_in_one_line(arguments: list[str], complaint: str) -> None:
    Path("bad.json").write_text("{}")
    Path("other.json").write_text(json.dumps(docket([], "pool_cup")))
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr

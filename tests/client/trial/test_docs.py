"""docs/claims.md is what `make claims` makes of its data, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from iolab_client.trial import claim as claims
from iolab_client.trial import trials, words

DOCS = Path(__file__).parents[3] / "docs"
PLOTS = Path("results") / "claims"


def test_the_page_is_made_of_the_committed_data() -> None:
    docket = trials.read(DOCS / PLOTS)
    assert (DOCS / "claims.md").read_text() == words.markdown(docket, PLOTS), "make it again: make claims"


def test_what_the_words_name_is_what_was_measured() -> None:
    for trial in trials.read(DOCS / PLOTS).trials:
        assert trial.constants == claims.find(trial.name).constants, f"{trial.name} was changed since: make claims"


def test_each_claim_is_on_the_page_with_its_plot() -> None:
    docket = trials.read(DOCS / PLOTS)
    assert sorted(trial.name for trial in docket.trials) == claims.names()
    drawn = {trial.name for trial in docket.trials if trial.points}
    assert {file.stem for file in (DOCS / PLOTS).glob("*.svg")} == drawn


def test_what_is_judged_otherwise_makes_another_page() -> None:
    docket = trials.read(DOCS / PLOTS)
    page = words.markdown(docket, PLOTS)
    trial = next(trial for trial in docket.trials if trial.name == "pool-cap")
    trial.points[0].values["answered"] += 1
    trial.finding = trials.judged(claims.find(trial.name), trial.points)
    assert words.markdown(docket, PLOTS) != page

"""An experiment on a server that behaves the other way gives the other verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from iolab.registry import Model
from iolab_client.compare.places import Processes
from iolab_client.experiments import drain, pool_cap
from iolab_client.trial import bench, trials
from iolab_client.trial import claim as claims
from iolab_client.trial.finding import CANNOT_TELL, DEPENDS, FAILS, HOLDS, Finding
from tests.support.waiting import eventually


def tried(name: str, folder: Path, python: str | None = None) -> Finding:
    place = Processes((), (), configs=folder)
    means = bench.Means(
        place=place,
        here=place,
        everywhere=place,
        configs=folder,
        quick=True,
        server_cpus=(0,),
        client_cpus=(0, 1),
        seed=1,
        python=python,
    )
    return trials.put_on_trial(claims.find(name), bench.Bench(means)).finding


@pytest.mark.parametrize(("workers", "word"), [(pool_cap.WORKERS, HOLDS), (16, FAILS)])
def test_a_pool_with_room_for_all_has_no_cap(
    workers: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = bench.write_configs

    def write_other(folder: Path, model: Model, settings: Mapping[str, Any]) -> None:
        write(folder, model, {**settings, "workers": workers} if model.pool else settings)

    monkeypatch.setattr(bench, "write_configs", write_other)
    monkeypatch.setattr(pool_cap, "CLIENTS", (2, 8))

    def told() -> str | None:
        """The verdict, where the machine was not too busy for one."""
        found = tried("pool-cap", tmp_path).word
        return None if found == CANNOT_TELL else found

    assert eventually(told, "a moment in which the machine was not too busy") == word


@pytest.mark.parametrize(("drains", "word"), [((0.2, 40.0), DEPENDS), ((30.0, 40.0), HOLDS)])
def test_a_drain_that_is_long_enough_loses_nobody(
    drains: tuple[float, float], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So much that a slow machine makes no difference.
    monkeypatch.setattr(drain, "WAIT_MS", 4000)
    monkeypatch.setattr(drain, "DRAINS", drains)
    monkeypatch.setattr(drain, "NAMES", ("asyncio_streams",))
    assert tried("drain", tmp_path).word == word


def test_an_interpreter_with_a_lock_is_none_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREE_THREADED_IMAGE", raising=False)
    asked = tried("free-threads", tmp_path)
    assert asked.word == CANNOT_TELL
    assert "name it with --python PATH" in asked.why
    finding = tried("free-threads", tmp_path, python=str(tmp_path / "nowhere"))
    assert finding.word == CANNOT_TELL
    assert "its lock" in finding.why
    assert "No such file" in finding.why

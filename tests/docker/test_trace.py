"""Timelines of containers: a tracer of its own, that has no more rights than the server, sees all of its threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from iolab import registry
from iolab_client.compare import containers
from iolab_client.trace.attached import TRACER, record_container
from iolab_client.trace.recording import CannotTrace, Script
from tests.support.compose import CHECKOUT, ComposeTarget
from tests.support.missing import skip_for_kernel

MODEL = registry.find("prefork_epoll")


def test_a_tracer_of_the_same_user_and_without_rights_sees_every_thread_of_every_child(target: ComposeTarget) -> None:
    labels = [f"{containers.PROJECT_LABEL}={containers.PROJECT}", f"{containers.SERVICE_LABEL}={TRACER}"]
    seen: list[dict[str, Any]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            listed = target.client.containers.list(filters={"label": labels}, ignore_removed=True)
            seen.extend(dict(one.attrs) for one in listed)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        recording = record_container(MODEL, Script(clients=2, messages=1, wait_ms=300), Path(CHECKOUT) / "configs")
    except CannotTrace as error:
        if "ptrace is refused" in str(error):
            skip_for_kernel(str(error))
        raise
    finally:
        over.set()
        watcher.join()

    timeline = recording.timeline
    assert [passage.read is not None for passage in timeline.passages] == [True, True]
    assert all(passage.answered - passage.sent >= 300 for passage in timeline.passages)
    names = {lane.name for lane in timeline.lanes} | {quiet.name for quiet in timeline.quiet}
    assert {"supervisor", "prefork_epoll", "stop", "books", "log"} <= names
    assert timeline.calls["clock_nanosleep"] == 2
    assert list(recording.texts) == [MODEL.slug]

    assert seen
    host, config = seen[0]["HostConfig"], seen[0]["Config"]
    assert host["PidMode"].startswith("container:")
    assert host["NetworkMode"] == "none"
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert not host["Binds"]
    mine: dict[str, Any] = {"label": f"{containers.PROJECT_LABEL}={containers.PROJECT}"}
    assert target.client.containers.list(all=True, filters=mine) == []

"""What surrounds the models: threads, run files."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from iolab.kernel.threads import NoThread, start_thread
from iolab.observe.xray import photograph
from iolab.registry import MODELS
from iolab.run import launcher
from iolab.settings import Settings

DEADLINE = 20.0


def test_a_photograph_shows_each_thread_by_name_and_by_the_call_it_waits_in() -> None:
    first, second = socket.socketpair()
    with first, second:
        thread = start_thread(lambda: first.recv(1), "reader-of-bytes")
        end = time.monotonic() + DEADLINE
        while True:
            (process,) = photograph([os.getpid()], leave_out=threading.get_native_id())
            found = {entry["name"]: entry for entry in process["threads"]}
            if "reader-of-bytes" in found and found["reader-of-bytes"]["syscall"] == "recvfrom":
                break
            assert time.monotonic() < end, found
        assert process["pid"] == os.getpid()
        assert threading.get_native_id() not in {entry["tid"] for entry in process["threads"]}
        entry = found["reader-of-bytes"]
        assert entry["state"] == "S"
        assert entry["cpu_seconds"] >= 0
        assert entry["voluntary_switches"] >= 1
        second.send(b"a")
        thread.join(DEADLINE)


def test_in_a_photograph_no_thread_that_can_run_waits_in_a_call() -> None:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    thread = start_thread(spin, "spins")
    try:
        entries = [
            entry
            for _ in range(200)
            for (process,) in [photograph([os.getpid()], leave_out=threading.get_native_id())]
            for entry in process["threads"]
            if entry["name"] == "spins"
        ]
    finally:
        over.set()
        thread.join(DEADLINE)
    can_run = {entry["syscall"] for entry in entries if entry["state"] == "R"}
    assert can_run == {"running"}


def test_a_system_without_threads_is_a_capacity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(NoThread, match="cannot start thread worker-7: can't start new thread"):
        start_thread(lambda: None, "worker-7")


def unavailable(settings: Settings) -> str | None:
    """What a registry row's `probe` is asked: this module is one."""
    return "no such thing here; get one" if settings.backlog == 1024 else None


def test_a_model_without_a_probe_runs_everywhere_and_one_with_a_probe_where_that_says_so() -> None:
    plain = MODELS["epoll_loop"]
    probed = dataclasses.replace(plain, probe=__name__)
    assert plain.unavailable(Settings()) is None
    assert probed.unavailable(Settings()) == "no such thing here; get one"
    assert probed.unavailable(Settings(backlog=1)) is None


def test_a_model_without_its_library_names_the_extra_that_brings_it() -> None:
    lacking = dataclasses.replace(MODELS["tornado_iostream"], library="no_such_library")
    expected = "no_such_library is not installed; pip install 'iolab[tornado-iostream]'"
    assert lacking.unavailable(Settings()) == lacking.not_installed() == expected
    assert MODELS["tornado_iostream"].not_installed() is None


def test_up_tells_why_where_the_machine_can_run_none_of_the_models_that_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IOLAB_RUN_DIR", str(tmp_path))
    monkeypatch.setitem(MODELS, "epoll_loop", dataclasses.replace(MODELS["epoll_loop"], probe=__name__))
    with pytest.raises(launcher.LaunchError, match=r"^epoll_loop is unavailable: no such thing here; get one$"):
        launcher.start(("epoll_loop",), {"epoll_loop": Settings()}, None, detach=True)

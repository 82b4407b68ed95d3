"""`iolab up` and `iolab down`: the models as plain processes, where there is no Docker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from iolab.kernel.identity import own_identity
from iolab.run.launcher import run_until_stopped
from iolab.run.run_files import Running
from iolab.server.stop import SIGNALS
from iolab_client.contract import peers
from tests.support.launcher import COMMAND, SECONDS, SLUGS, Launcher, alive, family
from tests.support.process import environment
from tests.support.waiting import eventually

# A server that is there for some time after it has taken its file away, as one with parts of its own may be.
ENDS_SLOWLY = """
import signal, threading
from iolab.run import run_files
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with run_files.announced("epoll_loop", "127.0.0.1", 1, 2, 5.0):
    signal.sigwait({signal.SIGTERM})
threading.Event().wait(1)
"""
# `iolab` as it would be on a machine so fast that two signals are no moment apart.
WHERE_NO_TIME_PASSES = """
import types
from iolab.__main__ import main
from iolab.run import launcher
launcher.time = types.SimpleNamespace(monotonic=lambda: 1.0)
main()
"""
# A parent that never wants to know how its children end.
IGNORES_CHILDREN = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_up_starts_them_and_down_leaves_no_process(launcher: Launcher) -> None:
    code, table, errors = launcher.run("up", "--detach", *SLUGS)
    assert (code, errors) == (0, "")
    for slug, row in zip(SLUGS, table.splitlines()[1:], strict=True):
        assert row.startswith(slug)
        assert row.endswith(f"printf 'hi\\n' | nc -N 127.0.0.1 {launcher.ports[slug]}")
        assert launcher.answers(slug)
    servers = family(launcher.pids())
    assert len(servers) > len(SLUGS)

    code, said, errors = launcher.run("down")
    assert alive(servers) == []
    assert (code, errors) == (0, "")
    assert sorted(said.removeprefix("stopped ").strip().split(", ")) == sorted(SLUGS)
    assert launcher.pids() == []


def test_up_and_its_servers_import_nothing_from_the_current_directory(launcher: Launcher, tmp_path: Path) -> None:
    # The first three are imported by `python -m` itself: only -P keeps them out.
    for name in ("contextlib", "types", "warnings", "json", "select", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not what was meant')")
    with launcher.in_front() as (up, servers):
        up.send_signal(signal.SIGTERM)
        assert up.wait(SECONDS) == 0
    assert alive(servers) == []


def test_up_ends_with_0_also_where_its_parent_has_ignored_the_end_of_children(launcher: Launcher) -> None:
    with launcher.in_front(command=(sys.executable, "-c", IGNORES_CHILDREN, *COMMAND)) as (up, _):
        up.send_signal(signal.SIGTERM)
        assert up.wait(SECONDS) == 0


def test_up_can_be_stopped_while_it_reads_its_files(launcher: Launcher) -> None:
    file = launcher.configs / "models" / "epoll_loop.yaml"
    file.unlink()
    os.mkfifo(file)
    with launcher.begin("up") as up, file.open("w"):
        # Opened for writing, so it is being read.
        up.send_signal(signal.SIGTERM)
        assert up.wait(SECONDS) == -signal.SIGTERM


def test_down_waits_for_the_process_and_not_only_for_its_file(launcher: Launcher, tmp_path: Path) -> None:
    by_up = environment(tmp_path, {"IOLAB_STARTED_BY": "up", "IOLAB_RUN_DIR": str(launcher.run_files)})
    with subprocess.Popen([sys.executable, "-c", ENDS_SLOWLY], env=by_up) as server:
        eventually(launcher.pids, "it is announced")
        code, said, _ = launcher.run("down")
        ended = server.poll()

    assert (code, said) == (0, "stopped epoll_loop\n")
    assert ended == 0


def test_down_with_nothing_there_says_so(launcher: Launcher) -> None:
    assert launcher.run("down") == (0, f"nothing was running; looked in {launcher.run_files}\n", "")


def test_up_again_has_new_ones_in_the_place_of_those_that_run(launcher: Launcher) -> None:
    first = launcher.up()
    servers = family(first)
    launcher.configure("epoll_loop", backlog=7)
    second = launcher.up()

    assert alive(servers) == []
    assert len(second) == len(SLUGS)
    assert not set(first) & set(second)
    assert all(map(launcher.answers, SLUGS))


@pytest.mark.parametrize("detach", [["--detach"], []])
def test_one_that_cannot_start_is_told_with_its_reason_and_the_others_do_not_stay(
    launcher: Launcher, detach: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", launcher.ports["prefork_epoll"])):
        code, output, errors = launcher.run("up", *detach, *SLUGS)
    printed = output + errors
    assert code == 1
    assert f"127.0.0.1:{launcher.ports['prefork_epoll']}: Address already in use" in printed
    assert "prefork_epoll ended with exit 1" in printed
    assert launcher.pids() == []
    assert not launcher.answers("epoll_loop")


def test_a_bad_file_stops_up_before_it_starts_one(launcher: Launcher) -> None:
    launcher.configure("prefork_epoll", backlog="many")
    code, output, errors = launcher.run("up", "--detach", *SLUGS)
    (line,) = errors.splitlines()
    assert (code, output) == (2, "")
    assert "prefork_epoll.yaml: backlog: got many, expected an integer" in line
    assert not launcher.answers("epoll_loop")


@pytest.mark.parametrize("number", sorted(SIGNALS))
def test_in_the_foreground_a_signal_stops_all_and_the_exit_is_0(launcher: Launcher, number: signal.Signals) -> None:
    with launcher.in_front() as (command, servers):
        assert all(map(launcher.answers, SLUGS))
        command.send_signal(number)
        command.communicate(timeout=SECONDS)

    assert command.returncode == 0
    assert alive(servers) == []


def test_a_closed_terminal_that_was_not_to_matter_stops_nothing(launcher: Launcher) -> None:
    with launcher.in_front(command=["nohup", *COMMAND]) as (command, servers):
        command.send_signal(signal.SIGHUP)
        assert all(map(launcher.answers, SLUGS))
        assert alive(servers) == servers
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=SECONDS)

    assert command.returncode == 0
    assert alive(servers) == []


def test_servers_in_the_foreground_stop_when_up_is_killed_and_owe_nobody_anything(launcher: Launcher) -> None:
    with launcher.in_front() as (command, servers), launcher.connect("epoll_loop") as client:
        assert peers.ask(client, b"hello") == b"HELLO"
        command.kill()
        # It drains: who is served is waited for.
        assert peers.exchange(client, b"word") == b"WORD"
        eventually(lambda: not alive(servers), "all of them end")


def pending(pid: int) -> int:
    """The signals that the process has been sent and not taken, a bit for each."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd:"))
    return int(line.split()[1], 16)


def test_a_stop_that_comes_twice_at_once_is_one_stop(launcher: Launcher) -> None:
    launcher.configure("epoll_loop", drain_seconds=60, drain_quiet_seconds=30)
    command = [sys.executable, "-c", WHERE_NO_TIME_PASSES]
    with launcher.in_front(command=command) as (up, servers), launcher.connect("epoll_loop") as client:
        for _ in range(2):
            up.send_signal(signal.SIGTERM)
            eventually(lambda: not pending(up.pid), "it has taken the signal")
        # Long enough for a server that was told twice to have cut him.
        time.sleep(0.5)
        assert peers.exchange(client, b"word") == b"WORD"
        up.communicate(timeout=SECONDS)

    assert up.returncode == 0
    assert alive(servers) == []


def test_a_server_that_is_gone_before_it_is_waited_for_has_failed() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(SECONDS)
    server = Running(
        model=SLUGS[0],
        process=msgspec.structs.replace(own_identity(), pid=ended.pid),
        host="",
        port=1,
        admin_port=2,
        drain_seconds=1,
        by_up=True,
    )
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        assert run_until_stopped([server]) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_a_signal_while_they_start_leaves_none(launcher: Launcher) -> None:
    """It comes when the first is there and the last is kept from being so."""
    with launcher.begin("up", *SLUGS) as command:
        up = psutil.Process(command.pid)
        servers: list[psutil.Process] = []

        def started() -> bool:
            # Until it is another program, a child holds its parent (vfork(2)), which then would hear of no signal.
            children = [child for child in up.children() if "serve" in child.cmdline()]
            servers[:] = sorted(children, key=lambda child: child.pid)
            return len(servers) == len(SLUGS)

        eventually(started, "both were started")
        first, last = servers
        last.suspend()
        try:
            eventually(launcher.pids, "the first is there")
            command.send_signal(signal.SIGINT)
            eventually(lambda: not alive([first]), "it is told to stop")
        finally:
            # Nobody else would, where this fails.
            last.resume()
        command.communicate(timeout=SECONDS)

    assert command.returncode != 0
    assert alive(servers) == []

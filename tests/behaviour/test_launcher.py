"""`iolab up` and `iolab down`: the models as plain processes, where there is no Docker."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from iolab.run.launcher import run_until_stopped
from iolab.run.run_files import Running
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.process import environment
from tests.support.waiting import eventually

CHECKOUT = Path(__file__).parents[2]
SECONDS = 60
# One alone, and one that has children.
SLUGS = ("epoll_loop", "prefork_epoll")
# A server that is there for some time after it has taken its file away, as one with parts of its own may be.
ENDS_SLOWLY = """
import signal, threading
from iolab.run import run_files
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with run_files.announced("epoll_loop", "127.0.0.1", 1, 2, 5.0):
    signal.sigwait({signal.SIGTERM})
threading.Event().wait(1)
"""


class Launcher:
    """The command in a folder of its own, with ports that were free a moment ago."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = environment(folder)
        self.run_files = folder / "run"
        self.configs = folder / "configs"
        shutil.copytree(CHECKOUT / "configs", self.configs)
        self.ports = {slug: free_port() for slug in SLUGS}
        for slug in SLUGS:
            self.configure(slug)

    def configure(self, slug: str, **settings: object) -> None:
        values = {"port": self.ports[slug], **settings}
        (self.configs / "models" / f"{slug}.yaml").write_text(yaml.safe_dump(values))

    @contextlib.contextmanager
    def begin(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "iolab", *words],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            try:
                yield command
            finally:
                # One that hangs is a failed test, and not a suite that hangs.
                command.kill()

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        with self.begin(*words) as command:
            output, errors = command.communicate(timeout=SECONDS)
        return command.returncode, output, errors

    def up(self) -> list[int]:
        """Start all, detached; the pids of the servers."""
        code, _, errors = self.run("up", "--detach", *SLUGS)
        assert code == 0, errors
        return self.pids()

    def pids(self) -> list[int]:
        return sorted(json.loads(file.read_text())["pid"] for file in self.run_files.glob("*.json"))

    def answers(self, slug: str) -> bool:
        try:
            with connect(("127.0.0.1", self.ports[slug])) as client:
                return peers.exchange(client, b"word") == b"WORD"
        except ConnectionError:
            return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def family(pids: list[int]) -> list[psutil.Process]:
    """The processes and their children."""
    return [member for pid in pids for process in [psutil.Process(pid)] for member in (process, *process.children())]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    assert launcher.run("down")[0] == 0


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


def test_down_waits_for_the_process_and_not_only_for_its_file(launcher: Launcher, tmp_path: Path) -> None:
    by_up = environment(tmp_path, {"IOLAB_STARTED_BY": "up"})
    with subprocess.Popen([sys.executable, "-c", ENDS_SLOWLY], env=by_up) as server:
        eventually(launcher.pids, "it is announced")
        code, said, _ = launcher.run("down")
        ended = server.poll()

    assert (code, said) == (0, "stopped epoll_loop\n")
    assert ended == 0


def test_down_with_nothing_there_says_so(launcher: Launcher) -> None:
    assert launcher.run("down") == (0, "nothing was running\n", "")


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
    assert "prefork_epoll.yaml: backlog: got many, expected integer" in line
    assert not launcher.answers("epoll_loop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_stops_all_and_the_exit_is_0(launcher: Launcher, number: signal.Signals) -> None:
    with launcher.begin("up", *SLUGS) as command:
        eventually(lambda: all(map(launcher.answers, SLUGS)), "the servers answer")
        assert command.stderr
        # It waits for them from then on.
        for line in command.stderr:
            if line.startswith("Ctrl-C"):
                break
        servers = family(launcher.pids())
        command.send_signal(number)
        command.communicate(timeout=SECONDS)

    assert command.returncode == 0
    assert alive(servers) == []


def test_a_server_that_is_gone_before_it_is_waited_for_has_failed() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(SECONDS)
    server = Running(
        model=SLUGS[0], pid=ended.pid, started=0, host="", port=1, admin_port=2, drain_seconds=1, by_up=True
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

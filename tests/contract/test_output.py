"""docs/contract.md, the log: an output that nobody reads costs lines and nothing else, no client and no stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iolab_client.contract import payload, peers
from tests.support.clients import flood_all
from tests.support.fleet import Lab
from tests.support.models import forks, without_children
from tests.support.output import FullPipe, Output, StoppedTerminal
from tests.support.process import ProcessTarget
from tests.support.server import RunningServer
from tests.support.waiting import eventually, pause

pytestmark = pytest.mark.targets("process")

Unread = Callable[..., RunningServer]

# More than any server and its kernel take from a client that reads nothing.
STREAM = payload.make(16 * 1024 * 1024)
PATIENCE_SECONDS = 50

on_each_output = pytest.mark.parametrize("kind", [FullPipe, StoppedTerminal])
on_a_pipe = pytest.mark.parametrize("kind", [FullPipe])
on_a_terminal = pytest.mark.parametrize("kind", [StoppedTerminal])


@pytest.fixture
def output(kind: Callable[[Path], Output], tmp_path: Path) -> Iterator[Output]:
    output = kind(tmp_path)
    yield output
    output.close()


@pytest.fixture
def unread(lab: Lab, output: Output) -> Unread:
    """Starts a server whose stdout takes nothing once it listens."""

    def start(**settings: object) -> RunningServer:
        target = lab.target
        assert isinstance(target, ProcessTarget)
        server = lab.adopt(target.start(lab.model, {**lab.variant.settings, **settings}, stdout=output))
        assert server.listening
        output.hold_back()
        return server

    return start


def stop_with_a_stuck_reader(server: RunningServer) -> None:
    client = server.connect(receive_buffer_bytes=peers.SMALL_BUFFER_BYTES)
    assert peers.ask(client, b"a") == b"A"
    flood_all([client], STREAM)
    server.stop()
    eventually(lambda: server.page("/healthz")[0] == 503, "the stop has begun")


@on_each_output
def test_clients_are_served_and_refused_and_the_stop_ends_with_0(unread: Unread) -> None:
    server = unread(max_connections=2, drain_seconds=PATIENCE_SECONDS)
    clients = server.connect_many(2)
    for client in clients:
        assert peers.ask(client, b"here") == b"HERE"
    # That one is refused is something to log.
    assert peers.read_to_end(server.connect()) == b""
    for client in clients:
        assert peers.ask(client, b"still here") == b"STILL HERE"
    server.stop()

    assert [peers.read_to_end(client) for client in clients] == [b"", b""]
    assert server.wait() == 0


@on_a_terminal
def test_a_second_signal_ends_it_with_1(unread: Unread) -> None:
    server = unread(drain_seconds=PATIENCE_SECONDS)
    stop_with_a_stuck_reader(server)
    pause(1.1)
    server.stop(signal.SIGINT)

    assert server.wait(seconds=PATIENCE_SECONDS / 2) == 1


@on_a_pipe
def test_the_deadline_ends_it_with_1(unread: Unread) -> None:
    server = unread(drain_seconds=1)
    stop_with_a_stuck_reader(server)

    assert server.wait() == 1


# A module that Python imports at its start, before the server is there.
BUG = """
from iolab.server.admission import Admission

def admitted(*_):
    raise RuntimeError("seen by nobody" + "!" * 1_000_000)

Admission.admitted = admitted
"""


def start_with_a_bug(lab: Lab, folder: Path, stderr: str) -> RunningServer:
    (folder / "sitecustomize.py").write_text(BUG)
    target = lab.target
    assert isinstance(target, ProcessTarget)
    # By hand: its stderr would be complained of.
    return target.start(lab.model, dict(lab.variant.settings), prefix=["env", f"PYTHONPATH={folder}"], stderr=stderr)


@on_a_pipe
@without_children
def test_a_bug_ends_it_with_70_though_nobody_reads_its_traceback(lab: Lab, output: Output, tmp_path: Path) -> None:
    server = start_with_a_bug(lab, tmp_path, output.path)
    try:
        client = server.connect()
        assert peers.read_to_end(client) == b""
        assert server.wait() == 70
        # As much of it as the pipe took.
        assert "seen by nobody!" in output.read()
    finally:
        server.close_clients()
        server.remove()


@on_a_pipe
@forks
def test_a_childs_bug_ends_the_child_with_70(lab: Lab, output: Output, tmp_path: Path) -> None:
    server = start_with_a_bug(lab, tmp_path, output.path)
    try:
        server.connect()
        assert server.event("child_ended")["ended"] == "exit 70"
        server.stop()
        assert server.wait() == 0
    finally:
        server.close_clients()
        server.remove()


@on_each_output
def test_what_waited_for_the_reader_is_written_when_he_is_back(unread: Unread, output: Output) -> None:
    server = unread(max_connections=1)
    client = server.connect()
    assert peers.ask(client, b"here") == b"HERE"
    assert peers.read_to_end(server.connect()) == b""
    assert server.metric("connections_refused_total") == 1
    output.let_go()
    server.event("refused")
    server.stop()

    assert server.wait() == 0
    assert [event["event"] for event in server.events] == ["listening", "refused", "draining", "stopped"]

"""The plugin's servers, as a test is given them; docs/pytest.md has the rest, and is run with the wheel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from iolab_pytest import CannotStart, MisbehavingFactory, ServerFactory
from iolab_pytest.kept import Kept
from iolab_pytest.lab import Lab
from iolab_pytest.servers import KeptServer
from tests.support.waiting import DEADLINE_SECONDS, eventually

# Prints its number, then sleeps for longer than any test.
SLEEPS = (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")


def exchange(address: Address, message: bytes) -> bytes:
    with connect(address) as peer:
        return peers.exchange(peer, message)


def pid_of(server: KeptServer) -> int:
    return server.threads()[0].pid


def test_who_asks_for_the_same_is_given_the_same(iolab_server: ServerFactory) -> None:
    server = iolab_server("epoll_loop", backlog=7, buffer_size=4096)
    assert iolab_server("epoll_loop", buffer_size=4096, backlog=7) is server
    assert iolab_server("epoll_loop", backlog=7) is not server
    assert '"backlog": 7, "buffer_size": 4096' in server.log


def test_one_that_somebody_has_killed_is_replaced(iolab_server: ServerFactory) -> None:
    first = iolab_server("poll_loop")
    os.kill(pid_of(first), signal.SIGKILL)
    eventually(lambda: not first.runs, "it has ended")
    second = iolab_server("poll_loop")
    assert exchange(second.address, b"word") == b"WORD"


def test_a_script_begins_anew_whenever_it_is_asked_for(iolab_misbehaving: MisbehavingFactory) -> None:
    script = "double | swap | 50%: double"
    first = iolab_misbehaving(script, message_bytes=1, seed=1)
    said = [exchange(first.address, b"ab") for _ in range(6)]
    assert said[:2] == [b"AAB", b"BA"]
    again = iolab_misbehaving(script, message_bytes=1, seed=1)
    assert again is first
    # What is drawn by chance, too.
    assert [exchange(first.address, b"ab") for _ in range(6)] == said


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Lab]:
    """One of this test's own."""
    with Lab(tmp_path, lambda server: None) as lab:
        yield lab


def test_what_cannot_be_is_said_in_the_servers_own_line(own: Lab) -> None:
    with pytest.raises(
        CannotStart, match=r"^iolab serve epoll_loop .*: --set: backlog: got -7, expected an integer from"
    ):
        own.server("epoll_loop", backlog=-7)
    with pytest.raises(CannotStart, match=r"^iolab misbehave .*: script, character 1: got 'hello', expected a verb"):
        own.misbehaving("hello")
    with pytest.raises(CannotStart, match=r"^port: got 80; leave it out"):
        own.server(port=80)
    with pytest.raises(CannotStart, match=r"^backend: got 'dock', expected one of 'process', 'docker'$"):
        own.server(backend="dock")  # type: ignore[arg-type]


def printed_number(program: Kept) -> int:
    return int(eventually(program.printed, "it has begun"))


def test_a_program_ends_with_its_keeper_however_that_ends(tmp_path: Path) -> None:
    program = Kept(SLEEPS, os.environ, tmp_path)
    pid = printed_number(program)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid), "the kernel has killed it")
    program.end()


def test_a_program_outlives_the_thread_that_has_started_it(tmp_path: Path) -> None:
    programs: list[Kept] = []
    thread = threading.Thread(target=lambda: programs.append(Kept(SLEEPS, os.environ, tmp_path)))
    thread.start()
    thread.join()
    pid = printed_number(programs[0])
    assert programs[0].ended() is None
    programs[0].end()
    assert not psutil.pid_exists(pid)


def test_pytest_imports_next_to_nothing_where_no_fixture_is_asked_for() -> None:
    program = """
import sys, pytest
before = set(sys.modules)
import iolab_pytest.plugin
print(sorted(set(sys.modules) - before))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True
    )
    assert ended.stdout == "['iolab_pytest', 'iolab_pytest.plugin']\n"

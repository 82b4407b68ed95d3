"""The yardstick: a server in C that keeps the echo, seen from outside like any model."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from iolab import registry, yardstick
from iolab.run import run_files
from iolab.run.run_files import Running
from iolab_client.contract import payload, peers
from iolab_client.contract.check import DEADLINE_SECONDS, FAIL, OK, check
from iolab_client.servers import admin
from iolab_client.servers.address import connect
from iolab_client.servers.targets import Target, Wanted, resolve
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc libc6-dev")


def announced(process: subprocess.Popen[bytes]) -> Running | None:
    return next((server for server in run_files.running() if server.pid == process.pid), None)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "iolab.yardstick", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as started:
        try:
            eventually(lambda: announced(started), "the yardstick listens")
            yield started
        finally:
            started.kill()


@pytest.fixture
def target(process: subprocess.Popen[bytes]) -> Target:
    (found,) = resolve([Wanted().convert("yardstick", None, None)])
    assert found.name == "yardstick"
    return found


def metric(target: Target, name: str, **labels: str) -> float:
    found = admin.value(admin.metrics(target), name, **labels)
    assert found is not None
    return found


def test_it_keeps_the_echo_of_every_byte(target: Target) -> None:
    message = bytes(range(256)) * 3
    with connect(target.address) as peer:
        assert peers.exchange(peer, message) == payload.answer(message)


def test_messages_of_any_size_come_back_one_after_the_other(target: Target) -> None:
    messages = [payload.make(size, seed=size) for size in (1, 8 * 1024 * 1024, 65536, 65537)]
    with connect(target.address) as peer:
        assert peers.exchange(peer, b"".join(messages)) == b"".join(map(payload.answer, messages))


def test_it_keeps_what_can_be_seen_of_the_contract(target: Target) -> None:
    verdicts = check(target, DEADLINE_SECONDS)
    assert {clause: said for clause, said in verdicts.items() if said.startswith(FAIL)} == {}
    assert {clause for clause, said in verdicts.items() if said == OK} >= {"back_pressure", "late_reader", "half_close"}


def test_a_half_close_is_answered_and_then_closed(target: Target) -> None:
    with connect(target.address) as peer:
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    assert answer == b"LAST WORDS"


def test_its_metrics_are_those_of_the_server_in_c_and_move_with_load(target: Target) -> None:
    names = ("user", "system")

    def cpu_seconds() -> float:
        return sum(metric(target, "iolab_process_cpu_seconds_total", mode=mode) for mode in names)

    assert metric(target, "iolab_processes", model="yardstick") == 1
    assert metric(target, "iolab_process_threads") == 1
    # No interpreter has so little.
    assert metric(target, "iolab_process_resident_memory_bytes") < 4 * 1024 * 1024
    before, switches = cpu_seconds(), metric(target, "iolab_process_context_switches_total", kind="voluntary")
    message = b"x" * 65536
    with connect(target.address) as peer:

        def used() -> bool:
            for _ in range(50):
                assert peers.ask(peer, message) == message.upper()
            return cpu_seconds() > before

        eventually(used, "its CPU time grows")
    assert metric(target, "iolab_process_context_switches_total", kind="voluntary") > switches


def test_its_thread_is_seen_where_it_waits(target: Target) -> None:
    def look() -> list[str]:
        (process,) = admin.threads(target)["processes"]
        return [thread["syscall"] for thread in process["threads"]]

    eventually(lambda: look() == ["epoll_wait"], "it waits in epoll_wait")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_server_in_c_ends_with_its_wrapper(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    (server,) = psutil.Process(process.pid).children()
    process.send_signal(number)
    assert process.wait(30) == (-number if number is signal.SIGKILL else 0)
    eventually(lambda: not server.is_running(), "the server in C is gone")


def test_the_wrapper_ends_with_the_server_in_c(process: subprocess.Popen[bytes]) -> None:
    (server,) = psutil.Process(process.pid).children()
    server.kill()
    assert process.wait(30) == 1
    assert run_files.running() == []


def test_it_is_no_model() -> None:
    assert registry.YARDSTICK.slug not in registry.MODELS
    with pytest.raises(KeyError):
        registry.find("yardstick")


def test_it_stays_below_a_hundred_lines() -> None:
    assert len(yardstick.SOURCE.read_text().splitlines()) < 100

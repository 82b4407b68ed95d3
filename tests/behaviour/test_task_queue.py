"""The task queue: the work is done elsewhere, by whoever is there to do it; nothing is lost or doubled on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from iolab.server.stop import SIGNALS
from iolab.server.surroundings import CELERY_OPTIONS
from iolab.settings import Settings
from iolab.task_queue import address, own_broker
from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.fleet import Lab
from tests.support.launcher import alive
from tests.support.missing import skip
from tests.support.models import as_process, only
from tests.support.server import RunningServer
from tests.support.waiting import eventually

Start = Callable[..., RunningServer]

pytestmark = only("task_queue")

MESSAGES = 3_000
# What a server with little patience has; a worker is ready long before these have passed for a client that comes late.
IMPATIENT = {"visibility_timeout": 1, "broker_seconds": 3}


class Parts:
    """A broker and workers that a test may hurt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._broker = contextlib.ExitStack()
        self.url = f"redis+socket://{folder}/socket"

    def start_broker(self) -> None:
        """Start the broker, empty; again after `kill_broker`."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "socket").unlink()
        self._broker.enter_context(own_broker.own_broker(self._folder))

    def kill_broker(self) -> None:
        """SIGKILL the broker."""
        self._broker.close()

    def start_worker(self) -> psutil.Process:
        """Start one more worker; it takes tasks once it is ready."""
        return psutil.Process(self._stack.enter_context(own_broker.own_worker(self.url)).pid)

    def store(self) -> redis.Redis:
        """A client of the broker."""
        store: redis.Redis = self._stack.enter_context(redis.Redis.from_url(self.url.replace("redis+socket:", "unix:")))
        return store

    def close(self) -> None:
        """Kill all."""
        self._stack.close()
        self._broker.close()


@pytest.fixture
def parts() -> Iterator[Parts]:
    """A broker, and no worker yet."""
    if reason := address.unavailable(Settings()):
        skip(reason)
    with tempfile.TemporaryDirectory(prefix="iolab-test-") as folder:
        parts = Parts(Path(folder))
        try:
            parts.start_broker()
            yield parts
        finally:
            parts.close()


def test_the_work_is_done_elsewhere(start: Start) -> None:
    server = start(work={"cpu_us": 300_000})
    client = server.connect()
    # The first one also pays for what Celery imports.
    assert peers.ask(client, b"a") == b"A"
    before = server.cpu_seconds()
    for _ in range(3):
        assert peers.ask(client, b"work") == b"WORK"
    assert server.cpu_seconds() - before < 0.5


class Own:
    """A server without a configured broker, that answers; and what it has started for itself."""

    def __init__(self, lab: Lab, **settings: Any) -> None:
        self.server = lab.start(broker_url=None, **settings)
        with self.server.connect() as client:
            assert peers.ask(client, b"hello") == b"HELLO"
        self.children = psutil.Process(self.server.pid).children(recursive=True)
        (self.folder,) = {Path(child.cwd()) for child in self.children} & set(
            Path(tempfile.gettempdir()).glob("iolab-broker-*")
        )

    def signal_all(self, number: signal.Signals) -> None:
        """As systemd does: the server hears of it last, so that a child that heeds it has begun to end by then."""
        for process in (*self.children, psutil.Process(self.server.pid)):
            process.send_signal(number)

    def assert_nothing_is_left(self) -> None:
        """No process, no folder."""
        eventually(lambda: not alive(self.children), "all of them end")
        eventually(lambda: not self.folder.exists(), "the folder is removed")


@as_process
def test_a_worker_that_is_started_by_itself_takes_no_options_of_another_application(
    parts: Parts, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = lab.start(broker_url=parts.url)
    for name in CELERY_OPTIONS:
        monkeypatch.setenv(name, "nowhere")
    parts.start_worker()
    assert peers.exchange(server.connect(), b"word") == b"WORD"


@as_process
def test_without_a_broker_it_starts_one_and_a_worker_and_takes_them_along_when_it_ends(lab: Lab) -> None:
    own = Own(lab)
    own.server.stop()
    assert own.server.wait() == 0
    assert not own.folder.exists()
    own.assert_nothing_is_left()


@as_process
def test_a_broker_and_a_worker_of_its_own_end_with_it_also_when_it_is_killed(lab: Lab) -> None:
    own = Own(lab)
    os.kill(own.server.pid, signal.SIGKILL)
    own.assert_nothing_is_left()


@as_process
@pytest.mark.parametrize("number", sorted(SIGNALS))
def test_a_stop_for_every_process_of_it_costs_nobody_his_answer(lab: Lab, number: signal.Signals) -> None:
    own = Own(lab, work={"wait_ms": 500})
    client = own.server.connect()
    client.sendall(b"hello")
    eventually(lambda: own.server.metric("received_bytes_total") == 10, "he is being served")
    own.signal_all(number)
    assert peers.read_exactly(client, 5) == b"HELLO"
    peers.half_close(client)
    assert peers.read_to_end(client) == b""
    assert own.server.wait() == 0
    own.assert_nothing_is_left()


@as_process
@pytest.mark.parametrize("drain_seconds", [1, 60], ids=["deadline", "second signal"])
def test_a_stop_that_is_cut_short_leaves_nothing_either(lab: Lab, drain_seconds: int) -> None:
    own = Own(lab, drain_seconds=drain_seconds, drain_quiet_seconds=0.5)
    worker = next(child for child in own.children if "iolab.task_queue.worker" in child.cmdline())
    worker.suspend()
    client = own.server.connect()
    client.sendall(b"hello")

    def ended() -> bool:
        if drain_seconds == 60:
            own.server.stop()
        return own.server.exit_code() is not None

    own.server.stop()
    eventually(ended, "it is cut short")
    assert own.server.exit_code() == 1
    own.assert_nothing_is_left()


@as_process
def test_without_a_worker_a_client_waits_broker_seconds_then_ends_and_a_later_one_is_answered(
    start: Start, parts: Parts
) -> None:
    server = start(broker_url=parts.url, **IMPATIENT)
    client = server.connect()
    client.sendall(b"hello")
    assert peers.read_to_end(client) == b""
    assert server.event("no_answer")["reason"] == "no worker answered within 3 s"

    parts.start_worker()
    eventually(lambda: _answered(server), "a worker answers")


@as_process
def test_without_a_broker_a_client_waits_broker_seconds_then_ends_and_a_later_one_is_answered(
    start: Start, parts: Parts
) -> None:
    parts.start_worker()
    server = start(broker_url=parts.url, **IMPATIENT)
    eventually(lambda: _answered(server), "a worker answers")

    parts.kill_broker()
    client = server.connect()
    client.sendall(b"hello")
    assert peers.read_to_end(client) == b""
    assert server.event("no_answer")["reason"] == "the broker was not reached within 3 s"
    assert server.event("broker_lost")

    parts.start_broker()
    eventually(lambda: _answered(server), "the worker is back")
    assert server.event("broker_back")


@as_process
def test_a_client_who_waits_while_the_broker_starts_again_gets_his_answer(start: Start, parts: Parts) -> None:
    server = start(broker_url=parts.url, broker_seconds=60)
    client = server.connect()
    client.sendall(b"hello")
    # Its task is in the broker, which forgets it.
    eventually(lambda: parts.store().llen("iolab"), "the task is in the queue")
    parts.kill_broker()
    assert server.event("broker_lost")["waiting"] == 1
    parts.start_broker()
    parts.start_worker()

    assert peers.read_exactly(client, 5) == b"HELLO"
    peers.half_close(client)
    assert peers.read_to_end(client) == b""


def _suspended_with_a_task(worker: psutil.Process, parts: Parts) -> bool:
    """Suspend the worker. False where it had no task in its hands just then: it goes on."""
    worker.suspend()
    if parts.store().zcard("unacked_index"):
        return True
    worker.resume()
    return False


@as_process
def test_a_worker_that_is_killed_in_the_middle_of_a_stream_costs_no_byte(start: Start, parts: Parts) -> None:
    worker = parts.start_worker()
    server = start(broker_url=parts.url, broker_seconds=60, visibility_timeout=2, work={"wait_ms": 50}, buffer_size=64)
    data = payload.make(64 * 50)
    answers: list[bytes] = []
    client = server.connect()
    reader = threading.Thread(target=lambda: answers.append(peers.exchange(client, data, deadline_seconds=60)))
    reader.start()
    eventually(lambda: server.metric("answers_total") >= 10, "the stream is under way")
    eventually(lambda: _suspended_with_a_task(worker, parts), "the worker has a task of the stream in its hands")
    parts.start_worker()
    worker.kill()
    reader.join(90)

    assert payload.difference(answers[0], payload.answer(data)) is None


def _handed_to_a_suspended(worker: Any, client: Any, parts: Parts) -> bool:
    """Suspend the worker while it waits for the queue, and send: the broker hands it the task all the same.

    False where its wait of a second had just ended: then it is resumed, and has answered.
    """
    store = parts.store()

    def waits() -> bool:
        return any(other["cmd"] == "brpop" and "b" in other["flags"] for other in store.client_list())

    def pushed() -> int:
        return int(store.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])

    eventually(waits, "it waits for the queue")
    before = pushed()
    worker.suspend()
    client.sendall(b"hello")
    eventually(lambda: pushed() > before, "the task is in the broker")
    if not store.llen("iolab"):
        return True
    worker.resume()
    assert peers.read_exactly(client, 5) == b"HELLO"
    return False


@as_process
def test_a_suspended_worker_is_taken_for_dead_and_its_late_answer_is_thrown_away(start: Start, parts: Parts) -> None:
    first = parts.start_worker()
    server = start(broker_url=parts.url, broker_seconds=60, visibility_timeout=1)
    eventually(lambda: _answered(server), "the first worker answers")
    client = server.connect()
    eventually(lambda: _handed_to_a_suspended(first, client, parts), "a suspended worker was handed the task")
    second = parts.start_worker()
    assert peers.read_exactly(client, 5) == b"HELLO"
    first.resume()
    assert second.is_running()

    for text in (b"one", b"two", b"three"):
        assert peers.ask(client, text) == text.upper()


def _waiting(parts: Parts, command: str) -> list[str]:
    """The broker's clients that wait in it with this command."""
    clients = parts.store().client_list()
    return [client["id"] for client in clients if client["cmd"] == command and "b" in client["flags"]]


def _end_with_an_error(parts: Parts, command: str) -> bool:
    """Have the broker answer such a command with an error, as it does when it becomes a replica."""
    return any([parts.store().client_unblock(int(client), error=True) for client in _waiting(parts, command)])


@as_process
@pytest.mark.parametrize("command", ["brpop", "blpop"], ids=["worker", "server"])
def test_an_error_of_the_broker_ends_nobody(start: Start, parts: Parts, command: str) -> None:
    worker = parts.start_worker()
    server = start(broker_url=parts.url)
    eventually(lambda: _answered(server), "the worker answers")
    for _ in range(3):
        eventually(lambda: _end_with_an_error(parts, command), "a wait has ended with an error")
        eventually(lambda: _waiting(parts, command), "it waits again")
    eventually(lambda: _answered(server), "the same worker answers")
    assert worker.is_running()


@as_process
def test_a_broker_that_is_a_replica_for_a_while_is_waited_for(start: Start, parts: Parts) -> None:
    worker = parts.start_worker()
    server = start(broker_url=parts.url, broker_seconds=60)
    eventually(lambda: _answered(server), "the worker answers")
    store = parts.store()

    # A master that is not there: what it has can be read, and nothing can be written.
    store.replicaof("127.0.0.1", "1")
    client = server.connect()
    client.sendall(b"hello")
    assert server.event("broker_lost")

    def looks() -> int:
        return int(store.info("commandstats").get("cmdstat_expire", {"rejected_calls": 0})["rejected_calls"])

    before = looks()
    eventually(lambda: looks() > before + 5, "the server looks again and again")
    assert len(server.events_called("broker_lost")) == 1
    assert not server.events_called("broker_back")
    store.replicaof("NO", "ONE")

    assert peers.read_exactly(client, 5) == b"HELLO"
    assert server.event("broker_back")
    assert worker.is_running()


@as_process
def test_all_move_to_the_broker_that_has_the_old_ones_name(start: Start, parts: Parts) -> None:
    """The old one is a replica by then, which answers everybody who stays connected to it with an error."""
    worker = parts.start_worker()
    server = start(broker_url=parts.url, broker_seconds=60, visibility_timeout=1)
    clients = server.connect_many(8)
    for client in clients:
        assert peers.ask(client, b"hello") == b"HELLO"
    parts.store().replicaof("127.0.0.1", "1")
    parts.start_broker()

    for client in clients:
        client.sendall(b"hello")
    for client in clients:
        assert peers.read_exactly(client, 5) == b"HELLO"
    assert worker.is_running()


@as_process
def test_connections_to_the_broker_do_not_grow_with_clients(start: Start, parts: Parts) -> None:
    parts.start_worker()
    server = start(broker_url=parts.url)
    store = parts.store()
    with server.connect() as client:
        assert peers.ask(client, b"hello") == b"HELLO"
    before = len(store.client_list())
    for client in server.connect_many(64):
        client.sendall(b"hello")
    eventually(lambda: server.metric("answers_total") == 65, "all are answered")
    assert len(store.client_list()) <= before


@as_process
@pytest.mark.timeout(600)
def test_nothing_piles_up_in_the_broker(start: Start, parts: Parts) -> None:
    parts.start_worker()
    server = start(broker_url=parts.url)
    eventually(lambda: _answered(server), "a worker answers")
    store = parts.store()

    def kept() -> set[Any]:
        # A task is acknowledged just after it is answered.
        keys = set(store.scan_iter())
        return set() if any(key.startswith(b"unacked") for key in keys) else keys

    before = eventually(kept, "the first task is acknowledged")
    bytes_before = store.info("memory")["used_memory"]

    def talk(client: Any) -> None:
        for _ in range(MESSAGES // 8):
            if peers.ask(client, b"x" * 1000) != b"X" * 1000:
                return

    talkers = [threading.Thread(target=talk, args=(client,)) for client in server.connect_many(8)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(500)
    assert server.metric("answers_total") >= MESSAGES

    eventually(lambda: kept() == before, "nothing but what was there before is left")
    assert store.info("memory")["used_memory"] - bytes_before < 1024 * 1024


def _answered(server: RunningServer) -> bool:
    with connect(server.address) as client:
        try:
            return peers.exchange(client, b"a") == b"A"
        except OSError:
            return False

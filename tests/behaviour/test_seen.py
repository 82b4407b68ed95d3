"""Seen from outside: what each thread waits in, what answers cost, and the admin pages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iolab.registry import Model
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.models import as_process, but, only, waiting
from tests.support.process import environment
from tests.support.server import RunningServer
from tests.support.waiting import DEADLINE_SECONDS, eventually

Share = Callable[..., RunningServer]
Start = Callable[..., RunningServer]

# What the thread that was there first is in while nothing happens.
MAIN_WAITS_IN = {
    "blocking_pool": {"accept4", "accept"},
    "select_loop": {"pselect6", "select"},
    "poll_loop": {"poll", "ppoll"},
    "epoll_loop": {"epoll_wait", "epoll_pwait"},
    "epoll_pool": {"epoll_wait", "epoll_pwait"},
    "thread_per_connection": {"accept4", "accept"},
    "task_queue": {"accept4", "accept"},
    "asyncio_streams": {"epoll_wait", "epoll_pwait"},
    "twisted_reactor": {"epoll_wait", "epoll_pwait"},
    "gevent_greenlets": {"epoll_wait", "epoll_pwait"},
    "io_uring_ring": {"io_uring_enter"},
}


def calls(server: RunningServer, name: str) -> set[str]:
    return {thread["syscall"] for thread in server.threads() if thread["name"].startswith(name)}


@only(*MAIN_WAITS_IN)
def test_the_threads_page_tells_what_the_main_thread_waits_in(share: Share, model: Model) -> None:
    server = share()

    def seen() -> bool:
        main = next(thread for thread in server.threads() if thread["tid"] == server.pid)
        return main["syscall"] in MAIN_WAITS_IN[model.slug] and main["state"] == "S"

    eventually(seen, "the main thread waits where the model says")


@only("blocking_pool")
def test_a_worker_of_the_blocking_pool_waits_in_recv_for_its_client_and_the_others_for_work(start: Start) -> None:
    server = start(workers=3)
    client = server.connect()
    assert peers.ask(client, b"a") == b"A"
    eventually(lambda: calls(server, "worker-") == {"recvfrom", "futex"}, "one in recv, two without work")


@only("busy_poll")
def test_the_thread_that_never_waits_is_seen_running(share: Share) -> None:
    server = share()
    eventually(
        lambda: next(thread for thread in server.threads() if thread["tid"] == server.pid)["syscall"] == "running",
        "the main thread runs",
    )


@as_process
def test_the_threads_page_leaves_its_own_reader_out(share: Share, model: Model) -> None:
    server = share()

    def started() -> set[str]:
        names = {thread["name"] for thread in server.threads()}
        # A supervisor listens before its children have begun.
        return names if {model.slug[:15], "stop"} <= names else set()

    names = eventually(started, "the model's threads and the stop's are shown")
    threads = server.threads()
    assert "admin" not in names
    assert all(thread["voluntary_switches"] >= 0 and thread["cpu_seconds"] >= 0 for thread in threads)


@as_process
def test_the_health_page_knows_the_model_and_there_is_no_other_page(share: Share, model: Model) -> None:
    server = share()
    status, body = server.page("/healthz")
    assert (status, json.loads(body)) == (200, {"model": model.slug, "stopping": False})
    status, body = server.page("/secrets")
    assert status == 404
    assert "/metrics" in body


@pytest.mark.parametrize("name", ["process_resident_memory_bytes", "process_open_descriptors", "process_threads"])
def test_the_metrics_tell_of_the_process(share: Share, name: str) -> None:
    assert share().metric(name) > 0


@as_process
@waiting
def test_the_metrics_count_the_context_switches_of_whoever_serves(share: Share) -> None:
    """Of every thread and process: in many models it is not the first one that waits for the clients."""
    server = share()
    client = server.connect()

    def switches() -> float:
        assert peers.ask(client, b"a") == b"A"
        return server.metric("process_context_switches_total", kind="voluntary")

    # Whoever waits for the next message switches once for each, but where that has come already.
    enough = switches() + 25
    eventually(lambda: switches() >= enough, "the threads that wait for the client are counted")


def test_the_metrics_tell_the_limits_that_hold(share: Share) -> None:
    server = share(backlog=7, max_connections=9)
    assert server.metric("limit", limit="backlog") == 7
    assert server.metric("limit", limit="max_connections") == 9


def test_a_log_that_nobody_reads_any_more_disturbs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iolab", "serve", "epoll_loop", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout
            listening = json.loads(server.stdout.readline())
            server.stdout.close()
            with connect((listening["host"], listening["port"])) as client:
                assert peers.exchange(client, b"word") == b"WORD"
            server.terminate()
            assert server.stderr
            assert server.stderr.read() == b""
            assert server.wait(DEADLINE_SECONDS) == 0
        finally:
            server.kill()


# Where a task queue's work is done: test_task_queue.py.
@as_process
@but("busy_poll", "task_queue")
def test_the_dial_burns_the_servers_processor_time(start: Start) -> None:
    server = start(work={"cpu_us": 100_000})
    before = server.cpu_seconds()
    client = server.connect()
    for _ in range(3):
        assert peers.ask(client, b"a") == b"A"
    # Clock ticks of 10 ms are what the kernel counts in.
    assert server.cpu_seconds() - before >= 0.28


@as_process
def test_the_dial_lets_an_answer_wait(share: Share) -> None:
    client = share(work={"wait_ms": 300}).connect()
    begin = time.monotonic()
    assert peers.ask(client, b"a") == b"A"
    assert time.monotonic() - begin >= 0.3


@only("epoll_loop", "prefork_epoll", "gevent_greenlets")
def test_threads_that_compute_beside_take_the_processor_and_no_answer(start: Start) -> None:
    server = start(work={"threads": 2})
    before = server.cpu_seconds()

    assert peers.exchange(server.connect(), b"a") == b"A"
    # Those that compute wait for nobody but each other, for the interpreter's lock.
    assert "running" in calls(server, "compute") <= {"running", "futex"}
    eventually(lambda: server.cpu_seconds() - before > 0.2, "they compute")

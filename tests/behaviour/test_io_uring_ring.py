"""io_uring: completions instead of readiness, and what is said where it is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support import denied
from tests.support.compose import CHECKOUT, ComposeTarget, InContainer
from tests.support.fleet import Lab
from tests.support.models import only
from tests.support.process import ProcessTarget, environment
from tests.support.server import NotStarted, RunningServer

Start = Callable[..., RunningServer]

PROFILE = CHECKOUT / "configs" / "seccomp" / "io_uring_ring.json"
CALLS = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
each_errno = pytest.mark.parametrize("name", ["EPERM", "ENOSYS"])


def without_io_uring(name: str) -> list[str]:
    """The words that run a command without io_uring, each call of which fails with that errno."""
    return [sys.executable, denied.__file__, name]


@only("io_uring_ring")
def test_answers_that_wait_do_so_at_the_same_time_in_the_ring_of_one_thread(start: Start) -> None:
    server = start(work={"wait_ms": 2000})
    clients = server.connect_many(4)
    for client in clients:
        client.sendall(b"a")
    server.becomes("received_bytes_total", 4)

    assert server.metric("answers_total") == 0
    threads = {thread["name"]: thread["syscall"] for thread in server.threads()}
    assert threads == {"io_uring_ring": "io_uring_enter", "log": "futex", "stop": "rt_sigtimedwait"}
    for client in clients:
        assert peers.read_exactly(client, 1) == b"A"


@only("io_uring_ring")
def test_small_messages_large_ones_and_bursts_of_them_are_answered_in_their_order(start: Start) -> None:
    """What is small is received by one operation that goes on, what is not, by one that was asked for."""
    server = start()
    stream = payload.make(3_000_000)
    sizes = [1, 64, 511, 512, 513, 64, 100_000, 1, 2000, 64]
    with server.connect() as client:
        begin = 0
        for size in sizes * 3:
            piece = stream[begin : begin + size]
            assert peers.ask(client, piece) == payload.answer(piece)
            begin += size
    with server.connect() as client:
        assert peers.ask(client, b"small") == b"SMALL"
        # Without waiting for answers: many are there before the first is sent.
        pieces = [stream[begin : begin + 100] for begin in range(0, 50_000, 100)]
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(peers.read_to_end(client)))
        reader.start()
        for piece in pieces:
            client.sendall(piece)
        peers.half_close(client)
        reader.join(60)
    assert payload.difference(answers[0], payload.answer(stream[:50_000])) is None


@only("io_uring_ring")
def test_more_clients_than_buffers_take_turns(start: Start) -> None:
    server = start(buffers=1, buffer_size=1024)
    streams = [payload.make(100_000, seed) for seed in range(12)]
    answers = peers.exchange_all(server.connect_many(12), streams)

    assert [payload.difference(got, payload.answer(sent)) for sent, got in zip(streams, answers, strict=True)] == [
        None
    ] * 12


@each_errno
@pytest.mark.targets("process")
@only("io_uring_ring")
def test_where_a_filter_denies_it_the_server_says_so_in_one_line_and_exits(lab: Lab, name: str) -> None:
    target = lab.target
    assert isinstance(target, ProcessTarget)
    server = lab.adopt(target.start(lab.model, {}, prefix=without_io_uring(name)))

    assert server.wait() == os.EX_UNAVAILABLE
    says_that_a_profile_denies(server, name)


@each_errno
@pytest.mark.targets("compose")
@only("io_uring_ring")
def test_a_container_whose_profile_denies_it_is_unhealthy_and_says_why(lab: Lab, name: str, tmp_path: Path) -> None:
    profile = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        if set(rule["names"]) == CALLS:
            rule |= {"action": "SCMP_ACT_ERRNO", "errnoRet": getattr(errno, name)}
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    target = lab.target
    assert isinstance(target, ComposeTarget)
    server = lab.adopt(target.start_alone(lab.model, {}, variables={"IO_URING_RING_SECCOMP": str(file)}))
    assert isinstance(server, InContainer)

    assert server.wait() == os.EX_UNAVAILABLE
    says_that_a_profile_denies(server, name)
    server.container.reload()
    assert server.container.attrs["State"]["Health"]["Status"] == "unhealthy"


def says_that_a_profile_denies(server: RunningServer, name: str) -> None:
    (event,) = server.events
    assert event["event"] == "unavailable"
    assert f"refused with {name}: a seccomp profile denies it" in event["reason"]
    assert "configs/seccomp/io_uring_ring.json" in event["reason"]


@pytest.mark.targets("process")
@only("io_uring_ring")
def test_buffers_for_which_there_is_no_memory_are_a_bad_setting_and_no_refusal(lab: Lab) -> None:
    too_much = {"buffers": 32768, "buffer_size": 16 * 1024 * 1024}
    with pytest.raises(NotStarted, match=r"buffers: got 32768 of 16777216 bytes .* no memory"):
        assert lab.target.start(lab.model, too_much).listening


def test_up_leaves_it_out_where_it_is_denied_says_why_and_starts_the_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        free_port = free.getsockname()[1]
    shutil.copytree(CHECKOUT / "configs", tmp_path / "configs")
    file = tmp_path / "configs" / "models" / "epoll_loop.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"port": free_port}))

    def iolab(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*without_io_uring("EPERM"), sys.executable, "-m", "iolab", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
        )

    try:
        up = iolab("up", "--detach", "io_uring_ring", "epoll_loop")
        assert up.returncode == 0, up.stderr
        assert "io_uring_ring is unavailable: io_uring was refused with EPERM" in up.stdout
        with connect(("127.0.0.1", free_port)) as client:
            assert peers.exchange(client, b"others") == b"OTHERS"
    finally:
        assert iolab("down").returncode == 0


def test_the_profile_denies_by_default_and_admits_the_three_calls_by_one_rule() -> None:
    profile = json.loads(PROFILE.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    rules = [rule for rule in profile["syscalls"] if CALLS & set(rule["names"])]
    assert [(set(rule["names"]), rule["action"]) for rule in rules] == [(CALLS, "SCMP_ACT_ALLOW")]
    admitted = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert not admitted & {"mount", "bpf", "ptrace", "unshare", "setns", "keyctl", "userfaultfd", "perf_event_open"}

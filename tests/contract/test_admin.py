"""The admin port: whoever else is there, and whatever they do, a page is answered at once."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.fleet import Lab
from tests.support.models import as_process
from tests.support.server import RunningServer
from tests.support.waiting import eventually

pytestmark = as_process

# Many more than are kept at once.
CROWD = 200


def ask(server: RunningServer, request: bytes) -> bytes:
    """The whole answer to a request that is sent as it stands."""
    with connect(server.admin_address) as client:
        client.sendall(request)
        return peers.read_to_end(client)


def test_clients_who_say_nothing_shut_out_nobody(server: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(server.admin_address))
        for _ in range(3):
            began = time.monotonic()
            assert server.page("/healthz")[0] == 200
            # Each of two hundred silent ones had five seconds, one after the other.
            assert time.monotonic() - began < 30


def test_a_client_that_drips_or_does_not_read_shuts_out_nobody(server: RunningServer) -> None:
    with connect(server.admin_address) as drips, connect(server.admin_address, receive_buffer_bytes=4096) as deaf:
        deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for byte in b"GET /healthz":
            drips.sendall(bytes([byte]))
            assert server.page("/healthz")[0] == 200


def test_one_who_never_asks_is_let_go(lab: Lab) -> None:
    server = lab.share()
    with socket.create_connection(server.admin_address) as silent:
        silent.settimeout(60)
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, b'"stopping": false', id="1.1"),
        pytest.param(b"GET /healthz HTTP/1.0\r\n\r\n", 200, b'"stopping": false', id="1.0"),
        pytest.param(b"GET /healthz?why=1 HTTP/1.0\r\n\r\n", 200, b'"stopping": false', id="with a query"),
        pytest.param(
            b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=2.\xe9\r\n\r\n",
            200,
            b"iolab_answers",
            id="a version that is not ASCII",
        ),
        pytest.param(
            b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=x\r\n\r\n",
            200,
            b"iolab_answers",
            id="a version that is none",
        ),
        pytest.param(b"GET /no HTTP/1.0\r\n\r\n", 404, b"there are: /healthz, /metrics, /threads", id="nowhere"),
        pytest.param(b"POST /healthz HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 405, b"allow: GET, HEAD", id="POST"),
        pytest.param(b"DELETE /metrics HTTP/1.0\r\n\r\n", 405, b"only GET and HEAD", id="DELETE"),
        pytest.param(b"hello\r\n\r\n", 400, b"not a request", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.0\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n", 431, b"not a request", id="a megabyte"),
    ],
)
def test_each_request_has_the_answer_that_it_deserves(
    server: RunningServer, request_: bytes, status: int, words: bytes
) -> None:
    answer = ask(server, request_)
    assert answer.split()[1] == str(status).encode()
    assert words.lower() in answer.lower()


def test_head_is_answered_with_the_headers_alone(server: RunningServer) -> None:
    head, _, body = ask(server, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert body == b""
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    assert int(length.split()[1]) > 10


def test_what_its_clients_took_is_given_back(lab: Lab) -> None:
    server = lab.start()
    server.page("/metrics")
    before = server.descriptors_at_rest()
    with contextlib.ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(server.admin_address))
        server.page("/healthz")
    eventually(lambda: server.descriptors_at_rest() == before, "the descriptors are those of before")


def test_while_nobody_asks_it_sleeps(server: RunningServer) -> None:
    # A server of several processes has no thread for it: its supervisor answers, and sleeps as well.
    name = "supervisor" if server.model.forks else "admin"
    assert server.page("/healthz")[0] == 200

    def switches() -> int:
        status = server.beside("sh", "-c", f"cat /proc/{server.pid}/task/*/status")
        counts = [
            int(block.split("voluntary_ctxt_switches:")[1].split()[0])
            for block in status.split("Name:")
            if block.strip().startswith(f"{name}\n")
        ]
        assert len(counts) == 1
        return counts[0]

    def quiet() -> bool:
        before = switches()
        time.sleep(2)
        return switches() == before

    eventually(quiet, "its thread does not wake for two seconds")


def test_its_own_thread_is_not_in_the_picture_that_it_takes(server: RunningServer) -> None:
    assert "admin" not in {thread["name"] for thread in server.threads()}


def test_a_cut_says_what_is_lost_though_there_is_no_descriptor_left(lab: Lab) -> None:
    server = lab.start(drain_seconds=0.5, drain_quiet_seconds=0.1)
    client = server.connect(receive_buffer_bytes=4096)
    peers.ask(client, b"a")
    peers.flood(client, b"b" * (1 << 20))
    server.take_free_descriptors()
    server.stop()
    assert server.wait() == 1
    assert server.events_called("cut")[0]["connections"] >= 1
    assert "Traceback" not in server.errors()

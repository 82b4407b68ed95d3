"""Addresses of both families: who listens on `::1` serves it, who listens on `::` serves everyone."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection

import pytest

from iolab_client.contract import payload, peers
from iolab_client.servers.address import connect
from tests.support.fleet import Lab
from tests.support.missing import skip_for_kernel

pytestmark = pytest.mark.targets("process")


@pytest.fixture(autouse=True)
def _ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        skip_for_kernel(f"it has no IPv6 ({error.strerror})")


@pytest.mark.parametrize(("listens", "reached"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_bytes_pages_and_the_stop_are_those_of_any_address(lab: Lab, listens: str, reached: list[str]) -> None:
    server = lab.start(host=listens)
    port, admin_port = int(server.listening["port"]), int(server.listening["admin_port"])
    assert server.listening["host"] == listens
    late = []
    for host in reached:
        with connect((host, port)) as client:
            assert peers.exchange(client, payload.ALL_BYTES) == payload.answer(payload.ALL_BYTES)
        page = HTTPConnection(host, admin_port, timeout=60)
        page.request("GET", "/healthz")
        assert json.loads(page.getresponse().read())["stopping"] is False
        page.close()
        reader = server.adopt_client(connect((host, port), receive_buffer_bytes=peers.SMALL_BUFFER_BYTES))
        late.append((reader, peers.flood(reader, b"a" * (1 << 20), quiet_seconds=0.3)))

    server.stop()
    server.event("draining")
    for reader, sent in late:
        assert peers.read_to_end(reader) == b"A" * sent
    assert server.wait() == 0
    assert not server.events_called("cut")

"""Who is answered, by HTTP as it goes over the wire: what a page of another site could send, and would learn."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

import pytest

from iolab_client.contract.peers import read_to_end
from iolab_client.servers.address import connect

PAGE = "0123456789abcdef0123456789abcdef"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def request(
    port: int, line: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, host: str | None = ""
) -> tuple[int, str, bytes]:
    """Send one request; its status, headers in lower case, and body. `host` "": the usual one, None: there is none."""
    with connect(("127.0.0.1", port)) as peer:
        hosts = {} if host is None else {"Host": host or f"127.0.0.1:{port}"}
        lines = [f"{line} HTTP/1.1", *(f"{key}: {value}" for key, value in {**hosts, **(headers or {})}.items())]
        length = [f"Content-Length: {len(body)}"] if body else []
        peer.sendall("\r\n".join([*lines, *length, "Connection: close", "", ""]).encode() + body)
        head, _, content = read_to_end(peer).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), content


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:8080", "LOCALHOST", "[::1]:8080"])
def test_the_own_names_are_answered_by_any_port_that_they_are_published_under(alone: int, host: str) -> None:
    assert request(alone, "GET /", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "127.0.0.2", "0.0.0.0:8080",
        "127.0.0.1:8080@evil.example", "[::1].evil.example", "2130706433", "playground:8080", "localhost:port",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/site/main.js", f"/events?page={PAGE}"])
def test_a_name_that_was_pointed_here_is_refused(alone: int, host: str, path: str) -> None:
    status, _, body = request(alone, f"GET {path}", host=host)
    assert status == 403
    assert b"Host is another one" in body


def test_no_host_and_two_hosts_are_refused(alone: int) -> None:
    assert request(alone, "GET /", host=None)[0] in (400, 403)
    assert request(alone, "GET /", {"host": "evil.example"})[0] in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1:PORT", ""])
@pytest.mark.parametrize("line", ["GET /", f"GET /events?page={PAGE}", "POST /say"])
def test_another_origin_is_refused(alone: int, origin: str, line: str) -> None:
    headers = {"Origin": origin.replace("PORT", str(alone)), "Content-Type": "application/json"}
    assert request(alone, line, headers, b"{}")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_is_changed_without_an_origin(alone: int, method: str) -> None:
    status, _, body = request(alone, f"{method} /say", {"Content-Type": "application/json"}, b"{}")
    assert status == 403
    assert b"no Origin" in body


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_changes_nothing(alone: int, kind: str) -> None:
    headers = {"Origin": f"http://127.0.0.1:{alone}"} | ({"Content-Type": kind} if kind else {})
    status, _, body = request(alone, "POST /say", headers, b"{}")
    assert status == 403
    assert b"JSON" in body


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_gets_neither_file_nor_stream_but_may_link_here(alone: int, site: str) -> None:
    embedded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    linked = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert request(alone, "GET /site/main.js", embedded)[0] == 403
    assert request(alone, f"GET /events?page={PAGE}", embedded)[0] == 403
    assert request(alone, f"GET /events?page={PAGE}", linked)[0] == 403
    assert request(alone, "GET /", linked)[0] == 200


@pytest.mark.parametrize("path", ["/", "/site/main.js", "/site/nothing.js", "/nowhere", "/events"])
def test_every_answer_tells_the_browser_what_to_keep_to(alone: int, path: str) -> None:
    _, head, _ = request(alone, f"GET {path}")
    assert f"content-security-policy: {POLICY}".lower() in head
    for line in (
        "x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin", "cross-origin-opener-policy: same-origin",
        "cache-control: no-store",
    ):  # fmt: skip
        assert line in head
    assert "access-control-allow" not in head


@pytest.mark.parametrize(
    "path", ["/site/../app.py", "/site/%2e%2e/app.py", "/site/..%2fsite%2findex.html", "/site/", "/site/a%00"]
)
def test_no_path_leads_out_of_the_sites_folder(alone: int, path: str) -> None:
    assert request(alone, f"GET {path}")[0] in (400, 404)


@pytest.mark.parametrize("page", ["", "a", "0" * 33, "../" * 10 + "aa", "Z" * 32])
def test_a_page_without_a_name_of_its_own_has_no_stream(alone: int, page: str) -> None:
    assert request(alone, f"GET /events?page={page}")[0] == 400


@pytest.fixture
def streams(alone: int) -> Iterator[list[socket.socket]]:
    """As many pages as there may be."""
    opened = []
    for number in range(3):
        peer = connect(("127.0.0.1", alone))
        peer.sendall(f"GET /events?page={number:032x} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        opened.append(peer)
        assert peer.recv(12) == b"HTTP/1.1 200"
    yield opened
    for peer in opened:
        peer.close()


def test_more_pages_than_may_be_are_told_so(alone: int, streams: list[socket.socket]) -> None:
    status, head, body = request(alone, f"GET /events?page={PAGE}")
    assert status == 503
    assert "retry-after" in head
    assert b"3 pages are open" in body

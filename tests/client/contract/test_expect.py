"""--expect: `try`, `check` and `load` on anybody's server, over IPv4 and IPv6."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from iolab_client.__main__ import main
from iolab_client.contract import payload
from iolab_client.results.measurement import ERRORS, UNPROVEN
from iolab_client.servers.address import show
from tests.support.missing import skip_for_kernel

# Nobody's work but this test's: each byte that the server takes becomes another one.
ROTATED = bytes((value + 13) % 256 for value in range(256))


@pytest.fixture(params=["127.0.0.1", "::1"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[bytes], bytes]], str]]:
    """Starts somebody's server, which makes of each read what it is told to; gives its address."""
    listeners: list[socket.socket] = []

    def converse(sock: socket.socket, make: Callable[[bytes], bytes]) -> None:
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(make(data))
            except ConnectionError:
                return

    def accept(listener: socket.socket, make: Callable[[bytes], bytes]) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(sock, make), daemon=True).start()

    def start(make: Callable[[bytes], bytes]) -> str:
        family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
        try:
            listener = socket.create_server((request.param, 0), family=family, backlog=128)
        except OSError as error:
            skip_for_kernel(f"it has no {request.param} ({error.strerror})")
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, make), daemon=True).start()
        return show(listener.getsockname()[:2])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def invoke(*words: str) -> tuple[int, Any]:
    result = CliRunner().invoke(main, [*words, "--json"])
    return result.exit_code, json.loads(result.stdout)


def load(address: str, expect: str, *words: str) -> tuple[int, Any]:
    return invoke("load", address, "-c", "2", "-d", "200ms", "--warmup", "0", "--expect", expect, *words)


@pytest.fixture
def table(tmp_path: Path) -> str:
    file = tmp_path / "rotated"
    file.write_bytes(ROTATED)
    return str(file)


def test_try_compares_with_what_is_expected(serve: Callable[..., str], table: str) -> None:
    echo, rotates = serve(bytes), serve(lambda data: data.translate(ROTATED))
    assert invoke("try", "hi", echo, "--expect", "same")[0] == 0
    assert invoke("try", "hi", rotates, "--expect", table)[0] == 0
    assert invoke("try", "hi", rotates, "--expect", "none")[0] == 0
    for address, expect in ((echo, "upper"), (rotates, "same"), (echo, table)):
        code, (said,) = invoke("try", "hi", address, "--expect", expect)
        assert (code, "byte 0 of 2 is 0x" in said["error"]) == (1, True)
    code, (said,) = invoke("try", "hi", serve(lambda data: data * 2), "--expect", "none")
    assert (code, said["error"]) == (1, "2 bytes more than the 2 expected")
    code, (said,) = invoke("try", "hi", serve(lambda data: data[1:]), "--expect", "none")
    assert (code, said["error"]) == (1, "ended after 1 of 2 bytes")


# With pipelining the comparison is Python's, else that of the fast path in C.
@pytest.mark.parametrize("words", [[], ["--pipeline", "3"], ["-R", "500"]], ids=" ".join)
def test_load_compares_with_what_is_expected(serve: Callable[..., str], table: str, words: list[str]) -> None:
    echo, rotates = serve(bytes), serve(lambda data: data.translate(ROTATED))
    for address, expect in ((echo, "same"), (rotates, table)):
        code, made = load(address, expect, *words)
        assert (code, made["errors"]["wrong"], made["answers"] > 0) == (0, 0, True)
        assert made["verdict"]["word"] not in (ERRORS, UNPROVEN)
    for address, expect in ((echo, "upper"), (rotates, "same"), (echo, table)):
        code, made = load(address, expect, *words)
        assert (code, made["errors"]["wrong"], made["verdict"]["word"]) == (1, 2, ERRORS)


@pytest.mark.parametrize("words", [[], ["--pipeline", "3"]], ids=" ".join)
def test_a_load_that_compares_nothing_is_never_valid(serve: Callable[..., str], words: list[str]) -> None:
    code, made = load(serve(lambda data: b"?" * len(data)), "none", *words)
    assert code == 0
    assert made["errors"]["wrong"] == 0
    assert made["answers"] > 0
    assert made["verdict"]["word"] != "VALID"
    # On a machine that was busy another word may stand in front of it.
    if made["verdict"]["word"] == UNPROVEN:
        assert "compared with nothing" in made["verdict"]["reason"]
    code, made = load(serve(lambda data: data + b"!"), "none", *words)
    assert (code, made["errors"]["wrong"] > 0, made["verdict"]["word"]) == (1, True, ERRORS)


def test_check_says_of_somebody_elses_server_only_what_can_be_seen(serve: Callable[..., str]) -> None:
    code, (said,) = invoke("check", serve(bytes), "--expect", "same")
    verdicts = said["clauses"]
    unseen = {name for name, verdict in verdicts.items() if verdict.startswith("not from outside")}
    assert (code, unseen) == (0, {"max_connections", "idle_seconds", "nothing_left", "stop", "capacity", "configs"})
    assert {verdict for name, verdict in verdicts.items() if name not in unseen} == {"ok"}
    assert "its idle_seconds is not known" in verdicts["idle_seconds"]


def test_check_without_bytes_to_expect_sees_no_clause_that_is_about_them(serve: Callable[..., str]) -> None:
    code, (said,) = invoke("check", serve(lambda data: b"?" * len(data)), "--expect", "none")
    verdicts = said["clauses"]
    assert code == 0
    for name in ("all_bytes", "order", "many_clients"):
        assert "compared with nothing" in verdicts[name]
    assert verdicts["half_close"] == verdicts["split"] == "ok"


def test_a_server_without_bound_has_a_high_water_that_nobody_knows(serve: Callable[..., str]) -> None:
    # It answers nothing, so that whatever is sent is taken.
    _, (said,) = invoke("check", serve(lambda data: b""), "--expect", "none", "--deadline", "500ms")
    assert "high_water is not known" in said["clauses"]["back_pressure"]
    assert said["clauses"]["split"].startswith("FAIL")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not upper, same or none, nor a file (No such file or directory)"),
        (b"", "has 0 bytes, expected 256"),
        (bytes(255), "has 255 bytes"),
        (bytes(257), "has more than 256"),
    ],
)
@pytest.mark.parametrize("command", [("try", "hi"), ("check",), ("load",)], ids=" ".join)
def test_a_bad_table_is_a_usage_error(
    command: tuple[str, ...], content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "t"
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(main, [*command, "127.0.0.1:1", "--expect", str(file)])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_plan_keeps_the_table_itself() -> None:
    oracle = payload.Oracle(ROTATED.hex())
    assert oracle.answer(payload.ALL_BYTES) == ROTATED
    assert oracle.difference(ROTATED, payload.ALL_BYTES) is None

"""`iolab misbehave`: the command, its admin port, and what it says of a bad script."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from tests.support.process import environment
from tests.support.waiting import pause

COMMAND = (sys.executable, "-P", "-m", "iolab", "misbehave")
SECONDS = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Address, Address]]:
    """The process, its address, and that of its admin port."""
    command = [*COMMAND, "--port", "0", "--script", "double | fin", "--message", "2", "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            assert line["settings"] == {"script": "double | fin", "message": 2, "seed": 7}
            yield process, (line["host"], line["port"]), (line["host"], line["admin_port"])
        finally:
            process.kill()


def ask(admin: Address, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    asked = http.client.HTTPConnection(*admin, timeout=SECONDS)
    try:
        asked.request(method, path, body)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()
    finally:
        asked.close()


def said(address: Address, data: bytes = b"ab") -> bytes:
    """What a client hears in all."""
    with connect(address) as peer:
        return peers.exchange(peer, data)


def test_it_does_what_its_script_says_until_it_is_stopped(
    server: tuple[subprocess.Popen[str], Address, Address],
) -> None:
    process, address, admin = server
    assert [said(address) for _ in range(4)] == [b"ABAB", b"", b"ABAB", b""]
    assert json.loads(ask(admin, "GET", "/healthz")[1]) == {"model": "misbehave", "stopping": False}
    assert json.loads(ask(admin, "GET", "/threads")[1])["processes"][0]["threads"]
    with connect(address) as waits:
        waits.sendall(b"a")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_scripts_come_over_http(server: tuple[subprocess.Popen[str], Address, Address]) -> None:
    _, address, admin = server
    # The next two connections, and then the turn goes on.
    assert ask(admin, "POST", "/next", "banner one; answer | banner two; answer") == (200, "taken\n")
    assert [said(address) for _ in range(4)] == [b"oneAB", b"twoAB", b"ABAB", b""]
    # From now on, and what was to come is forgotten.
    assert ask(admin, "POST", "/next", "close")[0] == 200
    assert ask(admin, "PUT", "/script", "corrupt 1 | answer")[0] == 200
    assert ask(admin, "GET", "/script") == (200, "corrupt 1 | answer\n")
    assert [said(address) for _ in range(3)] == [b"AC", b"AB", b"AC"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("PUT", "/script", "dance", 400, "script, character 1: got 'dance', expected a verb"),
        ("PUT", "/script", "", 400, "got the end"),
        ("POST", "/next", "corrupt 2", 400, "from 0 to 1"),
        ("POST", "/metrics", "x", 404, "nothing is taken at /metrics"),
        ("DELETE", "/script", None, 405, "GET, HEAD, POST and PUT"),
        ("PUT", "/script", "answer;" * 3000, 413, "more than 16384 bytes"),
    ],
)
def test_what_cannot_be_taken_changes_nothing(
    server: tuple[subprocess.Popen[str], Address, Address],
    method: str,
    path: str,
    body: str | None,
    status: int,
    words: str,
) -> None:
    _, address, admin = server
    code, text = ask(admin, method, path, body)
    assert (code, words in text) == (status, True), text
    assert said(address) == b"ABAB"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("answer 2; wait 5", "iolab: script, character 16: got '5', expected a time with its unit"),
        ("\x1b[31m", "iolab: script, character 1: got '\\x1b[31m', expected a verb"),
    ],
)
def test_a_bad_script_is_one_line_and_exit_2(script: str, line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--script", script], capture_output=True, text=True, timeout=SECONDS, env=environment(tmp_path)
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line_and_exit_1(
    server: tuple[subprocess.Popen[str], Address, Address], tmp_path: Path
) -> None:
    _, (host, port), _ = server
    for option in ("--port", "--admin-port"):
        other = "--admin-port" if option == "--port" else "--port"
        done = subprocess.run(
            [*COMMAND, option, str(port), other, "0"],
            capture_output=True, text=True, timeout=SECONDS, env=environment(tmp_path),
        )  # fmt: skip
        assert done.returncode == 1
        assert f"{host}:{port}: Address already in use" in done.stderr
        assert done.stderr.count("\n") == 1


def test_out_of_descriptors_it_pauses_and_recovers(tmp_path: Path) -> None:
    command = ["prlimit", "--nofile=24", *COMMAND, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            address = (line["host"], line["port"])
            with contextlib.ExitStack() as stack:
                crowd = [stack.enter_context(connect(address)) for _ in range(40)]
                said_so = json.loads(process.stdout.readline())
                assert (said_so["event"], said_so["error"]) == ("out_of_capacity", "Too many open files")
                assert peers.ask(crowd[0], b"a") == b"A"
                # Ten pauses long.
                pause(1)
            assert said(address) == b"AB"
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            # Not told at each try, but once until somebody is served again, which a thread that begins may let happen.
            *told, last = [json.loads(rest)["event"] for rest in process.stdout]
            assert last == "stopped"
            assert len(told) < 5
        finally:
            process.kill()

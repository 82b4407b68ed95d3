"""Servers on an IPv6 address, named as people name them: in brackets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from iolab_client.__main__ import main
from tests.support.missing import skip_for_kernel


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server on ::1, and nobody who knows of it."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        skip_for_kernel(f"it has no IPv6 ({error.strerror})")
    command = [sys.executable, "-P", "-m", "iolab", "serve", "epoll_loop", "--host", "::1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        try:
            assert server.stdout
            said = json.loads(server.stdout.readline())
            yield f"[{said['host']}]:{said['port']}"
        finally:
            server.terminate()


def invoke(*words: str) -> list[dict[str, object]] | dict[str, object]:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    shown: list[dict[str, object]] | dict[str, object] = json.loads(result.stdout)
    return shown


def test_each_command_takes_the_address_and_shows_it_as_it_is_written(address: str) -> None:
    (said,) = invoke("try", "hello", address, "--json")
    assert isinstance(said, dict)
    assert (said["address"], said["answer"]) == (address, "HELLO")
    (checked,) = invoke("check", address, "--json")
    assert isinstance(checked, dict)
    assert checked["address"] == address
    loaded = invoke("load", address, "-c", "4", "-d", "300ms", "--warmup", "0", "--json")
    assert isinstance(loaded, dict)
    assert loaded["address"] == address
    assert int(str(loaded["answers"])) > 0
    watched = invoke("threads", address, "--json")
    assert isinstance(watched, dict)
    assert watched["model"] == "epoll_loop"

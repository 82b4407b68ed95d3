"""A socket of another network namespace is there, and this process stays where it was."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from iolab.kernel.network_namespace import socket_inside


def test_a_socket_is_of_the_namespace_and_the_thread_that_asked_for_it_is_not(other_network: Path) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with socket_inside(other_network, socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        tcp = (other_network.parent.parent / "net" / "tcp").read_text()
        assert f" 00000000:{listener.getsockname()[1]:04X} " in tcp
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_what_is_no_namespace_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        socket_inside(tmp_path / "none", socket.AF_INET, socket.SOCK_STREAM)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="file"):
        socket_inside(file, socket.AF_INET, socket.SOCK_STREAM)

"""No test here sees the servers, containers or configs of this machine, unless it starts them itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from iolab_client.servers.address import Address, show


@pytest.fixture
def refusing() -> Iterator[Address]:
    """An address where nobody listens."""
    # Bound, but not listening: nobody else gets the port, and whoever connects is refused.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address: Address = nobody.getsockname()
        yield address


@pytest.fixture(autouse=True)
def lonely(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusing: Address) -> None:
    for name in ("IOLAB_IN_COMPOSE", "IOLAB_CONFIGS", "COMPOSE_PROJECT_NAME", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IOLAB_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{show(refusing)}")
    monkeypatch.chdir(tmp_path)

"""Where the servers of this machine are to be found: one small file each, while it runs.

Outside containers thirteen models share one host, so the kernel picks their admin ports; `iolab down` and the client
read them here. Containers need none: their addresses are fixed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server on this machine. Ports are the ones it really listens on; `by_up`: `iolab down` may stop it."""

    model: str
    pid: int
    started: float
    host: str
    port: int
    admin_port: int
    drain_seconds: float
    by_up: bool


def folder() -> Path:
    """$IOLAB_RUN_DIR, or a folder of the user's own that is gone after a reboot."""
    chosen = os.environ.get("IOLAB_RUN_DIR")
    if chosen:
        return Path(chosen)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "iolab" if runtime else Path(tempfile.gettempdir()) / f"iolab-{os.getuid()}"


@contextlib.contextmanager
def announced(model: str, host: str, port: int, admin_port: int, drain_seconds: float) -> Iterator[None]:
    """Keep this process's file while the block runs. A folder that can't be written, as in a container, is left out."""
    pid = os.getpid()
    running = Running(
        model=model,
        pid=pid,
        started=psutil.Process(pid).create_time(),
        host=host,
        port=port,
        admin_port=admin_port,
        drain_seconds=drain_seconds,
        by_up=os.environ.get("IOLAB_STARTED_BY") == "up",
    )
    file = folder() / f"{model}-{pid}.json"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under another name first: a reader never sees half a file.
        part = file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(running))
        part.rename(file)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running() -> list[Running]:
    """The servers that are still there, oldest first. The file of one that was killed is removed."""
    found = []
    for file in sorted(folder().glob("*.json")):
        try:
            server = msgspec.json.decode(file.read_bytes(), type=Running)
        except (OSError, msgspec.DecodeError):
            continue
        if lives(server):
            found.append(server)
        else:
            file.unlink(missing_ok=True)
    return sorted(found, key=lambda server: server.started)


def lives(server: Running) -> bool:
    """Whether its process has not ended. One that has, and that nobody has asked for its exit code, does not live."""
    try:
        process = psutil.Process(server.pid)
        # The start time tells the server from a later process with its number.
        return process.create_time() == server.started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

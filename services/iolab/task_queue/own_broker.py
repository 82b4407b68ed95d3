"""A broker and a worker that are processes of this machine, for as long as one server runs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iolab.server.errors import CannotServe
from iolab.task_queue.address import NO_BROKER, RETRY_SECONDS, START_SECONDS, program

if TYPE_CHECKING:
    pass


BROKER_MEMORY = "128mb"
# A child of ours gets our signals unblocked, and ends with us however we end: prctl(2), PR_SET_PDEATHSIG.
RUN_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); os.getppid() == int(sys.argv[1]) or"
    " sys.exit(); signal.pthread_sigmask(signal.SIG_SETMASK, ()); os.execvp(sys.argv[2], sys.argv[2:])"
)


@contextlib.contextmanager
def own_broker(folder: Path) -> Iterator[str]:
    """A broker that is a process of this machine, until the end of the block; gives its URL.

    It listens on a socket in `folder`, which keeps others out, and so asks for no password. Raises CannotServe.
    """
    found = program()
    if found is None:
        raise CannotServe(NO_BROKER)
    path = folder / "socket"
    options = {"port": "0", "unixsocket": str(path), "dir": str(folder), "save": "", "appendonly": "no"}
    options |= {"maxmemory": BROKER_MEMORY, "maxmemory-policy": "noeviction"}
    command = [found, *(word for key, value in options.items() for word in (f"--{key}", value))]
    printed = folder / "log"
    with printed.open("wb") as output, _child(command, stdout=output, stderr=output) as broker:
        end = time.monotonic() + START_SECONDS
        while not _listens(path):
            if broker.poll() is not None or time.monotonic() > end:
                last = (printed.read_text().strip().splitlines() or ["it said nothing"])[-1]
                raise CannotServe(f"{found} did not start: {last}")
            time.sleep(RETRY_SECONDS)
        yield f"redis+socket://{path}"


@contextlib.contextmanager
def own_worker(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is a process of this machine, until the end of the block, for a broker without a password.

    Raises CannotServe if it does not take tasks within START_SECONDS.
    """
    environment = {key: value for key, value in os.environ.items() if key != "IOLAB_BROKER_PASSWORD_FILE"}
    with tempfile.TemporaryDirectory(prefix="iolab-worker-") as folder:
        ready = Path(folder, "ready")
        environment |= {"IOLAB_BROKER_URL": url, "IOLAB_READY_FILE": str(ready)}
        with _child([sys.executable, "-m", "iolab.task_queue.worker"], env=environment) as worker:
            end = time.monotonic() + START_SECONDS
            while not ready.exists():
                if worker.poll() is not None or time.monotonic() > end:
                    raise CannotServe("the worker did not start; its messages are above")
                time.sleep(RETRY_SECONDS)
            yield worker


@contextlib.contextmanager
def own() -> Iterator[str]:
    """A broker and a worker of one's own, until the end of the block; gives the broker's URL. Raises CannotServe."""
    with (
        tempfile.TemporaryDirectory(prefix="iolab-broker-") as folder,
        own_broker(Path(folder)) as url,
        own_worker(url),
    ):
        yield url


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


@contextlib.contextmanager
def _child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block: nothing that it holds is worth keeping by then."""
    # A group of its own: Ctrl-C is for the server, which still needs its children while it drains.
    command = [sys.executable, "-c", RUN_WITH_PARENT, str(os.getpid()), *command]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()

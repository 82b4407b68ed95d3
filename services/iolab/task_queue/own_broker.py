"""A broker and a worker as processes on this machine, for as long as one server runs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from iolab.server.errors import CannotServe
from iolab.task_queue.address import BY_SERVER, NO_BROKER, RETRY_SECONDS, START_SECONDS, STARTED_BY, program

BROKER_MEMORY = "128mb"
# A child ends with this process, however that ends: prctl(2), PR_SET_PDEATHSIG.
RUN_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); os.getppid() == int(sys.argv[1]) or"
    " sys.exit(); os.execvp(sys.argv[2], sys.argv[2:])"
)
# Reads until the other end of its input is closed: by this process, or by the kernel when this process has ended.
REMOVE_AFTER_PARENT = 'read -r line; rm -rf -- "$1"'


@contextlib.contextmanager
def own_broker(folder: Path) -> Iterator[str]:
    """A broker as a process on this machine, until the end of the block; gives its URL.

    It listens on a socket in `folder`, which other users cannot enter, so it needs no password. Raises CannotServe.
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
def own_worker(url: str, output: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process on this machine, until the end of the block, for a broker without a password.

    It writes its log to `output`, or to where ours goes.

    Raises CannotServe if it does not take tasks within START_SECONDS.
    """
    environment = {key: value for key, value in os.environ.items() if key != "IOLAB_BROKER_PASSWORD_FILE"}
    with contextlib.ExitStack() as stack:
        ours, theirs = os.pipe()
        stack.callback(os.close, ours)
        # It reads no input, so it can report over its standard input.
        environment |= {"IOLAB_BROKER_URL": url, "IOLAB_READY_FILE": "/dev/stdin", STARTED_BY: BY_SERVER}
        command = [sys.executable, "-P", "-m", "iolab.task_queue.worker"]
        try:
            worker = stack.enter_context(_child(command, env=environment, stdin=theirs, stdout=output, stderr=output))
        finally:
            os.close(theirs)
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        # If the worker ends, the pipe is readable at once, and empty.
        if not poll.poll(START_SECONDS * 1000) or not os.read(ours, 1):
            raise CannotServe("the worker did not start; its messages are above")
        yield worker


@contextlib.contextmanager
def own() -> Iterator[str]:
    """The server's own broker and worker, until the end of the block; gives the broker's URL. Raises CannotServe."""
    with _folder() as folder, own_broker(folder) as url, own_worker(url):
        yield url


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that is removed at the end of the block, or when this process ends, in whatever way."""
    folder = tempfile.mkdtemp(prefix="iolab-broker-")
    command = ["sh", "-c", REMOVE_AFTER_PARENT, "sh", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0):
        yield Path(folder)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


@contextlib.contextmanager
def _child(command: list[str], *, stdin: int = subprocess.DEVNULL, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block, when nothing that it holds is needed any more.

    A stop may be sent to every process of the service, but the server still needs its children while it drains. It has
    blocked the stop's signals, and a child inherits the mask.
    """
    # Its own process group: a terminal sends other signals than the stop's, too.
    command = [sys.executable, "-P", "-c", RUN_WITH_PARENT, str(os.getpid()), *command]
    child = subprocess.Popen(command, stdin=stdin, process_group=0, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()

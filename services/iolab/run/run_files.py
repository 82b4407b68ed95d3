"""Run files tell where the servers of this machine are: a small file for each, while it runs.

Outside containers many models share one host, so the kernel picks their admin ports; `iolab down` and the client
read them here. Containers need no run files: their addresses are fixed.

`iolab down` acts on what a file says. So a folder is trusted only if nobody else can write to it, a file only if it
belongs to the reader, and no link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import msgspec

from iolab import log
from iolab.kernel import identity
from iolab.kernel.identity import Identity

# More than any run file has.
FILE_BYTES = 64 * 1024
# In the environment of servers that `iolab up` has started, and that `iolab down` may stop.
STARTED_BY = "IOLAB_STARTED_BY"
BY_UP = "up"


class UnusableFolder(Exception):
    """A folder in which run files can't be kept or looked for. The message names folder, reason and remedy."""

    def __init__(self, message: str, *, read_only: bool = False) -> None:
        super().__init__(message)
        # The file system is read-only, as in a container.
        self.read_only = read_only


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server on this machine. Ports are those that it really listens on; `by_up`: `iolab down` may stop it."""

    model: str
    process: Identity
    host: str
    port: int
    admin_port: int
    drain_seconds: float
    by_up: bool

    @property
    def pid(self) -> int:
        """The PID of its process."""
        return self.process.pid

    def lives(self) -> bool:
        """Whether its process still runs."""
        return identity.lives(self.process)


def folder() -> Path:
    """Where a server of this user puts its file: $IOLAB_RUN_DIR, or a folder that a reboot removes."""
    return places()[0]


def places() -> list[Path]:
    """All places where run files may be, `folder` first.

    $IOLAB_RUN_DIR, if set, is the only place. Else the folder depends on variables that differ between a session, a
    cron job and a shell of su(1), so a reader looks in every place that they could name.
    """
    chosen = os.environ.get("IOLAB_RUN_DIR")
    if chosen:
        return [Path(chosen).absolute()]
    user = os.geteuid()
    sessions = [Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}"), Path(f"/run/user/{user}")]
    # su(1) leaves another user's folder in the environment. It is not ours to write to, even if root could.
    found = [session / "iolab" for session in sessions if _owner(session) == user]
    found += [Path(temporary, f"iolab-{user}") for temporary in (os.environ.get("TMPDIR") or "/tmp", "/tmp")]
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def opened(path: Path, *, make: bool = False) -> Iterator[int]:
    """Open a folder of run files for the block, and give its descriptor; `make`: create it if it is missing.

    Raises UnusableFolder, FileNotFoundError.
    """
    try:
        if make:
            # If something else has that name, the code below says so.
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700, parents=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        # For a link the kernel says "not a directory", which confuses a user whose link leads to one.
        reason = "it is a symbolic link" if os.path.islink(path) else error.strerror
        raise UnusableFolder(f"{path}: {reason}; {OTHER_FOLDER}", read_only=error.errno == errno.EROFS) from None
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise UnusableFolder(f"{path} is not trusted: it belongs to {_name(status.st_uid)}; {OTHER_FOLDER}")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise UnusableFolder(f"{path} is not trusted: others may enter it (mode {mode:04o}); chmod 700 {path}")
        yield descriptor
    finally:
        os.close(descriptor)


OTHER_FOLDER = "set IOLAB_RUN_DIR to a folder of your own"


def create(name: str, descriptor: int) -> int:
    """Make a file of this name in an opened folder, replacing any other; return its descriptor, for writing.

    A link is replaced, and its target stays as it is. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=descriptor)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=descriptor)


@contextlib.contextmanager
def announced(model: str, host: str, port: int, admin_port: int, drain_seconds: float) -> Iterator[None]:
    """Keep this process's run file during the block. Without a usable folder there is none, and the log says so."""
    path = folder()
    try:
        process = identity.own_identity()
        # No other process ever has this file name, so removing the file of an ended server removes no other's.
        name = f"{model}-{process.pid}-{process.start_ticks}.json"
        running = Running(
            model=model,
            process=process,
            host=host,
            port=port,
            admin_port=admin_port,
            drain_seconds=drain_seconds,
            by_up=os.environ.get(STARTED_BY) == BY_UP,
        )
        with opened(path, make=True) as descriptor:
            # Under another name first: a reader never sees half a file.
            part = name.replace(".json", ".part")
            try:
                with os.fdopen(create(part, descriptor), "wb") as file:
                    file.write(msgspec.json.encode(running))
                os.rename(part, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except OSError:
                # A full disk, say, which this would help to fill.
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=descriptor)
                raise
    except (OSError, UnusableFolder) as error:
        # In a container run files are not needed.
        if not getattr(error, "read_only", False):
            log.warning("no_run_file", reason=str(error))
        yield
        return
    try:
        yield
    finally:
        _remove(path, name)


def running() -> list[Running]:
    """The servers that still run, the oldest first, from all places.

    The file of a server that has certainly ended is removed. An untrusted folder is reported once, on stderr.
    """
    found: dict[Identity, Running] = {}
    for path in places():
        try:
            with contextlib.suppress(FileNotFoundError), opened(path) as descriptor:
                found |= {server.process: server for server in _read(descriptor)}
        except UnusableFolder as error:
            _complain(str(error))
    return sorted(found.values(), key=lambda server: server.process.start_ticks)


def stop(server: Running) -> bool:
    """Send SIGTERM to a server that `iolab up` has started, and to no other process, whatever its file says.

    Returns whether it was sent.
    """
    return identity.send_signal(server.process, signal.SIGTERM, only_with=f"{STARTED_BY}={BY_UP}".encode())


def _read(descriptor: int) -> Iterator[Running]:
    for name in os.listdir(descriptor):
        if not name.endswith(".json"):
            continue
        try:
            server = msgspec.json.decode(_content(name, descriptor), type=Running)
        except (OSError, msgspec.MsgspecError):
            continue
        if server.lives():
            yield server
        elif identity.is_gone(server.process):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=descriptor)


def _content(name: str, descriptor: int) -> bytes:
    """The content of a regular file that belongs to us; empty for any other. Raises OSError."""
    # O_NONBLOCK: else opening a named pipe would block.
    opened_file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        status = os.fstat(opened_file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return b""
        return os.read(opened_file, FILE_BYTES)
    finally:
        os.close(opened_file)


def _remove(path: Path, name: str) -> None:
    with contextlib.suppress(OSError, UnusableFolder), opened(path) as descriptor:
        os.unlink(name, dir_fd=descriptor)


@cache
def _complain(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(f"iolab: {line}", err=True)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"

"""Where the servers of this machine are to be found: one small file each, while it runs.

Outside containers many models share one host, so the kernel picks their admin ports; `iolab down` and the client
read them here. Containers need none: their addresses are fixed.

What is in a file is believed, and `iolab down` acts on it. So a folder counts only if nobody else can have put anything
into it, a file only if its owner is the reader, and no link is followed.
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

# More than any file of ours has.
FILE_BYTES = 64 * 1024
# What a server began with that `iolab up` has started, and that `iolab down` may stop.
STARTED_BY = "IOLAB_STARTED_BY"
BY_UP = "up"


class UnusableFolder(Exception):
    """Run files can't be kept or looked for there. The message names the folder, the reason and the remedy."""

    def __init__(self, message: str, *, read_only: bool = False) -> None:
        super().__init__(message)
        # A file system that nobody writes to, as a container's.
        self.read_only = read_only


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server on this machine. Ports are the ones it really listens on; `by_up`: `iolab down` may stop it."""

    model: str
    process: Identity
    host: str
    port: int
    admin_port: int
    drain_seconds: float
    by_up: bool

    @property
    def pid(self) -> int:
        """Its process's number."""
        return self.process.pid

    def lives(self) -> bool:
        """Whether its process has not ended."""
        return identity.lives(self.process)


def folder() -> Path:
    """Where a server of this user leaves its file: $IOLAB_RUN_DIR, or a folder that is gone after a reboot."""
    return places()[0]


def places() -> list[Path]:
    """Where the files may be, `folder` first.

    Whoever chose $IOLAB_RUN_DIR wants to be apart from all others. Else it depends on variables that differ between a
    session, a cron job and a shell of su(1), so that a reader looks wherever one of them would have led.
    """
    chosen = os.environ.get("IOLAB_RUN_DIR")
    if chosen:
        return [Path(chosen).absolute()]
    user = os.geteuid()
    sessions = [Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}"), Path(f"/run/user/{user}")]
    # Another user's, which su(1) leaves in the environment, is not ours to write to, even where root could.
    found = [session / "iolab" for session in sessions if _owner(session) == user]
    found += [Path(temporary, f"iolab-{user}") for temporary in (os.environ.get("TMPDIR") or "/tmp", "/tmp")]
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def opened(path: Path, *, make: bool = False) -> Iterator[int]:
    """The descriptor of a folder of run files, for as long as the block runs; `make`: it need not be there yet.

    Raises UnusableFolder, FileNotFoundError.
    """
    try:
        if make:
            # Something else may be there in its place, which is told below.
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700, parents=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        # A link is told as "not a directory", which would puzzle whoever looks at the one that it leads to.
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
    """Make a file of this name in an opened folder, in place of what is there now; its descriptor, for writing.

    A link goes and what it leads to stays. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=descriptor)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=descriptor)


@contextlib.contextmanager
def announced(model: str, host: str, port: int, admin_port: int, drain_seconds: float) -> Iterator[None]:
    """Keep this process's file while the block runs. Without a usable folder there is none, and the log says so."""
    path = folder()
    try:
        process = identity.own_identity()
        # No other process ever has this name, so that who removes the file of one that is gone removes no other's.
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
            with os.fdopen(create(part, descriptor), "wb") as file:
                file.write(msgspec.json.encode(running))
            os.rename(part, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except (OSError, UnusableFolder) as error:
        # In a container nobody looks for one.
        if not getattr(error, "read_only", False):
            log.warning("no_run_file", reason=str(error))
        yield
        return
    try:
        yield
    finally:
        _remove(path, name)


def running() -> list[Running]:
    """The servers that are still there, the oldest first, from all places.

    The file of one that has certainly ended is removed. A folder that is not trusted is told of once, on stderr.
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
    """Send SIGTERM to a server that `iolab up` has started, and to nothing else, whatever its file says.

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
    """A file that is ours; empty if it is anything else. Raises OSError."""
    # A pipe would otherwise be waited for.
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

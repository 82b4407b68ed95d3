"""The yardstick: a server in C, and beside it the admin port of a model, so that it can be measured like one.

The server is services/yardstick/epoll.c. The image has it compiled; in a checkout the C compiler does that once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from iolab import log, runfiles
from iolab.admin import open_admin
from iolab.registry import YARDSTICK
from iolab.server import effective_limits, listen
from iolab.settings import Settings, load, override
from iolab.stop import Stop, block_signals
from iolab.threads import start_thread

# Where the image has it.
INSTALLED = Path("/opt/iolab/bin/yardstick")
CHECKOUT = Path(__file__).parents[2]
SOURCE = CHECKOUT / "services" / "yardstick" / "epoll.c"
COMPILER = ("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class NoYardstick(Exception):
    """This machine has none. The message is the one line that tells why, and what to do about it."""


class Measured:
    """What the admin port shows: the server in C alone, as if this process were not there."""

    model = YARDSTICK

    def __init__(self, server: subprocess.Popen[bytes], stop: Stop) -> None:
        self._server = server
        self.stop = stop

    def processes(self) -> list[int]:
        """The server in C."""
        return [self._server.pid]


def program() -> Path:
    """The compiled server: the image's, or one that is compiled now if it is not there. Raises NoYardstick."""
    if INSTALLED.exists():
        return INSTALLED
    if not SOURCE.exists():
        raise NoYardstick("no yardstick: its source is not installed; use a checkout")
    # What was compiled from another source is in another folder; top and ps show the file's name.
    made = CHECKOUT / ".tools" / "yardstick" / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16] / YARDSTICK.slug
    if made.exists():
        return made
    if shutil.which(COMPILER[0]) is None:
        raise NoYardstick("no yardstick: no C compiler; install gcc")
    made.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first: of two that compile at once, neither runs half a program.
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        part = Path(folder, made.name)
        compiled = subprocess.run([*COMPILER, "-o", part, SOURCE], capture_output=True, text=True, check=False)
        if compiled.returncode != 0:
            first = next(iter(compiled.stderr.splitlines()), f"exit {compiled.returncode}")
            raise NoYardstick(f"no yardstick: {COMPILER[0]} fails: {first}")
        part.rename(made)
    return made


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, or until the server in C ends; return the exit code. Raises NoYardstick, OSError.

    There is no drain: nobody is owed anything by a yardstick.
    """
    path = program()
    listener = listen(settings)
    listener.setblocking(False)
    host, port = listener.getsockname()[:2]
    limits = effective_limits(YARDSTICK, settings, listener)
    # Before the signals are blocked, which it would inherit.
    server = subprocess.Popen([path, str(listener.fileno())], pass_fds=[listener.fileno()])
    block_signals()
    listener.close()
    stop = Stop()
    stop.then(server.kill)
    stop.watch(settings.drain_seconds, lambda reason: log.warning("cut", reason=reason))
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        admin = open_admin(Measured(server, stop), settings.host, settings.admin_port)
        start_thread(admin.serve_forever, "admin")
        stack.enter_context(runfiles.announced(YARDSTICK.slug, host, port, admin.server_port, settings.drain_seconds))
        log.info(
            "listening",
            host=host,
            port=port,
            admin_port=admin.server_port,
            pid=os.getpid(),
            limits=msgspec.structs.asdict(limits),
            settings={key: getattr(settings, key) for key in ("host", "port", "backlog", "buffer_size")},
        )
        code = server.wait()
    if not stop.requested:
        log.warning("ended", exit=code)
        return 1
    log.info("stopped")
    return 0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=YARDSTICK.port, show_default=True, help="0: any.")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: any.")
def main(host: str, port: int, admin_port: int) -> None:
    """Run the C server that the models are measured against, until SIGTERM or SIGINT."""
    log.configure("info", YARDSTICK.slug)
    try:
        sys.exit(run(override(load(YARDSTICK, None), host=host, port=port, admin_port=admin_port)))
    except NoYardstick as error:
        log.warning("unavailable", reason=str(error))
        sys.exit(os.EX_UNAVAILABLE)
    except OSError as error:
        click.echo(f"iolab: yardstick on {host}:{port}, admin port {admin_port}: {error.strerror}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

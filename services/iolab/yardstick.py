"""The yardstick: a server in C, with a model's admin port beside it, so that it can be measured like a model.

The server is yardstick.c. The image has it compiled; elsewhere the machine's C compiler does that once.
"""

from __future__ import annotations

if __name__ == "__main__":
    from iolab.safe_path import leave_out_current_directory

    leave_out_current_directory()

import contextlib
import os
import subprocess
from pathlib import Path

import click
import msgspec

from iolab import log
from iolab.compiled import NotCompiled, compiled
from iolab.configs import load, override
from iolab.kernel.threads import start_thread
from iolab.observe.admin import open_admin
from iolab.program import WholeNumber
from iolab.registry import YARDSTICK
from iolab.run import run_files
from iolab.server import surroundings
from iolab.server.ending import complain, leave
from iolab.server.limits import effective_limits
from iolab.server.listener import listen
from iolab.server.stop import Stop, block_signals
from iolab.settings import BadSetting, Settings

SOURCE = Path(__file__).with_suffix(".c")


class Measured:
    """What the admin port shows: the server in C alone, without this process."""

    model = YARDSTICK

    def __init__(self, server: subprocess.Popen[bytes], stop: Stop) -> None:
        self._server = server
        self.stop = stop

    def processes(self) -> list[int]:
        """The server in C."""
        return [self._server.pid]


def program() -> Path:
    """The compiled server. Raises NotCompiled."""
    return compiled(SOURCE, YARDSTICK.slug)


def run(settings: Settings) -> int:
    """Serve until the stop, or until the server in C ends; return the exit code. Raises NotCompiled, OSError.

    There is no drain: a yardstick owes its clients nothing.
    """
    path = program()
    listener = listen(settings)
    listener.setblocking(False)
    host, port = listener.getsockname()[:2]
    limits = effective_limits(YARDSTICK, settings, listener)
    # Started before the signals are blocked, because a child inherits the mask.
    server = subprocess.Popen([path, str(listener.fileno())], pass_fds=[listener.fileno()])
    block_signals()
    listener.close()
    stop = Stop()
    stop.then(server.kill)
    stop.watch(settings.drain_seconds, lambda reason: log.warning("cut", reason=reason))
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        admin = open_admin(Measured(server, stop), settings)
        start_thread(admin.serve_forever, "admin")
        stack.enter_context(run_files.announced(YARDSTICK.slug, host, port, admin.port, settings.drain_seconds))
        log.info(
            "listening",
            host=host,
            port=port,
            admin_port=admin.port,
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
@click.option("--port", type=WholeNumber(0, 65535), default=YARDSTICK.port, show_default=True, help="0: any.")
@click.option("--admin-port", type=WholeNumber(0, 65535), default=0, show_default=True, help="0: any.")
def main(host: str, port: int, admin_port: int) -> None:
    """Run the C server that the models are measured against, until SIGTERM, SIGINT, SIGHUP or SIGQUIT."""
    surroundings.put_right()
    surroundings.close_inherited_descriptors()
    log.configure("info", YARDSTICK.slug)
    try:
        leave(run(override(load(YARDSTICK, None), host=host, port=port, admin_port=admin_port)))
    except BadSetting as error:
        complain(f"iolab: {error}\n")
        leave(2)
    except NotCompiled as error:
        log.warning("unavailable", reason=str(error))
        leave(os.EX_UNAVAILABLE)
    except OSError as error:
        complain(f"iolab: yardstick on {host}:{port}, admin port {admin_port}: {error.strerror}\n")
        leave(1)


if __name__ == "__main__":
    main()

"""The command `iolab`: serve one model, run them all as plain processes, check the configs."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from iolab.stop import Stop, block_signals

# The configs folder of a checkout, where nothing else is said.
CONFIGS = Path("configs")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iolab")
def main() -> None:
    """Every way a Linux server can wait for its clients, side by side behind one protocol."""


def configs_option(command: Any) -> Any:
    """The option that says where the YAML files are."""
    return click.option(
        "--configs",
        "folder",
        envvar="IOLAB_CONFIGS",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of defaults.yaml and models/; ./configs if there is one, else the built-in defaults.",
    )(command)


@main.command()
@click.argument("slug")
@configs_option
@click.option("--config", "file", type=click.Path(path_type=Path), help="A YAML file in place of the model's own.")
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 lets the kernel pick.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="The port of /metrics, /threads and /healthz.")
def serve(
    slug: str, folder: Path | None, file: Path | None, host: str | None, port: int | None, admin_port: int | None
) -> None:
    """Run the model SLUG until SIGTERM or SIGINT."""
    # Before anything heavy is imported: a signal that comes now is kept until someone waits for it.
    block_signals()
    from iolab import settings
    from iolab.registry import find

    try:
        model = find(slug)
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None
    folder = folder or (CONFIGS if CONFIGS.is_dir() else None)
    try:
        values = settings.load(model, folder, file)
        if port is None:
            where = file or (folder / "models" / f"{slug}.yaml" if folder else Path(slug))
            settings.check_compose(values, model, where, dict(os.environ))
    except settings.BadSetting as error:
        refuse(error)
    _serve(model, settings.override(values, host=host, port=port, admin_port=admin_port))


def _serve(model: Any, values: Any) -> None:
    import msgspec

    from iolab import log, orphans, runfiles
    from iolab.admin import start_admin
    from iolab.server import Server, listen

    log.configure(values.log_level)
    threading.excepthook = _crash
    if values.cpus:
        os.sched_setaffinity(0, values.cpus)
    run = model.load()
    try:
        listener = listen(values)
    except OSError as error:
        fail(f"{values.host}:{values.port}: {error.strerror}; stop what listens there, or choose another port")
    stop = Stop()
    server = Server(model, values, listener, stop)
    host, port = listener.getsockname()[:2]
    try:
        admin_port = start_admin(server, values.host, values.admin_port)
    except OSError as error:
        fail(f"admin port {values.host}:{values.admin_port}: {error.strerror}; choose another admin_port")

    def cut(reason: str) -> None:
        books = msgspec.structs.asdict(server.totals())
        left = server.open_count() + orphans.count(port)
        log.warning("cut", model=model.slug, reason=reason, connections=left, totals=books)

    stop.watch(values.drain_seconds, cut)
    stop.then(lambda: log.info("draining", model=model.slug, open=server.open_count(), waiting=server.waiting()))
    with runfiles.announced(model.slug, host, port, admin_port):
        log.info(
            "listening",
            model=model.slug,
            host=host,
            port=port,
            admin_port=admin_port,
            pid=os.getpid(),
            limits=msgspec.structs.asdict(server.limits),
            settings=msgspec.to_builtins(values),
        )
        run(server)
        orphans.wait_until_acknowledged(port)
    log.info(
        "stopped",
        model=model.slug,
        seconds=round(time.monotonic() - stop.requested_at, 3),
        totals=msgspec.structs.asdict(server.totals()),
    )


def _crash(arguments: threading.ExceptHookArgs) -> None:
    """A bug in a thread ends the process: a server that is only half there serves nobody."""
    error: tuple[Any, Any, TracebackType | None] = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    sys.excepthook(*error)
    sys.stderr.flush()
    os._exit(70)


def refuse(error: Exception) -> Any:
    """End for a setting that cannot hold: one line, exit 2."""
    click.echo(f"iolab: {error}", err=True)
    sys.exit(2)


def fail(message: str) -> Any:
    """End for something that went wrong on this machine: one line, exit 1."""
    click.echo(f"iolab: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()

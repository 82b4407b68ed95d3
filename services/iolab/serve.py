"""The life of one server: bind, tell the world, run the model until it returns, wait for the last acknowledgement."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import msgspec

from iolab import log, orphans, runfiles
from iolab.admin import start_admin
from iolab.registry import Model
from iolab.server import Server, listen
from iolab.settings import Settings
from iolab.stop import Stop
from iolab.threads import NoThread, name_thread


class StartError(Exception):
    """Something on this machine is in the way of the server. The message is the one line that the user is shown."""


def run(model: Model, settings: Settings) -> None:
    """Serve until the stop; signals are blocked already. Raises StartError. A drain that fails ends the process."""
    log.configure(settings.log_level, model.slug)
    # What top and ps show, and /threads for the first thread.
    name_thread(model.slug)
    threading.excepthook = _crash
    if settings.cpus:
        os.sched_setaffinity(0, settings.cpus)
    serve = model.load()
    try:
        listener = listen(settings)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise StartError(f"{where}: {error.strerror}; stop what listens there, or choose another port") from None
    stop = Stop()
    server = Server(model, settings, listener, stop)
    host, port = listener.getsockname()[:2]
    try:
        admin_port = start_admin(server, settings.host, settings.admin_port)
    except OSError as error:
        where = f"{settings.host}:{settings.admin_port}"
        raise StartError(f"admin port {where}: {error.strerror}; choose another admin_port") from None

    def cut(reason: str) -> None:
        connections = server.open_count() + orphans.count(port)
        log.warning("cut", reason=reason, connections=connections, totals=msgspec.structs.asdict(server.totals()))

    stop.watch(settings.drain_seconds, cut)
    stop.then(lambda: log.info("draining", open=server.open_count(), waiting=server.waiting()))
    with runfiles.announced(model.slug, host, port, admin_port, settings.drain_seconds):
        log.info(
            "listening",
            host=host,
            port=port,
            admin_port=admin_port,
            pid=os.getpid(),
            limits=msgspec.structs.asdict(server.limits),
            settings=msgspec.to_builtins(settings),
        )
        try:
            serve(server)
        except NoThread as error:
            raise StartError(f"{error}; lower `workers`, or raise the limit of threads (pids_limit)") from None
        orphans.wait_until_acknowledged(port)
    seconds = round(time.monotonic() - stop.requested_at, 3)
    log.info("stopped", seconds=seconds, totals=msgspec.structs.asdict(server.totals()))


def _crash(bug: threading.ExceptHookArgs) -> Any:
    """A bug in a thread ends the process: a server that is only half there serves nobody."""
    sys.__excepthook__(bug.exc_type, bug.exc_value or bug.exc_type(), bug.exc_traceback)
    sys.stderr.flush()
    os._exit(70)

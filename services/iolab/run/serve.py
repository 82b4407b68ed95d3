"""The life of one server: bind, announce it, run the model until it returns, wait for the last acknowledgement."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator

import msgspec

from iolab import log
from iolab.kernel.orphans import Orphans
from iolab.kernel.threads import NoThread, name_thread, start_thread
from iolab.observe.admin import open_admin
from iolab.observe.hands_on import HandsOn
from iolab.processes.supervisor import ChildLost, ChildrenFail, Supervisor
from iolab.registry import Model
from iolab.run import run_files
from iolab.server.ending import crash_in_thread
from iolab.server.errors import CannotServe
from iolab.server.listener import listen, listen_together, shown
from iolab.server.server import Server
from iolab.server.stop import Stop
from iolab.settings import Settings


class StartError(Exception):
    """Something on this machine prevents the start. The message is the one line shown to the user."""


def run(model: Model, settings: Settings) -> int:
    """Serve until the stop; return the exit code. Signals are blocked already. A drain that fails ends the process.

    If the machine cannot run the model, one log line says so, and the exit code is 69: the server has not failed.
    Raises StartError.
    """
    log.configure(settings.log_level, model.slug)
    # For top, ps and /threads, which show it for the first thread.
    name_thread(model.slug)
    threading.excepthook = crash_in_thread
    if settings.cpus:
        os.sched_setaffinity(0, settings.cpus)
    if reason := model.unavailable(settings):
        log.warning("unavailable", reason=reason)
        return os.EX_UNAVAILABLE
    serve = model.load()
    stop = Stop()
    server: Server
    with listening_on(settings.host, settings.port, "port"):
        if model.forks:
            server = Supervisor(model, settings, listen_together(settings, settings.process_count), stop)
        else:
            server = Server(model, settings, listen(settings), stop)
    host, port = server.listener.getsockname()[:2]
    orphans = Orphans(server.listener)
    with listening_on(settings.host, settings.admin_port, "admin_port"):
        admin = open_admin(server, settings, receive=HandsOn(server).receive if settings.hands_on else None)

    def cut(reason: str) -> None:
        # Includes clients that were never accepted: a model that is still starting has them in its accept queue.
        connections = server.open_count() + server.accept_queue() + orphans.count()
        log.warning("cut", reason=reason, connections=connections, totals=msgspec.structs.asdict(server.totals()))

    stop.then(lambda: log.info("draining", open=server.open_count(), waiting=server.waiting()))
    if isinstance(server, Supervisor):
        server.look_after(admin, orphans, cut)
    else:
        start_thread(admin.serve_forever, "admin")
        stop.watch(settings.drain_seconds, cut)
        server.compute_beside()
    with run_files.announced(model.slug, host, port, admin.port, settings.drain_seconds):
        log.info(
            "listening",
            host=host,
            port=port,
            admin_port=admin.port,
            pid=os.getpid(),
            limits=msgspec.structs.asdict(server.limits),
            settings=msgspec.to_builtins(settings),
        )
        try:
            serve(server)
        except NoThread as error:
            remedy = "lower `workers`, or raise the limit of threads (pids_limit) or of memory (ulimit -v)"
            raise StartError(f"{error}; {remedy}") from None
        except CannotServe as error:
            raise StartError(str(error)) from None
        except ChildLost:
            return 1
        except ChildrenFail as error:
            raise StartError(f"{error}; the log and the messages above tell why") from None
        orphans.wait()
    seconds = round(time.monotonic() - stop.requested_at, 3)
    log.info("stopped", seconds=seconds, totals=msgspec.structs.asdict(server.totals()))
    return 0


@contextlib.contextmanager
def listening_on(host: str, port: int, key: str) -> Iterator[None]:
    """Turn an OSError of the block, which binds a port, into a StartError; `key` is the setting with the port."""
    try:
        yield
    except OSError as error:
        which = "" if key == "port" else f"{key.replace('_', ' ')} "
        raise StartError(f"{which}{shown(host, port)}: {_advice(error, key)}") from None


def _advice(error: OSError, key: str) -> str:
    """Why a port could not be bound, and the remedy."""
    advice = {
        errno.EADDRINUSE: f"stop what listens there, or choose another {key}",
        errno.EADDRNOTAVAIL: "that is no address of this machine; see `ip address`, or listen on 127.0.0.1",
        errno.EINVAL: "an address of one link needs its interface, as in fe80::1%eth0",
        errno.EACCES: f"a {key} below net.ipv4.ip_unprivileged_port_start is for root; choose one from 1024 on",
        errno.EAFNOSUPPORT: "this kernel has no such addresses; listen on 127.0.0.1",
        errno.EMFILE: "raise the limit of descriptors (ulimit -n)",
        errno.ENFILE: "the machine has no descriptors left; end what has so many",
    }.get(error.errno or 0)
    return f"{error.strerror}; {advice}" if advice else f"{error.strerror}"

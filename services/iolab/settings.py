"""What can be set, and what is refused: `defaults.yaml`, then `models/<slug>.yaml`, then the command line.

A bad file ends the process before it binds a port, with one line that names file, key, value and expectation.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from iolab.registry import MODELS

# select(2) has undefined behaviour from this descriptor number on, which is compiled into glibc.
FD_SETSIZE = 1024
# Descriptors and threads that a server needs for itself: listener, admin, log, selector, interpreter.
RESERVE = 64
SELECT_LIMIT = FD_SETSIZE - RESERVE

# The longest times that each model's system calls can take: poll(2) takes milliseconds in an int, which ends at 24
# days, and there are ten looks for silence in `idle_seconds`.
MOST_SECONDS = 24 * 60 * 60
MOST_IDLE_SECONDS = 30 * MOST_SECONDS
# The shortest time that differs from none.
LEAST_SECONDS = 0.001

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
# The most processors that Linux can be built for.
Cpu = Annotated[int, msgspec.Meta(ge=0, le=8191)]
Seconds = Annotated[float, msgspec.Meta(ge=LEAST_SECONDS, le=MOST_SECONDS)]
OWN_KEYS = frozenset(key for model in MODELS.values() for key in model.own_keys)


class BadSetting(Exception):
    """A setting that is refused. The message is the one line shown to the user, whatever the setting contains."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with each unprintable character escaped: a value must not break its line, nor control a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class WorkDial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer costs beyond the echo, so that models can be compared under the work they are made for."""

    # Microseconds of processor time that each answer burns.
    cpu_us: Annotated[int, msgspec.Meta(ge=0, le=60_000_000)] = 0
    # Milliseconds that each answer waits, as for a database, in the model's own way of waiting.
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    # Threads that compute all the time beside the answers, as a report would: others wait for the GIL.
    threads: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server's settings. The defaults are those of configs/defaults.yaml; a test keeps them the same."""

    # The address to listen on. The image listens on every address of its container.
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "127.0.0.1"
    # The TCP port; on the command line 0 lets the kernel pick.
    port: Port = 8000
    # The port of /healthz, /metrics and /threads; 0 lets the kernel pick, and the `listening` line shows it.
    admin_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    # The length of the accept queue; the kernel caps it at net.core.somaxconn.
    backlog: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1024
    # Bytes that one recv(2) asks for.
    buffer_size: Annotated[int, msgspec.Meta(ge=1, le=16 * 1024 * 1024)] = 65536
    # While more bytes than this are owed to a peer, nothing is read from it.
    high_water: Annotated[int, msgspec.Meta(ge=1, le=1024 * 1024 * 1024)] = 131072
    # With this many open connections, one more is closed at once; null: as many as the model can hold on this machine.
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] | None = None
    # A connection on which no byte moves for this long is closed; 0: never.
    idle_seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST_IDLE_SECONDS)] = 0
    # At the stop, how long a connection must be silent before it is given its FIN.
    drain_quiet_seconds: Seconds = 0.2
    # At the stop, how long before the remaining connections are cut.
    drain_seconds: Seconds = 5
    # A silent peer is probed after this long; one that acknowledges nothing for twice as long is gone.
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=1, le=32767)] = 60
    # The processors that the server may run on; an empty list leaves the choice to the kernel.
    cpus: tuple[Cpu, ...] = ()
    log_level: Literal["debug", "info"] = "info"
    # Whether the admin port also takes changes to the running server: PUT /work, PUT /kill.
    hands_on: bool = False
    work: WorkDial = WorkDial()
    # How many clients (blocking_pool, busy_poll) or answers (epoll_pool) are served at once; null: min(32, cpus + 4).
    workers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    # The event loop of asyncio_streams: the standard library's, or uvloop.
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    # How many buffers of `buffer_size` the receives of io_uring_ring share.
    buffers: Annotated[int, msgspec.Meta(ge=1, le=32768)] = 64
    # The broker of task_queue: redis://HOST:PORT/NUMBER, redis+socket:///PATH; null: IOLAB_BROKER_URL, or its own one.
    broker_url: Annotated[str, msgspec.Meta(min_length=1, max_length=400)] | None = None
    # The file with the broker's password, if it has one. The password is not in the URL, because that is shown.
    broker_password_file: Annotated[str, msgspec.Meta(min_length=1, max_length=4095)] | None = None
    # How long a client of task_queue waits for a broker and a worker before its connection is ended.
    broker_seconds: Seconds = 15
    # A task that a worker has taken and not answered for this long is given to another worker.
    visibility_timeout: Seconds = 5
    # How many processes serve; null: one for each processor that the server may run on.
    processes: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    # Where the processes of prefork_epoll accept: each on its own listener (reuseport), or all on one, for which the
    # kernel wakes all of them (shared) or one (exclusive).
    accept: Literal["reuseport", "shared", "exclusive"] = "reuseport"

    @property
    def process_count(self) -> int:
        """`processes`, or the number of processors that the server may run on."""
        return self.processes or len(os.sched_getaffinity(0))

    @property
    def pool_size(self) -> int:
        """`workers`, or the default of concurrent.futures.ThreadPoolExecutor."""
        return self.workers or min(32, (os.cpu_count() or 1) + 4)


class PlaygroundSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The playground's settings. The defaults are those of configs/playground.yaml; a test keeps them the same."""

    # The address to listen on. The image listens on every address of its container, and is published on loopback only.
    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    port: Port = 8080
    # How many pages may be open at once: each has an event stream.
    pages: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 32
    # Seconds between two looks at what the threads do; the counters are asked for every other time.
    look_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 0.5
    # How long a page may be disconnected before everything that it has opened is closed.
    away_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60
    # The most connections that all pages together may have open, including loads.
    connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    # The limits of one load: connections, seconds, bytes of a message; and how many loads may run at once.
    load_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    load_seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 20
    load_bytes: Annotated[int, msgspec.Meta(ge=1, le=1024 * 1024)] = 65536
    loads: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    # The most bytes of one message by hand, and the most that are sent while no answer is read.
    say_bytes: Annotated[int, msgspec.Meta(ge=1, le=1024 * 1024)] = 4096
    flood_bytes: Annotated[int, msgspec.Meta(ge=1, le=1024 * 1024 * 1024)] = 16 * 1024 * 1024
    # How far the page may turn a server's work dial.
    most_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 2000
    most_cpu_us: Annotated[int, msgspec.Meta(ge=0, le=60_000_000)] = 200_000

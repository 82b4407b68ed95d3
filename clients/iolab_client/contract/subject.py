"""A server under check: what is known of it, and what the clauses need to test it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

from prometheus_client import Metric

from iolab.configs import override
from iolab.settings import Settings, WorkDial
from iolab_client.contract import payload, peers
from iolab_client.servers import admin
from iolab_client.servers.address import connect
from iolab_client.servers.targets import Target, configured

KIB = 1024
# Small, so that little is in flight unseen; with the smallest buffer a full window would be probed in steps of 0.2 s.
SEND_BUFFER_BYTES = 64 * KIB
# The most answers that a stream takes, so that a small buffer_size does not make it endless.
ANSWERS = 512
# If it takes more reads to fill the kernel's buffers, that takes too long.
MOST_ANSWERS = 16384
POOL_AT_ONCE = 3
AT_ONCE = 64
# An idle_seconds above this is not tested: it would take too long.
PATIENCE_SECONDS = 10
# The metrics that return to their values once all clients are gone, and what they count.
OPEN = "iolab_connections_open"
LEFT_BEHIND = {
    OPEN: "open connections",
    "iolab_process_open_descriptors": "descriptors",
}
# tcp(7): the largest receive and send buffer of a connection, used if the sysctl can't be read.
KERNEL_BUFFERS = {"tcp_rmem": 6 * KIB * KIB, "tcp_wmem": 4 * KIB * KIB}


class Broken(Exception):
    """The server breaks the clause; the message says how."""


class Unseen(Exception):
    """Whether the server keeps the clause can't be seen from here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server under check."""

    target: Target
    # As far as they are known: from /metrics, else from the YAML files, else the defaults.
    settings: Settings
    deadline_seconds: float
    # The values of LEFT_BEHIND before the first clause, as far as the admin port shows them; and why it shows none.
    before: dict[str, float] = field(default_factory=dict)
    no_admin: str = "/metrics does not tell"
    # What it owes for what it is sent.
    oracle: payload.Oracle = payload.UPPER_CASE
    # Whether `settings` are the server's own: those of a server that is not iolab's are unknown.
    has_settings: bool = True
    _held: list[socket] = field(default_factory=list)

    @property
    def at_once(self) -> int:
        """How many connections may be held at the same time."""
        limit = self.settings.max_connections or AT_ONCE
        if self.target.model is None or self.target.model.pool:
            return min(POOL_AT_ONCE, limit)
        return min(AT_ONCE, limit)

    @property
    def answer_seconds(self) -> float:
        """How long the work dial delays each answer."""
        return self.settings.work.wait_ms / 1e3 + self.settings.work.cpu_us / 1e6

    @property
    def held_bytes(self) -> int:
        """The most bytes that server and kernel may hold for a client that reads nothing."""
        return self.settings.high_water + self.settings.buffer_size + kernel_bytes()

    @property
    def quiet_seconds(self) -> float:
        """If nothing moves for this long, the server has stopped, and is not only slow."""
        return peers.QUIET_SECONDS + 4 * self.answer_seconds

    def deadline(self, answers: int = 8) -> float:
        """Seconds to wait for this many answers from a model that makes them one after the other."""
        return self.deadline_seconds + 2 * answers * self.answer_seconds

    def size(self, wanted_bytes: int) -> int:
        """`wanted_bytes`, or fewer if the server reads in such small pieces that it would take too long."""
        return min(wanted_bytes, ANSWERS * self.settings.buffer_size)

    def answers(self, size: int) -> int:
        """How many answers `size` bytes take, if reads are full."""
        return 8 + 4 * size // self.settings.buffer_size

    def connect(self, *, small_buffers: bool = False) -> socket:
        """A connection to the server. Raises OSError."""
        self._wait_for_room()
        peer = connect(
            self.target.address,
            receive_buffer_bytes=peers.SMALL_BUFFER_BYTES if small_buffers else None,
            send_buffer_bytes=SEND_BUFFER_BYTES if small_buffers else None,
            deadline_seconds=self.deadline_seconds,
        )
        self._held.append(peer)
        return peer

    def _wait_for_room(self) -> None:
        """If the server holds few connections, wait until it has seen the end of those that were closed here.

        It still counts a connection for a moment after it has closed it.
        """
        if not 0 < (self.settings.max_connections or 0) < 2 * AT_ONCE:
            return
        self._held[:] = [peer for peer in self._held if peer.fileno() >= 0]
        # A connection that stays longer is reported by nothing_left.
        deadline = time.monotonic() + self.quiet_seconds
        while time.monotonic() < deadline:
            count = self.open_connections()
            if count is not None and count <= self.before[OPEN] + len(self._held):
                return
            time.sleep(0.01)

    def open_connections(self) -> float | None:
        """How many connections the server counts as open; None if it does not show that."""
        if OPEN not in self.before:
            return None
        try:
            return admin.value(admin.metrics(self.target, deadline_seconds=self.deadline_seconds), OPEN)
        except admin.Unreachable:
            return None

    def ask(self, peer: socket, text: bytes, whose: str) -> None:
        """One round trip on an open connection. Raises Broken."""
        try:
            got = peers.ask(peer, text, deadline_seconds=self.deadline())
        except OSError as error:
            raise Broken(f"{whose}: {error}") from None
        self.compare(got, text, whose)

    def exchange(self, data: bytes, whose: str) -> None:
        """One conversation of a new client, from connect(2) to the server's FIN. Raises Broken or OSError."""
        with self.connect() as peer:
            got = peers.exchange(peer, data, deadline_seconds=self.deadline(self.answers(len(data))))
        self.compare(got, data, whose)

    def flood(self, peer: socket, data: bytes, *, quiet_seconds: float | None = None) -> int:
        """How many bytes of `data` are taken while nothing is read. Raises TimeoutError if that does not end."""
        return peers.flood(
            peer,
            data,
            quiet_seconds=quiet_seconds or self.quiet_seconds,
            deadline_seconds=self.deadline(self.answers(len(data))),
        )

    def compare(self, got: bytes, sent: bytes, whose: str) -> None:
        """Raise Broken unless `got` is what is due for `sent`."""
        if difference := self.oracle.difference(got, sent):
            raise Broken(f"{whose}: {difference}")

    def require_bytes(self) -> None:
        """Raise Unseen if it is not known which bytes are due."""
        if not self.oracle.knows_bytes:
            raise Unseen("with --expect none the bytes of an answer are counted, and compared with nothing")

    def require_connections(self, count: int) -> None:
        """Raise Unseen if the server holds fewer than `count` connections."""
        if (self.settings.max_connections or count) < count:
            raise Unseen(f"it takes {count} connections, and max_connections is {self.settings.max_connections}")

    def require_patience(self) -> None:
        """Raise Unseen if the server may close a client for the silence that the clause needs."""
        if 0 < self.settings.idle_seconds < 4 * self.quiet_seconds:
            raise Unseen(f"idle_seconds is {self.settings.idle_seconds:g}: its silent clients are closed soon")


def examine(target: Target, deadline_seconds: float, oracle: payload.Oracle = payload.UPPER_CASE) -> Subject:
    """A subject, after one exchange with it and a scrape of its metrics. Raises OSError, BadConfig."""
    with (
        connect(target.address, deadline_seconds=deadline_seconds) as peer,
        contextlib.suppress(TimeoutError, ConnectionError),
    ):
        # What a server sets up for its first client is no leak, so its metrics are read after that.
        peers.exchange(peer, b"hello", deadline_seconds=deadline_seconds)
    settings = configured(target.model) if target.model else Settings()
    try:
        families = admin.metrics(target, deadline_seconds=deadline_seconds)
    except admin.Unreachable as error:
        return Subject(
            target=target,
            settings=settings,
            deadline_seconds=deadline_seconds,
            no_admin=error.message,
            oracle=oracle,
            has_settings=target.model is not None,
        )
    return Subject(
        target=target,
        settings=_in_force(settings, families),
        deadline_seconds=deadline_seconds,
        oracle=oracle,
        has_settings=target.model is not None or bool(_told(families)),
        before={name: number for name in LEFT_BEHIND if (number := admin.value(families, name)) is not None},
    )


def _in_force(settings: Settings, families: Sequence[Metric]) -> Settings:
    """The settings, with those replaced that the server shows."""
    told = _told(families)
    types: dict[str, Callable[[str], object]] = {
        "buffer_size": int,
        "high_water": int,
        "idle_seconds": float,
        "work": _work,
    }
    limit = admin.value(families, "iolab_limit", limit="max_connections")
    return override(
        settings,
        max_connections=None if limit is None else int(limit),
        **{key: read(told[key]) for key, read in types.items() if key in told},
    )


def _told(families: Sequence[Metric]) -> Mapping[str, str]:
    return next(
        (sample.labels for family in families for sample in family.samples if sample.name == "iolab_settings_info"),
        {},
    )


def _work(text: str) -> WorkDial:
    return WorkDial(**json.loads(text))


def kernel_bytes() -> int:
    """Bytes that the kernel may hold for a client that never reads: in two buffers of the server's, two of its own."""
    return sum(map(_buffer_limit, KERNEL_BUFFERS)) + 2 * (SEND_BUFFER_BYTES + peers.SMALL_BUFFER_BYTES)


def _buffer_limit(name: str) -> int:
    """The largest size of a TCP buffer, tcp(7), on this machine: the server is on it or on one like it."""
    try:
        return int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2])
    except (OSError, IndexError, ValueError):
        return KERNEL_BUFFERS[name]

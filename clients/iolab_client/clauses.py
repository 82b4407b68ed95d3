"""The contract on the wire, clause by clause, as a user can see it from outside.

A clause is a function of a `Subject`: it returns when the server keeps the clause, raises Broken when it does not, and
Unseen when that can't be told from here. An OSError, a deadline among them, means broken too. The name of the function
is the clause's name, its docstring what it says. No clause judges speed, and none holds more than `Subject.at_once`
connections: a pool serves no more than it has workers, and somebody else may hold some of them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from socket import socket

from prometheus_client import Metric

from iolab.settings import Settings, Work, override
from iolab_client import admin, payload, peers
from iolab_client.explain import explain
from iolab_client.targets import Target, configured

KIB = 1024
STREAM_BYTES = 4096 * KIB
UNREAD_BYTES = 1024 * KIB
# What a late reader reads at once.
CHUNK_BYTES = 4 * KIB
# Little is on the way unseen, yet a full window is not probed in steps of 0.2 s, as with the smallest buffer.
SEND_BUFFER_BYTES = 64 * KIB
# Answers that a stream is made of at least, so that a small buffer_size does not make it endless.
ANSWERS = 512
# Reads after which filling the kernel's buffers takes too long.
MOST_ANSWERS = 16384
POOL_AT_ONCE = 3
AT_ONCE = 64
# An idle_seconds above this is believed: trying would take too long.
PATIENCE_SECONDS = 10
# The metrics that go back to what they were when all clients are gone, and what they count.
OPEN = "iolab_connections_open"
LEFT_BEHIND = {
    OPEN: "open connections",
    "iolab_process_open_descriptors": "descriptors",
}
# tcp(7): the most that the kernel keeps to receive and to send, for one connection, where it can't be read.
KERNEL_BUFFERS = {"tcp_rmem": 6 * KIB * KIB, "tcp_wmem": 4 * KIB * KIB}


class Broken(Exception):
    """The server breaks the clause; the message says how."""


class Unseen(Exception):
    """Whether the server keeps the clause can't be seen from here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server under examination."""

    target: Target
    # As far as they are known: by /metrics, else by the YAML files, else the defaults.
    settings: Settings
    deadline_seconds: float
    # What LEFT_BEHIND names, before the first clause, as far as the admin port tells; and why it tells nothing.
    before: dict[str, float] = field(default_factory=dict)
    no_admin: str = "/metrics does not tell"
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
        """What the work dial adds to each answer."""
        return self.settings.work.wait_ms / 1e3 + self.settings.work.cpu_us / 1e6

    @property
    def held_bytes(self) -> int:
        """The most that server and kernel may hold for a client that reads nothing."""
        return self.settings.high_water + self.settings.buffer_size + kernel_bytes()

    @property
    def quiet_seconds(self) -> float:
        """When nothing moved for so long, the server has stopped, and is not only slow."""
        return peers.QUIET_SECONDS + 4 * self.answer_seconds

    def deadline(self, answers: int = 8) -> float:
        """Seconds to wait for so many answers, on a model that makes them one after the other."""
        return self.deadline_seconds + 2 * answers * self.answer_seconds

    def size(self, wanted_bytes: int) -> int:
        """`wanted_bytes`, or less where the server reads in pieces so small that it would take too long."""
        return min(wanted_bytes, ANSWERS * self.settings.buffer_size)

    def answers(self, size: int) -> int:
        """How many answers `size` bytes are made of, as far as the reads are full."""
        return 8 + 4 * size // self.settings.buffer_size

    def connect(self, *, small_buffers: bool = False) -> socket:
        """A connection to the server. Raises OSError."""
        self._wait_for_room()
        peer = peers.connect(
            self.target.address,
            receive_buffer_bytes=peers.SMALL_BUFFER_BYTES if small_buffers else None,
            send_buffer_bytes=SEND_BUFFER_BYTES if small_buffers else None,
            deadline_seconds=self.deadline_seconds,
        )
        self._held.append(peer)
        return peer

    def _wait_for_room(self) -> None:
        """Where few connections are held, wait until the server has seen those end that were closed here.

        It closes a connection before it strikes it off its books, and until then counts it.
        """
        if not 0 < (self.settings.max_connections or 0) < 2 * AT_ONCE:
            return
        self._held[:] = [peer for peer in self._held if peer.fileno() >= 0]
        # One that stays is not waited for any longer: nothing_left tells of it.
        deadline = time.monotonic() + self.quiet_seconds
        while time.monotonic() < deadline:
            count = self.open_connections()
            if count is not None and count <= self.before[OPEN] + len(self._held):
                return
            time.sleep(0.01)

    def open_connections(self) -> float | None:
        """How many connections the server counts as open, if it tells."""
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
        """The bytes taken of `data` while nothing is read. Raises TimeoutError where that has no end."""
        return peers.flood(
            peer,
            data,
            quiet_seconds=quiet_seconds or self.quiet_seconds,
            deadline_seconds=self.deadline(self.answers(len(data))),
        )

    def compare(self, got: bytes, sent: bytes, whose: str) -> None:
        """Raise Broken unless `got` is what is due for `sent`."""
        if difference := payload.difference(got, payload.answer(sent)):
            raise Broken(f"{whose}: {difference}")

    def require_connections(self, count: int) -> None:
        """Raise Unseen where the server holds fewer than `count` connections."""
        if (self.settings.max_connections or count) < count:
            raise Unseen(f"it takes {count} connections, and max_connections is {self.settings.max_connections}")

    def require_patience(self) -> None:
        """Raise Unseen where the server may close a client for being as silent as the clause needs it to be."""
        if 0 < self.settings.idle_seconds < 4 * self.quiet_seconds:
            raise Unseen(f"idle_seconds is {self.settings.idle_seconds:g}: its silent clients are closed soon")


def examine(target: Target, deadline_seconds: float) -> Subject:
    """A subject, after one exchange with it and a look at its metrics. Raises OSError, BadConfig."""
    with (
        peers.connect(target.address, deadline_seconds=deadline_seconds) as peer,
        contextlib.suppress(TimeoutError, ConnectionError),
    ):
        # What a server sets up for its first client is no leak, so its books are read after that.
        peers.exchange(peer, b"hello", deadline_seconds=deadline_seconds)
    settings = configured(target.model) if target.model else Settings()
    try:
        families = admin.metrics(target, deadline_seconds=deadline_seconds)
    except admin.Unreachable as error:
        return Subject(target=target, settings=settings, deadline_seconds=deadline_seconds, no_admin=error.message)
    return Subject(
        target=target,
        settings=_in_force(settings, families),
        deadline_seconds=deadline_seconds,
        before={name: number for name in LEFT_BEHIND if (number := admin.value(families, name)) is not None},
    )


def _in_force(settings: Settings, families: Sequence[Metric]) -> Settings:
    """The settings as far as the server tells what it really runs with."""
    told = next(
        (sample.labels for family in families for sample in family.samples if sample.name == "iolab_settings_info"),
        {},
    )
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


def _work(text: str) -> Work:
    return Work(**json.loads(text))


def all_bytes(subject: Subject) -> None:
    """All 256 byte values: a-z come back as A-Z, every other one untouched."""
    subject.exchange(payload.ALL_BYTES, "the 256 byte values")
    subject.exchange("größer, 千, \r\n\0".encode(), "UTF-8 text")


def order(subject: Subject) -> None:
    """A long stream comes back in order, nothing lost, doubled or added."""
    subject.exchange(payload.make(subject.size(STREAM_BYTES), seed=1), "the stream")


def split(subject: Subject) -> None:
    """The same bytes one at a time are answered the same, each without waiting for more."""
    data = payload.ALL_BYTES
    with subject.connect() as peer:
        got = peers.drip(peer, data, deadline_seconds=subject.deadline())
    subject.compare(got, data, "byte by byte")


def half_close(subject: Subject) -> None:
    """After the client's FIN everything owed is sent, then the server closes."""
    subject.exchange(b"hi", "hi")
    subject.exchange(b"", "a client that says nothing and goes")
    with subject.connect() as peer:
        subject.ask(peer, b"before", "a conversation")
        peers.half_close(peer)
        rest = peers.read_to_end(peer, deadline_seconds=subject.deadline())
    subject.compare(rest, b"", "after a conversation")


def late_reader(subject: Subject) -> None:
    """A client that half-closes when nothing more is taken, and reads only then, in small pieces, gets every byte."""
    subject.require_patience()
    data = payload.make(subject.size(subject.held_bytes), seed=2)
    deadline_seconds = subject.deadline(subject.answers(len(data)))
    with subject.connect(small_buffers=True) as peer:
        taken = subject.flood(peer, data)
        peers.half_close(peer)
        got = peers.read_to_end(peer, chunk_bytes=CHUNK_BYTES, deadline_seconds=deadline_seconds)
    subject.compare(got, data[:taken], "the late reader")


def back_pressure(subject: Subject) -> None:
    """From a client that never reads, the server takes high_water, a read and what the kernel holds; no more."""
    subject.require_patience()
    bound = subject.held_bytes
    if bound > MOST_ANSWERS * subject.settings.buffer_size:
        raise Unseen(f"with a buffer_size of {subject.settings.buffer_size} it takes too long to fill the kernel")
    with subject.connect(small_buffers=True) as peer:
        try:
            taken = subject.flood(peer, bytes(bound + 1))
        except TimeoutError as error:
            raise Unseen(str(error)) from None
    if taken > bound:
        raise Broken(f"{taken} bytes were taken from a client that reads nothing, expected at most {bound}")


def never_reads(subject: Subject) -> None:
    """A client that never reads stalls nobody else."""
    subject.require_connections(3)
    subject.require_patience()
    with subject.connect() as earlier, subject.connect(small_buffers=True) as stuck:
        subject.ask(earlier, b"before", "a client that was there before")
        with contextlib.suppress(TimeoutError):
            subject.flood(stuck, bytes(subject.size(subject.held_bytes)))
        subject.ask(earlier, b"beside", "a client that was there before")
        subject.exchange(b"later", "a client that came after")


def silent_clients(subject: Subject) -> None:
    """Silent clients stall nobody; none hears a word before it says one, and each is answered when it does."""
    subject.require_connections(2)
    subject.require_patience()
    count = subject.at_once - 1
    with ExitStack() as stack:
        silent = [stack.enter_context(subject.connect()) for _ in range(count)]
        subject.exchange(b"beside", "a client beside silent ones")
        if heard := select(silent, [], [], 0)[0]:
            got = heard[0].recv(KIB)
            raise Broken(f"a silent client {f'was sent {len(got)} bytes' if got else 'was closed'}")
        for peer in silent:
            subject.ask(peer, b"at last", "a client that was silent")


def many_clients(subject: Subject) -> None:
    """Clients at the same time are all answered while all are there, each with its own bytes."""
    count = subject.at_once
    data = [payload.make(subject.size(64 * KIB), seed=seed) for seed in range(count)]
    with ExitStack() as stack:
        clients = [stack.enter_context(subject.connect()) for _ in data]
        for number, client in enumerate(clients):
            subject.ask(client, b"client %d" % number, f"client {number} of {count} at once")
        total = count * subject.answers(len(data[0]))
        answers = peers.exchange_all(clients, data, deadline_seconds=subject.deadline(total))
    for number, (got, sent) in enumerate(zip(answers, data, strict=True)):
        subject.compare(got, sent, f"client {number} of {count}")


def broken_peers(subject: Subject) -> None:
    """A peer's fault (reset at rest, with bytes on the way, after its FIN; gone) ends its connection only."""
    subject.require_connections(2)
    data = payload.make(subject.size(UNREAD_BYTES), seed=3)
    with subject.connect() as steady:
        subject.ask(steady, b"before", "the client beside")
        for fault in ("reset", "reset with answers unread", "reset after FIN", "close with answers unread"):
            peer = subject.connect(small_buffers="unread" in fault)
            with peer:
                subject.ask(peer, b"hello", f"a client before its {fault}")
                try:
                    if "unread" in fault:
                        with contextlib.suppress(TimeoutError):
                            subject.flood(peer, data, quiet_seconds=0.05)
                    elif "FIN" in fault:
                        peer.send(b"last words")
                        peers.half_close(peer)
                except OSError as error:
                    # What the client before did may have hurt this one.
                    raise Broken(f"a client before its {fault}: {explain(error)}") from None
                if "reset" in fault:
                    peers.reset(peer)
            # More than once: the first answer may have been under way when the fault came.
            for _ in range(3):
                subject.ask(steady, b"beside", f"the client beside, after a {fault}")
    subject.exchange(b"after", "a client after the faults")


def max_connections(subject: Subject) -> None:
    """One connection more than max_connections is closed at once; the others are served on."""
    limit = subject.settings.max_connections
    if limit is None:
        raise Unseen(f"what the server can hold is not known: {subject.no_admin}")
    if limit > subject.at_once:
        raise Unseen(f"max_connections is {limit}, and no more than {subject.at_once} are held from here")
    with ExitStack() as stack:
        held: list[socket] = []
        for _ in range(limit + 1):
            peer = stack.enter_context(subject.connect())
            try:
                answered = peers.ask(peer, b"a", deadline_seconds=subject.deadline()) == b"A"
            except ConnectionError:
                answered = False
            if not answered:
                break
            held.append(peer)
        else:
            raise Broken(f"{limit + 1} connections are served at once, expected {limit} at most")
        for peer in held:
            subject.ask(peer, b"still", "a client when the server is full")


def idle_seconds(subject: Subject) -> None:
    """A connection on which no byte moved for idle_seconds is closed, and not before."""
    idle = subject.settings.idle_seconds
    if idle == 0:
        raise Unseen("idle_seconds is 0: nobody is closed for being silent")
    if idle > PATIENCE_SECONDS:
        raise Unseen(f"idle_seconds is {idle:g}: too long to wait")
    with subject.connect() as peer:
        subject.ask(peer, b"last words", "a client before it falls silent")
        silent_since = time.monotonic()
        peers.read_to_end(peer, deadline_seconds=idle + subject.deadline())
        lasted = time.monotonic() - silent_since
    # The server counts from its last byte, which it sent a moment before it was read here.
    if lasted < 0.8 * idle:
        raise Broken(f"a silent client was closed after {lasted:.2f} s, expected {idle:g} s")


def nothing_left(subject: Subject) -> None:
    """When the clients are gone, no connection and no descriptor of theirs is left behind."""
    if not subject.before:
        raise Unseen(subject.no_admin)
    deadline = peers.Deadline(subject.deadline_seconds)
    while left := _left_behind(subject):
        deadline.left(f"{left} did not come back")
        time.sleep(0.05)


def _left_behind(subject: Subject) -> str:
    try:
        families = admin.metrics(subject.target, deadline_seconds=subject.deadline_seconds)
    except admin.Unreachable as error:
        raise Broken(error.message) from None
    now = {name: admin.value(families, name) or 0 for name in subject.before}
    return ", ".join(
        f"{LEFT_BEHIND[name]} from {now[name]:g} to {number:g}"
        for name, number in subject.before.items()
        if now[name] > number
    )


def stop(subject: Subject) -> None:
    """On SIGTERM the server sends what it owes, closes and exits 0."""
    raise Unseen("it would end the server")


def capacity(subject: Subject) -> None:
    """Out of descriptors or threads, the server pauses accepting, serves who is there, and recovers."""
    raise Unseen("the limits of another process can't be lowered from here")


def configs(subject: Subject) -> None:
    """A bad config stops the server before it binds, with one line."""
    raise Unseen("it runs, so its config is good; `iolab check-config` checks the files")


CLAUSES: tuple[Callable[[Subject], None], ...] = (
    all_bytes,
    order,
    split,
    half_close,
    late_reader,
    back_pressure,
    never_reads,
    silent_clients,
    many_clients,
    broken_peers,
    max_connections,
    idle_seconds,
    nothing_left,
    stop,
    capacity,
    configs,
)


def kernel_bytes() -> int:
    """What the kernel may hold for a client that never reads: the server's two buffers, and its own two small ones."""
    return sum(map(_buffer_limit, KERNEL_BUFFERS)) + 2 * (SEND_BUFFER_BYTES + peers.SMALL_BUFFER_BYTES)


def _buffer_limit(name: str) -> int:
    """The largest size of a TCP buffer, tcp(7): this machine's, as the server is on it or on one like it."""
    try:
        return int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2])
    except (OSError, IndexError, ValueError):
        return KERNEL_BUFFERS[name]

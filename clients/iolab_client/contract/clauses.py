"""The contract on the wire, clause by clause, as a user can see it from outside.

A clause is a function of a `Subject`: it returns if the server keeps the clause, raises Broken if it does not, and
Unseen if that can't be told from here. An OSError, also a passed deadline, means broken too. The function's name is the
clause's name, its docstring the clause's text. No clause judges speed, and none holds more than `Subject.at_once`
connections: a pool serves as many as it has workers, and other clients may hold some of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from select import select
from socket import socket

from iolab_client.contract import payload, peers
from iolab_client.contract.subject import (
    KIB,
    LEFT_BEHIND,
    MOST_ANSWERS,
    PATIENCE_SECONDS,
    Broken,
    Subject,
    Unseen,
)
from iolab_client.servers import admin
from iolab_client.servers.address import Deadline
from iolab_client.servers.explain import explain

STREAM_BYTES = 4096 * KIB
UNREAD_BYTES = 1024 * KIB
# How much a late reader reads at once.
CHUNK_BYTES = 4 * KIB


def all_bytes(subject: Subject) -> None:
    """All 256 byte values: a-z come back as A-Z, every other one untouched."""
    subject.require_bytes()
    subject.exchange(payload.ALL_BYTES, "the 256 byte values")
    subject.exchange("größer, 千, \r\n\0".encode(), "UTF-8 text")


def order(subject: Subject) -> None:
    """A long stream comes back in order, nothing lost, doubled or added."""
    subject.require_bytes()
    subject.exchange(payload.make(subject.size(STREAM_BYTES), seed=1), "the stream")


def split(subject: Subject) -> None:
    """The same bytes sent one at a time get the same answers, each without waiting for more."""
    data = payload.ALL_BYTES
    with subject.connect() as peer:
        got = peers.drip(peer, data, deadline_seconds=subject.deadline())
    subject.compare(got, data, "byte by byte")


def half_close(subject: Subject) -> None:
    """After the client's FIN the server sends everything owed, then closes."""
    subject.exchange(b"hi", "hi")
    subject.exchange(b"", "a client that says nothing and goes")
    with subject.connect() as peer:
        subject.ask(peer, b"before", "a conversation")
        peers.half_close(peer)
        rest = peers.read_to_end(peer, deadline_seconds=subject.deadline())
    subject.compare(rest, b"", "after a conversation")


def late_reader(subject: Subject) -> None:
    """A client that half-closes when the server takes no more, and then reads in small pieces, gets every byte."""
    subject.require_patience()
    data = payload.make(subject.size(subject.held_bytes), seed=2)
    deadline_seconds = subject.deadline(subject.answers(len(data)))
    with subject.connect(small_buffers=True) as peer:
        taken = subject.flood(peer, data)
        peers.half_close(peer)
        got = peers.read_to_end(peer, chunk_bytes=CHUNK_BYTES, deadline_seconds=deadline_seconds)
    subject.compare(got, data[:taken], "the late reader")


def back_pressure(subject: Subject) -> None:
    """From a client that never reads, the server takes high_water, a read and what the kernel holds, and no more."""
    subject.require_patience()
    bound = subject.held_bytes
    if bound > MOST_ANSWERS * subject.settings.buffer_size:
        raise Unseen(f"with a buffer_size of {subject.settings.buffer_size} it takes too long to fill the kernel")
    with subject.connect(small_buffers=True) as peer:
        try:
            taken = subject.flood(peer, bytes(bound + 1))
        except TimeoutError as error:
            raise Unseen(str(error)) from None
    if taken > bound and not subject.has_settings:
        raise Unseen(f"{taken} bytes were taken from a client that reads nothing, and its high_water is not known")
    if taken > bound:
        raise Broken(f"{taken} bytes were taken from a client that reads nothing, expected at most {bound}")


def never_reads(subject: Subject) -> None:
    """A client that never reads stalls no other."""
    subject.require_connections(3)
    subject.require_patience()
    with subject.connect() as earlier, subject.connect(small_buffers=True) as stuck:
        subject.ask(earlier, b"before", "a client that was there before")
        with contextlib.suppress(TimeoutError):
            subject.flood(stuck, bytes(subject.size(subject.held_bytes)))
        subject.ask(earlier, b"beside", "a client that was there before")
        subject.exchange(b"later", "a client that came after")


def silent_clients(subject: Subject) -> None:
    """Silent clients stall no other; each is sent nothing before it speaks, and is answered when it does."""
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
    """Many clients at once are all answered while all are connected, each with its own bytes."""
    subject.require_bytes()
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
    """A peer's fault (a reset at rest, with bytes in flight or after its FIN; a close) ends its connection only."""
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
                    # The previous client's fault may have hurt this one.
                    raise Broken(f"a client before its {fault}: {explain(error)}") from None
                if "reset" in fault:
                    peers.reset(peer)
            # More than once: the first answer may have been in flight when the fault came.
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
                got = peers.ask(peer, b"a", deadline_seconds=subject.deadline())
                answered = subject.oracle.difference(got, b"a") is None
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
    """A connection on which no byte moves for idle_seconds is closed, and not earlier."""
    if not subject.has_settings:
        raise Unseen(f"its idle_seconds is not known: {subject.no_admin}")
    idle = subject.settings.idle_seconds
    if idle == 0:
        raise Unseen("idle_seconds is 0: no silent client is closed")
    if idle > PATIENCE_SECONDS:
        raise Unseen(f"idle_seconds is {idle:g}: too long to wait")
    with subject.connect() as peer:
        subject.ask(peer, b"last words", "a client before it falls silent")
        silent_since = time.monotonic()
        peers.read_to_end(peer, deadline_seconds=idle + subject.deadline())
        lasted = time.monotonic() - silent_since
    # The server counts from when it sent its last byte, a moment before that was read here.
    if lasted < 0.8 * idle:
        raise Broken(f"a silent client was closed after {lasted:.2f} s, expected {idle:g} s")


def nothing_left(subject: Subject) -> None:
    """When the clients are gone, none of their connections and descriptors is left behind."""
    if not subject.before:
        raise Unseen(subject.no_admin)
    deadline = Deadline(subject.deadline_seconds)
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
    """Out of descriptors or threads, the server pauses accepting, serves connected clients, and recovers."""
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

"""What a path owes to the connections that go through it, clause by clause.

A clause is a function of a `Harness`, and of the way that is examined where there are two. It returns what it has seen
where that is more than "kept", and raises Fault when the path breaks it. Its name is the clause's, its docstring what
it says. Each makes a connection of its own and is about one thing: what is not its matter it avoids.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from iolab_client.contract import payload
from iolab_client.contract.subject import kernel_bytes
from iolab_client.path.ends import End, Fault, Met, Way, carry, letters, ready
from iolab_client.path.harness import Harness

KIB = 1024
BULK_BYTES = 8 * KIB * KIB
# Longer than a write, shorter than what the kernel of a reader takes unasked.
LAST_WORDS_BYTES = 128 * KIB
# What is sent at most to who reads late: more than the kernel of one proxy and those of both ends hold.
LATE_BYTES = 16 * KIB * KIB
# Where a late reader pauses once more: what stands between has seen the FIN, and has much of this still to give.
LAST_BYTES = 1024 * KIB
LATE_BUFFER_BYTES = 64 * KIB
# Whoever takes more for somebody who reads nothing than the kernels of so many proxies hold takes everything.
KERNELS = 4
AT_ONCE = 64
EACH_BYTES = 4 * KIB
WORD = letters(64, "a word")


@dataclass(frozen=True)
class Note:
    """What a clause that is kept has to tell."""

    text: str | None
    held_bytes: int | None = None


def all_bytes(harness: Harness, way: Way) -> None:
    """All 256 values of a byte arrive as they were sent."""
    with harness.open() as ends:
        carry(*ends.of(way), payload.ALL_BYTES + b"\r\n\n\r" + payload.ALL_BYTES[::-1])


def bulk(harness: Harness, way: Way) -> None:
    """A long stream arrives in order, nothing lost, doubled or added."""
    with harness.open() as ends:
        carry(*ends.of(way), letters(BULK_BYTES))


def one_at_a_time(harness: Harness, way: Way) -> None:
    """Each byte arrives without waiting for the next one."""
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        for position in range(len(WORD)):
            byte = WORD[position : position + 1]
            speaker.send(byte)
            listener.expect(byte)


def half_close(harness: Harness, way: Way) -> None:
    """The speaker's FIN arrives, and what the other side answers then still comes back: at once, and later."""
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        speaker.finish()
        since = time.monotonic()
        listener.expect_fin()
        try:
            listener.send(WORD)
            speaker.expect(WORD)
        except Fault:
            raise Fault(f"an answer to the {speaker.name}'s FIN does not come back") from None
        if met := speaker.meet(harness.patience.late_seconds):
            raise Fault(f"the {speaker.name} met {met.value} {time.monotonic() - since:.1f} s after its own FIN")
        listener.send(WORD)
        speaker.expect(WORD)
        listener.finish()
        speaker.expect_fin()


def late_reader(harness: Harness, way: Way) -> None:
    """Who begins to read after the FIN was sent, and pauses, gets every byte and then the FIN."""
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        listener.keep_little(LATE_BUFFER_BYTES)
        taken = speaker.flood(LATE_BYTES, harness.patience.quiet_seconds)
        speaker.finish()
        time.sleep(harness.patience.late_seconds)
        first = max(0, taken - LAST_BYTES)
        listener.expect_letters(0, first)
        time.sleep(harness.patience.late_seconds)
        listener.expect_letters(first, taken)
        listener.expect_fin()


def fin_after_data(harness: Harness, way: Way) -> None:
    """Who sends and closes at once has sent: all of it arrives, then FIN."""
    data = letters(LAST_WORDS_BYTES)
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        speaker.send(data)
        speaker.close()
        listener.expect(data)
        listener.expect_fin()


def reset(harness: Harness, way: Way) -> None:
    """RST arrives as RST: nobody takes a connection that broke for one that has ended."""
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        speaker.reset()
        met = listener.meet(listener.deadline_seconds)
        if met is None:
            raise Fault(f"nothing came to the {listener.name} within {listener.deadline_seconds:g} s")
        if met is not Met.RST:
            raise Fault(f"the {speaker.name}'s RST came to the {listener.name} as {met.value}")


def back_pressure(harness: Harness, way: Way) -> Note:
    """Where nobody reads, the speaker is stopped; once somebody does, everything arrives, and it goes on."""
    most_bytes = KERNELS * kernel_bytes()
    with harness.open() as ends:
        speaker, listener = ends.of(way)
        taken = speaker.flood(most_bytes, harness.patience.quiet_seconds)
        held = max(0, taken - speaker.unsent_bytes - listener.unread_bytes)
        if taken == most_bytes:
            raise Fault(
                f"{taken:,} bytes were taken while the {listener.name} read nothing, {held:,} of them by the path"
            )
        listener.expect_letters(0, taken)
        # To a round number: what is cut into blocks is not the matter here.
        carry(speaker, listener, WORD + WORD[taken % len(WORD) :])
    return Note(f"holds {held:,} bytes", held_bytes=held)


def idle(harness: Harness) -> None:
    """A connection on which nothing was said for a while still carries both ways."""
    with harness.open() as ends:
        since = time.monotonic()
        for sock in ready([ends.client.sock, ends.server.sock], harness.patience.idle_seconds):
            end = ends.client if sock is ends.client.sock else ends.server
            met = (end.meet(0) or Met.DATA).value
            raise Fault(f"the {end.name} met {met} after {time.monotonic() - since:.1f} s of silence")
        for way in Way:
            carry(*ends.of(way), WORD)


def server_first(harness: Harness) -> None:
    """A server that speaks first is heard by a client that has said nothing."""
    with ExitStack() as stack:
        client = harness.connect()
        stack.callback(client.close)
        seconds = harness.patience.deadline_seconds
        while True:
            readable = ready([client.sock, *harness.back.listeners], seconds)
            if not readable:
                raise Fault(
                    f"nobody came to the server within {seconds:g} s, or its greeting did not come to the client"
                )
            if client.sock in readable:
                client.expect(WORD)
                return
            for listener in readable:
                server = End(listener.accept()[0], "server", seconds)
                stack.callback(server.close)
                server.send(WORD)


def refused(harness: Harness) -> Note:
    """Where nobody listens at the far end, the client is told so; once somebody does, the path leads there again."""
    with harness.refusing():
        told = _refusal(harness)
    with harness.open():
        return Note(told)


def _refusal(harness: Harness) -> str:
    try:
        client = harness.connect()
    except Fault:
        return "refused"
    with contextlib.closing(client):
        # A path that waits for a client's first bytes is given some.
        with contextlib.suppress(Fault):
            client.send(WORD)
        match client.meet(client.deadline_seconds):
            case None:
                seconds = f"{client.deadline_seconds:g} s"
                raise Fault(f"the client's connection was still open after {seconds}, and nobody at the far end")
            case Met.DATA:
                raise Fault("the client got bytes, and nobody was at the far end")
            case Met.FIN | Met.RST:
                # Which of them is a matter of who was faster: RST where the client's bytes were not read.
                return "accepted, then closed"


def many_at_once(harness: Harness) -> None:
    """Connections that are open at the same time all carry both ways, each its own bytes."""
    with ExitStack() as stack:
        connections = [stack.enter_context(ends) for ends in harness.open_many(AT_ONCE)]
        for way in Way:
            for number, ends in enumerate(connections):
                ends.of(way)[0].send(letters(EACH_BYTES, f"{way} {number}"))
            for number, ends in enumerate(connections):
                ends.of(way)[1].expect(letters(EACH_BYTES, f"{way} {number}"))


def simultaneous_close(harness: Harness) -> None:
    """Both ends send FIN at the same moment, and to each comes that of the other."""
    with harness.open() as ends:
        ends.client.finish()
        ends.server.finish()
        ends.client.expect_fin()
        ends.server.expect_fin()


EACH_WAY: tuple[Callable[[Harness, Way], Note | None], ...] = (
    all_bytes,
    bulk,
    one_at_a_time,
    half_close,
    fin_after_data,
    late_reader,
    reset,
    back_pressure,
)
ONCE: tuple[Callable[[Harness], Note | None], ...] = (
    server_first,
    simultaneous_close,
    many_at_once,
    idle,
    refused,
)

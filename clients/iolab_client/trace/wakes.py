"""Who ends whose wait: through a futex, or through bytes in an eventfd, a pipe, or a connection between two threads.

Only waits that take long enough to be seen: threads of one interpreter hand its lock to each other all the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from iolab_client.trace import meaning
from iolab_client.trace.calls import Call
from iolab_client.trace.threads import ThreadCalls

LEAST_WAIT_SECONDS = 0.002
# Two threads' lines may be stamped in the wrong order by so much.
SKEW_SECONDS = 0.0002

# Who, when, whom, when that one's wait was over, and what through.
Found = tuple[ThreadCalls, float, ThreadCalls, float, str]


def wakes(threads: Sequence[ThreadCalls]) -> Iterator[Found]:
    """Each wake, by the sender's threads. Seconds since the epoch."""
    yield from _through_futexes(threads)
    yield from _through_channels(threads)


def _through_futexes(threads: Sequence[ThreadCalls]) -> Iterator[Found]:
    waits: dict[tuple[str, str], list[tuple[Call, ThreadCalls]]] = defaultdict(list)
    for thread in threads:
        for call in thread.calls:
            if call.name == "futex" and "FUTEX_WAIT" in call.arguments and call.seconds >= LEAST_WAIT_SECONDS:
                waits[thread.process, _address(call)].append((call, thread))
    for thread in threads:
        for call in thread.calls:
            if call.name == "futex" and "FUTEX_WAKE" in call.arguments and (call.number or 0) > 0:
                waiting = waits[thread.process, _address(call)]
                over = [
                    (wait, other)
                    for wait, other in waiting
                    if other is not thread and wait.number == 0 and wait.start < call.start <= wait.end + SKEW_SECONDS
                ]
                if over:
                    woken, whom = min(over, key=lambda one: one[0].end)
                    yield thread, call.start, whom, max(woken.end, call.start), "futex"


def _through_channels(threads: Sequence[ThreadCalls]) -> Iterator[Found]:
    """Whoever reads next what was written, if it had waited before: in the read, or for word that it may read."""
    reads: dict[str, list[tuple[Call, float, ThreadCalls]]] = defaultdict(list)
    for thread in threads:
        waited: Call | None = None
        for call in thread.calls:
            key = _key(thread, call)
            if call.name in meaning.RECEIVES and key and (call.number or 0) > 0:
                wait = call if call.seconds >= LEAST_WAIT_SECONDS else waited
                if wait is not None:
                    reads[key].append((wait, wait.end, thread))
            if meaning.kind(call).waits:
                waited = call if call.seconds >= LEAST_WAIT_SECONDS else None
    for thread in threads:
        for call in thread.calls:
            key = _key(thread, call, sends=True)
            if call.name in meaning.SENDS and key and (call.number or 0) > 0:
                for wait, woken, whom in reads[key]:
                    if whom is not thread and wait.start < call.start <= woken + SKEW_SECONDS:
                        yield thread, call.start, whom, max(woken, call.start), _words(meaning.channel(call) or "")
                        break


def _address(call: Call) -> str:
    return call.arguments.partition(",")[0]


def _key(thread: ThreadCalls, call: Call, *, sends: bool = False) -> str:
    """What the two ends of a channel have in common; empty if the call is about none."""
    name = meaning.channel(call)
    if name is None or name.startswith("socket:"):
        return ""
    if "eventfd" in name:
        # It has no name of its own, but a number in its process.
        return f"{thread.process} {meaning.descriptor(call)}"
    return meaning.other_end(name) if sends else meaning.own_end(name)


def _words(channel: str) -> str:
    return next((word for word in ("eventfd", "pipe") if word in channel), "connection")

"""A record's calls as lanes: one for each client, one for each thread, and who wakes whom. Milliseconds, from the first
client on. Pure: what is recorded goes in, what is drawn comes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from iolab_client.trace import meaning
from iolab_client.trace.asking import Visit
from iolab_client.trace.calls import NOT_RETURNED, Call
from iolab_client.trace.meaning import Kind
from iolab_client.trace.threads import ThreadCalls, Traced, threads_of
from iolab_client.trace.wakes import wakes

# How much of the time before the first client and after the last answer is shown.
LEAD_SECONDS = 0.004
TAIL_SECONDS = 0.006
SHOWN_CHARACTERS = 160

# From seconds since the epoch to the timeline's milliseconds.
Clock = Callable[[float], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """What a thread did for a time. `call` is the system call's name, `text` all of it; empty between two calls."""

    kind: Kind
    start: float
    end: float
    call: str = ""
    text: str = ""
    # The number of the client whose bytes it moved; 0: nobody's.
    client: int = 0
    # How many calls for bytes, or for a client, found none.
    vain: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A message's way. `read` and `replied` are when the server read it and gave its answer to the kernel, if calls
    tell; `reader` and `replier` are the threads that did.
    """

    client: int
    number: int
    text: str
    sent: float
    answered: float
    read: float | None = None
    replied: float | None = None
    reader: str = ""
    replier: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadLane:
    """A thread, from when it is first seen to its end. `key` tells it from all others of the timeline.

    `signals` are the names of those that it took, and when.
    """

    key: str
    name: str
    process: str
    stretches: tuple[Stretch, ...]
    signals: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """A thread that waited all the time, in one kind of call."""

    name: str
    call: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wake:
    """One thread ends another one's wait: through a futex, or bytes in an eventfd, a pipe or a connection."""

    sender: str
    sent: float
    receiver: str
    woken: float
    through: str


@dataclass(kw_only=True)
class Timeline:
    """All that a picture shows of one model."""

    model: str
    wait_ms: int
    # From LEAD_SECONDS before the first client, which is at 0, to TAIL_SECONDS after the last answer.
    begin: float
    end: float
    passages: list[Passage] = field(default_factory=list)
    came: dict[int, float] = field(default_factory=dict)
    lanes: list[ThreadLane] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)
    wakes: list[Wake] = field(default_factory=list)
    # System calls of all threads between the first question and the last answer, by name; `failed` those with an error.
    calls: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """How many messages were answered."""
        return len(self.passages)


def timeline(model: str, wait_ms: int, visits: Sequence[Visit], records: Sequence[Traced]) -> Timeline:
    """What the records and the clients' own clocks tell, put together."""
    origin = min(visit.came for visit in visits)
    last = max(question.answered for visit in visits for question in visit.questions)
    window = (origin - LEAD_SECONDS, last + TAIL_SECONDS)

    def shown(moment: float) -> float:
        return round((moment - origin) * 1000, 3)

    found = Timeline(model=model, wait_ms=wait_ms, begin=shown(window[0]), end=shown(window[1]))
    found.came = {visit.client: shown(visit.came) for visit in visits}
    clients = {visit.port: visit.client for visit in visits}
    threads = [thread for record in records for thread in threads_of(record, clients, window)]
    for call in (call for thread in threads for call in thread.calls):
        if origin <= call.start <= last:
            found.calls[call.name] = found.calls.get(call.name, 0) + 1
            if call.failed:
                found.failed[call.name] = found.failed.get(call.name, 0) + 1
    several = len({thread.process for thread in threads}) > 1
    for thread in threads:
        stretches = tuple(_stretches(thread, window, shown))
        names = {stretch.call for stretch in stretches if stretch.call}
        if len(stretches) == 1 and stretches[0].kind.waits:
            found.quiet.append(Quiet(name=thread.name, call=names.pop()))
        elif stretches:
            process = thread.process if several else ""
            took = tuple((shown(one.moment), one.name) for one in thread.signals)
            found.lanes.append(
                ThreadLane(key=thread.key, name=thread.name, process=process, stretches=stretches, signals=took)
            )
    found.passages = list(_passages(visits, threads, shown))
    found.wakes = [
        Wake(sender=by.key, sent=shown(sent), receiver=of.key, woken=shown(woken), through=through)
        for by, sent, of, woken, through in wakes(threads)
    ]
    return found


def _stretches(thread: ThreadCalls, window: tuple[float, float], shown: Clock) -> Iterable[Stretch]:
    """What the thread did, without a gap: what is between two calls, runs."""
    place = max(window[0], thread.begin)
    end = min(window[1], thread.end or window[1])
    for call in thread.calls:
        # What had not returned when the record ended went on.
        lasts = end if call.result == NOT_RETURNED and thread.end is None else call.end
        start, stop = max(place, call.start), min(lasts, end)
        if stop < place or start > end:
            continue
        if start > place:
            yield Stretch(kind=Kind.RUNS, start=shown(place), end=shown(start))
        text = _shortened(call)
        kind, client = meaning.kind(call), thread.client(call)
        vain = int(call.failed and meaning.moves(call))
        yield Stretch(
            kind=kind, start=shown(start), end=shown(stop), call=call.name, text=text, client=client, vain=vain
        )
        if kind.waits and meaning.moves(call) and (call.number or 0) > 0 and call.end <= end:
            # It waited for the bytes, and then has moved them.
            yield Stretch(kind=Kind.MOVES, start=shown(stop), end=shown(stop), call=call.name, text=text, client=client)
        place = stop
    if thread.calls and place < end:
        yield Stretch(kind=Kind.RUNS, start=shown(place), end=shown(end))


def _shortened(call: Call) -> str:
    """The call as strace has it, without the end of long arguments."""
    arguments = call.arguments
    if len(arguments) > SHOWN_CHARACTERS:
        arguments = f"{arguments[:SHOWN_CHARACTERS]}..."
    return f"{call.name}({arguments}) = {call.result}"


def _passages(visits: Sequence[Visit], threads: Sequence[ThreadCalls], shown: Clock) -> Iterable[Passage]:
    """Each message, with the calls that read it and that gave its answer to the kernel."""
    received: dict[int, list[tuple[Call, str]]] = defaultdict(list)
    replied: dict[int, list[tuple[Call, str]]] = defaultdict(list)
    for thread in threads:
        for call in thread.calls:
            if (client := thread.client(call)) and (call.number or 0) > 0:
                if call.name in meaning.RECEIVES:
                    received[client].append((call, thread.key))
                elif call.name in meaning.SENDS:
                    replied[client].append((call, thread.key))
    for visit in visits:
        for number, question in enumerate(visit.questions, 1):
            read = next(
                ((c, k) for c, k in received[visit.client] if question.sent <= c.end <= question.answered), None
            )
            reply = next(
                ((c, k) for c, k in replied[visit.client] if question.sent <= c.start <= question.answered), None
            )
            yield Passage(
                client=visit.client,
                number=number,
                text=question.text,
                sent=shown(question.sent),
                answered=shown(question.answered),
                read=shown(read[0].end) if read else None,
                replied=shown(reply[0].start) if reply else None,
                reader=read[1] if read else "",
                replier=reply[1] if reply else "",
            )

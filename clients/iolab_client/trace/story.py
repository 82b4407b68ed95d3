"""One message's life, call by call, with a comment on each: what the threads do from the question to the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from iolab_client.trace import meaning
from iolab_client.trace.calls import MAKES_TASKS
from iolab_client.trace.lanes import Passage, Stretch, ThreadLane, Timeline, Wake
from iolab_client.trace.meaning import Kind

# A wait that is shorter was none: the answer was there.
AT_ONCE_MS = 0.5
# A message's life names so many calls between two steps.
MOST_NAMED = 6
# What strace knows of a descriptor beyond its number.
DETAILS = re.compile(r"(?<=\d)<[\w-]+:(?:\[.*?\]|\w)(?:,\".*?\")?\]?>")
REQUESTS = re.compile(r"io_uring_enter\(\d+, (\d+),")
# Whoever wakes a thread of the story is in it; and who wakes him, up to here.
GENERATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that happens, `at` milliseconds after the question was sent. `call` is empty where no call tells."""

    at: float
    who: str
    call: str
    comment: str


def story(one: Timeline, passage: Passage) -> list[Step]:
    """The life of a message: who did what until it was answered."""
    lanes = _involved(one, passage)
    own_sleep = _own_sleep([lane for lane in lanes if lane.key == passage.reader], passage) or _own_sleep(
        lanes, passage
    )
    steps = [
        Step(at=0.0, who=f"client {passage.client}", call="", comment=f"sends {passage.text.strip()!r}"),
        *(step for lane in lanes for step in _steps(one, lane, passage, own_sleep)),
    ]
    steps.sort(key=lambda step: step.at)
    at = passage.answered - passage.sent
    return [*steps, Step(at=at, who=f"client {passage.client}", call="", comment=f"has its answer, after {at:.1f} ms")]


def told(one: Timeline) -> Passage:
    """The message whose life says most of a model: the first one of the second client, who may have to wait."""
    return next((one for one in one.passages if (one.client, one.number) == (2, 1)), one.passages[0])


def _involved(one: Timeline, passage: Passage) -> list[ThreadLane]:
    """The threads that have to do with the message: who moves its bytes, who wakes these, and who wakes those."""
    keys = {passage.reader, passage.replier} - {""}
    keys |= {
        lane.key
        for lane in one.lanes
        if any(stretch.client == passage.client and _within(stretch, passage) for stretch in lane.stretches)
    }
    for _ in range(GENERATIONS):
        keys |= {wake.sender for wake in one.wakes if wake.receiver in keys and _concerns(wake, passage)}
    return [lane for lane in one.lanes if lane.key in keys or passage.read is None]


def _concerns(wake: Wake, passage: Passage) -> bool:
    """Whether somebody was woken for the message. Through a futex, threads also hand each other much else."""
    if wake.through == "futex":
        return passage.read is not None and passage.read <= wake.woken <= (passage.replied or passage.answered)
    return passage.sent <= wake.woken <= passage.answered


def _within(stretch: Stretch, passage: Passage) -> bool:
    last = passage.answered if passage.replied is None else passage.replied
    return stretch.end > passage.sent and stretch.start <= last


def _own_sleep(lanes: Iterable[ThreadLane], passage: Passage) -> Stretch | None:
    """The answer's own wait, where a thread sleeps in it: the last one that was over before the answer was given."""
    over = [
        stretch
        for lane in lanes
        for stretch in lane.stretches
        if stretch.kind == Kind.CLOCK and passage.replied is not None and stretch.end <= passage.replied
    ]
    return max(over, key=lambda stretch: stretch.end, default=None)


def _steps(one: Timeline, lane: ThreadLane, passage: Passage, own_sleep: Stretch | None) -> Iterator[Step]:
    """A thread's calls while the message was under way; what is repeated, or says nothing of it, is told together."""
    calls = [
        (stretch, _comment(one, stretch, passage, own=stretch is own_sleep))
        for stretch in lane.stretches
        # A call of no time is the end of one that waited, and is told as that.
        if stretch.call and _within(stretch, passage) and stretch.end > stretch.start
    ]
    for comment, group in groupby(calls, key=lambda call: call[1]):
        same = [stretch for stretch, _ in group]
        at = round(max(same[0].start - passage.sent, 0.0), 3)
        names = list(dict.fromkeys(stretch.call for stretch in same))
        if len(same) == 1:
            call = DETAILS.sub("", same[0].text)
        else:
            more = f" and {len(names) - MOST_NAMED} other names" if len(names) > MOST_NAMED else ""
            call = f"{len(same)} calls: {', '.join(names[:MOST_NAMED])}{more}"
        yield Step(at=at, who=lane.name, call=call, comment=comment or "what else has to be done")


def _comment(one: Timeline, stretch: Stretch, passage: Passage, *, own: bool) -> str:
    """What the call is to the message; empty: nothing worth a line."""
    ours, name = stretch.client == passage.client, stretch.call
    lasts = f"{stretch.end - stretch.start:.1f} ms"
    waits = stretch.kind.waits and stretch.end - stretch.start >= AT_ONCE_MS
    whose = "the message" if ours else f"client {stretch.client}'s message"
    if waits and stretch.end > passage.answered:
        return "goes on sleeping: this message is no concern of it any more"
    if name in meaning.ACCEPTS:
        return _accept(stretch, ours=ours, waits=waits)
    if stretch.client and name in meaning.RECEIVES:
        if stretch.vain:
            return "nothing has come yet (EAGAIN)"
        if stretch.text.endswith("= 0"):
            return f"client {stretch.client} has closed its side" if not ours else "the client has closed its side"
        slept = f"sleeps {lasts} until it comes, then copies" if waits else "copies"
        return f"{slept} {whose} out of the kernel's buffer"
    if stretch.client and name in meaning.SENDS:
        return f"copies the answer to {whose} into the kernel's buffer; TCP does the rest"
    if stretch.kind == Kind.CLOCK:
        if own:
            return f"the answer's own {one.wait_ms} ms: this thread sleeps in it, and does nothing else"
        return f"sleeps {lasts} in somebody else's answer: our message has to wait for this thread"
    if name == "io_uring_enter":
        return _ring(stretch, waits=waits)
    if stretch.kind == Kind.SOCKETS and name in meaning.ASKS_WHO_IS_READY:
        return _ready(stretch, waits=waits)
    if stretch.kind == Kind.OTHERS:
        return f"sleeps {lasts} until another thread wakes it" if waits else ""
    if stretch.kind == Kind.SOCKETS:
        return f"sleeps {lasts} until bytes come" if waits else ""
    return _other(stretch)


def _ring(stretch: Stretch, *, waits: bool) -> str:
    requests = REQUESTS.match(DETAILS.sub("", stretch.text))
    handed = f"hands in {requests[1]} of what it wants done, and " if requests and requests[1] != "0" else ""
    if waits:
        return f"{handed}sleeps {stretch.end - stretch.start:.1f} ms until the kernel has done something"
    return f"{handed}takes what the kernel has done: accepted, read, sent"


def _ready(stretch: Stretch, *, waits: bool) -> str:
    nobody = stretch.text.endswith(("= 0", "= 0 (Timeout)"))
    if waits:
        lasts = f"sleeps {stretch.end - stretch.start:.1f} ms"
        return (
            f"{lasts} until a time that it has set is over"
            if nobody
            else f"{lasts} until the kernel names who is ready"
        )
    return "asks who is ready: nobody at the moment" if nobody else "asks who is ready, and is told at once"


def _accept(stretch: Stretch, *, ours: bool, waits: bool) -> str:
    if stretch.vain:
        return "nobody else waits to be accepted (EAGAIN)"
    slept = f"sleeps {stretch.end - stretch.start:.1f} ms until somebody comes: " if waits else ""
    who = "the client" if ours else f"client {stretch.client}" if stretch.client else "somebody"
    return f"{slept}takes {who} out of the listener's queue; from now on it has a descriptor"


def _other(stretch: Stretch) -> str:
    """The few calls beside waiting and moving that are steps of a message's life."""
    name, text = stretch.call, stretch.text
    if name == "futex":
        return "" if text.endswith("= 0") else "wakes a thread that waits for this"
    if name in MAKES_TASKS:
        return "makes a thread, or a process"
    if name == "epoll_ctl":
        return next((words for word, words in EPOLL_CTL.items() if word in text), "")
    if stretch.kind == Kind.MOVES:
        return "reads from somebody of its own house" if name in meaning.RECEIVES else "tells somebody of its own house"
    return ""


EPOLL_CTL = {
    "EPOLL_CTL_ADD": "tells the kernel to watch one more descriptor",
    "EPOLL_CTL_MOD": "tells the kernel to watch for something else",
    "EPOLL_CTL_DEL": "tells the kernel to forget a descriptor",
}


def lines(steps: Iterable[Step], width: int = 72) -> list[str]:
    """The story as text: a line for each step, the comment behind a #."""
    return [
        f"{step.at:8.2f} ms  {step.who:<15}  {_cut(step.call, width):<{width}}  # {step.comment}".rstrip()
        for step in steps
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."

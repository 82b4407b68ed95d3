"""What a timeline shows, in words: for who does not see it, and beside the picture for who does."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence

from iolab_client.trace.lanes import Passage, Quiet, ThreadLane, Timeline

CAUTION = "Recorded with strace: ptrace slows every call, so compare who waits for whom, and not how long a call takes."


def heading(timelines: Sequence[Timeline]) -> str:
    """What the picture is, in a line."""
    clients = max(len(one.came) for one in timelines)
    who = ", ".join(one.model for one in timelines) if len(timelines) < 4 else f"{len(timelines)} models"
    return f"{who}: what each thread does while {clients} clients ask, and each answer takes {timelines[0].wait_ms} ms"


def caution(timelines: Sequence[Timeline]) -> str:
    """What stands on each picture."""
    unseen = [one.model for one in timelines if not any(passage.read is not None for passage in one.passages)]
    words = CAUTION
    if unseen:
        words += f" {', '.join(unseen)}: the kernel reads and writes by itself, and no call tells when."
    return words


def quiet(threads: Iterable[Quiet]) -> str:
    """Who is not drawn."""
    calls: dict[str, list[str]] = defaultdict(list)
    for thread in threads:
        calls[thread.call].append(thread.name)
    said = "; ".join(f"{', '.join(_counted(names))} in {call}" for call, names in calls.items())
    return f"wait all the time, and are not drawn: {said}"


def _counted(names: Sequence[str]) -> list[str]:
    return [f"{name} ({names.count(name)} of them)" if names.count(name) > 1 else name for name in dict.fromkeys(names)]


def sentences(one: Timeline) -> list[str]:
    """The picture of one model."""
    said = [f"{one.model}."]
    for passage in one.passages:
        read = "" if passage.read is None else f", is read after {passage.read - passage.sent:.0f} ms"
        said.append(
            f"Client {passage.client}'s message {passage.number} is sent at {passage.sent:.0f} ms{read},"
            f" and answered after {passage.answered - passage.sent:.0f} ms."
        )
    said += [f"Thread {lane.name}: {', '.join(shares(lane))}." for lane in one.lanes]
    if one.quiet:
        said.append(f"{quiet(one.quiet).capitalize()}.")
    return said


def shares(lane: ThreadLane) -> list[str]:
    """How long a thread did what, the longest first."""
    spent: dict[str, float] = defaultdict(float)
    for stretch in lane.stretches:
        spent[f"in {stretch.call}" if stretch.kind.waits else "running"] += stretch.end - stretch.start
    longest = sorted(spent.items(), key=lambda item: -item[1])
    return [f"{milliseconds:.0f} ms {what}" for what, milliseconds in longest if milliseconds >= 0.5]


def life(passage: Passage) -> str:
    """What a story is about."""
    return f"the life of client {passage.client}'s message {passage.number}, in milliseconds since it was sent"


def calls(one: Timeline, most: int | None = None) -> str:
    """System calls for each answer, the most frequent first: `recvfrom 1.5, sendto 1, accept4 0.8 (0.3 in vain)`.

    Those beyond `most` names are added up.
    """
    counted = sorted(one.calls.items(), key=lambda item: (-item[1], item[0]))
    said = [
        f"{name} {count / one.answers:.3g}"
        + (f" ({one.failed[name] / one.answers:.3g} in vain)" if one.failed.get(name) else "")
        for name, count in counted[:most]
    ]
    rest = counted[len(said) :]
    if rest:
        name = f"{len(rest)} others" if len(rest) > 1 else rest[0][0]
        said.append(f"{name} {sum(count for _, count in rest) / one.answers:.3g}")
    return ", ".join(said)


def wrapped(text: str, characters: int) -> list[str]:
    """Lines of at most so many characters."""
    return textwrap.wrap(text, characters)

"""The examination: every clause's verdict on one path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from iolab_client.path.arrivals import DidNotCome
from iolab_client.path.clauses import EACH_WAY, ONCE, Note
from iolab_client.path.ends import Fault, Way
from iolab_client.path.harness import Harness, NotReached
from iolab_client.path.remedies import REMEDIES
from iolab_client.servers.address import show

OK = "ok"
FAIL = "FAIL"


class NoPath(Exception):
    """There is nothing to examine: the front does not answer, or leads elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A clause, one way; no way where it is about both."""

    clause: str
    way: Way | None
    examine: Callable[[Harness], Note | None]

    @property
    def name(self) -> str:
        """The clause and the way."""
        return f"{self.clause}, {self.way.value}" if self.way else self.clause


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a clause came to, one way."""

    of: Examined
    kept: bool
    # How it is broken, or what is told of one that is kept.
    seen: str | None = None
    # What commonly breaks it, and what helps.
    remedy: str | None = None
    held_bytes: int | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """OK or FAIL, and what was seen."""
        return ": ".join(filter(None, (OK if self.kept else FAIL, self.seen)))

    def as_json(self) -> dict[str, object]:
        """For machines: names and numbers apart."""
        return {
            "clause": self.of.clause,
            "way": self.of.way and self.of.way.value,
            "kept": self.kept,
            "seen": self.seen,
            "remedy": self.remedy,
            "held_bytes": self.held_bytes,
            "seconds": round(self.seconds, 3),
        }


def _one_way(clause: Callable[[Harness, Way], Note | None], way: Way) -> Examined:
    return Examined(clause=clause.__name__, way=way, examine=lambda harness: clause(harness, way))


EXAMINED = (
    *(_one_way(clause, way) for clause in EACH_WAY for way in Way),
    *(Examined(clause=clause.__name__, way=None, examine=clause) for clause in ONCE),
)


def examine(harness: Harness, tell: Callable[[str], None] = lambda name: None) -> Iterator[Judgement]:
    """Every clause's verdict, one after the other. `tell` is called with the name of each that begins.

    Where not even one connection is joined through the path, every clause has that verdict. Raises NoPath where nobody
    is at the front, or what it accepts does not come to the back.
    """
    fault = _first_contact(harness)
    for examined in EXAMINED:
        tell(examined.name)
        yield (
            Judgement(of=examined, kept=False, seen=str(fault), remedy=fault.remedy)
            if fault
            else judge(examined, harness)
        )


def judge(examined: Examined, harness: Harness) -> Judgement:
    """One clause's verdict."""
    started = time.monotonic()
    try:
        seen = examined.examine(harness) or Note(None)
    except Fault as fault:
        return Judgement(
            of=examined,
            kept=False,
            seen=str(fault),
            remedy=fault.remedy or REMEDIES.get(examined.clause),
            seconds=time.monotonic() - started,
        )
    return Judgement(
        of=examined, kept=True, seen=seen.text, held_bytes=seen.held_bytes, seconds=time.monotonic() - started
    )


def _first_contact(harness: Harness) -> Fault | None:
    """What is wrong with any connection whatever."""
    try:
        with harness.open():
            return None
    except NotReached as fault:
        raise NoPath(f"{fault}: start what listens there") from None
    except DidNotCome as fault:
        raise NoPath(f"{fault}: does {show(harness.front)} lead to {harness.back}?") from None
    except Fault as fault:
        return fault

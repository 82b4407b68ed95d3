"""Watch several servers: each is scraped by its own thread, so that a server that does not answer delays no other.

A scrape is /metrics and /threads. Two successive scrapes give the rates; a counter that has decreased means that the
server has restarted, and there are none.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import click

from iolab.registry import Model
from iolab_client.servers import admin, metrics
from iolab_client.servers.address import REMEDY, Address
from iolab_client.servers.explain import explain
from iolab_client.servers.targets import Target, resolve_admins

# A scrape takes milliseconds, but longer on a busy machine. After this time the server counts as silent.
PATIENCE_SECONDS = 2.0
# After this a scrape is given up: the next one may find another server there.
SCRAPE_SECONDS = 10.0
# How often to find out which servers run: asking Docker takes a while.
RESOLVE_SECONDS = 5.0
# Threads that do not serve: every model has them; the supervisor is reading /proc at that very moment.
CARETAKERS = frozenset({"stop", "books", "log", "supervisor"})


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one scrape found. `at` is by time.monotonic; counters count from the server's start.

    `waits`: how many of the serving threads are in each system call.
    """

    at: float
    open: int
    waiting: int
    accept_queue: int
    answers: int
    cpu_seconds: float
    memory_bytes: int
    processes: int
    threads: int
    waits: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one server now.

    `look` is the last scrape; the rates are those since the scrape before it, None if there was none.
    `silent_seconds` is None while the server answers. `error` is why the last scrape failed.
    """

    model: str
    address: str
    runs: bool | None
    look: Look | None
    answers_per_second: float | None
    cpu_percent: float | None
    silent_seconds: float | None
    error: str | None


def scrape(target: Target) -> Look:
    """Scrape a server once. Raises Unreachable."""
    seen = metrics.read(target, deadline_seconds=SCRAPE_SECONDS)
    try:
        waits = summarise(admin.threads(target, deadline_seconds=SCRAPE_SECONDS))
    except (KeyError, TypeError):
        raise admin.Unreachable(f"{target.name}: its /threads is another server's") from None
    if seen.counters is None:
        raise admin.Unreachable(f"{target.name}: it counts no connections: it is no model")
    return Look(
        at=seen.at,
        open=seen.counters.open,
        waiting=seen.counters.waiting,
        accept_queue=seen.counters.accept_queue,
        answers=seen.counters.answers,
        cpu_seconds=seen.cpu_seconds,
        memory_bytes=seen.memory_bytes,
        processes=seen.processes,
        threads=seen.threads,
        waits=waits,
    )


def summarise(photograph: Mapping[str, Any]) -> dict[str, int]:
    """How many threads of all processes are in each system call, the most frequent call first."""
    counted = Counter(
        thread["syscall"]
        for process in photograph["processes"]
        for thread in process["threads"]
        if thread["name"] not in CARETAKERS
    )
    return dict(counted.most_common())


def rates(earlier: Look | None, later: Look | None) -> tuple[float | None, float | None]:
    """Answers a second, and CPU use in percent of one processor, between two looks; None twice if they are unknown."""
    if earlier is None or later is None or later.at <= earlier.at:
        return None, None
    answers, cpu_seconds = later.answers - earlier.answers, later.cpu_seconds - earlier.cpu_seconds
    if answers < 0 or cpu_seconds < 0:
        return None, None
    seconds = later.at - earlier.at
    return answers / seconds, 100 * cpu_seconds / seconds


class _Watched:
    """One server and the thread that scrapes it until `end`."""

    def __init__(self, target: Target, interval_seconds: float, tell: Callable[[], None]) -> None:
        self.target = target
        self.attempts = 0
        # None until its name was looked up: on a Docker network only a running server has one.
        self.runs: bool | None = None
        self._interval_seconds = interval_seconds
        self._tell = tell
        self._began = time.monotonic()
        # Replaced as a whole, so that the drawing thread never sees half of it.
        self._looks: tuple[Look | None, Look | None] = (None, None)
        self._error: str | None = None
        self._ended = threading.Event()
        # A daemon thread, so that the program's end waits for no answer.
        threading.Thread(target=self._scrape_again_and_again, name=f"watch {target.name}", daemon=True).start()

    def end(self) -> None:
        """Stop scraping."""
        self._ended.set()

    def row(self) -> Row:
        """What is known now."""
        earlier, later = self._looks
        answers_per_second, cpu_percent = rates(earlier, later)
        silent_seconds = time.monotonic() - (later.at if later else self._began)
        answers = self._error is None and silent_seconds <= self._interval_seconds + PATIENCE_SECONDS
        return Row(
            model=self.target.name,
            address=self.target.shown_address,
            runs=self.runs,
            look=later,
            answers_per_second=answers_per_second,
            cpu_percent=cpu_percent,
            silent_seconds=None if answers else silent_seconds,
            error=self._error,
        )

    def _scrape_again_and_again(self) -> None:
        while not self._ended.is_set():
            try:
                self._look_up()
                self._looks = (self._looks[1], scrape(self.target))
                self._error = None
            except admin.Unreachable as error:
                self._error = error.message
            self.attempts += 1
            self._tell()
            if self.target.admin is None:
                # If it is found elsewhere later, it is watched there.
                return
            self._ended.wait(self._interval_seconds)

    def _look_up(self) -> None:
        if self.target.admin is None:
            self.runs = False
            raise admin.Unreachable(self.target.no_admin)
        try:
            socket.getaddrinfo(*self.target.admin, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            self.runs = False
            raise admin.Unreachable(explain(error)) from None
        if not self.runs:
            self.runs = True
            self._tell()


class Watch:
    """The named servers, or all that run, watched during the block. Which ones run is looked up again at intervals.

    Entering the block waits for the first look-up, and raises BadConfig.
    """

    def __init__(self, wanted: Sequence[Model | Address], interval_seconds: float) -> None:
        self._wanted = wanted
        self._interval_seconds = interval_seconds
        self._watched: dict[str, _Watched] = {}
        self._complaint = ""
        self._news = threading.Condition()
        self._left = threading.Event()

    def __enter__(self) -> Self:
        self._take(resolve_admins(self._wanted))
        threading.Thread(target=self._resolve_again_and_again, name="resolve", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        for watched in self._servers():
            watched.end()

    @property
    def complaint(self) -> str:
        """Why the last look-up of running servers failed; empty if it did not."""
        return self._complaint

    def rows(self) -> list[Row]:
        """What is known of each named server, or else of each that runs."""
        rows = [watched.row() for watched in self._servers()]
        return [row for row in rows if self._wanted or row.runs]

    def found(self, seconds: float) -> bool:
        """Wait, at most `seconds`, until it is known whether a server runs; return whether one does."""

        def known() -> bool:
            runs = [watched.runs for watched in self._servers()]
            return any(runs) or None not in runs

        with self._news:
            self._news.wait_for(known, seconds)
        return any(watched.runs for watched in self._servers())

    def wait_for_scrapes(self, count: int, seconds: float) -> None:
        """Wait, at most `seconds`, until each running server was asked `count` times, with whatever result."""
        with self._news:
            self._news.wait_for(
                lambda: all(one.attempts >= count or one.runs is False for one in self._servers()), seconds
            )

    def reason(self) -> str:
        """Why nothing runs, with the remedy."""
        errors = [watched.row().error for watched in self._servers()]
        reasons = "; ".join(dict.fromkeys(error for error in errors if error)) or "no name was found in time"
        return reasons if REMEDY in reasons else f"{reasons}; {REMEDY}"

    def _servers(self) -> list[_Watched]:
        # A copy, because the resolving thread may change it meanwhile.
        return list(self._watched.values())

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def _take(self, targets: Sequence[Target]) -> None:
        """Keep watching servers that have not moved, begin with new ones, and end those that are gone."""
        kept = {}
        for target in targets:
            known = self._watched.get(target.name)
            same = known is not None and known.target == target
            kept[target.name] = known if known and same else _Watched(target, self._interval_seconds, self._tell)
        for watched in self._servers():
            if watched not in kept.values():
                watched.end()
        self._watched = kept

    def _resolve_again_and_again(self) -> None:
        while not self._left.wait(RESOLVE_SECONDS):
            try:
                targets = resolve_admins(self._wanted)
            except click.ClickException as error:
                # Keep showing the known servers: a YAML file that is being edited may be bad for a moment.
                self._complaint = error.message
                continue
            self._complaint = ""
            if not self._left.is_set():
                self._take(targets)

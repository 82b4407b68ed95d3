"""Looks at all models while a page is open: what each counts, and what each of its threads waits in.

Each server is asked by a task of its own, so that one that does not answer stalls nobody, and never twice at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from iolab import log
from iolab.registry import MODELS, Model
from iolab.settings import PlaygroundSettings
from iolab_client.playground import reasons
from iolab_client.playground.pages import Pages
from iolab_client.servers import metrics
from iolab_client.servers.address import show
from iolab_client.servers.admin import Unreachable
from iolab_client.servers.metrics import Metrics
from iolab_client.servers.targets import BadConfig, Target, resolve_known

# One that has not answered for so long is called silent, and is asked anew.
PATIENCE_SECONDS = 5.0
STOPS = "it was told to stop: it takes no new clients, and serves those who are there to their end"
# The counters are asked for at each of so many looks.
COUNT_EVERY = 2
# Of one server; thousands would only be a colour.
THREADS = 40
# Between two looks at who runs: it reads the folder of run files, or the YAML files.
RESOLVE_SECONDS = 2.0


class Card(msgspec.Struct, kw_only=True):
    """What the page is told of one model. Rates are those between the last two counts; None: not known.

    `state` is running, draining, silent or gone; `why` says in words why it is not running. `work` is its work dial,
    and `hands_on` whether that may be turned from here.
    """

    model: str
    port: int
    summary: str
    state: str = "gone"
    why: str = "nobody has looked yet"
    open: int = 0
    waiting: int = 0
    accept_queue: int = 0
    answers: int = 0
    refused: int = 0
    rate: float | None = None
    cpu_percent: float | None = None
    memory_bytes: int = 0
    processes: list[dict[str, Any]] = []
    # Of those that are left out: how many are in each call.
    more_threads: dict[str, int] = {}
    work: dict[str, Any] = {}
    hands_on: bool = False


class _Shown:
    """One model, and what is known of it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.target: Target | None = None
        self.card = Card(model=model.slug, port=model.port, summary=model.summary)
        self.counted: Metrics | None = None
        self.seen_at = 0.0
        self.ever_seen = False
        self.looking: asyncio.Task[None] | None = None
        self._looks = 0
        self._stops = False

    async def look(self, session: aiohttp.ClientSession, target: Target) -> None:
        """Ask the server once, and note what it says or why it says nothing."""
        try:
            if self._looks % COUNT_EVERY == 0:
                asked_at = time.monotonic()
                text = await _fetch(session, target, "/metrics")
                self._count(metrics.understand(target, text, asked_at=asked_at, at=time.monotonic()))
                self._stops = await _stops(session, target)
            processes = json.loads(await _fetch(session, target, "/threads"))["processes"]
        except TimeoutError:
            self.card.state = "silent"
            self.card.why = f"it has not answered for {time.monotonic() - self.seen_at:.0f} s: it is suspended, or busy"
        except (aiohttp.ClientError, Unreachable, ValueError, KeyError, TypeError, OSError) as error:
            self.gone(reasons.why_unreachable(self.model, error, ever_seen=self.ever_seen))
        else:
            self._looks += 1
            self.card.processes, self.card.more_threads = shortened(processes)
            self.card.state, self.card.why = ("draining", STOPS) if self._stops else ("running", "")
            self.seen_at, self.ever_seen = time.monotonic(), True

    def gone(self, why: str) -> None:
        """It is not there: nothing of what was known holds any more."""
        self.counted = None
        self._looks = 0
        port = self.target.address[1] if self.target else self.model.port
        self.card = Card(model=self.model.slug, port=port, summary=self.model.summary, state="gone", why=why)

    def _count(self, counted: Metrics) -> None:
        card, before, counters = self.card, self.counted, counted.counters
        if counters is None:
            raise ValueError("it counts no connections: it is no model")
        card.open, card.waiting, card.accept_queue = counters.open, counters.waiting, counters.accept_queue
        card.answers, card.refused, card.memory_bytes = counters.answers, counters.refused, counted.memory_bytes
        card.rate = card.cpu_percent = None
        if before and before.counters and counted.at > before.at and counters.answers >= before.counters.answers:
            seconds = counted.at - before.at
            card.rate = (counters.answers - before.counters.answers) / seconds
            card.cpu_percent = max(0.0, 100 * (counted.cpu_seconds - before.cpu_seconds) / seconds)
        card.work = json.loads(counted.settings.get("work", "{}"))
        card.hands_on = counted.settings.get("hands_on") == "True"
        self.counted = counted


def shortened(processes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The processes with no more than THREADS threads, and how many of the others are in each system call."""
    room = THREADS
    left_out: list[dict[str, Any]] = []
    for process in processes:
        threads = process["threads"]
        process["threads"], rest = threads[:room], threads[room:]
        room -= len(process["threads"])
        left_out += rest
    return processes, dict(Counter(thread["syscall"] for thread in left_out).most_common())


class Looker:
    """Asks while somebody looks, and publishes what is known, again and again."""

    def __init__(self, settings: PlaygroundSettings, pages: Pages, more: Callable[[], Mapping[str, Any]]) -> None:
        self._settings = settings
        self._pages = pages
        # What else a snapshot has.
        self._more = more
        self._watched = {slug: _Shown(model) for slug, model in MODELS.items()}
        self._resolved_at = -RESOLVE_SECONDS
        self._complaint = ""
        self._session: aiohttp.ClientSession | None = None

    def target(self, slug: str) -> Target | None:
        """Where a model is, if it is known to run."""
        self._resolve()
        return self._watched[slug].target

    def card(self, slug: str) -> Card:
        """What is known of a model."""
        return self._watched[slug].card

    @property
    def session(self) -> aiohttp.ClientSession:
        """What the admin ports are asked with: one answer a connection, and no proxy of the environment's."""
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=64, ttl_dns_cache=5)
            timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session

    async def run(self) -> None:
        """Look while a page is open; ask nobody while none is."""
        try:
            while True:
                await self._pages.someone()
                self._resolve()
                for watched in self._watched.values():
                    self._begin_to_look(watched)
                self._publish()
                await asyncio.sleep(self._settings.look_seconds)
        finally:
            if self._session:
                await self._session.close()

    def _begin_to_look(self, watched: _Shown) -> None:
        if watched.target and (watched.looking is None or watched.looking.done()):
            if watched.looking and (bug := watched.looking.exception()):
                log.warning("look_failed", model=watched.model.slug, error=f"{type(bug).__name__}: {bug}")
            watched.looking = asyncio.create_task(watched.look(self.session, watched.target))

    def _resolve(self) -> None:
        now = time.monotonic()
        if now - self._resolved_at < RESOLVE_SECONDS:
            return
        self._resolved_at = now
        try:
            found = resolve_known()
        except BadConfig as error:
            # The servers that are known are shown on; a YAML file that is being edited is bad for a moment.
            self._complaint = error.message
            return
        self._complaint = ""
        for slug, watched in self._watched.items():
            watched.target = found.get(slug)
            if watched.target is None:
                watched.gone(reasons.why_not_there(watched.model, ever_seen=watched.ever_seen))
            else:
                watched.card.port = watched.target.address[1]

    def _publish(self) -> None:
        snapshot = {
            "at": time.time(),
            "complaint": self._complaint,
            "pages": self._pages.count(),
            "models": [watched.card for watched in self._watched.values()],
            **self._more(),
        }
        self._pages.publish(msgspec.json.encode(snapshot))


def admin_url(target: Target, page: str) -> str:
    """The address of a page of a server's admin port."""
    assert target.admin
    return f"http://{show(target.admin)}{page}"


async def _stops(session: aiohttp.ClientSession, target: Target) -> bool:
    async with session.get(admin_url(target, "/healthz")) as response:
        return response.status == HTTPStatus.SERVICE_UNAVAILABLE


async def _fetch(session: aiohttp.ClientSession, target: Target, page: str) -> str:
    async with session.get(admin_url(target, page)) as response:
        text = await response.text()
        if response.status != 200:
            raise ValueError(f"{page} answers {response.status}")
        return text

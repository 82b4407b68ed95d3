"""What a page can do: each request is checked, kept within its bounds, and answered with what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Meta

from iolab import log
from iolab.registry import MODELS
from iolab.settings import PlaygroundSettings, one_line
from iolab_client.playground.clients import ANSWER_SECONDS, Crowd, NeverReads, say
from iolab_client.playground.loads import Load
from iolab_client.playground.looking import Looker, admin_url
from iolab_client.playground.opened import Opened, Thing, TooMuch
from iolab_client.playground.pages import Pages
from iolab_client.servers.targets import Target

# Sayings at once: each may wait for its answer.
SAYINGS = 32
# Of what a server says about a request that it does not take.
MOST_CHARACTERS = 300

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
PageName = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Wish(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who asks, and of which model."""

    page: PageName
    model: Annotated[str, Meta(max_length=64)]


WishKind = TypeVar("WishKind", bound=Wish)


class WishSay(Wish, kw_only=True):
    """Say something, and end in one of four ways."""

    text: Annotated[str, Meta(min_length=1)]
    ending: Literal["close", "half-close", "reset", "stay"] = "close"
    patience_seconds: Annotated[float, Meta(ge=0.5, le=ANSWER_SECONDS)] = ANSWER_SECONDS


class WishCrowd(Wish, kw_only=True):
    """Open silent clients."""

    count: Count


class WishLoad(Wish, kw_only=True):
    """Run a load."""

    connections: Count
    size: Count
    seconds: Count


class WishDial(Wish, kw_only=True):
    """Turn the work dial."""

    wait_ms: Annotated[int, Meta(ge=0)] = 0
    cpu_us: Annotated[int, Meta(ge=0)] = 0


class WishKill(Wish, kw_only=True):
    """Kill one of the processes that serve."""

    pid: int | None = None


class WishEnd(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """End a thing."""

    page: PageName
    number: int


Decoded = TypeVar("Decoded", bound=msgspec.Struct)


class Refused(Exception):
    """It is not done; the message is one line for the user."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(one_line(message))
        self.status = status


class Dial(Thing):
    """A work dial that is not where it was."""

    kind = "dial"

    def __init__(
        self, page: str, model: str, was: dict[str, int], put: Callable[[dict[str, int]], Awaitable[None]]
    ) -> None:
        super().__init__(page, model)
        self.was = was
        self.now = was
        self._put = put

    def text(self) -> str:
        """As Thing."""
        return f"work dial: each answer waits {self.now['wait_ms']} ms and computes for {self.now['cpu_us']} µs"

    async def turn(self, to: dict[str, int]) -> None:
        """Have the server turn it. Raises Refused."""
        await self._put(to)
        self.now = to

    async def end(self) -> None:
        """As Thing: it goes back to where it was."""
        try:
            await self._put(self.was)
        except Refused as error:
            log.warning("not_ended", thing=self.text(), error=str(error))


class Doing:
    """Does what the pages ask for."""

    def __init__(self, settings: PlaygroundSettings, pages: Pages, looker: Looker, opened: Opened) -> None:
        self._settings = settings
        self._pages = pages
        self._looker = looker
        self._opened = opened
        self._sayings = 0

    def routes(self) -> list[web.RouteDef]:
        """What can be asked for, each by POST."""
        return [
            web.post("/do/say", self._say),
            web.post("/do/crowd", self._crowd),
            web.post("/do/never-reads", self._never_reads),
            web.post("/do/load", self._load),
            web.post("/do/dial", self._dial),
            web.post("/do/kill", self._kill),
            web.post("/do/end", self._end),
        ]

    async def _say(self, request: web.Request) -> web.Response:
        wish, target = await self._wish(request, WishSay)
        data = wish.text.encode(errors="replace")
        _within("text", len(data), self._settings.say_bytes, "bytes", "say_bytes")
        if self._sayings >= SAYINGS:
            raise Refused(f"{SAYINGS} clients wait for their answers already: try again in a moment", 429)
        self._opened.check_room(1)
        self._sayings += 1
        try:
            told, client = await say(target, data, wish.ending, wish.patience_seconds)
        finally:
            self._sayings -= 1
        number = None
        if client is not None:
            number = await self._add(Crowd(wish.page, target, 1, client))
        return _done(steps=told.steps, answered_ms=told.answered_ms, number=number)

    async def _crowd(self, request: web.Request) -> web.Response:
        wish, target = await self._wish(request, WishCrowd)
        _within("count", wish.count, self._settings.connections, "clients", "connections")
        self._opened.check_room(wish.count)
        return _done(number=await self._add(Crowd(wish.page, target, wish.count)))

    async def _never_reads(self, request: web.Request) -> web.Response:
        wish, target = await self._wish(request, Wish)
        self._opened.check_room(1)
        return _done(number=await self._add(NeverReads(wish.page, target, self._settings.flood_bytes)))

    async def _load(self, request: web.Request) -> web.Response:
        wish, target = await self._wish(request, WishLoad)
        settings = self._settings
        _within("connections", wish.connections, settings.load_connections, "", "load_connections")
        _within("size", wish.size, settings.load_bytes, "bytes", "load_bytes")
        _within("seconds", wish.seconds, settings.load_seconds, "seconds", "load_seconds")
        self._opened.check_room(wish.connections)
        if sum(isinstance(one, Load) and one.runs for one in self._opened.of_kind(Load)) >= settings.loads:
            raise Refused(
                f"{settings.loads} loads run, and no more may: wait, or end one (`loads` in playground.yaml)", 429
            )
        thing = Load(wish.page, target, wish.connections, wish.size, wish.seconds)
        return _done(number=await self._add(thing))

    async def _dial(self, request: web.Request) -> web.Response:
        wish, _target = await self._wish(request, WishDial)
        _within("wait_ms", wish.wait_ms, self._settings.most_wait_ms, "ms", "most_wait_ms")
        _within("cpu_us", wish.cpu_us, self._settings.most_cpu_us, "µs", "most_cpu_us")
        to = {"wait_ms": wish.wait_ms, "cpu_us": wish.cpu_us}
        for thing in self._opened.of_kind(Dial):
            if isinstance(thing, Dial) and thing.model == wish.model:
                await thing.turn(to)
                # Whoever turned it last is the one whose leaving turns it back.
                thing.page = wish.page
                if to == thing.was:
                    await self._opened.end(thing.number)
                return _done(number=thing.number)
        work = self._looker.card(wish.model).work
        was = {"wait_ms": int(work.get("wait_ms", 0)), "cpu_us": int(work.get("cpu_us", 0))}
        self._opened.check_room(0)
        dial = Dial(wish.page, wish.model, was, lambda body: self._put(wish.model, "/work", body))
        await dial.turn(to)
        return _done(number=None if to == was else await self._add(dial))

    async def _kill(self, request: web.Request) -> web.Response:
        wish, _target = await self._wish(request, WishKill)
        serving = [process["pid"] for process in self._looker.card(wish.model).processes[1:]]
        if not serving:
            raise Refused(
                f"model: got {wish.model}, which serves in one process; expected prefork_epoll or another such"
            )
        pid = serving[0] if wish.pid is None else wish.pid
        if pid not in serving:
            raise Refused(f"pid: got {pid}, expected one of {', '.join(map(str, serving))}")
        await self._put(wish.model, "/kill", {"pid": pid})
        return _done(pid=pid)

    async def _end(self, request: web.Request) -> web.Response:
        wish = _decoded(await request.read(), WishEnd)
        if not await self._opened.end(wish.number):
            raise Refused(f"number: got {wish.number}, and nothing of that number is open", 404)
        return _done()

    async def _wish(self, request: web.Request, kind: type[WishKind]) -> tuple[WishKind, Target]:
        """What is asked for, and the server that is meant. Raises Refused."""
        wish = _decoded(await request.read(), kind)
        if wish.model not in MODELS:
            raise Refused(f"model: got {wish.model}, expected one of {', '.join(MODELS)}")
        if not self._pages.known(wish.page):
            raise Refused("page: it has no event stream, so that nobody would see when it leaves: load it again", 409)
        target = self._looker.target(wish.model)
        if target is None:
            raise Refused(f"{wish.model} is not there: {self._looker.card(wish.model).why}", 409)
        return wish, target

    async def _add(self, thing: Thing) -> int:
        """Enter a thing; or end it again, where there is no room, or its page has gone away meanwhile."""
        try:
            if not self._pages.known(thing.page):
                raise Refused("page: it has gone away meanwhile", 409)
            return self._opened.add(thing).number
        except (TooMuch, Refused):
            await thing.end()
            raise

    async def _put(self, model: str, path: str, body: dict[str, int]) -> None:
        """Send something to a server's admin port. Raises Refused."""
        target = self._looker.target(model)
        if target is None:
            raise Refused(f"{model} is not there any more", 409)
        try:
            async with self._looker.session.put(admin_url(target, path), json=body) as response:
                said, status = (await response.text())[:MOST_CHARACTERS].strip(), response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Refused(f"{model}: its admin port does not answer: {error}", 502) from None
        if status == 405:
            raise Refused(
                f"{model} takes no changes: start it with `--hands-on`, or `hands_on: true` in its YAML file", 409
            )
        if status != 200:
            raise Refused(f"{model}: {said}")


@web.middleware
async def tell_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what cannot be done with the line that says why."""
    try:
        return await handler(request)
    except Refused as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except TooMuch as error:
        return web.json_response({"error": str(error)}, status=429)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason.lower()}, status=error.status)


def _decoded(body: bytes, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(str(error)) from None


def _within(name: str, value: int, most: int, unit: str, key: str) -> None:
    if value > most:
        raise Refused(
            f"{name}: got {value}, expected at most {most} {unit}".rstrip() + f" (`{key}` in playground.yaml)"
        )


def _done(**fields: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(fields), content_type="application/json")

"""The service: its routes, and its life from the first byte to the signal that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from iolab import log
from iolab.run import run_files
from iolab.settings import PlaygroundSettings
from iolab_client.playground.documents import Documents
from iolab_client.playground.doing import Doing, tell_refusals
from iolab_client.playground.guard import guard, harden
from iolab_client.playground.lessons import Lesson
from iolab_client.playground.looking import Looker
from iolab_client.playground.opened import Opened
from iolab_client.playground.pages import Pages, TooMany

SITE = Path(__file__).parent / "site"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# A page's own name for itself, drawn by chance.
PAGE = re.compile(r"[0-9a-f]{32}")
# A page that takes nothing for so long is given up.
TAKE_SECONDS = 10.0
# What a request may have beside its headers; aiohttp bounds those.
BODY_BYTES = 65536
# From the signal to the end.
END_SECONDS = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Playground:
    """One playground: the pages, the looks at the servers, and what was opened."""

    def __init__(
        self, settings: PlaygroundSettings, lessons: Mapping[str, Lesson] | None = None, documents: Path | None = None
    ) -> None:
        self.settings = settings
        self.lessons = dict(lessons or {})
        self.documents = Documents(documents)
        self.opened = Opened(settings.connections)
        self.pages = Pages(settings.pages, settings.away_seconds, self._away)
        self.looker = Looker(settings, self.pages, lambda: {"opened": self.opened.shown()})
        self._ending: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """The application of aiohttp."""
        app = web.Application(middlewares=[guard, tell_refusals], client_max_size=BODY_BYTES)
        app.on_response_prepare.append(harden)
        app.router.add_get("/", self._page)
        app.router.add_get("/site/{name}", self._file)
        app.router.add_get("/events", self._events)
        app.router.add_get("/lessons", self._lessons)
        app.router.add_get("/docs/{path:.+}", self.documents.page)
        app.router.add_routes(Doing(self.settings, self.pages, self.looker, self.opened).routes())
        app.on_shutdown.append(self._shut_down)
        app.cleanup_ctx.append(self._life)
        return app

    async def _life(self, _app: web.Application) -> Any:
        looking = asyncio.create_task(self.looker.run())
        yield
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    async def _shut_down(self, _app: web.Application) -> None:
        """End all that was opened, and have the pages' streams end."""
        self.pages.close()
        await self.opened.end_all()

    def _away(self, page: str) -> None:
        ending = asyncio.create_task(self.opened.end_page(page))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        return _site("index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return _site(request.match_info["name"])

    async def _lessons(self, _request: web.Request) -> web.StreamResponse:
        told = [
            {"name": name, "models": lesson.models(), "links": self._links(lesson), **msgspec.to_builtins(lesson)}
            for name, lesson in self.lessons.items()
        ]
        return web.json_response(told)

    def _links(self, lesson: Lesson) -> list[dict[str, str]]:
        """Where to read on: each model's page with its timeline, and the claim's trial; of those that there are."""
        links = [(f"{slug}: its page and timeline", f"models/{slug}.md", "") for slug in lesson.models()]
        links.append(("All timelines, side by side", "timelines.md", ""))
        if lesson.claim:
            links.append((f"The claim on trial: {lesson.claim}", "claims.md", f"#{lesson.claim}"))
        return [
            {"text": text, "href": f"/docs/{path}{anchor}"} for text, path, anchor in links if self.documents.has(path)
        ]

    async def _events(self, request: web.Request) -> web.StreamResponse:
        page = request.query.get("page", "")
        if not PAGE.fullmatch(page):
            return web.json_response({"error": "a page names itself by 32 hexadecimal digits"}, status=400)
        try:
            with self.pages.present(page):
                return await self._tell(request)
        except TooMany as error:
            return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": "5"})

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        """Tell a page what is new until it leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while not self.pages.closed:
                number, snapshot = await self.pages.next(number)
                async with asyncio.timeout(TAKE_SECONDS):
                    await response.write(b"data: %b\n\n" % snapshot)
        return response


def _site(name: str) -> web.StreamResponse:
    """A file of the page; there is one folder, and nothing above or below it."""
    file = SITE / name
    if Path(name).name != name or file.suffix not in KINDS or not file.is_file():
        return web.json_response({"error": f"there is no {name[:80]!r} here"}, status=404)
    return web.Response(body=file.read_bytes(), content_type=KINDS[file.suffix], charset="utf-8")


async def serve(playground: Playground, *, everywhere: bool) -> None:
    """Serve until a signal comes, on the settings' host or on every address. Raises OSError where the port is taken."""
    settings = playground.settings
    host = "::" if everywhere else settings.host
    runner = web.AppRunner(playground.app(), access_log=None, shutdown_timeout=END_SECONDS)
    await runner.setup()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stopped.set)
    try:
        # By no name: asyncio would have `::` take clients of IPv6 only.
        site = web.TCPSite(runner, None if everywhere else host, settings.port)
        await site.start()
        with run_files.announced("playground", host, settings.port, settings.port, END_SECONDS):
            log.info("listening", host=host, port=settings.port, address=f"http://127.0.0.1:{settings.port}")
            await stopped.wait()
    finally:
        await runner.cleanup()
    log.info("stopped")

"""Who may ask, and what a browser is told with each answer.

The page listens on loopback only; what is left are other pages in the same browser. One whose name an attacker's DNS
has pointed at 127.0.0.1 (rebinding) is known by its Host, one that sends requests across sites by its Origin and by
Sec-Fetch-Site. Whatever changes something must come from this very page.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

# With any port: it may be published, or forwarded, under another one.
HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
READ = frozenset({"GET", "HEAD"})
# Where a link on another site may lead to. It cannot read what comes.
NAVIGATION = "navigate"
OWN = frozenset({"same-origin", "none"})

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through, or say in a line why not."""
    reason = refusal(request)
    return await handler(request) if reason is None else web.json_response({"error": reason}, status=403)


def refusal(request: web.Request) -> str | None:
    """Why a request is not answered; None if it is."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return "this page answers to 127.0.0.1, localhost and [::1] only: the Host is another one"
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
        return "the Origin is another page's: open the playground itself"
    if request.method in READ:
        return _refused_read(request)
    if origin is None:
        return "what changes something has to come from the playground's own page: there is no Origin"
    if request.content_type != "application/json":
        return "what changes something is JSON: Content-Type: application/json"
    return None


def _refused_read(request: web.Request) -> str | None:
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in OWN or (request.headers.get("Sec-Fetch-Mode") == NAVIGATION and request.path != "/events"):
        return None
    return "another site asks for it: open the playground itself"


async def harden(_request: web.Request, response: web.StreamResponse) -> None:
    """What the browser is to keep to, whatever the answer is."""
    response.headers.update(HEADERS)

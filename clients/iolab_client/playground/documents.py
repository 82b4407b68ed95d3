"""The documents beside the page: docs/ of the checkout, as HTML; drawings as they are, and nothing else."""

from __future__ import annotations

import html
import re
from pathlib import Path

from aiohttp import web
from markdown_it import MarkdownIt

# No HTML out of a document is let through: `html` is off.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table"])
FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<link rel="icon" href="/site/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/site/style.css"></head>
<body><header><a href="/">Back to the playground</a></header><main class="document">{content}</main></body></html>
"""
HEADING = re.compile(r"<(h[1-6])>(.*?)</\1>")


class Documents:
    """What is in a folder; None: there is none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder.resolve() if folder and folder.is_dir() else None

    def has(self, path: str) -> bool:
        """Whether there is such a document."""
        return self._file(path) is not None

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for one."""
        path = request.match_info["path"]
        file = self._file(path)
        if file is None:
            return web.json_response({"error": f"there is no document {path[:80]!r} here"}, status=404)
        if file.suffix == ".svg":
            return web.Response(body=file.read_bytes(), content_type="image/svg+xml")
        content = HEADING.sub(_with_anchor, MARKDOWN.render(file.read_text()))
        page = FRAME.format(title=html.escape(file.stem), content=content)
        return web.Response(text=page, content_type="text/html")

    def _file(self, path: str) -> Path | None:
        """A file in the folder, no matter what its path looks like."""
        if self._folder is None or "\0" in path:
            return None
        file = (self._folder / path).resolve()
        good = file.suffix in (".md", ".svg") and file.is_relative_to(self._folder) and file.is_file()
        return file if good else None


def _with_anchor(found: re.Match[str]) -> str:
    """A heading that can be linked to, by the name that others give it."""
    name = re.sub(r"[^\w-]+", "-", re.sub(r"<.*?>", "", found[2]).strip().lower()).strip("-")
    return f'<{found[1]} id="{html.escape(name)}">{found[2]}</{found[1]}>'

"""The end of a process: every exit leads through here, and none waits for the reader of its output.

The log is written if somebody reads it, and given up after a moment if nobody does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from iolab import log
from iolab.kernel.threads import within

STDERR = 2
# How long last words may take: to be made, or to be read from stderr.
LAST_WORDS_SECONDS = 1.0

_leaving = threading.Lock()


def leave(code: int, last_words: Callable[[], object] | None = None) -> NoReturn:
    """Exit with `code` once the log is written; before that call `last_words`, which may log something.

    The first thread that calls this decides: so the stop's deadline changes nothing for a server that has finished and
    only waits for the log's reader.
    """
    # Never released: a later thread waits here for the exit.
    _leaving.acquire()
    if last_words is not None:
        within(LAST_WORDS_SECONDS, last_words, "last words")
    _exit(code)


def crash(bug: BaseException) -> NoReturn:
    """Exit with 70 and the traceback on stderr: half a server serves nobody."""
    complain("".join(traceback.format_exception(bug)))
    _exit(os.EX_SOFTWARE)


def crash_in_thread(bug: threading.ExceptHookArgs) -> NoReturn:
    """`crash` for `threading.excepthook`."""
    crash(bug.exc_value or bug.exc_type())


def crash_in_loop(_loop: object, context: Mapping[str, Any]) -> NoReturn:
    """`crash` for asyncio's loops, which would log a callback's bug and go on."""
    crash(context.get("exception") or RuntimeError(context["message"]))


def complain(text: str) -> None:
    """Write to stderr."""

    def write() -> None:
        # stderr is closed, or its reader has gone.
        with contextlib.suppress(OSError):
            log.write(STDERR, text.encode(errors="backslashreplace"))

    within(LAST_WORDS_SECONDS, write, "last words")


def _exit(code: int) -> NoReturn:
    # Finalizing the interpreter around the remaining threads would take longer than most stops.
    log.flush()
    os._exit(code)

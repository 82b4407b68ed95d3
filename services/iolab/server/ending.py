"""The end of a process: every way out of it leads through here, and none of them waits for whoever reads its output.

What was logged is written if somebody reads it, and given up after a moment if nobody does.
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
# How long last words may take: to be found, or to be read by whoever reads stderr.
LAST_WORDS_SECONDS = 1.0

_leaving = threading.Lock()


def leave(code: int, last_words: Callable[[], object] | None = None) -> NoReturn:
    """Exit with `code` once the log is written; before that call `last_words`, which may log something.

    The first thread that leaves decides. The stop's deadline changes nothing for a server that is done, and waits only
    for the log's reader.
    """
    # Never released: whoever comes later waits here for the end.
    _leaving.acquire()
    if last_words is not None:
        within(LAST_WORDS_SECONDS, last_words, "last words")
    _exit(code)


def crash(bug: BaseException) -> NoReturn:
    """Exit with 70 and the traceback on stderr: a server that is only half there serves nobody."""
    complain("".join(traceback.format_exception(bug)))
    _exit(os.EX_SOFTWARE)


def crash_in_thread(bug: threading.ExceptHookArgs) -> NoReturn:
    """The same as `threading.excepthook` has it."""
    crash(bug.exc_value or bug.exc_type())


def crash_in_loop(_loop: object, context: Mapping[str, Any]) -> NoReturn:
    """The same as asyncio's loops have it, which would log a callback's bug and go on."""
    crash(context.get("exception") or RuntimeError(context["message"]))


def complain(text: str) -> None:
    """Write to stderr."""

    def write() -> None:
        # Closed, or its reader has gone.
        with contextlib.suppress(OSError):
            log.write(STDERR, text.encode(errors="backslashreplace"))

    within(LAST_WORDS_SECONDS, write, "last words")


def _exit(code: int) -> NoReturn:
    # To take the interpreter down around the threads that are left takes longer than most stops.
    log.flush()
    os._exit(code)

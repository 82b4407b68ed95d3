"""The line of Python that each thread of this process is at: the part of the X-ray that the kernel cannot show."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from pathlib import Path
from types import FrameType

import msgspec

import iolab

PACKAGE = Path(iolab.__file__).parent
# How much of a line of code is shown.
MOST_CHARACTERS = 120


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The innermost line of iolab's code that a thread is at; `beneath`: the Python function that it called, if any."""

    file: str
    line: int
    function: str
    code: str
    beneath: str


def frames() -> dict[int, Frame]:
    """The frame of each thread that runs Python code, by the thread's TID."""
    tids = {thread.ident: thread.native_id for thread in threading.enumerate()}
    # After a fork Python keeps the parent's TID (until 3.12); the main thread's TID is the PID.
    tids[threading.main_thread().ident] = os.getpid()
    return {
        tid: _frame(frame) for ident, frame in sys._current_frames().items() if (tid := tids.get(ident)) is not None
    }


def _frame(innermost: FrameType) -> Frame:
    frame: FrameType | None = innermost
    while frame is not None and not _is_own(frame):
        frame = frame.f_back
    frame = frame or innermost
    file, line = frame.f_code.co_filename, frame.f_lineno
    return Frame(
        file=str(Path(file).relative_to(PACKAGE)) if _is_own(frame) else Path(file).name,
        line=line,
        function=frame.f_code.co_name,
        code=linecache.getline(file, line).strip()[:MOST_CHARACTERS],
        beneath=""
        if frame is innermost
        else f"{innermost.f_code.co_name} in {Path(innermost.f_code.co_filename).name}",
    )


def _is_own(frame: FrameType) -> bool:
    """Whether it is iolab's code, except the wrapper that all threads are in."""
    return frame.f_code.co_filename.startswith(f"{PACKAGE}/") and frame.f_code.co_filename != THREADS


THREADS = str(PACKAGE / "kernel" / "threads.py")

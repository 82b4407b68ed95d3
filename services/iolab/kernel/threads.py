"""Threads whose names the kernel knows too, so that top, ps and /threads show them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NoThread(RuntimeError):
    """No thread can be started: the limit is pids.max of the cgroup, RLIMIT_NPROC, or memory."""


def start_thread(target: Callable[..., object], name: str, *arguments: Any) -> threading.Thread:
    """Start a daemon thread whose name `top -H`, `ps -L` and /threads show (15 bytes of it).

    Raises NoThread.
    """

    def run() -> None:
        name_thread(name)
        target(*arguments)

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThread(f"cannot start thread {name}: {error}") from None
    return thread


def within(seconds: float, call: Callable[[], object], name: str) -> None:
    """Do `call` in another thread, and wait for it at most `seconds`. If no thread can be started, do it in this one.

    For what has to be tried without holding up the calling thread.
    """
    try:
        thread = start_thread(call, name)
    except NoThread:
        call()
    else:
        thread.join(seconds)


def name_thread(name: str) -> None:
    """Name the calling thread in the kernel, as Python does by itself from 3.14 on."""
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:15])

"""Threads: started with a name that the kernel knows too, and looked at from outside (the X-ray of /threads).

The kernel tells in /proc/PID/task/TID/syscall which system call a thread is in; proc_pid_syscall(5).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NoThread(RuntimeError):
    """The system has no thread left: pids.max of the cgroup, RLIMIT_NPROC, or memory."""


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
    """Have another thread do `call`, and wait for it `seconds` at most. Where no thread is to be had, this one does it.

    For what has to be tried, but must not hold up the thread that tries it.
    """
    try:
        thread = start_thread(call, name)
    except NoThread:
        call()
    else:
        thread.join(seconds)


def name_thread(name: str) -> None:
    """Give the calling thread its name in the kernel: Python 3.14 is the first to do so by itself."""
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:15])

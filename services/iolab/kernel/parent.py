"""A child that hears of its parent's end, however that ends: prctl(2), PR_SET_PDEATHSIG."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def told_of_parents_end(number: signal.Signals) -> Callable[[], None]:
    """What a child is to do between fork and exec, to be sent this signal when the process that calls this ends.

    The kernel takes the thread that forks for the parent, and no lock may be held there that the child would need: for
    a process of one thread only.
    """
    # Loaded here, where it is no matter what that takes.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            # It has ended before it was asked.
            os._exit(os.EX_OK)

    return ask

"""Signal a child when its parent ends, however it ends: prctl(2), PR_SET_PDEATHSIG."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def told_of_parents_end(number: signal.Signals) -> Callable[[], None]:
    """A function for a child to call between fork and exec, so that this signal is sent to it when its parent ends.

    Only for a process of one thread: the kernel takes the forking thread for the parent, and another thread could hold
    a lock that the child needs.
    """
    # Loaded in the parent: between fork and exec a child should do little.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            # The parent has ended before prctl(2) took effect.
            os._exit(os.EX_OK)

    return ask

"""The stop: how a process learns that it has to end, and what ends it if it does not.

The signals are blocked in every thread and one thread waits for them in sigtimedwait(2). No system call of the model
is interrupted, no handler waits for the interpreter's main thread to come back from the kernel, and no signal is lost
in the moment between a check and the wait that follows it.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable

from iolab.kernel.threads import start_thread, within
from iolab.server.ending import leave

# SIGHUP: the terminal was closed. SIGQUIT: Ctrl-\ in it.
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
# One stop may be sent twice: `timeout` signals its child, and then the child's group. So a signal counts as a second
# one only this long after the first.
AGAIN_SECONDS = 1.0
# Sent to one of our threads, it ends a blocking system call with EINTR, and does nothing else.
WAKE = signal.SIGUSR1


def block_signals() -> None:
    """Block the signals until `Stop.watch` waits for them; threads started later inherit the mask.

    A SIGHUP that nohup(1) has set to be ignored is not blocked: it would be kept pending and taken for a stop.
    To be called once, in the main thread, which alone may set the handler of WAKE.
    """
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ignored)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS - ignored)
    signal.signal(WAKE, lambda _signal, _frame: None)


def open_signals() -> int:
    """A descriptor that is readable while one of the SIGNALS is pending, for a process whose only thread is a loop.

    It is a signalfd(2), which Python does not offer. Take the signal with sigtimedwait(2).
    """
    # Imported here: most servers never need it, and it would be a twentieth of their start.
    import ctypes

    # sigset_t: an array of longs, a bit for each signal; all SIGNALS are in the first long.
    mask = struct.pack("L", sum(1 << (number - 1) for number in SIGNALS)).ljust(128, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return descriptor


class Stop:
    """Readable once the process is told to stop, so that every model can wait for it beside its sockets."""

    def __init__(self) -> None:
        self.requested = False
        self.requested_at = 0.0
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        # Never read, so it stays readable.
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor that becomes readable, and stays so."""
        return self._event

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the stop, for `timeout` seconds at most; return whether it was requested."""
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        poll.poll(None if timeout is None else max(0, timeout) * 1000)
        return self.requested

    def then(self, call: Callable[[], None]) -> None:
        """Run `call` at the stop, in some other thread: for a wait that can watch no descriptor."""
        with self._lock:
            self._calls.append(call)
            late = self.requested
        if late:
            call()

    def request(self) -> None:
        """Request the stop. A second request changes nothing."""
        with self._lock:
            if self.requested:
                return
            self.requested_at = time.monotonic()
            self.requested = True
            calls = list(self._calls)
        os.eventfd_write(self._event, 1)
        for call in calls:
            call()

    def watch(self, drain_seconds: float, cut: Callable[[str], None]) -> None:
        """Begin to wait for the signals; after a second one, or `drain_seconds` after the first, `cut` and exit 1.

        `cut` is given the reason and logs what is lost. The thread that waits does nothing else, so that the exit
        depends on no other thread.
        """

        def wait_for_signals() -> None:
            signal.sigwait(SIGNALS)
            first = time.monotonic()
            within(0, self.request, "stopping")
            second = False
            while not second and (left := first + drain_seconds - time.monotonic()) > 0:
                second = signal.sigtimedwait(SIGNALS, left) is not None and is_second(first)
            leave(1, lambda: cut("second signal" if second else "deadline"))

        start_thread(wait_for_signals, "stop")


def is_second(first: float) -> bool:
    """Whether a signal that comes now is a second one, and not a repetition of the one that came at `first`."""
    return time.monotonic() - first >= AGAIN_SECONDS

"""What a parent hands down beside the arguments, put right before anything of ours depends on it.

docs/contract.md has the whole, under "Surroundings". What is the user's own choice stays: the processors, the niceness,
limits that leave room to serve, a SIGHUP that nohup(1) has ignored.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
from typing import NoReturn

from iolab.program import open_standard_streams
from iolab.registry import Model
from iolab.server.errors import CannotServe
from iolab.server.stop import SIGNALS
from iolab.settings import Settings

# Ignored by Python itself, which has an exception instead; by nohup(1); by who does without the terminal's job control.
MAY_BE_IGNORED = frozenset(
    {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)
# A supervisor has a listener and a channel for each process that serves.
DESCRIPTORS_PER_PROCESS = 2


def put_right(*, blocked: frozenset[signal.Signals] = frozenset()) -> None:
    """Have streams, signals, timers and permissions as Python and we expect them: the first thing that a process does.

    `blocked` are the signals that a parent of ours means to be blocked. To be called in the main thread, before any
    descriptor is opened that stays open.
    """
    open_standard_streams()
    _reset_signals(blocked)
    _clear_timers()
    _keep_access_to_own_files()


def exit_at_signals() -> None:
    """Have a stop end the process at once, with exit 0: until `block_signals` there is nobody who is owed anything.

    Without a handler the first process of a container would not even see it.
    """

    def end(_number: int, _frame: object) -> NoReturn:
        os._exit(0)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def close_inherited_descriptors() -> None:
    """Close what this program was started with beside the standard streams, once the configuration was read.

    It may be one of them: `--config <(...)` is /dev/fd/63. They would count against the limit, and from 1024 on leave
    select(2) none. What this process has opened by itself has the flag close-on-exec (PEP 446), and no inherited one.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        # The one of the list itself is closed by now.
        with contextlib.suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def check_limits(model: Model, settings: Settings) -> None:
    """Raise CannotServe where a limit is so low that nobody could be served."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = least_descriptors(model, settings)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise CannotServe(
            f"{allowed} descriptors are allowed, and {model.slug} needs at least {needed}; raise it: ulimit -n 1024"
        )


def least_descriptors(model: Model, settings: Settings) -> int:
    """How many a server of this model has to be allowed."""
    return model.descriptors + (DESCRIPTORS_PER_PROCESS * settings.process_count if model.forks else 0)


def _reset_signals(blocked: frozenset[signal.Signals]) -> None:
    """Ignore nothing, and block nothing else: who ignores SIGCHLD is never told how a child ended, wait(2)."""
    for number in signal.valid_signals() - MAY_BE_IGNORED:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _clear_timers() -> None:
    """A timer outlives execve(2), and its signal ends whoever expects none."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)


def _keep_access_to_own_files() -> None:
    """Whatever others may do with our files is for the umask to say; we may read and write them."""
    os.umask(os.umask(0o077) & ~stat.S_IRWXU)

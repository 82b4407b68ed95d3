"""What a process inherits beside its arguments, put right before anything depends on it.

docs/contract.md has the full list, under "Surroundings". The user's own choices stay: processors, niceness, limits
that leave room to serve, a SIGHUP that nohup(1) has set to be ignored.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
from collections.abc import Iterator
from typing import NoReturn

from iolab.program import open_standard_streams
from iolab.registry import Model
from iolab.server.errors import CannotServe
from iolab.server.stop import SIGNALS
from iolab.settings import Settings

# Ignored by Python itself, which raises an exception instead; by nohup(1); by a parent without job control.
MAY_BE_IGNORED = frozenset(
    {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)
# A supervisor has a listener and a channel for each serving process.
DESCRIPTORS_PER_PROCESS = 2
# Variables from which Celery and its parts take options: by name, and by how they begin. They are about another
# application of the user's; with some of them its broker would get our tasks. A test compares this with the sources.
CELERY_OPTIONS = (
    *("APP", "AUTOSCALE_KEEPALIVE", "BROKER_URL", "CONFIG_MODULE", "DISABLE_TRACEBACKS", "DJANGO_SETTINGS_MODULE"),
    *("EVENTLET_NOBLOCK", "FORKED_BY_MULTIPROCESSING", "LOADER", "MP_LOG", "MP_MAIN_FILE", "NOSETPS", "NO_COLOR"),
    *("PICKLE_PROTOCOL", "REMAP_SIGTERM", "RESULT_BACKEND", "SKIP_CHECKS", "TIMER_DEBUG", "USE_FAST_LOCALS"),
)
CELERY_OPTIONS_BEGIN = ("CELERY", "C_", "KOMBU_", "_MP_FORK_")
# How late a handler may run that the kernel keeps waiting.
HANDLER_SECONDS = 0.1


def put_right(*, blocked: frozenset[signal.Signals] = frozenset()) -> None:
    """Set streams, signals, timers, umask and environment to what Python and iolab expect, before anything else.

    `blocked` are the signals that an iolab parent blocks on purpose. To be called in the main thread, before any
    descriptor is opened that stays open.
    """
    open_standard_streams()
    _reset_signals(blocked)
    _clear_timers()
    _keep_access_to_own_files()
    leave_out_options_of_others()


def exit_at_signals() -> None:
    """Make a stop end the process at once, with exit 0: until `block_signals` no client is owed anything.

    The kernel does not deliver these signals to a container's first process unless it has a handler.
    """

    def end(_number: int, _frame: object) -> NoReturn:
        os._exit(0)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


@contextlib.contextmanager
def handlers_run_in_time() -> Iterator[None]:
    """Have handlers run soon while the block waits in the kernel: a configuration may be a FIFO that nobody writes.

    Python runs a handler when the main thread is back from the kernel. A signal that comes right before a call that
    blocks would wait as long as that call does, so the call is interrupted now and then.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, HANDLER_SECONDS, HANDLER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def leave_out_options_of_others() -> None:
    """Remove from the environment what Celery would take for options of ours, some of it as it is imported."""
    for name in filter(is_celerys, list(os.environ)):
        del os.environ[name]


def is_celerys(variable: str) -> bool:
    """Whether Celery would take an option from this variable of the environment."""
    return variable in CELERY_OPTIONS or variable.startswith(CELERY_OPTIONS_BEGIN)


def close_inherited_descriptors() -> None:
    """Close the descriptors inherited beside the standard streams, once the configuration was read.

    The configuration may be one of them: `--config <(...)` is /dev/fd/63. They would count against the limit, and 1024
    of them leave select(2) none. What this process opens is close-on-exec (PEP 446), which no inherited one is.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def check_limits(model: Model, settings: Settings) -> None:
    """Raise CannotServe where a limit is too low to serve anybody."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = least_descriptors(model, settings)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise CannotServe(
            f"{allowed} descriptors are allowed, and {model.slug} needs at least {needed}; raise it: ulimit -n 1024"
        )


def least_descriptors(model: Model, settings: Settings) -> int:
    """How many descriptors a server of this model has to be allowed."""
    return model.descriptors + (DESCRIPTORS_PER_PROCESS * settings.process_count if model.forks else 0)


def _reset_signals(blocked: frozenset[signal.Signals]) -> None:
    """Ignore and block nothing else: a process that ignores SIGCHLD is never told how a child ended, wait(2)."""
    for number in signal.valid_signals() - MAY_BE_IGNORED:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _clear_timers() -> None:
    """Stop timers: they outlive execve(2), and their signal ends a process that expects none."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)


def _keep_access_to_own_files() -> None:
    """Let the umask restrict others only: this process has to read and write its own files."""
    os.umask(os.umask(0o077) & ~stat.S_IRWXU)

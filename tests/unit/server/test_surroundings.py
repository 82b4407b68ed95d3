"""What a parent hands down, in a process that puts it right; tests/behaviour tries it on whole servers."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from iolab.server.surroundings import is_celerys

PROGRAM = """
import os, signal
{before}
from iolab.server import surroundings
surroundings.put_right()
surroundings.exit_at_signals()
{after}
"""


def run(before: str, after: str, seconds: float = 60) -> str:
    """What the second part prints."""
    program = PROGRAM.format(before=before, after=after)
    return subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=seconds, check=True
    ).stdout


def test_a_timer_of_the_parent_is_cleared() -> None:
    timers = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    begun = "\n".join(f"signal.setitimer(signal.{timer}, 3600)" for timer in timers)
    shown = f"print([signal.getitimer(timer) for timer in ({', '.join(f'signal.{timer}' for timer in timers)})])"
    assert run(begun, shown) == "[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]\n"


def test_a_hangup_that_is_ignored_stays_so_and_all_else_is_as_python_has_it() -> None:
    shown = "print([signal.getsignal(n).name for n in (signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)])"
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert run(ignored, shown) == "['SIG_IGN', 'SIG_DFL', 'SIG_IGN', 'SIG_IGN']\n"


def test_the_umask_still_keeps_others_out() -> None:
    assert run("os.umask(0o737)", "print(oct(os.umask(0)))") == "0o37\n"


def test_what_the_process_has_opened_itself_is_not_taken_for_inherited() -> None:
    opened = "ours = os.open('/dev/null', os.O_RDONLY); inherited = os.dup2(ours, 50)"
    closed = "surroundings.close_inherited_descriptors()\n"
    shown = "print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1] == [0, 1, 2, ours])"
    assert run(opened, closed + shown) == "True\n"


# How Celery and its parts read the environment, and what they read that makes no difference to us: terminals, other
# brokers and systems, what Celery sets itself, and its own tests.
READS_VARIABLE = re.compile(r"""(?:environ(?:\.get\(|\[|\.setdefault\()|envvar=|_env\()\s*['"](\w+)""")
NO_MATTER = {
    *("DJANGO_PROJECT_DIR", "ITERM_PROFILE", "MULTIPROCESSING_FORKING_DISABLE", "NO_WORKER", "NUMBER_OF_PROCESSORS"),
    *("SLMQ_ACCOUNT", "SLMQ_HOST", "SLMQ_PORT", "SLMQ_SECURE", "SL_API_KEY", "SL_USERNAME", "TERM", "TEST_BROKER"),
    *("WORKER_LOGLEVEL", "celery_dummy_proxy"),
}


def test_whatever_celery_takes_options_from_is_left_out() -> None:
    read = set()
    for package in ("celery", "kombu", "billiard"):
        # Not by find_spec, which asks a package that is imported, and kombu does not answer.
        spec = PathFinder.find_spec(package)
        assert spec
        assert spec.origin
        for file in Path(spec.origin).parent.rglob("*.py"):
            read |= set(READS_VARIABLE.findall(file.read_text()))
    assert {"APP", "CELERY_BROKER_URL", "FORKED_BY_MULTIPROCESSING"} < read
    assert {variable for variable in read if not is_celerys(variable)} <= NO_MATTER


def test_all_else_in_the_environment_stays() -> None:
    before = "os.environ.update(APP='x', CELERY_BROKER_URL='x', C_FORCE_ROOT='1', CC='cc', IOLAB_BROKER_URL='x')"
    shown = "print(sorted({'APP', 'CELERY_BROKER_URL', 'C_FORCE_ROOT', 'CC', 'IOLAB_BROKER_URL'} & set(os.environ)))"
    assert run(before, shown) == "['CC', 'IOLAB_BROKER_URL']\n"


# The handler's flag is set while the main thread is in the kernel and is not interrupted: what a signal does that comes
# between the interpreter's last look at that flag and the call.
READS = """
import contextlib, threading, time

def hit():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

ours, theirs = os.pipe()
threading.Thread(target=hit, daemon=True).start()
with {block}:
    os.read(ours, 1)
"""


def test_a_handler_runs_although_the_main_thread_waits_in_the_kernel() -> None:
    assert run("", READS.format(block="surroundings.handlers_run_in_time()")) == ""


def test_without_that_it_waits_as_long_as_the_main_thread() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run("", READS.format(block="contextlib.nullcontext()"), seconds=2)

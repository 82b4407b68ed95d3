"""The stop, as a descriptor and as a call."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading

import pytest

from iolab.server.stop import Stop


def readable(stop: Stop) -> bool:
    return bool(select.select([stop], [], [], 0)[0])


def test_it_becomes_readable_and_stays_so() -> None:
    stop = Stop()
    assert not readable(stop)
    assert not stop.wait(0)
    stop.request()
    assert stop.requested
    assert stop.wait()
    assert readable(stop)
    assert readable(stop)


def test_calls_run_once_at_the_stop_and_late_ones_at_once() -> None:
    stop = Stop()
    calls: list[str] = []
    stop.then(lambda: calls.append("early"))
    assert calls == []
    stop.request()
    first = stop.requested_at
    stop.request()
    stop.then(lambda: calls.append("late"))
    assert calls == ["early", "late"]
    assert stop.requested_at == first


def test_a_wait_in_another_thread_ends() -> None:
    stop = Stop()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    stop.request()
    thread.join(20)
    assert not thread.is_alive()


PROGRAM = """
import json, os, signal, sys, time
from iolab.server.stop import Stop, block_signals
block_signals()
os.kill(os.getpid(), signal.SIGTERM)
stop = Stop()
stop.watch({seconds}, lambda reason: print(json.dumps(reason), flush=True))
assert stop.wait(20)
{then}
stop_forever = Stop()
stop_forever.wait(60)
"""


def run(seconds: float, then: str = "") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(seconds=seconds, then=then)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_a_signal_before_anyone_waits_is_not_lost_and_the_deadline_ends_a_process_that_hangs() -> None:
    ended = run(0.1)
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == "deadline"


def test_a_second_signal_ends_it_at_once() -> None:
    ended = run(60, "time.sleep(1.1); os.kill(os.getpid(), signal.SIGINT)")
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == "second signal"


def test_signals_that_come_within_a_second_are_one_stop() -> None:
    ended = run(1.5, "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.3); os.kill(os.getpid(), signal.SIGHUP)")
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == "deadline"


@pytest.mark.parametrize("hangs", ["stop.then(threading.Event().wait)", "say = threading.Event().wait"])
def test_neither_what_is_called_at_the_stop_nor_what_says_who_is_cut_can_hold_it_up(hangs: str) -> None:
    program = f"""
import os, signal, threading
from iolab.server.stop import Stop, block_signals
block_signals()
stop = Stop()
say = print
{hangs}
stop.watch(0.1, lambda reason: say())
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait()
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 1

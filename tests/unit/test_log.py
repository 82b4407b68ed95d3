"""The log: lines in order for whoever reads them, and no waiting for who does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

PREAMBLE = """
import logging, os, sys, threading, time
from pathlib import Path
from iolab import log
from iolab.server.ending import complain, crash, leave
log.configure("info", "epoll_loop")
"""
DEADLINE_SECONDS = 60
# More than a pipe and the queue take.
MANY = 10_000


def start(program: str, **options: Any) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-W", "error", "-c", PREAMBLE + program], **(pipes | options))


def run(program: str) -> list[dict[str, Any]]:
    """What is on stdout when the program has ended, with 0 and in silence."""
    process = start(program)
    output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, errors) == (0, b"")
    return [json.loads(line) for line in output.splitlines()]


def test_a_line_is_one_json_object_with_its_model() -> None:
    first, second = run("""
log.info("listening", port=8004, host="a\\nb")
log.debug("lost", error="nobody asked")
log.warning("refused", refused=1)
""")
    assert first["event"] == "listening"
    assert (first["level"], first["model"], first["port"], first["host"]) == ("info", "epoll_loop", 8004, "a\nb")
    assert first["time"].endswith("Z")
    assert (second["level"], second["event"], second["refused"]) == ("warning", "refused", 1)


def test_a_librarys_warnings_are_among_the_lines() -> None:
    (line,) = run("""
library = logging.getLogger("library")
log.adopt(library)
library.info("nothing")
library.warning("%s is late", "it")
leave(0)
""")
    assert (line["level"], line["event"]) == ("warning", "it is late")


def test_lines_that_nobody_reads_are_dropped_and_counted_once_the_reader_is_back() -> None:
    process = start(f"""
for number in range({MANY}):
    log.info("line", number=number)
complain("logged")
sys.stdin.read()
log.info("last")
leave(0)
""")
    assert process.stderr
    assert process.stdout
    assert process.stdin
    assert process.stderr.read(6) == b"logged"
    lines: list[dict[str, Any]] = []
    while not lines or lines[-1]["event"] == "line":
        lines.append(json.loads(process.stdout.readline()))
    process.stdin.close()
    (last,) = [json.loads(line) for line in process.stdout]
    assert process.wait(DEADLINE_SECONDS) == 0
    process.stderr.close()
    process.stdout.close()

    *written, dropped = lines
    assert [line["number"] for line in written] == list(range(len(written)))
    assert (dropped["event"], dropped["level"], dropped["lines"]) == ("log_dropped", "warning", MANY - len(written))
    assert last["event"] == "last"


def test_the_end_waits_for_a_reader_but_not_for_ever() -> None:
    """A pipe of which nobody reads, and a process that ends with everything a process may want to say."""
    for ending, code in (("leave(3)", 3), ("crash(ValueError('x' * 1_000_000))", 70), ("sys.exit(4)", 4)):
        reading, writing = os.pipe()
        process = start(f"for _ in range({MANY}): log.info('line')\n{ending}", stdout=writing, stderr=writing)
        assert process.wait(DEADLINE_SECONDS) == code
        assert process.stdin
        process.stdin.close()
        os.close(reading)
        os.close(writing)


def test_all_that_was_logged_before_the_end_is_written() -> None:
    lines = run("for number in range(1000): log.info('line', number=number)\nleave(0)")
    assert [line["number"] for line in lines] == list(range(1000))


def test_a_reader_who_has_gone_costs_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start("for _ in range(100): log.info('line')\nleave(0)", stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, errors) == (0, b"")


def test_a_child_that_is_forked_while_a_line_is_stuck_logs_by_itself() -> None:
    process = start(f"""
from iolab.processes.supervisor import _fork
for number in range({MANY}):
    log.info("line", number=number)
if (child := _fork()) == 0:
    os.dup2(2, 1)
    log.info("child")
    leave(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert process.stderr
    (line,) = [json.loads(line) for line in process.stderr]
    assert line["event"] == "child"
    assert process.wait(DEADLINE_SECONDS) == 0
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream
        stream.close()


def test_while_nothing_is_logged_the_thread_that_writes_sleeps() -> None:
    (first, second) = run("""
def switches():
    (task,) = [task for task in Path("/proc/self/task").iterdir() if (task / "comm").read_text() == "log\\n"]
    return (task / "status").read_text().split("voluntary_ctxt_switches:")[1].split()[0]
log.info("line")
time.sleep(0.2)
before = switches()
time.sleep(0.5)
log.info("slept", woken=int(switches()) - int(before))
""")
    assert second["woken"] == 0, first


def test_the_deadline_does_not_cut_who_is_done_and_waits_for_the_reader_only() -> None:
    reading, writing = os.pipe()
    process = start(
        f"""
import signal
from iolab.server.stop import Stop, block_signals
block_signals()
stop = Stop()
stop.watch(0.8, print)
for _ in range({MANY}):
    log.info("line")
os.kill(os.getpid(), signal.SIGTERM)
stop.wait()
leave(0)
""",
        stdout=writing,
    )
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    os.close(reading)
    os.close(writing)
    assert (process.returncode, errors) == (0, b"")

"""The X-ray: which system call each thread is in at this moment.

The source is /proc/PID/task/TID/syscall; proc_pid_syscall(5).
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The calls that servers wait in; others are shown by number. Source: the kernel's syscall tables.
_SYSCALLS: dict[str, dict[int, str]] = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 23: "select", 24: "sched_yield", 35: "nanosleep", 42: "connect",
        43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 128: "rt_sigtimedwait",
        202: "futex", 219: "restart_syscall", 230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid",
        270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4", 426: "io_uring_enter", 441: "epoll_pwait2",
    },
    "aarch64": {
        22: "epoll_pwait", 63: "read", 64: "write", 72: "pselect6", 73: "ppoll", 95: "waitid", 98: "futex",
        101: "nanosleep", 115: "clock_nanosleep", 124: "sched_yield", 128: "restart_syscall", 137: "rt_sigtimedwait",
        202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4",
        260: "wait4", 426: "io_uring_enter", 441: "epoll_pwait2",
    },
}  # fmt: skip


_NAMES = _SYSCALLS.get(platform.machine(), {})
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def switches(pid: int) -> tuple[int, int]:
    """Voluntary and involuntary context switches of a process. Raises OSError if it is gone.

    For another process these are of its current threads: /proc/PID/status counts the first thread only (proc(5)).
    """
    if pid == os.getpid():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_nvcsw, used.ru_nivcsw
    voluntary = involuntary = 0
    for folder in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = _status(folder)
            voluntary += int(status["voluntary_ctxt_switches"])
            involuntary += int(status["nonvoluntary_ctxt_switches"])
    return voluntary, involuntary


def run_queue_seconds(pid: int) -> float:
    """How long the current threads of a process were ready to run without running, added up.

    See the kernel's Documentation/scheduler/sched-stats.rst; 0 if it does not count that. Raises OSError if the process
    is gone.
    """
    nanoseconds = 0
    for folder in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int((folder / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9


def photograph(pids: Iterable[int], *, leave_out: int) -> list[dict[str, Any]]:
    """The processes and their threads at this moment, without the thread `leave_out`, which makes the picture.

    A thread that ends meanwhile is left out.
    """
    processes = []
    for pid in pids:
        task = Path(f"/proc/{pid}/task")
        threads = []
        for folder in sorted(task.iterdir(), key=lambda entry: int(entry.name)):
            if int(folder.name) == leave_out:
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                threads.append(_thread(folder))
        processes.append({"pid": pid, "name": (task.parent / "comm").read_text().strip(), "threads": threads})
    return processes


def _thread(folder: Path) -> dict[str, Any]:
    number = (folder / "syscall").read_text().split()[0]
    status = _status(folder)
    # The name is in brackets and may contain any character, brackets too: count the fields from the last bracket.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    # The thread was woken between the two reads, often by them: a read releases the GIL, which other threads wait for.
    # A thread that can run is not waiting in the call that it returns from.
    if fields[0] == "R":
        number = "running"
    return {
        "tid": int(folder.name),
        "name": status["Name"],
        "state": fields[0],
        "syscall": number if number == "running" else _NAMES.get(int(number), f"syscall {number}"),
        "cpu_seconds": (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND,
        "voluntary_switches": int(status["voluntary_ctxt_switches"]),
        "involuntary_switches": int(status["nonvoluntary_ctxt_switches"]),
    }


def _status(folder: Path) -> dict[str, str]:
    """/proc/PID/task/TID/status by its keys."""
    return dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)

"""Why ptrace(2) is refused: by whom, and what to do, in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
NO_STRACE = "there is no strace; install it: apt-get install strace"
# To be traced by its parent is refused to a child: no matter of who traces whom.
NOT_EVEN_A_CHILD = "PTRACE_TRACEME"
REFUSED = re.compile(r"strace: .*(?:ptrace|PTRACE|attach|seize).*: (Operation not permitted|Permission denied)", re.I)


def reason(printed: str, *, attached: bool = False, yama: Path = YAMA) -> str | None:
    """What stands in the way, if that is what strace complains of; None if it does not.

    A process that strace starts is its child, which yama lets it trace unless its scope is 2 or more; one that it
    attaches to is not (Documentation/admin-guide/LSM/Yama.rst of the kernel).
    """
    if not REFUSED.search(printed):
        return None
    scope = _scope(yama)
    if scope >= 3:
        return f"ptrace is refused by yama (ptrace_scope is {scope}): nothing but a restart without it helps"
    if scope == 2 and os.geteuid() != 0:
        return "ptrace is refused by yama (ptrace_scope is 2: root only); as root: sysctl kernel.yama.ptrace_scope=1"
    if scope >= 1 and attached:
        return (
            f"ptrace is refused by yama (ptrace_scope is {scope}: children only); as root: sysctl"
            " kernel.yama.ptrace_scope=0, or trace processes, without --containers"
        )
    if NOT_EVEN_A_CHILD in printed and (attached or filtered()):
        return (
            "ptrace is refused by seccomp (a filter is on the tracer); in a container: docker run --security-opt"
            " seccomp=unconfined, or a kernel from 4.8 on, where Docker's own profile allows it"
        )
    if attached:
        return "ptrace is refused: the tracer is another user than the server; give both the same uid"
    return "ptrace is refused, and neither by yama nor by seccomp: this user may not trace (SELinux: deny_ptrace)"


def _scope(yama: Path) -> int:
    try:
        return int(yama.read_text())
    except (OSError, ValueError):
        # A kernel without it.
        return 0


def filtered() -> bool:
    """Whether this process, and so what it starts, has a seccomp filter; proc_pid_status(5)."""
    mode = re.search(r"^Seccomp:\s+(\d)", Path("/proc/self/status").read_text(), re.M)
    return mode is not None and mode[1] == "2"

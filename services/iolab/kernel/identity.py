"""Which process a PID means: the kernel reuses PIDs, so a PID alone identifies no process.

A start time in clock ticks since the boot does not change when the clock is set; one in seconds since 1970 does.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

# Fields of proc_pid_stat(5), counted from the one after the name, which may contain any character.
STATE, START_TICKS = 0, 19
ENDED = frozenset("ZXx")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One process, and never a later one with the same PID."""

    pid: int
    start_ticks: int
    boot: str
    # In another namespace the PID means another process, or none: pid_namespaces(7).
    pid_namespace: int


def own_identity() -> Identity:
    """The identity of the calling process. Raises OSError where there is no /proc."""
    return Identity(
        pid=os.getpid(), start_ticks=int(_stat(os.getpid())[START_TICKS]), boot=_boot(), pid_namespace=_pid_namespace()
    )


def is_gone(identity: Identity) -> bool:
    """Whether the process has certainly ended. For one in another PID namespace that is never certain."""
    if identity.boot != _boot():
        return True
    return identity.pid_namespace == _pid_namespace() and not _is_there(identity)


def lives(identity: Identity) -> bool:
    """Whether the process runs in this PID namespace. A zombie does not."""
    return identity.boot == _boot() and identity.pid_namespace == _pid_namespace() and _is_there(identity)


def send_signal(identity: Identity, number: signal.Signals, *, only_with: bytes) -> bool:
    """Send a signal to this process, if it is ours and was started with `only_with` in its environment.

    Returns whether it was sent. `only_with` is NAME=VALUE.
    """
    try:
        # The descriptor can never mean another process: pidfd_open(2).
        descriptor = os.pidfd_open(identity.pid)
    except (OSError, OverflowError, ValueError):
        return False
    try:
        if not lives(identity) or not _is_ours(identity.pid, only_with):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_there(identity: Identity) -> bool:
    try:
        fields = _stat(identity.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[START_TICKS]) == identity.start_ticks and fields[STATE] not in ENDED


def _is_ours(pid: int, only_with: bytes) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        return process.stat().st_uid == os.geteuid() and only_with in (process / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino

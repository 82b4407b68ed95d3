"""Whether this machine lets a process use io_uring; if not, what refuses it, and what to do about it.

The errno alone tells little: a seccomp filter may return any, and an allow-list too old for these calls says ENOSYS.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import closing
from pathlib import Path

from iolab.kernel.io_uring import Ring
from iolab.settings import BadSetting, Settings

# The first kernel that makes completions only when they are waited for (IORING_SETUP_DEFER_TASKRUN).
OLDEST = (6, 1)
# A ring with one buffer of this size shows whether the system grants any ring.
LEAST_BUFFER_BYTES = 64


def unavailable(settings: Settings) -> str | None:
    """Why io_uring is refused and what to do about it, in one line; None if it works.

    Raises BadSetting if the system grants a ring, but not the memory for its `buffers`.
    """
    try:
        with closing(Ring(1, LEAST_BUFFER_BYTES)) as ring:
            ring.wait(0)
    except OSError as error:
        return cause(error.errno or 0)
    try:
        Ring(settings.buffers, settings.buffer_size).close()
    except OSError as error:
        raise BadSetting(
            f"io_uring_ring: buffers: got {settings.buffers} of {settings.buffer_size} bytes (buffer_size) each, for"
            f" which there is no memory ({error.strerror}); expected fewer, or smaller ones"
        ) from None
    return None


def cause(number: int) -> str:
    """What refuses io_uring with errno `number`: the kernel's age, its settings, a filter or a security module."""
    release = os.uname().release
    said = f"io_uring was refused with {errno.errorcode.get(number, number)}"
    if _version(release) < OLDEST:
        return f"{said}: the kernel is Linux {release}, and 6.1 is the first that can; run a newer one"
    if _switched_off(number):
        return (
            f"{said}: the sysctl kernel.io_uring_disabled is {_sysctl('io_uring_disabled')} on this machine;"
            " as root on the host: sysctl kernel.io_uring_disabled=0"
        )
    if number not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return f"{said}: {os.strerror(number)}"
    if _filtered():
        return (
            f"{said}: a seccomp profile denies it (Docker's own does so from Engine 25 on); start the container with"
            " --security-opt seccomp=configs/seccomp/io_uring_ring.json, as docker-compose.yml does"
        )
    if number == errno.ENOSYS:
        return f"{said}: this kernel, {release}, was built without CONFIG_IO_URING; run one that was built with it"
    return f"{said}: a security module (SELinux, AppArmor) denies it; see the host's audit log for which rule"


def _version(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else OLDEST


def _switched_off(number: int) -> bool:
    """Whether the sysctl refuses it: 2 for everyone, 1 outside kernel.io_uring_group; the kernel then says EPERM."""
    level = _sysctl("io_uring_disabled")
    privileged = _sysctl("io_uring_group") in {os.getegid(), *os.getgroups()}
    return number == errno.EPERM and (level == 2 or (level == 1 and not privileged))


def _sysctl(name: str) -> int:
    """The value of a sysctl; 0 in a kernel that has none of that name: these came with 6.6."""
    try:
        return int(Path("/proc/sys/kernel", name).read_text())
    except FileNotFoundError:
        return 0


def _filtered() -> bool:
    """Whether this process runs under a seccomp filter: proc_pid_status(5)."""
    return "Seccomp:\t2" in Path("/proc/self/status").read_text()

"""The limits in force: the settings as the kernel applies them."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path

import msgspec

from iolab.registry import Model
from iolab.server.listener import accept_queue_state
from iolab.settings import RESERVE, SELECT_LIMIT, Settings


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force: the settings as the kernel applies them."""

    max_connections: int
    backlog: int
    descriptors: int
    threads: int | None
    receive_buffer_bytes: int
    send_buffer_bytes: int


def effective_limits(model: Model, settings: Settings, listener: socket.socket) -> Limits:
    """The settings as the kernel applies them: the backlog as listen(2) cut it, descriptors, threads, buffers."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    threads = thread_limit()
    bounds = [descriptors - RESERVE]
    if model.thread_per_client and threads is not None:
        bounds.append(threads - RESERVE)
    if model.selects:
        bounds.append(SELECT_LIMIT)
    if settings.max_connections is not None:
        bounds.append(settings.max_connections)
    return Limits(
        max_connections=max(1, min(bounds)),
        backlog=accept_queue_state(listener)[1],
        descriptors=descriptors,
        threads=threads,
        receive_buffer_bytes=listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        send_buffer_bytes=listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
    )


def thread_limit() -> int | None:
    """The lowest of RLIMIT_NPROC and the pids.max of this process's cgroups (v2 or v1) and all groups above them.

    None: there is no limit.
    """
    limits = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup/pids" if controllers == "pids" else "/sys/fs/cgroup")
        if controllers in ("", "pids"):
            # In a container the path may be the host's, while the root of the mount is the container's own group.
            own = Path(path.lstrip("/"))
            for group in (own, *own.parents):
                with contextlib.suppress(OSError, ValueError):
                    limits.append(int((root / group / "pids.max").read_text()))
    user_limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if user_limit != resource.RLIM_INFINITY and os.getuid() != 0:
        limits.append(user_limit)
    return min(limits, default=None)

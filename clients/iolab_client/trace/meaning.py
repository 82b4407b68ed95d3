"""What a system call is to a timeline: waiting for somebody, moving bytes, or a step of what runs."""

from __future__ import annotations

import re
from enum import StrEnum

from iolab_client.trace.calls import Call

# A call that moves bytes has waited for them if it took so long: the tracer alone costs it a tenth of that.
WAITED_SECONDS = 0.001
ASKS_WHO_IS_READY = frozenset(
    {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "io_uring_enter"}
)
SLEEPS = frozenset({"nanosleep", "clock_nanosleep"})
AWAITS_OTHERS = frozenset({"rt_sigtimedwait", "rt_sigsuspend", "pause", "wait4", "waitid"})
RECEIVES = frozenset({"read", "readv", "recvfrom", "recvmsg", "recvmmsg"})
SENDS = frozenset({"write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile"})
ACCEPTS = frozenset({"accept", "accept4"})
# A descriptor, and what strace -yy knows of it: 7<TCP:[127.0.0.1:8004->127.0.0.1:40000]>.
DESCRIPTOR = re.compile(r"(\d+)(?:<(.*?)>(?=[,)]|$))?")
# What bytes come through from somebody else, as strace names it; a file is nobody.
CHANNEL = re.compile(r"(TCP|UNIX|socket:|pipe:|anon_inode:\[eventfd\])")
ENDS = re.compile(r"\w+(?:-\w+)?:\[(.+)->(.+?)(?:,.*)?\]")
PEERS_PORT = re.compile(r"TCP(?:v6)?:\[.*->.*:(\d+)\]")
ACCEPTED_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")


class Kind(StrEnum):
    """What a thread does in a stretch of time."""

    SOCKETS = "waits for sockets"
    CLOCK = "waits for the clock"
    OTHERS = "waits for another thread"
    MOVES = "moves bytes"
    RUNS = "runs"

    @property
    def waits(self) -> bool:
        """Whether the thread takes no processor time."""
        return self in (Kind.SOCKETS, Kind.CLOCK, Kind.OTHERS)


def kind(call: Call) -> Kind:
    """What the thread was at while it was in this call."""
    name = call.name
    if name in SLEEPS:
        return Kind.CLOCK
    if name == "futex":
        return Kind.OTHERS if "FUTEX_WAIT" in call.arguments or "FUTEX_LOCK_PI" in call.arguments else Kind.RUNS
    if name in AWAITS_OTHERS:
        return Kind.OTHERS
    if name == "io_uring_enter" and call.seconds < WAITED_SECONDS:
        # What is handed in is mostly done before it returns: the kernel moves the bytes itself.
        return Kind.MOVES
    if name in ASKS_WHO_IS_READY:
        return Kind.SOCKETS
    if moves(call):
        if call.seconds >= WAITED_SECONDS:
            return Kind.SOCKETS
        return Kind.RUNS if call.failed else Kind.MOVES
    return Kind.RUNS


def moves(call: Call) -> bool:
    """Whether the call takes bytes, or a client, from somebody or gives some to him."""
    if call.name in ACCEPTS:
        return True
    if call.name not in RECEIVES | SENDS:
        return False
    found = DESCRIPTOR.match(call.arguments)
    # Of a call that the tracer found waiting the arguments are not known.
    return not call.arguments or (found is not None and (found[2] is None or CHANNEL.match(found[2]) is not None))


def descriptor(call: Call) -> int | None:
    """The number of the descriptor that the call is about."""
    found = DESCRIPTOR.match(call.arguments)
    return int(found[1]) if found else None


def channel(call: Call) -> str | None:
    """What strace knows of that descriptor: `TCP:[...->...]`, `pipe:[67494]`; None if nothing."""
    found = DESCRIPTOR.match(call.arguments)
    return found[2] if found and found[2] and CHANNEL.match(found[2]) else None


def other_end(name: str) -> str:
    """A channel as whoever is at its other end has it: the ends of a connection change places."""
    ends = ENDS.match(name)
    return f"{ends[2]}->{ends[1]}" if ends else name


def own_end(name: str) -> str:
    """A channel in the same words as `other_end`."""
    ends = ENDS.match(name)
    return f"{ends[1]}->{ends[2]}" if ends else name


def accepted(call: Call) -> tuple[int, int] | None:
    """The descriptor and the peer's port that accept(2) gave; None if it gave none."""
    port = ACCEPTED_PORT.search(call.arguments) if call.name in ACCEPTS else None
    number = call.number
    return (number, int(port[1])) if port and number is not None and number >= 0 else None


def peers_port(call: Call) -> int | None:
    """The port of the peer on the descriptor, where strace tells."""
    found = PEERS_PORT.match(channel(call) or "")
    return int(found[1]) if found else None

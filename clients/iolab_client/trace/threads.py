"""A record's calls by thread, and which client each is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from iolab_client.trace import meaning
from iolab_client.trace.calls import Arrival, Call, Strace


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One tracer's text. `part` tells a server's from that of a part of it, such as a worker in another container."""

    strace: Strace
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class ThreadCalls:
    """A thread, and its calls within a window of time. `key` tells it from all others; `end` is None if it lives on."""

    key: str
    name: str
    process: str
    calls: list[Call]
    signals: list[Arrival]
    begin: float
    end: float | None
    clients: Mapping[int, int]

    def client(self, call: Call) -> int:
        """The number of the client that one of its calls is about; 0: none."""
        return self.clients.get(id(call), 0)


def threads_of(record: Traced, clients: Mapping[int, int], window: tuple[float, float]) -> list[ThreadCalls]:
    """The threads that have a call in the window (seconds since the epoch). `clients` are numbers by port."""
    strace = record.strace
    found: dict[int, list[Call]] = defaultdict(list)
    for call in strace.calls:
        if call.end >= window[0] and call.start <= window[1]:
            found[call.thread].append(call)
    about = _clients(strace, clients)
    return [
        ThreadCalls(
            key=f"{record.part}{thread}",
            name=strace.names.get(thread) or record.part or f"thread {thread}",
            process=_process(record, thread),
            calls=found[thread],
            signals=[one for one in strace.signals if one.thread == thread and window[0] <= one.moment <= window[1]],
            begin=strace.begins[thread],
            end=strace.ends.get(thread),
            clients=about,
        )
        for thread in sorted(found)
    ]


def _process(record: Traced, thread: int) -> str:
    """A name that no other process of the timeline has."""
    leader = record.strace.processes[thread]
    return f"{record.part} {record.strace.names.get(leader, 'process')} {leader}".lstrip()


def _clients(strace: Strace, clients: Mapping[int, int]) -> dict[int, int]:
    """The client of each call on its connection, by the call's identity: of what the descriptor was at that time."""
    found: dict[int, int] = {}
    accepted: dict[tuple[int, int], int] = {}
    for call in strace.calls:
        process, number = strace.processes[call.thread], meaning.descriptor(call)
        if new := meaning.accepted(call):
            number, port = new
            accepted[process, number] = port
        elif number is None:
            continue
        else:
            port = meaning.peers_port(call) or accepted.get((process, number), 0)
        if client := clients.get(port):
            found[id(call)] = client
        if call.name == "close":
            accepted.pop((process, number), None)
    return found

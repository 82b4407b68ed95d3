"""The common case of a load, in C (fast_path.c): how it is loaded and called, and the data that it shares with Python.

A connection is lent to it while it has at most one request in flight. What it cannot do, it leaves to the loop.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iolab.compiled import NotCompiled, compiled
from iolab_client.load.connection import LoadConnection, State
from iolab_client.load.requests import UNIQUE, Requests
from iolab_client.load.shared import ANSWERS, Shared

SOURCE = Path(__file__).with_suffix(".c")
READ_BYTES = 1 << 16
# An unlimited number of requests or turns.
UNLIMITED = 1 << 62
# A connection's state: not lent by the loop, or lent without or with a request in flight.
NOT_LENT, FREE, IN_FLIGHT = range(3)
# What is left to the loop: nothing, an event, bytes other than those due, a receive's errno, a request sent in part, a
# send's errno.
NOTHING, EVENT, BYTES, ERROR, UNSENT, UNSENDABLE = range(6)
# The numbers of a flight: lent, start, begin, end, due, sent_at, answered_at, turn, answers, queued.
_FLIGHT = 10
_SENT_AT, _QUEUED = 5, 9


class Counts(ctypes.Structure):
    """`struct counts`: what `Tally` counts. `steps` and what follows it are addresses of arrays."""

    _fields_ = [
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("only_new", ctypes.c_int64),
        ("answers", ctypes.c_int64),
        ("late", ctypes.c_int64),
        ("sent", ctypes.c_int64),
        ("sent_bytes", ctypes.c_int64),
        ("received_bytes", ctypes.c_int64),
        ("flight_ns", ctypes.c_int64),
        ("latency_ns", ctypes.c_int64),
        ("from_send_ns", ctypes.c_int64),
        ("last_done", ctypes.c_int64),
        ("step_ns", ctypes.c_int64),
        ("interval_ns", ctypes.c_int64),
        ("rough_buckets", ctypes.c_int64),
        ("steps", ctypes.c_void_p),
        ("latency", ctypes.c_void_p),
        ("from_send", ctypes.c_void_p),
        ("lag", ctypes.c_void_p),
        ("over_time", ctypes.c_void_p),
    ]


class Data(ctypes.Structure):
    """The part of `struct load` that Python uses."""

    _fields_ = [
        ("pattern", ctypes.c_void_p),
        ("answers", ctypes.c_void_p),
        ("unique", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("sizes_count", ctypes.c_int64),
        ("number", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("flights", ctypes.c_void_p),
        ("flights_count", ctypes.c_int64),
        ("counts", Counts),
        ("total", ctypes.c_int64),
        ("shown_total", ctypes.c_void_p),
        ("period", ctypes.c_double),
        ("first_due", ctypes.c_int64),
        ("dealt", ctypes.c_int64),
        ("taken", ctypes.c_int64),
        ("last_turn", ctypes.c_int64),
        ("processes", ctypes.c_int64),
        ("process", ctypes.c_int64),
        ("arrivals", ctypes.c_void_p),
        ("arrivals_count", ctypes.c_int64),
        ("bound", ctypes.c_int64),
        ("free", ctypes.c_void_p),
        ("free_size", ctypes.c_int64),
        ("free_head", ctypes.c_int64),
        ("free_count", ctypes.c_int64),
        ("talkers", ctypes.c_void_p),
        ("talkers_count", ctypes.c_int64),
        ("waited", ctypes.c_int64),
        ("left_kind", ctypes.c_int64),
        ("left_descriptor", ctypes.c_int64),
        ("left_mask", ctypes.c_int64),
        ("left_count", ctypes.c_int64),
        ("ready", ctypes.c_int64),
        ("next", ctypes.c_int64),
        ("buffer", ctypes.c_char * READ_BYTES),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The fast path. Raises NotCompiled."""
    found = compiled(SOURCE, "fast_path.so", "-shared", "-fPIC")
    try:
        loaded = ctypes.CDLL(str(found))
    except OSError as error:
        raise NotCompiled(f"no fast_path.so: {error}") from None
    loaded.load_size.restype = loaded.load_shared_size.restype = ctypes.c_int64
    loaded.load_event.argtypes = (ctypes.c_void_p,)
    loaded.load_bucket.argtypes, loaded.load_bucket.restype = (ctypes.c_int64,), ctypes.c_int64
    loaded.load_run.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
    if loaded.load_shared_size() != ctypes.sizeof(Data):
        raise NotCompiled(f"{found} and {__file__} are not of the same version")
    return loaded


def is_there() -> bool:
    """Whether the fast path exists or can be compiled."""
    try:
        library()
    except NotCompiled:
        return False
    return True


class FastPath:
    """The data that C and Python share; and `run`, if the fast path is compiled."""

    def __init__(self, requests: Requests, shared: Shared) -> None:
        size = library().load_size() if is_there() else ctypes.sizeof(Data)
        self._memory = ctypes.create_string_buffer(size)
        self.data: Any = Data.from_buffer(self._memory)
        # The addresses do not keep them alive.
        self._kept = (requests, shared)
        self._flights = np.zeros((0, _FLIGHT), np.int64)
        self._talkers = np.zeros(0, np.int64)
        self._free = np.zeros(0, np.int64)
        sizes = np.array(requests.sizes, np.int64)
        self._sizes = sizes
        data = self.data
        data.pattern, data.answers = _address(requests.pattern), _address(requests.answers)
        data.unique, data.sizes, data.sizes_count = UNIQUE, sizes.ctypes.data, len(sizes)
        data.left, data.last_turn = UNLIMITED, UNLIMITED
        data.shown_total = shared.counters.ctypes.data + 8 * ANSWERS

    def begin(self, talkers: list[LoadConnection]) -> None:
        """Set the connections that can be lent from now on."""
        descriptors = [one.descriptor if one.state is State.OPEN else -1 for one in talkers]
        self._flights = np.zeros((max(descriptors, default=0) + 1, _FLIGHT), np.int64)
        self._talkers = np.array(descriptors, np.int64)
        self.data.flights, self.data.flights_count = self._flights.ctypes.data, len(self._flights)
        self.data.talkers, self.data.talkers_count = self._talkers.ctypes.data, len(talkers)
        self._free = np.zeros(len(talkers), np.int64)
        self.data.free, self.data.free_size = self._free.ctypes.data, len(talkers)
        self.data.free_head = self.data.free_count = 0

    def lend(self, one: LoadConnection) -> None:
        """Lend a connection, if the fast path can handle it."""
        if one.state is State.OPEN and one.in_flight <= 1 and not one.unsent and one.descriptor < len(self._flights):
            lent = IN_FLIGHT if one.in_flight else FREE
            times = one.due, one.sent_at, one.answered_at
            flight = self._flights[one.descriptor]
            flight[:_QUEUED] = lent, one.start, one.begin, one.end, *times, one.turn, one.answers
            if lent == FREE and not flight[_QUEUED] and self.data.period and not self.data.bound:
                data = self.data
                self._free[(data.free_head + data.free_count) % data.free_size] = one.descriptor
                data.free_count += 1
                flight[_QUEUED] = 1

    def take_back(self, one: LoadConnection) -> None:
        """Take a connection back, with its current state."""
        if one.state is not State.OPEN or one.descriptor >= len(self._flights):
            return
        lent, start, begin, end, *times, turn, answers, _ = self._flights[one.descriptor].tolist()
        if lent != NOT_LENT:
            one.in_flight = int(lent == IN_FLIGHT)
            one.start, one.begin, one.end, one.turn = start, begin, end, turn
            one.due, one.sent_at, one.answered_at = times
            one.answers = answers
            self._flights[one.descriptor, 0] = NOT_LENT

    def waits_since(self, moment: int) -> bool:
        """Whether all connections are lent and none has waited for an answer since before that moment."""
        # Those that could not be made have no descriptor, and wait for nothing.
        flights = self._flights[self._talkers[self._talkers >= 0]]
        lent, sent_at = flights[:, 0], flights[:, _SENT_AT]
        return bool((lent != NOT_LENT).all() and not ((lent == IN_FLIGHT) & (sent_at < moment)).any())

    def run(self, poller: int, until: int) -> int:
        """Run the load until a moment, or until something is left to the loop.

        Returns the kind of what is left; `data` has the details.
        """
        kind: int = library().load_run(ctypes.addressof(self._memory), poller, until)
        return kind

    def left_over(self) -> Iterator[tuple[int, int]]:
        """The reported events, descriptor and mask, that are not handled yet; epoll does not report them again."""
        while library().load_event(ctypes.addressof(self._memory)) == EVENT:
            yield self.data.left_descriptor, self.data.left_mask

    def came(self) -> bytes:
        """The received bytes that differ from those due."""
        return bytes(memoryview(self._memory)[Data.buffer.offset :][: self.data.left_count])


def _address(data: bytes | None) -> int | None:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value

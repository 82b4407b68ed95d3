"""The connections of one process of the generator: how they are made, how they end, and what failed.

Times are nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from iolab_client.load import buckets
from iolab_client.load.connection import LoadConnection, State
from iolab_client.load.share import Share
from iolab_client.load.shared import CONNECT, ERRORS, Shared
from iolab_client.load.tally import Tally
from iolab_client.results.measurement import SAMPLES, Errors
from iolab_client.servers.address import half_close

SECOND = 1_000_000_000
# How many connections are being made at the same time: fewer than any backlog.
CONNECTING_AT_ONCE = 64
# With churn, the wait after a connection could not be made.
RETRY_NS = SECOND // 10

READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
WRITING = READING | select.EPOLLOUT

clock = time.monotonic_ns


class Connections:
    """All connections of a share. `talkers` are loaded; the others stay silent.

    `on_open` is called with each connection that opens while the load runs.
    """

    def __init__(self, share: Share, shared: Shared, poller: select.epoll) -> None:
        self.share = share
        self.poller = poller
        self.all = [
            LoadConnection(number, idle=number >= share.connections) for number in range(share.connections + share.idle)
        ]
        self.talkers = self.all[: share.connections]
        self.on_open: Callable[[LoadConnection], None] = lambda connection: None
        # Set when requests begin to be sent.
        self.tally: Tally | None = None
        # Whether they are loaded; whether each is to be closed once it is answered.
        self.loading = self.parting = False
        self.open = self.connecting = self.closing = 0
        # Connections that had an answer in the measured time before another replaced them.
        self.answered_before = 0
        self.errors = Errors()
        self._shared = shared
        self._by_descriptor: list[LoadConnection | None] = []
        self._to_connect = deque(self.all)
        self._connects = 0
        self._connect_from = self._retry_at = 0

    def of(self, descriptor: int) -> LoadConnection | None:
        """The connection of a descriptor; None if it has ended since the kernel reported the event."""
        return self._by_descriptor[descriptor] if descriptor < len(self._by_descriptor) else None

    # Making them

    def begin(self) -> None:
        """Begin to make connections, at the share's rate."""
        self._connect_from = clock()

    @property
    def to_be_made(self) -> int:
        """How many are not connected yet, including those that are being made."""
        return len(self._to_connect) + self.connecting

    def make_some(self) -> None:
        """Begin to connect those that are due, as far as the limits allow."""
        now, rate = clock(), self.share.connect_rate
        while self._to_connect and self.connecting < CONNECTING_AT_ONCE and now >= self._retry_at:
            if rate is not None and now < self._connect_from + self._connects / rate * SECOND:
                return
            self._connects += 1
            self._make(self._to_connect.popleft(), now)

    def _make(self, connection: LoadConnection, now: int) -> None:
        sock = socket.socket(self.share.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.use(sock, self.share.plan.churn or float("inf"))
        connection.state, connection.since = State.CONNECTING, now
        self.connecting += 1
        descriptor = connection.descriptor
        while len(self._by_descriptor) <= descriptor:
            self._by_descriptor.append(None)
        self._by_descriptor[descriptor] = connection
        self.poller.register(descriptor, WRITING)
        code = sock.connect_ex(self.share.address)
        if code not in (0, errno.EINPROGRESS):
            self._refused(connection, code)

    def made(self, connection: LoadConnection) -> None:
        """Take the kernel's result of connecting: done, or an error."""
        code = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._refused(connection, code)
            return
        now = clock()
        buckets.count(self._shared.histograms[CONNECT], np.array([now - connection.since], np.int64))
        connection.since = now
        self.connecting -= 1
        self.open += 1
        connection.state = State.OPEN
        self.poller.modify(connection.descriptor, READING)
        if self.loading:
            self.on_open(connection)

    def _refused(self, connection: LoadConnection, code: int) -> None:
        words = os.strerror(code).lower()
        if code == errno.EADDRNOTAVAIL:
            words = (
                "no port of this machine is left: connect more slowly (--connect-rate), churn less, "
                "or widen net.ipv4.ip_local_port_range"
            )
        self.fail(connection, "timeout" if code == errno.ETIMEDOUT else "refused", words)

    # Ending them

    def half_close(self, connection: LoadConnection) -> None:
        """Send FIN: all answers are there, and the server is to close too."""
        self._leave(connection)
        self.closing += 1
        connection.state, connection.since = State.CLOSING, clock()
        try:
            half_close(connection.socket)
        except OSError as error:
            self.fail(connection, "reset", os.strerror(error.errno or 0).lower())

    def release(self, connection: LoadConnection) -> None:
        """Close its socket; with churn, another one replaces it."""
        self._leave(connection)
        self._by_descriptor[connection.descriptor] = None
        connection.socket.close()
        if self.loading and self.share.plan.churn and not connection.idle:
            connection.state = State.WAITING
            assert self.tally
            self.answered_before += connection.answered_at >= self.tally.begin
            connection.answered_at = 0
            self._to_connect.append(connection)
        else:
            connection.state = State.OVER

    def fail(self, connection: LoadConnection, kind: str, words: str) -> None:
        """Count an error and end the connection."""
        setattr(self.errors, kind, getattr(self.errors, kind) + 1)
        self._shared.counters[ERRORS] = self.errors.total
        if len(self.errors.samples) < SAMPLES:
            self.errors.samples.append(f"{kind}: {self._name(connection)}: {words}")
        now = clock()
        if connection.state is State.CONNECTING:
            self._retry_at = now + RETRY_NS
        if self.tally:
            for begin, end, due, sent in connection.flights():
                # A request that timed out has waited at least this long; of other failures that is unknown.
                self.tally.unanswered(due, sent, now, end - begin, failed=kind != "timeout")
        self.release(connection)

    def part(self) -> None:
        """Close every connection, each when it is answered."""
        self.parting, self.loading = True, False
        self._to_connect.clear()
        for connection in self.all:
            if connection.state is State.OPEN and not connection.in_flight:
                self.half_close(connection)
            elif connection.state in (State.CONNECTING, State.WAITING):
                if connection.state is State.CONNECTING:
                    self.release(connection)
                connection.state = State.OVER

    def time_out(self, latest: int, seconds: float) -> None:
        """Fail the connections that have waited since before `latest`, which is `seconds` ago."""
        for connection in self.all:
            match connection.state:
                case State.OPEN if connection.in_flight and connection.sent_at < latest:
                    self.fail(connection, "timeout", f"no answer within {seconds:g} s")
                case State.CONNECTING if connection.since < latest:
                    self.fail(connection, "timeout", f"no connection within {seconds:g} s")
                case State.CLOSING if connection.since < latest and not self.parting:
                    self.fail(connection, "timeout", f"not closed within {seconds:g} s of our FIN")

    def are_over(self) -> bool:
        """Whether no connection is loaded any more, or will be again."""
        return self.closing + self.to_be_made == 0 and all(one.state is State.OVER for one in self.talkers)

    def _leave(self, connection: LoadConnection) -> None:
        match connection.state:
            case State.OPEN:
                self.open -= 1
            case State.CONNECTING:
                self.connecting -= 1
            case State.CLOSING:
                self.closing -= 1

    def _name(self, connection: LoadConnection) -> str:
        name = f"{'idle ' if connection.idle else ''}connection {connection.number}"
        if self.share.plan.processes > 1:
            name += f" of process {self.share.process}"
        # A request's number is its place in the pattern, counted over all connections of the process.
        return f"{name}, request {connection.start}" if connection.in_flight else name

"""The epoll loop of one process of the generator.

Edge-triggered, so a ready socket costs one look: when recv(2) gave less than it was asked for, there is no more, and
what comes later is a new edge (epoll(7)). The common case (one request in flight on each connection) is that of
`fast_path`; all that is rarer goes through `_handle`, and everything where there is no C compiler.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator

from iolab_client.contract import payload
from iolab_client.load import fast_path
from iolab_client.load.books import Books
from iolab_client.load.commands import Commands
from iolab_client.load.connection import Connection, State
from iolab_client.load.fast_path import FastPath
from iolab_client.load.requests import Request, Requests
from iolab_client.load.share import Report, Share
from iolab_client.load.shared import ANSWERS, CONNECTED, ERRORS, Shared
from iolab_client.results.measurement import Errors

SECOND = 1_000_000_000
# How often it is seen to what has no event of its own.
CHECK_SECONDS = 0.05
CHECK_NS = SECOND // 20
# Connections that are being made at the same time: below any backlog.
CONNECTING_AT_ONCE = 64
# After a connection could not be made, with churn.
RETRY_NS = SECOND // 10
READ_BYTES = fast_path.READ_BYTES
EVENTS = 256
# The timetable does not wait for more events, nor an event for more requests, than so many.
EVENTS_BETWEEN_TURNS = 16
TURNS_BETWEEN_EVENTS = 64
SAMPLES = 10
# How long a server may take to close after the load, before the generator does it.
FAREWELL_NS = 2 * SECOND

IN = select.EPOLLIN
READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
WRITING = READING | select.EPOLLOUT
# Not EPOLLIN, which alone means a socket.
COMMANDS = select.EPOLLRDNORM

clock = time.monotonic_ns


class Loop:
    """The connections of one process, and the loop that serves them: `connect`, then `run`. Times are nanoseconds."""

    def __init__(self, share: Share, commands: Commands) -> None:
        self.share = share
        self.plan = share.plan
        self.shared = Shared(share.memory)
        self.counters = self.shared.counters.data
        self.requests = Requests(self.plan.sizes, share.process)
        self.fast_path = FastPath(self.requests, self.shared)
        # The next request, and the timetable: what both ways of going on have in common.
        self.data = self.fast_path.data
        self.lent = False
        self.errors = Errors()
        self.timeout = int(self.plan.timeout_seconds * SECOND)
        self.commands = commands
        # Made before any socket: select(2) knows no descriptor above 1023.
        self.poller = select.epoll()
        self.poller.register(commands, COMMANDS)
        self.connections = [
            Connection(number, idle=number >= share.connections) for number in range(share.connections + share.idle)
        ]
        self.talkers = self.connections[: share.connections]
        self.by_descriptor: list[Connection | None] = []
        self.to_connect = deque(self.connections)
        self.connects = 0
        self.connecting = 0
        self.open = 0
        self.closing = 0
        self.connect_from = self.retry_at = self.next_check = self.next_scan = 0
        self.loading = self.parting = self.over = False

    # Connections

    def connect(self) -> None:
        """Make all connections, or as many as can be made. Returns when none is under way any more."""
        self.connect_from = clock()
        while (self.to_connect or self.connecting) and not self.over:
            self._dial_some()
            for descriptor, mask in self.poller.poll(0.001, EVENTS):
                self._handle(descriptor, mask)
            self._time_out(clock())
            self.counters[CONNECTED] = self.open

    def _dial_some(self) -> None:
        """Begin as many connections as may be under way and are due."""
        now, rate = clock(), self.share.connect_rate
        while self.to_connect and self.connecting < CONNECTING_AT_ONCE and now >= self.retry_at:
            if rate is not None and now < self.connect_from + self.connects / rate * SECOND:
                return
            self.connects += 1
            self._dial(self.to_connect.popleft(), now)

    def _dial(self, connection: Connection, now: int) -> None:
        sock = socket.socket(self.share.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.use(sock, self.plan.churn or float("inf"))
        connection.state, connection.since = State.CONNECTING, now
        self.connecting += 1
        descriptor = connection.descriptor
        while len(self.by_descriptor) <= descriptor:
            self.by_descriptor.append(None)
        self.by_descriptor[descriptor] = connection
        self.poller.register(descriptor, WRITING)
        code = sock.connect_ex(self.share.address)
        if code not in (0, errno.EINPROGRESS):
            self._refused(connection, code)

    def _connected(self, connection: Connection) -> None:
        code = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._refused(connection, code)
            return
        self.connecting -= 1
        self.open += 1
        connection.state = State.OPEN
        self.poller.modify(connection.descriptor, READING)
        if self.loading:
            self._fill(connection, clock())

    def _refused(self, connection: Connection, code: int) -> None:
        words = os.strerror(code).lower()
        if code == errno.EADDRNOTAVAIL:
            words = (
                "no port of this machine is left: connect more slowly (--connect-rate), churn less, "
                "or widen net.ipv4.ip_local_port_range"
            )
        self._fail(connection, "timeout" if code == errno.ETIMEDOUT else "refused", words)

    def _half_close(self, connection: Connection) -> None:
        """Send FIN: the answers are all there, and the server is to close, too."""
        self._leave(connection)
        self.closing += 1
        connection.state, connection.since = State.CLOSING, clock()
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(connection, "reset", os.strerror(error.errno or 0).lower())

    def _leave(self, connection: Connection) -> None:
        match connection.state:
            case State.OPEN:
                self.open -= 1
            case State.CONNECTING:
                self.connecting -= 1
            case State.CLOSING:
                self.closing -= 1

    def _release(self, connection: Connection) -> None:
        """Its socket is done with; with churn, another one takes its place."""
        self._leave(connection)
        self.by_descriptor[connection.descriptor] = None
        connection.socket.close()
        if self.loading and self.plan.churn and not connection.idle:
            connection.state = State.WAITING
            self.answered_before += connection.answered_at >= self.books.begin
            connection.answered_at = 0
            self.to_connect.append(connection)
        else:
            connection.state = State.OVER

    def _fail(self, connection: Connection, kind: str, words: str) -> None:
        """Count an error, which ends the connection."""
        setattr(self.errors, kind, getattr(self.errors, kind) + 1)
        self.counters[ERRORS] = self.errors.total
        if len(self.errors.samples) < SAMPLES:
            self.errors.samples.append(f"{kind}: {self._name(connection)}: {words}")
        now = clock()
        if connection.state is State.CONNECTING:
            self.retry_at = now + RETRY_NS
        for begin, end, _, sent in connection.flights():
            self.books.unanswered(sent, now, end - begin)
        self._release(connection)

    def _name(self, connection: Connection) -> str:
        name = f"{'idle ' if connection.idle else ''}connection {connection.number}"
        if self.plan.processes > 1:
            name += f" of process {self.share.process}"
        # Requests are numbered by their place in the pattern, over all connections of the process.
        return f"{name}, request {connection.start}" if connection.in_flight else name

    # Answers

    def _handle(self, descriptor: int, mask: int) -> None:
        """One event, whatever it is."""
        if descriptor == self.commands.fileno():
            self._obey()
            return
        connection = self.by_descriptor[descriptor]
        # It ended after the kernel had told of it.
        if connection is None:
            return
        if connection.state is State.CONNECTING:
            self._connected(connection)
            return
        if mask & select.EPOLLOUT and connection.unsent:
            self._push(connection)
        if mask != select.EPOLLOUT:
            self._read(connection, mask)

    def _read(self, connection: Connection, mask: int) -> None:
        while connection.state in (State.OPEN, State.CLOSING):
            wanted = READ_BYTES if connection.behind else min(READ_BYTES, connection.end - connection.begin + 1)
            try:
                data = connection.receive(wanted)
            except BlockingIOError:
                return
            except OSError as error:
                self._broken(connection, error)
                return
            self._take(connection, data)
            if len(data) < wanted and mask == IN:
                return

    def _take(self, connection: Connection, data: bytes) -> None:
        """Compare what came with what is due, and ask for more where there is room for it then."""
        if not data:
            self._ended(connection)
            return
        answers = self.requests.answers
        now = clock()
        position = 0
        while position < len(data):
            begin = connection.begin
            step = min(connection.end - begin, len(data) - position)
            piece = data[position : position + step]
            if not step:
                self._fail(connection, "wrong", f"{len(data) - position} bytes more than were due came")
                return
            if piece != answers[begin : begin + step]:
                self._wrong(connection, data[position:])
                return
            position += step
            connection.begin += step
            if connection.begin == connection.end:
                self._answered(connection, now)
        if connection.state is State.OPEN:
            self._fill(connection, clock())

    def _answered(self, connection: Connection, now: int) -> None:
        self.data.total += 1
        self.books.note(connection.due, connection.sent_at, now, connection.end - connection.start)
        connection.answered_at = now
        connection.in_flight -= 1
        if connection.behind:
            connection.fly(connection.behind.popleft())
        else:
            connection.land()

    def _wrong(self, connection: Connection, data: bytes) -> None:
        answers = self.requests.answers
        place = connection.begin - connection.start
        for later, (begin, end, _, _) in enumerate(connection.behind, 1):
            if not place and data[: end - begin] == answers[begin : begin + len(data)][: end - begin]:
                self._fail(
                    connection, "wrong", f"answers out of order: that of request {begin} came, {later} too early"
                )
                return
        got = answers[connection.start : connection.begin] + data[: connection.end - connection.begin]
        words = payload.difference(got, answers[connection.start : connection.end])
        self._fail(connection, "wrong", words or "other bytes than were due")

    def _ended(self, connection: Connection) -> None:
        """The server has sent its FIN."""
        if connection.state is State.CLOSING:
            self._release(connection)
        elif connection.begin > connection.start:
            done, size = connection.begin - connection.start, connection.end - connection.start
            self._fail(connection, "short", f"the server closed after {done} of {size} bytes")
        elif connection.in_flight and not connection.answered_at:
            self._fail(connection, "refused", "the server closed it before its first answer: it is full, or fails")
        elif connection.in_flight:
            self._fail(connection, "closed", f"the server closed and owed {connection.in_flight} answers")
        elif self.loading:
            self._fail(connection, "closed", "the server closed, and owed nothing")
        else:
            self._fail(connection, "refused", "the server closed it at once: it is full")

    def _broken(self, connection: Connection, error: OSError) -> None:
        match error:
            case TimeoutError():
                self._fail(connection, "timeout", "the server's machine does not answer")
            case ConnectionError() if not self.loading:
                self._fail(connection, "refused", "the server reset it at once: it is full")
            case ConnectionError() if not connection.answered_at:
                self._fail(connection, "refused", "the server reset it before its first answer: it is full, or fails")
            case _:
                self._fail(connection, "reset", os.strerror(error.errno or 0).lower())

    # Requests

    def _fill(self, connection: Connection, now: int) -> None:
        """Send as many requests as there is room for and are due; where there are no more to come, part."""
        room = self.plan.pipeline - connection.in_flight
        pieces = []
        pattern = self.requests.pattern
        rate = self.plan.rate
        due = now
        while room > 0 and connection.left > 0 and not connection.idle:
            if rate:
                if connection.turn >= self.data.dealt:
                    break
                due = self._due(connection.turn)
                connection.turn += self.share.connections
            request = self._next_request()
            if request is None:
                break
            begin, size = request
            flight = begin, begin + size, due, now
            if connection.in_flight:
                connection.behind.append(flight)
            else:
                connection.fly(flight)
            connection.in_flight += 1
            connection.left -= 1
            room -= 1
            pieces.append(pattern[begin : begin + size])
        if pieces:
            self._send(connection, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        elif not connection.in_flight and (self.parting or connection.left <= 0):
            self._half_close(connection)

    def _next_request(self) -> Request | None:
        data = self.data
        if data.left <= 0:
            return None
        number = data.number
        data.number, data.left = number + 1, data.left - 1
        return self.requests.request(number)

    def _send(self, connection: Connection, data: bytes) -> None:
        connection.unsent = memoryview(bytes(connection.unsent) + data if connection.unsent else data)
        self._push(connection)

    def _push(self, connection: Connection) -> None:
        """Send what is unsent, as far as the socket takes it."""
        waited = bool(connection.awaits_room)
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.transmit(connection.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            # What the server sent before is still there to be read, and tells more.
            self._read(connection, select.EPOLLERR)
            if connection.state is State.OPEN:
                self._broken(connection, error)
            return
        connection.awaits_room = bool(connection.unsent)
        if connection.awaits_room != waited:
            self.poller.modify(connection.descriptor, WRITING if connection.awaits_room else READING)

    def _due(self, turn: int) -> int:
        """When a request of the timetable is due: the processes take turns."""
        return int(self.data.first_due) + int((turn * self.plan.processes + self.share.process) * self.data.period)

    def _deal(self) -> None:
        """Give each request that is due to its connection, which sends it when it has room."""
        talkers, data = self.talkers, self.data
        for _ in range(TURNS_BETWEEN_EVENTS):
            due, now = self._due(data.dealt), clock()
            if now < due or data.dealt >= data.last_turn:
                return
            self.books.note_turn(due, now - due)
            connection = talkers[data.dealt % len(talkers)]
            data.dealt += 1
            if connection.state is State.OPEN:
                self._fill(connection, now)

    # The load

    def run(self, start: int) -> Report:
        """Load from `start` on, and measure when the warm-up is over. Returns when the server is parted from."""
        plan = self.plan
        begin = start + int(plan.warmup_seconds * SECOND)
        self.books = Books(
            self.shared,
            self.data.counts,
            begin,
            begin + int(plan.duration_seconds * SECOND),
            planned=plan.rate is not None,
            only_new=self.share.requests is not None,
        )
        self.used_begin = self.used_end = self._used()
        self.stage = "warm-up"
        self.answered_before = self.answered = self.open_at_end = self.parting_at = 0
        # The timetable: its first request and its period; 0 means that there is none.
        self.data.first_due, self.data.period = start, SECOND / plan.rate if plan.rate else 0.0
        self.data.processes, self.data.process = plan.processes, self.share.process
        # Whoever was closed at once by a full server is seen before anything is asked.
        for descriptor, mask in self.poller.poll(0, len(self.connections) + 1):
            self._handle(descriptor, mask)
        time.sleep(max(0, start - clock()) / SECOND)
        self.loading = True
        self._check(clock())
        if not plan.rate:
            for connection in self.talkers:
                if connection.state is State.OPEN:
                    self._fill(connection, clock())
        if plan.pipeline == 1 and plan.churn is None and fast_path.is_there():
            self._fast()
        if plan.rate:
            self._open()
        else:
            self._any()
        return self._report()

    def _fast(self) -> None:
        """Any loop with one request in flight on each connection, as long as it is loaded."""
        path, poller = self.fast_path, self.poller.fileno()
        path.begin(self.talkers)
        self._lend()
        while self.stage != "over" and not self.over:
            if kind := path.run(poller, self.next_check):
                self._see_to(kind)
            now = clock()
            if now >= self.next_check:
                self._check(now)
                self._lend()
        self._take_back()
        for descriptor, mask in path.left_over():
            self._handle(descriptor, mask)

    def _see_to(self, kind: int) -> None:
        """What the fast path leaves to us."""
        path, data = self.fast_path, self.data
        descriptor = data.left_descriptor
        connection = self.by_descriptor[descriptor] if descriptor < len(self.by_descriptor) else None
        if connection is None:
            self._handle(descriptor, data.left_mask)
            return
        path.take_back(connection)
        match kind:
            case fast_path.EVENT:
                self._handle(descriptor, data.left_mask)
            case fast_path.BYTES:
                self._take(connection, path.came())
            case fast_path.ERROR:
                self._broken(connection, OSError(data.left_count, os.strerror(data.left_count)))
            case fast_path.UNSENT:
                begin, end = connection.begin, connection.end
                self._send(connection, self.requests.pattern[begin + data.left_count : end])
        if not connection.idle:
            path.lend(connection)

    def _lend(self) -> None:
        """Give all connections to the fast path, if it has not got them."""
        if not self.lent:
            self.lent = True
            for connection in self.talkers:
                self.fast_path.lend(connection)

    def _take_back(self) -> None:
        """Have all connections as they are now."""
        if self.lent:
            self.lent = False
            for connection in self.talkers:
                self.fast_path.take_back(connection)

    def _any(self) -> None:
        """Any closed loop."""
        while not self.over:
            for descriptor, mask in self.poller.poll(CHECK_SECONDS, EVENTS):
                self._handle(descriptor, mask)
            self._end_round()

    def _open(self) -> None:
        """Requests are sent when they are due. epoll_wait(2) waits in milliseconds, select(2) for the epoll in µs."""
        poll, descriptor = self.poller.poll, self.poller.fileno()
        while not self.over:
            events = poll(0, EVENTS_BETWEEN_TURNS)
            if not events:
                data = self.data
                wait = CHECK_NS if data.dealt >= data.last_turn else self._due(data.dealt) - clock()
                if wait > 0:
                    before = clock()
                    select.select([descriptor], [], [], min(wait, CHECK_NS) / SECOND)
                    data.waited += clock() - before
                    events = poll(0, EVENTS_BETWEEN_TURNS)
            for ready, mask in events:
                self._handle(ready, mask)
            self._deal()
            self._end_round()

    def _end_round(self) -> None:
        now = clock()
        if self.to_connect and not self.parting:
            self._dial_some()
        self.counters[ANSWERS] = self.data.total
        if now >= self.next_check:
            self._check(now)

    def _check(self, now: int) -> None:
        """What has no event of its own: notes to count, stages that end, answers that do not come."""
        self.books.count()
        if self.stage == "warm-up" and now >= self.books.begin:
            self._begin_measuring(now)
        if self.stage == "measuring" and (now >= self.books.end or self._has_all()):
            self._end_measuring(now)
        self._time_out(now)
        if self.parting and not self.open and (not self.closing or now > self.parting_at + FAREWELL_NS):
            self.over = True
        # A stage ends when it is due, and not some time later.
        edge = self.books.begin if self.stage == "warm-up" else self.books.end
        self.next_check = min(now + CHECK_NS, edge) if edge > now else now + CHECK_NS

    def _begin_measuring(self, now: int) -> None:
        self.stage = "measuring"
        self.used_begin = self._used()
        requests = self.share.requests
        if requests is None:
            return
        if not self.plan.rate:
            self.books.start(now)
            self.data.left = requests
            return
        first = self.data.dealt
        while first and self._due(first - 1) >= self.books.begin:
            first -= 1
        while self._due(first) < self.books.begin:
            first += 1
        self.data.last_turn = first + requests

    def _used(self) -> tuple[float, float]:
        """Seconds of processor time until now, and of time in which there was something to do."""
        return time.process_time(), (clock() - self.data.waited) / SECOND

    def _has_all(self) -> bool:
        """Whether the answers that were asked for are there, or no connection is left."""
        requests = self.share.requests
        if requests is not None:
            self.books.count()
            if self.books.counts.answers >= requests or self._has_asked_all():
                return True
        return self.closing + self.connecting + len(self.to_connect) == 0 and all(
            connection.state is State.OVER for connection in self.talkers
        )

    def _has_asked_all(self) -> bool:
        """Whether no request is to be sent any more, and none is in flight: some had no answer."""
        asked = self.data.dealt >= self.data.last_turn if self.plan.rate else self.data.left <= 0
        if not asked:
            return False
        self._take_back()
        return not any(
            one.state is State.OPEN and (one.in_flight or (self.plan.rate and one.turn < self.data.dealt))
            for one in self.talkers
        )

    def _end_measuring(self, now: int) -> None:
        self.stage = "over"
        self._take_back()
        requests = self.share.requests
        if now < self.books.end:
            counts = self.books.counts
            complete = requests is not None and (counts.answers >= requests or self._has_asked_all())
            self.books.end = max(self.books.begin, counts.last_done + 1 if complete else now)
        if self.plan.rate:
            self.books.still_due(list(self._still_due()))
        self.data.left = self.data.last_turn = 0
        self.used_end = self._used()
        self.open_at_end = self.open
        begin = self.books.begin
        self.answered = self.answered_before + sum(one.answered_at >= begin for one in self.talkers)
        self.counters[ANSWERS] = self.data.total
        self.commands.say("over")

    def _still_due(self) -> Iterator[int]:
        """When each request was due that has no answer yet: what is in flight, and what finds no room to be sent."""
        for connection in self.talkers:
            if connection.state is State.OPEN:
                yield from (due for _, _, due, _ in connection.flights())
            if connection.state is not State.OVER:
                yield from map(self._due, range(connection.turn, self.data.dealt, self.share.connections))

    def _time_out(self, now: int) -> None:
        if now < self.next_scan:
            return
        self.next_scan = now + min(SECOND, self.timeout // 10)
        latest = now - self.timeout
        # To have thousands back and give them away again takes longer than a request may be late.
        if self.lent and not self.connecting + self.closing and self.fast_path.waits_since(latest):
            return
        self._take_back()
        for connection in self.connections:
            match connection.state:
                case State.OPEN if connection.in_flight and connection.sent_at < latest:
                    self._fail(connection, "timeout", f"no answer within {self.plan.timeout_seconds:g} s")
                case State.CONNECTING if connection.since < latest:
                    self._fail(connection, "timeout", f"no connection within {self.plan.timeout_seconds:g} s")
                case State.CLOSING if connection.since < latest and not self.parting:
                    self._fail(connection, "timeout", f"not closed within {self.plan.timeout_seconds:g} s of our FIN")

    # The end

    def _obey(self) -> None:
        """What the parent wants."""
        for command in self.commands.read():
            if command == "stop":
                self.over = True
                if self.loading and self.stage != "over":
                    self.books.count()
                    self._end_measuring(clock())
            elif command == "close":
                self._part()

    def _part(self) -> None:
        """Close every connection, each when its answers are there."""
        self.parting, self.parting_at, self.loading = True, clock(), False
        self.to_connect.clear()
        for connection in self.connections:
            if connection.state is State.OPEN and not connection.in_flight:
                self._half_close(connection)
            elif connection.state in (State.CONNECTING, State.WAITING):
                if connection.state is State.CONNECTING:
                    self._release(connection)
                connection.state = State.OVER

    def _report(self) -> Report:
        now, books = clock(), self.books
        counts = books.counts
        for connection in self.talkers:
            if connection.state is State.OPEN:
                for begin, end, _, sent in connection.flights():
                    books.unanswered(sent, now, end - begin)
        books.count()
        cpu_seconds, occupied_seconds = (end - begin for begin, end in zip(self.used_begin, self.used_end, strict=True))
        return Report(
            begun=books.begin,
            ended=books.end,
            answers=counts.answers,
            sent_bytes=counts.sent_bytes,
            received_bytes=counts.received_bytes,
            open_connections=self.open_at_end,
            answered_connections=self.answered,
            flight_ns=counts.flight_ns,
            latency_ns=counts.latency_ns,
            from_send_ns=counts.from_send_ns,
            step_ns=books.step_ns,
            steps=books.steps.tolist(),
            errors=self.errors,
            cpu_seconds=cpu_seconds,
            # Between the requests of a dense timetable it looks at the clock more than it sleeps, and could do more.
            busy_seconds=min(cpu_seconds, occupied_seconds) if self.plan.rate else cpu_seconds,
            in_c=fast_path.is_there(),
        )

"""The epoll loop of one process of the generator: its stages, and what handles an event.

It is edge-triggered, so a ready socket costs one read: if recv(2) returns less than it was asked for, there is no more,
and later input is a new edge (epoll(7)). `fast_path` handles the common case (one request in flight on each
connection); `_handle` does the rest, and everything if there is no C compiler.
"""

from __future__ import annotations

import os
import select
import time

from iolab_client.contract.payload import Oracle
from iolab_client.load import fast_path
from iolab_client.load.commands import Commands
from iolab_client.load.connection import State
from iolab_client.load.connections import Connections
from iolab_client.load.exchange import EVENTS_BETWEEN_TURNS, Exchange
from iolab_client.load.fast_path import FastPath
from iolab_client.load.requests import Requests
from iolab_client.load.share import Report, Share
from iolab_client.load.shared import ANSWERS, CONNECTED, Shared
from iolab_client.load.tally import Tally
from iolab_client.load.timetable import Timetable

SECOND = 1_000_000_000
# How often the loop checks what has no event.
CHECK_SECONDS = 0.05
CHECK_NS = SECOND // 20
EVENTS = 256
# How long a server may take to close after the load, before the generator closes.
FAREWELL_NS = 2 * SECOND
# Not EPOLLIN, so that an event of EPOLLIN alone is always a socket's.
COMMANDS = select.EPOLLRDNORM

clock = time.monotonic_ns


class Loop:
    """The connections of one process, and the loop that serves them: `connect`, then `run`. Times are nanoseconds."""

    def __init__(self, share: Share, commands: Commands) -> None:
        self.share = share
        self.plan = share.plan
        self.shared = Shared(share.memory)
        seed = f"{self.plan.seed} process {share.process}"
        self.requests = Requests(self.plan.sizes, seed, Oracle(self.plan.expect))
        self.fast_path = FastPath(self.requests, self.shared)
        # The next request and the timetable, shared with the fast path.
        self.data = self.fast_path.data
        self.timetable = Timetable(self.plan, share.process, self.data)
        self.commands = commands
        # Made before any socket: select(2) takes no descriptor above 1023.
        self.poller = select.epoll()
        self.poller.register(commands, COMMANDS)
        self.connections = Connections(share, self.shared, self.poller)
        self.exchange = Exchange(self.plan, self.requests, self.timetable, self.connections)
        self.connections.on_open = lambda connection: self.exchange.fill(connection, clock())
        self.timeout = int(self.plan.timeout_seconds * SECOND)
        # Whether the fast path has the connections.
        self.lent = False
        self.next_check = self.next_scan = 0
        self.over = False

    def connect(self) -> None:
        """Make all connections, or as many as can be made. Returns when none is being made any more."""
        self.connections.begin()
        while self.connections.to_be_made and not self.over:
            self.connections.make_some()
            for descriptor, mask in self.poller.poll(0.001, EVENTS):
                self._handle(descriptor, mask)
            self._time_out(clock())
            self.shared.counters[CONNECTED] = self.connections.open

    def run(self, start: int) -> Report:
        """Load from `start` on, and measure after the warm-up. Returns when all connections have ended."""
        plan = self.plan
        begin = start + int(plan.warmup_seconds * SECOND)
        self.tally = Tally(
            self.shared,
            self.data.counts,
            begin,
            begin + int(plan.duration_seconds * SECOND),
            planned=plan.rate is not None,
            only_new=plan.rate is not None or self.share.requests is not None,
        )
        self.connections.tally = self.tally
        self.exchange.begin(self.tally, self.shared)
        self.timetable.start(start)
        self.used_begin = self.used_end = self._used()
        self.stage = "warm-up"
        self.open_at_end = self.answered = self.due = self.parting_at = 0
        # First find the connections that a full server has closed at once.
        for descriptor, mask in self.poller.poll(0, len(self.connections.all) + 1):
            self._handle(descriptor, mask)
        time.sleep(max(0, start - clock()) / SECOND)
        self.connections.loading = True
        self._check(clock())
        for connection in self.connections.talkers:
            if connection.state is State.OPEN:
                self.exchange.fill(connection, clock())
        if plan.pipeline == 1 and plan.churn is None and fast_path.is_there():
            self._fast()
        if plan.rate:
            self._open()
        else:
            self._any()
        return self._report()

    # Three kinds of loop

    def _fast(self) -> None:
        """The loop with one request in flight on each connection, as long as the load lasts."""
        path, poller = self.fast_path, self.poller.fileno()
        path.begin(self.connections.talkers)
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
        """Handle what the fast path leaves."""
        path, data, exchange = self.fast_path, self.data, self.exchange
        connection = self.connections.of(data.left_descriptor)
        if connection is None:
            self._handle(data.left_descriptor, data.left_mask)
            return
        path.take_back(connection)
        match kind:
            case fast_path.EVENT:
                self._handle(data.left_descriptor, data.left_mask)
            case fast_path.BYTES:
                exchange.take(connection, path.came())
            case fast_path.ERROR:
                exchange.broken(connection, OSError(data.left_count, os.strerror(data.left_count)))
            case fast_path.UNSENDABLE:
                exchange.not_sent(connection, OSError(data.left_count, os.strerror(data.left_count)))
            case fast_path.UNSENT:
                begin, end = connection.begin, connection.end
                exchange.send(connection, self.requests.pattern[begin + data.left_count : end])
        if not connection.idle:
            path.lend(connection)

    def _lend(self) -> None:
        """Lend all connections to the fast path, if it does not have them."""
        if not self.lent:
            self.lent = True
            for connection in self.connections.talkers:
                self.fast_path.lend(connection)

    def _take_back(self) -> None:
        """Take all connections back, with their current state."""
        if self.lent:
            self.lent = False
            for connection in self.connections.talkers:
                self.fast_path.take_back(connection)

    def _any(self) -> None:
        """Any closed loop."""
        while not self.over:
            for descriptor, mask in self.poller.poll(CHECK_SECONDS, EVENTS):
                self._handle(descriptor, mask)
            self._end_round()

    def _open(self) -> None:
        """An open loop. It waits in select(2) on the epoll, to the µs: epoll_wait(2) counts in milliseconds."""
        poll, descriptor = self.poller.poll, self.poller.fileno()
        while not self.over:
            events = poll(0, EVENTS_BETWEEN_TURNS)
            if not events:
                due = self.timetable.next_due()
                wait = CHECK_NS if due is None else due - clock()
                if wait > 0:
                    before = clock()
                    select.select([descriptor], [], [], min(wait, CHECK_NS) / SECOND)
                    self.data.waited += clock() - before
                    events = poll(0, EVENTS_BETWEEN_TURNS)
            for ready, mask in events:
                self._handle(ready, mask)
            self.exchange.deal()
            self._end_round()

    def _handle(self, descriptor: int, mask: int) -> None:
        """Handle one event of any kind."""
        if descriptor == self.commands.fileno():
            self._obey()
            return
        connection = self.connections.of(descriptor)
        # The connection has ended since the kernel reported the event.
        if connection is None:
            return
        if connection.state is State.CONNECTING:
            self.connections.made(connection)
            return
        if mask & select.EPOLLOUT and connection.unsent:
            self.exchange.push(connection)
        if mask != select.EPOLLOUT:
            self.exchange.read(connection, mask)

    # The stages

    def _end_round(self) -> None:
        now = clock()
        if not self.connections.parting:
            self.connections.make_some()
        self.shared.counters[ANSWERS] = self.data.total
        if now >= self.next_check:
            self._check(now)

    def _check(self, now: int) -> None:
        """Check what has no event: notes to count, stages that end, answers that do not come."""
        self.tally.count()
        if self.stage == "warm-up" and now >= self.tally.begin:
            self._begin_measuring(now)
        if self.stage == "measuring" and (now >= self.tally.end or self._has_all()):
            self._end_measuring(now)
        self._time_out(now)
        connections = self.connections
        closed = not connections.open and (not connections.closing or now > self.parting_at + FAREWELL_NS)
        if connections.parting and closed:
            self.over = True
        # Check next when the stage ends, so that it ends in time.
        edge = self.tally.begin if self.stage == "warm-up" else self.tally.end
        self.next_check = min(now + CHECK_NS, edge) if edge > now else now + CHECK_NS

    def _begin_measuring(self, now: int) -> None:
        self.stage = "measuring"
        self.used_begin = self._used()
        requests = self.share.requests
        if requests is None:
            return
        if self.plan.rate:
            self.data.last_turn = self.timetable.before(self.tally.begin) + requests
        else:
            self.tally.start(now)
            self.data.left = requests

    def _used(self) -> tuple[float, float]:
        """Seconds of processor time so far, and of time in which there was something to do."""
        return time.process_time(), (clock() - self.data.waited) / SECOND

    def _has_all(self) -> bool:
        """Whether the plan's number of answers is there, or no connection is left."""
        requests = self.share.requests
        if requests is not None:
            self.tally.count()
            if self.tally.counts.answers >= requests or self._has_asked_all():
                return True
        return self.connections.are_over()

    def _has_asked_all(self) -> bool:
        """Whether no request is to be sent any more and none is in flight, although some had no answer."""
        asked = self.data.dealt >= self.data.last_turn if self.plan.rate else self.data.left <= 0
        if not asked:
            return False
        self._take_back()
        if any(one.state is State.OPEN and one.in_flight for one in self.connections.talkers):
            return False
        # A request that is due and not sent waits for a connection, as long as one may become free.
        return not self.plan.rate or not self._unsent_turns() or self.connections.are_over()

    def _unsent_turns(self) -> int:
        data = self.data
        if not self.plan.bound:
            return int(data.dealt - data.taken)
        return sum(one.turn < data.dealt for one in self.connections.talkers if one.state is not State.OVER)

    def _end_measuring(self, now: int) -> None:
        self.stage = "over"
        self._take_back()
        requests = self.share.requests
        if now < self.tally.end:
            counts = self.tally.counts
            complete = requests is not None and (counts.answers >= requests or self._has_asked_all())
            self.tally.end = max(self.tally.begin, counts.last_done + 1 if complete else now)
        if self.plan.rate:
            self._close_timetable()
        self.data.left = self.data.last_turn = 0
        self.used_end = self._used()
        self.open_at_end = self.connections.open
        begin = self.tally.begin
        answered = sum(one.answered_at >= begin for one in self.connections.talkers)
        self.answered = self.connections.answered_before + answered
        self.shared.counters[ANSWERS] = self.data.total
        self.commands.say("over")

    def _close_timetable(self) -> None:
        """Record the requests that were due in the measured time and will never be sent."""
        first, last = self.timetable.before(self.tally.begin), self.timetable.before(self.tally.end)
        last = min(last, self.data.last_turn)
        self.due = max(0, last - first)
        self.tally.never_sent(self.exchange.never_sent(last))

    def _time_out(self, now: int) -> None:
        if now < self.next_scan:
            return
        self.next_scan = now + min(SECOND, self.timeout // 10)
        latest = now - self.timeout
        # Taking thousands back and lending them again would make requests late.
        others = self.connections.connecting + self.connections.closing
        if self.lent and not others and self.fast_path.waits_since(latest):
            return
        self._take_back()
        self.connections.time_out(latest, self.plan.timeout_seconds)

    # The end

    def _obey(self) -> None:
        """Obey the parent's commands."""
        for command in self.commands.read():
            if command == "stop":
                self.over = True
                if self.connections.loading and self.stage != "over":
                    self.tally.count()
                    self._end_measuring(clock())
            elif command == "close":
                # Requests in flight are waited for, until they time out, and their latency counts.
                self.parting_at = clock()
                self.connections.part()

    def _report(self) -> Report:
        now, tally = clock(), self.tally
        counts = tally.counts
        for connection in self.connections.talkers:
            if connection.state is State.OPEN:
                for begin, end, due, sent in connection.flights():
                    tally.unanswered(due, sent, now, end - begin, failed=False)
        tally.count()
        cpu_seconds, occupied_seconds = (end - begin for begin, end in zip(self.used_begin, self.used_end, strict=True))
        return Report(
            begun=tally.begin,
            ended=tally.end,
            answers=counts.answers,
            late=counts.late,
            due=self.due,
            sent=counts.sent,
            unsent=tally.unsent,
            censored=tally.censored,
            censored_from_ns=tally.censored_from if tally.censored else None,
            sent_bytes=counts.sent_bytes,
            received_bytes=counts.received_bytes,
            open_connections=self.open_at_end,
            answered_connections=self.answered,
            answers_each=[one.answers for one in self.connections.talkers],
            flight_ns=counts.flight_ns,
            latency_ns=counts.latency_ns,
            from_send_ns=counts.from_send_ns,
            step_ns=tally.step_ns,
            steps=tally.steps.tolist(),
            interval_ns=tally.interval_ns,
            errors=self.connections.errors,
            cpu_seconds=cpu_seconds,
            # Between the turns of a dense timetable it reads the clock more than it sleeps, and could do more work.
            busy_seconds=min(cpu_seconds, occupied_seconds) if self.plan.rate else cpu_seconds,
            in_c=fast_path.is_there(),
        )

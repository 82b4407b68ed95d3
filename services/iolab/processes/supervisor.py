"""One process that supervises, and children that serve, each on its own listener.

The supervisor keeps every listener open: a client in the accept queue of a killed child is answered by its
replacement. It has one thread only, because a fork copies the locks that other threads hold, but not the threads that
would release them: a loop waits for the signals, the children and the clients of the admin port. (log.py takes care of
the log's thread.)
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import selectors
import signal
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import msgspec

from iolab import log
from iolab.kernel.frames import Frame
from iolab.kernel.orphans import Orphans
from iolab.kernel.threads import name_thread
from iolab.observe.http import HttpServer
from iolab.processes.child import ChildServer, SharedPlaces
from iolab.processes.messages import ASK, ASK_FRAMES, MESSAGE_BYTES, Framed, Told, Trouble
from iolab.registry import Model
from iolab.server.admission import PAUSE_SECONDS
from iolab.server.books import Totals
from iolab.server.ending import crash, leave
from iolab.server.listener import accept_queue
from iolab.server.server import DRAIN_TICK, Server
from iolab.server.stop import SIGNALS, Stop, is_second, open_signals
from iolab.settings import Settings, WorkDial

# A child that ends sooner has failed to start; this many failures in a row end the server.
START_SECONDS = 1.0
FAILURES = 5
# The first replacement starts at once, the next one after this delay, which then doubles each time.
BACK_OFF_SECONDS = 0.1
# How long to wait for the totals of a child that does not answer, because it is suspended, say: at first, and while it
# owes earlier answers. The latter also during the stop.
BOOKS_SECONDS = 5.0
LATE_BOOKS_SECONDS = 0.5


class ChildrenFail(Exception):
    """Children end as soon as they start."""


class ChildLost(Exception):
    """A child died during the stop: its clients were cut."""


Serve = Callable[[Server], None]


@dataclass(eq=False, kw_only=True)
class Child:
    """A child as its supervisor knows it."""

    number: int
    pid: int
    channel: socket.socket
    started: float
    # How many questions it has not answered, and its last answer.
    asked: int = 0
    totals: Totals = field(default_factory=Totals)
    frames: dict[int, Frame] = field(default_factory=dict)


class Supervisor(Server):
    """The server as a whole: its totals are those of its children, and it has no connections itself."""

    def __init__(self, model: Model, settings: Settings, listeners: list[socket.socket], stop: Stop) -> None:
        super().__init__(model, settings, listeners[0], stop)
        self.listeners = listeners
        # How many connections each child has open, in shared memory.
        self._open_counts = memoryview(mmap.mmap(-1, 8 * len(listeners))).cast("q")
        self._children: dict[int, Child] = {}
        # The totals of children that have ended.
        self._ended = Totals()
        # By the listener's number: when to start a missing child; its failures in a row; which PID it replaces.
        self._due = dict.fromkeys(range(len(listeners)), 0.0)
        self._failures = [0] * len(listeners)
        self._predecessors: dict[int, int] = {}
        self._failed = False
        self._lost = False

    def look_after(self, admin: HttpServer, orphans: Orphans, cut: Callable[[str], None]) -> None:
        """Let `supervise` answer the admin port and wait for the `orphans`; `cut` logs what the deadline cuts."""
        self._admin = admin
        self._orphans = orphans
        self._cut = cut

    def supervise(self, serve: Serve) -> None:
        """Have a child do `serve` on each listener until the stop is requested and every peer has what it is owed.

        Raises ChildrenFail when children end as soon as they start, ChildLost if one was lost at the stop.
        """
        name_thread("supervisor")
        self._serve = serve
        self._signals = open_signals()
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._signals, selectors.EVENT_READ, self._take_signal)
            self._selector.register(self._admin, selectors.EVENT_READ, self._admin.advance)
            self._start_those_due()
            while not self.stop.requested or self._children or self._orphans.count():
                if self.stop.requested and time.monotonic() >= self._deadline():
                    self._end("deadline")
                for key, _ in self._selector.select(self._seconds_to_wait()):
                    key.data()
                # Its clients that send nothing have deadlines, too.
                self._admin.advance()
                self._start_those_due()
        self._admin.close()
        os.close(self._signals)
        if self._failed:
            raise ChildrenFail(f"a process ended {FAILURES} times as soon as it was started")
        if self._lost:
            raise ChildLost

    # What Server answers, for all children

    def open_count(self) -> int:
        """As in Server, for all children."""
        return sum(self._open_counts)

    def open_counts(self) -> list[int]:
        """As in Server, for each child."""
        return list(self._open_counts)

    def totals(self) -> Totals:
        """As in Server, for all children, including those that have ended."""
        self._ask(ASK)
        totals = msgspec.structs.replace(self._ended)
        for child in self._children.values():
            totals.add(child.totals)
        return totals

    def accept_queue(self) -> int:
        """As in Server, for all listeners, some of which may be the same."""
        return sum(map(accept_queue, set(self.listeners)))

    def processes(self) -> list[int]:
        """The PIDs of the supervisor and its children."""
        return [os.getpid(), *(child.pid for child in self._children.values())]

    def frames(self) -> dict[int, Frame]:
        """As in Server, for the supervisor and its children."""
        self._ask(ASK_FRAMES)
        found = super().frames()
        for child in self._children.values():
            found |= child.frames
        return found

    def turn(self, dial: WorkDial) -> None:
        """As in Server, for all children, and for those that replace them."""
        super().turn(dial)
        for child in self._children.values():
            # Errors are ignored: a child that is gone is replaced, and a suspended one has room for many messages.
            with contextlib.suppress(OSError):
                child.channel.send(msgspec.json.encode(dial), socket.MSG_DONTWAIT)

    # The children's life

    def _start_those_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            self._start(number)

    def _start(self, number: int) -> None:
        """Fork a child for that listener; if the capacity has run out, try again later."""
        del self._due[number]
        with contextlib.ExitStack() as stack:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.enter_context(theirs)
                stack.enter_context(ours)
                pid = _fork()
            except OSError as error:
                self._due[number] = time.monotonic() + PAUSE_SECONDS
                self.warn("out_of_capacity", error=str(error), pause_seconds=PAUSE_SECONDS)
                return
            if pid == 0:
                self._be_child(number, ours, theirs)
            theirs.close()
            stack.pop_all()
        child = Child(number=number, pid=pid, channel=ours, started=time.monotonic())
        self._children[number] = child
        self._selector.register(ours, selectors.EVENT_READ, partial(self._listen_to, child))
        if number in self._predecessors:
            log.warning("child_started", pid=pid, replaces=self._predecessors[number])

    def _be_child(self, number: int, supervisors: socket.socket, channel: socket.socket) -> NoReturn:
        """The child's life. First it closes inherited descriptors that belong to the supervisor or a sibling.

        However it ends, it never returns into the supervisor's code.
        """
        try:
            self._selector.close()
            os.close(self._signals)
            self._admin.close()
            self._orphans.close()
            for inherited in (
                supervisors,
                *(child.channel for child in self._children.values()),
                *(listener for listener in self.listeners if listener is not self.listeners[number]),
            ):
                inherited.close()
            name_thread(self.model.slug)
            places = SharedPlaces(self._open_counts, number)
            server = ChildServer(self.model, self.settings, self.listeners[number], channel, places)
            server.watch(self.stop)
            server.compute_beside()
            self._serve(server)
            server.tell()
            leave(0)
        except BaseException as bug:
            crash(bug)
        finally:
            os._exit(os.EX_SOFTWARE)

    def _listen_to(self, child: Child) -> None:
        """Take a message of a child, or learn that it has ended."""
        if self._children.get(child.number) is not child:
            return  # A scrape has found that out already.
        try:
            message = child.channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            return  # The next read tells: a reset means that the child has ended with a question unread.
        if not message:
            self._bury(child)
            return
        match msgspec.json.decode(message, type=Told | Framed | Trouble):
            case Told(totals):
                child.totals = totals
                child.asked = max(0, child.asked - 1)
            case Framed(frames):
                child.frames = frames
                child.asked = max(0, child.asked - 1)
            case Trouble(event, fields):
                self.warn(event, **fields)

    def _bury(self, child: Child) -> None:
        """Add up the totals of a child that has ended, and replace it unless the server stops."""
        self._selector.unregister(child.channel)
        child.channel.close()
        del self._children[child.number]
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._ended.add(child.totals)
        connections = self._open_counts[child.number]
        self._open_counts[child.number] = 0
        if self.stop.requested and code == 0:
            return
        ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
        if self.stop.requested:
            self._lost = True
            log.warning("child_ended", pid=child.pid, ended=ended, connections=connections)
            return
        now = time.monotonic()
        failures = self._failures[child.number] + 1 if now - child.started < START_SECONDS else 0
        self._failures[child.number] = failures
        seconds = BACK_OFF_SECONDS * 2 ** (failures - 1) if failures else 0.0
        log.warning("child_ended", pid=child.pid, ended=ended, connections=connections, again_in_seconds=seconds)
        self._predecessors[child.number] = child.pid
        if failures == FAILURES:
            self._failed = True
            self._begin_to_stop()
        else:
            self._due[child.number] = now + seconds

    # The stop

    def _take_signal(self) -> None:
        if signal.sigtimedwait(SIGNALS, 0) is None:
            return
        if not self.stop.requested:
            self._begin_to_stop()
        elif is_second(self.stop.requested_at):
            self._end("second signal")

    def _begin_to_stop(self) -> None:
        """Have each child serve its accept queue and drain. Our listeners close first, so that no queue grows."""
        for number in list(self._due):
            self._start(number)
        self._due.clear()
        for listener in self.listeners:
            listener.close()
        # The children watch its descriptor.
        self.stop.request()

    def _end(self, reason: str) -> NoReturn:
        """Cut the connections that are left."""
        self._cut(reason)
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in self._children.values():
            os.waitpid(child.pid, 0)
        leave(1)

    def _deadline(self) -> float:
        return self.stop.requested_at + self.settings.drain_seconds

    def _seconds_to_wait(self) -> float | None:
        """Seconds until something is to be done that no descriptor announces; None: never."""
        now = time.monotonic()
        moments = list(self._due.values())
        if (seconds := self._admin.seconds_left()) is not None:
            moments.append(now + seconds)
        if self.stop.requested:
            moments.append(self._deadline())
            if not self._children:
                return DRAIN_TICK
        return max(0.0, min(moments) - now) if moments else None

    # What the admin port shows

    def _ask(self, question: bytes) -> None:
        """Ask each child a question. If one does not answer in time, its last answer counts."""
        late = self.stop.requested or any(child.asked for child in self._children.values())
        end = time.monotonic() + (LATE_BOOKS_SECONDS if late else BOOKS_SECONDS)
        for child in self._children.values():
            with contextlib.suppress(OSError):
                child.channel.send(question, socket.MSG_DONTWAIT)
                child.asked += 1
        while silent := {child.channel.fileno(): child for child in self._children.values() if child.asked}:
            poll = select.poll()
            for descriptor in (self._signals, *silent):
                poll.register(descriptor, select.POLLIN)
            ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
            # A signal is more urgent than a scrape.
            if not ready or any(descriptor == self._signals for descriptor, _ in ready):
                return
            for descriptor, _ in ready:
                self._listen_to(silent[descriptor])


def _fork() -> int:
    """fork(2). Python warns if there is another thread, because no thread would release its locks in the child.

    There is one, the log's. It holds only the locks of its queue and handler, which the child makes anew.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)
        return os.fork()

"""The server that misbehaves on command: a thread for each connection, which does what its script says.

Beyond the script it is honest: bytes come back with ASCII a-z made A-Z until the client's FIN, and then it closes.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator

import msgspec

from iolab import log
from iolab.kernel.threads import NoThread, name_thread, start_thread
from iolab.misbehave import grammar
from iolab.misbehave.grammar import BadScript, Script
from iolab.observe.admin import open_admin
from iolab.observe.http import Page, text
from iolab.registry import MISBEHAVE
from iolab.run import run_files
from iolab.run.serve import listening_on
from iolab.server.admission import PAUSE_SECONDS
from iolab.server.ending import crash_in_thread
from iolab.server.errors import BUGS, CAPACITY, GONE_BEFORE_ACCEPT
from iolab.server.limits import effective_limits
from iolab.server.listener import listen
from iolab.server.stop import Stop
from iolab.settings import Settings
from iolab.work import AT_ONCE as answer

READ_BYTES = 65536
# The admin port's paths that take scripts: for all connections from now on, and for the next ones only.
SCRIPT, NEXT = "/script", "/next"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How to misbehave."""

    script: str
    # The size of a message; None: whatever one read takes.
    message_bytes: int | None = None
    # The seed of all random choices; the same seed makes the same ones.
    seed: int | None = None


class Scripts:
    """Which script is the next connection's. Raises BadScript."""

    def __init__(self, order: Order) -> None:
        self.seed = secrets.randbelow(1 << 32) if order.seed is None else order.seed
        self.message_bytes = order.message_bytes
        self._text = order.script
        self._scripts = grammar.parse(order.script, order.message_bytes)
        self._next: deque[Script] = deque()
        # Connections since `_scripts` are in force, and those of them that were given one of `_scripts`.
        self._count = self._turn = 0
        self._lock = threading.Lock()
        # Readable after a change, so that a loop can wait for it beside other descriptors.
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable once the scripts have changed."""
        return self._changed

    def peek(self) -> Script:
        """The script of the next connection."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._changed)
            return self._next[0] if self._next else self._scripts[self._turn % len(self._scripts)]

    def take(self) -> tuple[int, Script]:
        """The number of the new connection, counted from 0, and its script."""
        with self._lock:
            number = self._count
            self._count += 1
            if self._next:
                return number, self._next.popleft()
            self._turn += 1
            return number, self._scripts[(self._turn - 1) % len(self._scripts)]

    def page(self, _accept: str) -> Page:
        """The script in force, as it was given."""
        return text(200, self._text)

    def receive(self, path: str, body: bytes) -> Page:
        """Change the scripts, as an HTTP request asks."""
        if path not in (SCRIPT, NEXT):
            return text(404, f"nothing is taken at {path}; PUT or POST a script to {SCRIPT} or {NEXT}")
        try:
            said = body.decode(errors="surrogateescape")
            scripts = grammar.parse(said, self.message_bytes)
        except BadScript as error:
            return text(400, str(error))
        with self._lock:
            if path == SCRIPT:
                self._next.clear()
                self._text, self._scripts, self._turn, self._count = said, scripts, 0, 0
            else:
                self._next.extend(scripts)
        os.eventfd_write(self._changed, 1)
        return text(200, "taken")


class _Left(Exception):
    """The client's FIN came in place of a message that a clause needs."""


class Treatment:
    """One connection, and what is done to it."""

    def __init__(self, sock: socket.socket, number: int, script: Script, scripts: Scripts, stop: Stop) -> None:
        self._sock = sock
        self._script = script
        self._message_bytes = scripts.message_bytes
        # One for each connection, so that the choices do not depend on which thread is faster.
        self._random = random.Random(f"{scripts.seed}/{number}")
        self._stop = stop
        # Whether the client's FIN was read.
        self._ended = False

    def hold(self) -> None:
        """Treat the connection to its end. Raises OSError if the client ends it other than by FIN."""
        with self._sock, contextlib.suppress(_Left):
            while self._go_through():
                pass
            if self._sock.fileno() >= 0:
                self._relay(None)

    def _go_through(self) -> bool:
        """Do the script once; return whether to repeat it."""
        for clause in self._script:
            # Drawn for each clause, so that changing one percentage changes no other choice.
            if self._random.random() * 100 >= clause.percent:
                continue
            match clause.verb:
                case grammar.Repeat():
                    return not self._ended
                case grammar.Reply(messages):
                    self._answer(messages)
                case grammar.Ignore(messages):
                    for _ in range(messages):
                        self._message()
                case grammar.Wait(seconds):
                    self._wait(seconds)
                case grammar.Drip(size, seconds):
                    self._drip(answer(self._message()), size, seconds)
                case grammar.Corrupt(at):
                    self._corrupt(at)
                case grammar.Double():
                    self._sock.sendall(answer(self._message()) * 2)
                case grammar.Swap():
                    first = self._message()
                    self._sock.sendall(answer(self._message()) + answer(first))
                case grammar.Banner(data):
                    self._sock.sendall(data)
                case last:
                    self._end(last)
                    return False
        return False

    # The verbs that do not fit into a line

    def _answer(self, messages: int | None) -> None:
        if messages is None:
            self._relay(None)
        elif self._message_bytes is None:
            for _ in range(messages):
                self._sock.sendall(answer(self._message()))
        else:
            self._relay(messages * self._message_bytes)

    def _corrupt(self, at: int) -> None:
        self._relay(at)
        rest = READ_BYTES if self._message_bytes is None else self._message_bytes - at
        wrong = bytearray(answer(self._read(min(READ_BYTES, rest))))
        wrong[0] ^= 1
        self._sock.sendall(wrong)
        if self._message_bytes is not None:
            self._relay(rest - len(wrong))

    def _drip(self, data: bytes, size: int, seconds: float) -> None:
        for place in range(0, len(data), size):
            self._wait(seconds)
            self._sock.sendall(data[place : place + size])

    def _end(self, verb: grammar.Verb) -> None:
        match verb:
            case grammar.Cut(size):
                self._relay(size)
                if self._message_bytes is not None:
                    self._skip(self._message_bytes - size)
                self._close()
            case grammar.Close():
                self._close()
            case grammar.Fin():
                self._sock.shutdown(socket.SHUT_WR)
                self._skip(None)
                self._sock.close()
            case grammar.Reset():
                # socket(7), SO_LINGER with 0.
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._sock.close()
            case grammar.NeverRead():
                # With no events asked for, poll(2) still reports a close by both sides, an RST and a vanished client
                # (keep-alive), but not a FIN.
                self._poll(0, None)
                self._sock.close()
            case grammar.NeverAnswer():
                self._skip(None)
                self._sock.close()

    def _close(self) -> None:
        """Close with FIN: with unread bytes at close(2) the kernel would send RST instead."""
        with contextlib.suppress(BlockingIOError):
            while self._sock.recv(READ_BYTES, socket.MSG_DONTWAIT):
                pass
        self._sock.close()

    # Bytes

    def _relay(self, size: int | None) -> None:
        """Answer `size` bytes as they come; None: all of them. Raises _Left if there are fewer."""
        for data in self._pieces(size):
            self._sock.sendall(answer(data))

    def _skip(self, size: int | None) -> None:
        """Read `size` bytes and answer none; None: all of them. Raises _Left if there are fewer."""
        for _ in self._pieces(size):
            pass

    def _message(self) -> bytes:
        """The next message, or the part that has come if the client breaks it off. Raises _Left if there is none."""
        if self._message_bytes is None:
            return self._read(READ_BYTES)
        message = bytearray()
        with contextlib.suppress(_Left):
            for data in self._pieces(self._message_bytes):
                message += data
        if not message:
            raise _Left
        return bytes(message)

    def _pieces(self, size: int | None) -> Iterator[bytes]:
        if size is None:
            with contextlib.suppress(_Left):
                while True:
                    yield self._read(READ_BYTES)
            return
        while size:
            data = self._read(min(READ_BYTES, size))
            size -= len(data)
            yield data

    def _read(self, size: int) -> bytes:
        data = b"" if self._ended else self._sock.recv(size)
        if not data:
            self._ended = True
            raise _Left
        return data

    def _wait(self, seconds: float) -> None:
        """Wait, or until the connection fails."""
        self._poll(0, seconds)

    def _poll(self, events: int, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        poll.register(self._stop, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)


class Misbehaving:
    """A listener, and the connections that it has accepted."""

    model = MISBEHAVE

    def __init__(self, listener: socket.socket, scripts: Scripts, stop: Stop) -> None:
        self._listener = listener
        self._scripts = scripts
        self.stop = stop
        # Logged once, until a client is served again.
        self._out_of_capacity = False

    def processes(self) -> list[int]:
        """The PID of the server."""
        return [os.getpid()]

    def serve(self) -> None:
        """Accept clients until the stop, except while the next script says never to accept."""
        self._listener.setblocking(False)
        while not self.stop.requested:
            never = isinstance(self._scripts.peek()[0].verb, grammar.NeverAccept)
            poll = select.poll()
            poll.register(self.stop, select.POLLIN)
            poll.register(self._scripts, select.POLLIN)
            if not never:
                poll.register(self._listener, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._listener.fileno() in ready and self._scripts.fileno() not in ready:
                self._accept()

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in CAPACITY:
                self._pause(error.strerror or str(error))
            elif error.errno not in GONE_BEFORE_ACCEPT:
                raise
            return
        sock.setblocking(True)
        number, script = self._scripts.take()
        try:
            start_thread(self._hold, f"client {number}", Treatment(sock, number, script, self._scripts, self.stop))
        except NoThread as error:
            sock.close()
            self._pause(str(error))
        else:
            self._out_of_capacity = False

    def _pause(self, reason: str) -> None:
        if not self._out_of_capacity:
            log.warning("out_of_capacity", error=reason, pause_seconds=PAUSE_SECONDS)
        self._out_of_capacity = True
        self.stop.wait(PAUSE_SECONDS)

    def _hold(self, treatment: Treatment) -> None:
        # Clients are here to be treated badly, so they may leave in any way.
        try:
            treatment.hold()
        except OSError as error:
            if error.errno in BUGS:
                raise


def run(settings: Settings, order: Order) -> int:
    """Misbehave until the stop; return the exit code. Raises BadScript, StartError.

    There is no drain: this server owes its clients nothing.
    """
    scripts = Scripts(order)
    log.configure(settings.log_level, MISBEHAVE.slug)
    name_thread(MISBEHAVE.slug)
    threading.excepthook = crash_in_thread
    with listening_on(settings.host, settings.port, "port"):
        listener = listen(settings)
    host, port = listener.getsockname()[:2]
    limits = effective_limits(MISBEHAVE, settings, listener)
    stop = Stop()
    stop.watch(settings.drain_seconds, lambda reason: log.warning("cut", reason=reason))
    server = Misbehaving(listener, scripts, stop)
    with listening_on(settings.host, settings.admin_port, "admin_port"):
        admin = open_admin(server, settings, {SCRIPT: scripts.page}, scripts.receive)
    start_thread(admin.serve_forever, "admin")
    with run_files.announced(MISBEHAVE.slug, host, port, admin.port, settings.drain_seconds):
        log.info(
            "listening",
            host=host,
            port=port,
            admin_port=admin.port,
            pid=os.getpid(),
            limits=msgspec.structs.asdict(limits),
            settings={"script": order.script, "message": order.message_bytes, "seed": scripts.seed},
        )
        server.serve()
    log.info("stopped")
    return 0

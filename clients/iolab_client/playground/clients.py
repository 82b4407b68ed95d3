"""The clients that a page can open by hand: one that says something, a silent crowd, one that never reads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import msgspec

from iolab_client.contract import peers
from iolab_client.playground.opened import Thing
from iolab_client.servers.targets import Target

CONNECT_SECONDS = 5.0
# How long an answer is waited for; the work dial may make each of them slow, and a pool may be full.
ANSWER_SECONDS = 10.0
READ_BYTES = 65536
# What a client that never reads can hold itself of what it sends and of its answers; the kernel doubles it.
SMALL_BUFFER_BYTES = 16384
# Nothing was taken for so long: the server does not read any more.
QUIET_SECONDS = 1.0


async def connect(target: Target, *, buffer_bytes: int | None = None) -> socket.socket:
    """A connection that does not block. Raises OSError."""
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(*target.address, type=socket.SOCK_STREAM))[0]
    client = socket.socket(family, kind, protocol)
    try:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(client, address)
    except BaseException:
        client.close()
        raise
    return client


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened on a connection, and when: milliseconds since its beginning."""

    ms: float
    what: str
    data: str = ""


class Transcript:
    """What was said on a connection, as netcat would show it, with the times."""

    def __init__(self) -> None:
        self.steps: list[Happened] = []
        self.answered_ms: float | None = None
        self._begin = time.monotonic()

    def note(self, what: str, data: bytes = b"") -> None:
        """Write down what has just happened."""
        ms = round((time.monotonic() - self._begin) * 1000, 1)
        self.steps.append(Happened(ms=ms, what=what, data=data.decode(errors="backslashreplace")))


async def say(target: Target, data: bytes, ending: str, patience_seconds: float) -> tuple[Transcript, Client | None]:
    """Connect, say `data`, hear the answer, and end as `ending` says; the client, if it is to stay.

    Whatever goes wrong on the way is in the conversation.
    """
    loop = asyncio.get_running_loop()
    told = Transcript()
    client: socket.socket | None = None
    try:
        client = await connect(target)
        told.note("connected")
        asked = time.monotonic()
        await loop.sock_sendall(client, data)
        told.note(f"said {len(data)} bytes", data)
        if ending == "half-close":
            peers.half_close(client)
            told.note("half-closed: it has said all, and still listens (FIN)")
        answer = await _hear(client, len(data), patience_seconds)
        if len(answer) == len(data):
            told.answered_ms = round((time.monotonic() - asked) * 1000, 1)
        told.note(f"heard {len(answer)} bytes", answer)
        if ending == "half-close":
            rest = await _hear(client, 1, patience_seconds)
            told.note("the server has closed, too (FIN)" if not rest else "the server said more than it should")
        if ending == "reset":
            peers.reset(client)
            told.note("reset: it has left without a farewell (RST); the server counts it as lost")
        elif ending == "stay":
            told.note("stays connected")
            return told, Client(client)
        else:
            told.note("closed")
    except TimeoutError:
        told.note(
            f"no answer within {patience_seconds:g} s" if client else f"no connection within {CONNECT_SECONDS:g} s"
        )
    except OSError as error:
        told.note(f"failed: {(error.strerror or str(error)).lower()}")
    if client:
        client.close()
    return told, None


async def _hear(client: socket.socket, size: int, seconds: float) -> bytes:
    """So many bytes; fewer if the server closes before. Raises TimeoutError, OSError."""
    heard = bytearray()
    async with asyncio.timeout(seconds):
        while len(heard) < size:
            piece = await asyncio.get_running_loop().sock_recv(client, READ_BYTES)
            if not piece:
                break
            heard += piece
    return bytes(heard)


class Client:
    """A connection that is kept, and watched for its end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.open = True
        asyncio.get_running_loop().add_reader(sock, self._hear)

    def close(self) -> None:
        """Leave."""
        if self.open:
            self.open = False
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _hear(self) -> None:
        try:
            if self._sock.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()


class Crowd(Thing):
    """Clients that are connected and say nothing; `first` is one who has said something before."""

    kind = "crowd"

    def __init__(self, page: str, target: Target, count: int, first: Client | None = None) -> None:
        super().__init__(page, target.name, count)
        self._target = target
        self._count = count
        self._clients: list[Client] = [first] if first else []
        self._complaint = ""
        self._opening = asyncio.create_task(self._open())

    def text(self) -> str:
        """As Thing."""
        there = sum(client.open for client in self._clients)
        said = f"{there} of {self._count} silent clients connected" if self._count > 1 else "a silent client, connected"
        if self._count == 1 and not there:
            said = "a silent client, not connected"
        if (gone := len(self._clients) - there) > 0:
            said += f"; the server has closed {gone}"
        return f"{said}{self._complaint}"

    async def end(self) -> None:
        """As Thing."""
        self._opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._opening
        for client in self._clients:
            client.close()

    async def _open(self) -> None:
        try:
            while len(self._clients) < self._count:
                self._clients.append(Client(await connect(self._target)))
        except TimeoutError:
            self._complaint = f"; the next one was not connected within {CONNECT_SECONDS:g} s"
        except OSError as error:
            self._complaint = f"; the next one failed: {(error.strerror or str(error)).lower()}"


class NeverReads(Thing):
    """A client that sends, and never takes an answer."""

    kind = "never-reads"

    def __init__(self, page: str, target: Target, most_bytes: int) -> None:
        super().__init__(page, target.name, 1)
        self._target = target
        self._most_bytes = most_bytes
        self._sent = 0
        self._moved = time.monotonic()
        self._ended = ""
        self._sending = asyncio.create_task(self._send())

    def text(self) -> str:
        """As Thing."""
        said = f"a client that never reads has sent {self._sent / 1024:,.0f} KiB"
        if self._ended:
            return f"{said}; {self._ended}"
        quiet = time.monotonic() - self._moved
        return (
            f"{said}; for {quiet:.0f} s the server has taken no more"
            if quiet >= QUIET_SECONDS
            else f"{said}, and goes on"
        )

    def more(self) -> dict[str, int]:
        """As Thing."""
        return {"sent_bytes": self._sent}

    async def end(self) -> None:
        """As Thing."""
        self._sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sending

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"not read " * 1024
        try:
            client = await connect(self._target, buffer_bytes=SMALL_BUFFER_BYTES)
        except OSError as error:
            self._ended = f"failed: {(error.strerror or str(error)).lower()}"
            return
        with client:
            try:
                while self._sent < self._most_bytes:
                    # A piece at a time, so that what was taken is known.
                    try:
                        self._sent += client.send(data)
                        self._moved = time.monotonic()
                        await asyncio.sleep(0)
                    except BlockingIOError:
                        await _writable(loop, client)
                self._ended = "that is as much as may be sent (`flood_bytes` in playground.yaml)"
                await asyncio.Event().wait()
            except OSError as error:
                self._ended = f"the server ended it: {(error.strerror or str(error)).lower()}"


async def _writable(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    """Wait until the socket takes something."""
    ready = asyncio.Event()
    loop.add_writer(client, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(client)

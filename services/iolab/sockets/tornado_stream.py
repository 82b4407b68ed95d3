"""Ring 1 for tornado: its stream, made to read only when asked."""

from __future__ import annotations

from collections.abc import Awaitable

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from iolab.sockets.framework import Stream


class PatientStream(IOStream):
    """Reads only when bytes were asked for and the loop says that some have come.

    An IOStream also tries to read before it waits, so that a flooding client would keep the loop to itself. While
    nobody reads, it watches its socket for the peer's end, and takes any FIN for that: a peer that has half-closed and
    waits would lose the answer that is being made.
    """

    looking_first = False
    unwatched = False

    def __init__(self, stream: Stream, buffer_size: int) -> None:
        super().__init__(stream.sock, read_chunk_size=buffer_size)
        # Tornado has no public name for the buffer's length.
        stream.held, stream.cut = self._write_buffer.__len__, self.close

    def read(self) -> Awaitable[bytes]:
        """The next bytes, as many as one recv(2) gives."""
        self.looking_first = True
        reading = self.read_bytes(self.read_chunk_size, partial=True)
        self.looking_first = False
        if self.unwatched:
            self.unwatched = False
            self.io_loop.update_handler(self.fileno(), IOLoop.READ | IOLoop.ERROR)
        return reading

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """The number of bytes that recv(2) put into `buf`, 0 at the end; None: nothing for now."""
        if self.looking_first:
            return None
        if self.reading():
            return super().read_from_fd(buf)
        # Bytes that nobody has asked for stay in the socket. Watching it now would report it as readable again at once.
        self.unwatched = True
        self.io_loop.update_handler(self.fileno(), IOLoop.ERROR | (IOLoop.WRITE if self.writing() else 0))
        return None

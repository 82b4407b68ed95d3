"""Ring 1 for tornado: its stream, reading when it is asked to, and at no other time."""

from __future__ import annotations

from collections.abc import Awaitable

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from iolab.sockets.framework import Stream


class PatientStream(IOStream):
    """Reads when somebody has asked for bytes and the loop says that some have come, and at no other time.

    An IOStream also looks before it waits, so that a client that floods would have the loop for itself. And it watches
    its socket while nobody reads, to learn that the peer has gone, and takes a FIN for that: also
    that of a peer who has said all and waits, and the answer that is being made would be lost.
    """

    looking_first = False
    unwatched = False

    def __init__(self, stream: Stream, buffer_size: int) -> None:
        super().__init__(stream.sock, read_chunk_size=buffer_size)
        # The buffer's length has no public name.
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
        """What recv(2) put into `buf`, 0 at the end; None: nothing for now."""
        if self.looking_first:
            return None
        if self.reading():
            return super().read_from_fd(buf)
        # What nobody has asked for stays in the socket. Not watched either: it would be readable again at once.
        self.unwatched = True
        self.io_loop.update_handler(self.fileno(), IOLoop.ERROR | (IOLoop.WRITE if self.writing() else 0))
        return None

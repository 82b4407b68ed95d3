"""Ring 1 for asyncio: its streams, with bounds on what they read and hold that a reader of its own does not keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iolab.settings import Settings
from iolab.sockets.framework import Stream


class Room:
    """Where the bytes of one client may be: in the reader, in hand and in the transport. One for each loop.

    Together that is high_water and one read at most.
    """

    def __init__(self, settings: Settings) -> None:
        # What is taken out of the reader at once, which holds as much before it lets the transport read no more.
        self.chunk_bytes = max(1, min(settings.buffer_size, settings.high_water // 2))
        # What the transport may hold of answers, before the reader's bytes are left where they are.
        self.most_held = max(0, settings.high_water - 2 * self.chunk_bytes)
        # What all receive into: it is emptied before anything else is read.
        self.buffer = memoryview(bytearray(settings.buffer_size))

    async def open(self, stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A reader and a writer for a client."""
        loop = asyncio.get_running_loop()
        # A reader has its transport pause above twice its limit.
        reader = asyncio.StreamReader(limit=max(1, self.chunk_bytes // 2))
        protocol = asyncio.StreamReaderProtocol(reader)
        receiver = Receiver(stream, reader, protocol, self.buffer)
        transport, _ = await loop.connect_accepted_socket(lambda: receiver, stream.sock)
        transport.set_write_buffer_limits(high=self.most_held)
        stream.held, stream.cut = transport.get_write_buffer_size, transport.abort
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Receiver(asyncio.BufferedProtocol):
    """Reads `buffer_size` at most, where a stream's own protocol is given up to 256 KiB at a time."""

    def __init__(
        self, stream: Stream, reader: asyncio.StreamReader, protocol: asyncio.StreamReaderProtocol, buffer: memoryview
    ) -> None:
        self._stream = stream
        self._buffer = buffer
        self._feed: Callable[[memoryview], None] = reader.feed_data
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's one buffer: it is emptied before anything else is read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read, unless the client was said farewell."""
        self._stream.received_bytes += nbytes
        if not self._stream.finishing:
            # It copies.
            self._feed(self._buffer[:nbytes])

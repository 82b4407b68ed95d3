"""Ring 1 for asyncio: its streams, with tighter bounds on what they read and hold than asyncio itself keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iolab.settings import Settings
from iolab.sockets.framework import Stream


class Room:
    """How much of one client may be in the reader, in hand and in the transport. One object serves an event loop.

    Together these are at most high_water and one read.
    """

    def __init__(self, settings: Settings) -> None:
        # Taken out of the reader at once. The reader pauses its transport when it holds as much.
        self.chunk_bytes = max(1, min(settings.buffer_size, settings.high_water // 2))
        # Bytes of answers that the transport may hold before the reader is left unread.
        self.most_held = max(0, settings.high_water - 2 * self.chunk_bytes)
        # Shared by all clients: it is emptied before the next read.
        self.buffer = memoryview(bytearray(settings.buffer_size))

    async def open(self, stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A reader and a writer for a client."""
        loop = asyncio.get_running_loop()
        # A reader pauses its transport above twice its limit.
        reader = asyncio.StreamReader(limit=max(1, self.chunk_bytes // 2))
        protocol = asyncio.StreamReaderProtocol(reader)
        receiver = Receiver(stream, reader, protocol, self.buffer)
        transport, _ = await loop.connect_accepted_socket(lambda: receiver, stream.sock)
        transport.set_write_buffer_limits(high=self.most_held)
        stream.held, stream.cut = transport.get_write_buffer_size, transport.abort
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Receiver(asyncio.BufferedProtocol):
    """Reads at most `buffer_size`, while asyncio's own protocol is given up to 256 KiB at a time."""

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
        """The loop's one buffer, which is emptied before the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read, unless this side has half-closed."""
        self._stream.received_bytes += nbytes
        if not self._stream.finishing:
            # feed_data copies the bytes.
            self._feed(self._buffer[:nbytes])

"""The echo server of asyncio's documentation, on uvloop: what asyncio_streams with `loop: uvloop` is measured against.

It keeps no contract: it spins when descriptors run out, and loses what is in flight at the stop.
"""

import asyncio
import contextlib

import uvloop


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client."""
    # A generator that leaves with answers on the way resets the connection.
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())

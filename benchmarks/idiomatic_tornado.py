"""Tornado's own echo server, as its documentation has it: what tornado_iostream is measured against.

It keeps no contract: it spins when descriptors run out, drops the answer of a client that half-closes while it is made,
and loses what is in flight at the stop.
"""

import asyncio

from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets
from tornado.tcpserver import TCPServer


class UpperServer(TCPServer):
    """Answers with upper case."""

    async def handle_stream(self, stream: IOStream, address: object) -> None:
        """One client."""
        while True:
            try:
                data = await stream.read_bytes(65536, partial=True)
                await stream.write(data.upper())
            except StreamClosedError:
                break


async def main() -> None:
    """Serve until killed."""
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    server = UpperServer()
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())

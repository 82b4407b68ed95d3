"""Tornado IOStream: several processes, and in each of them a coroutine per client on one loop.

Waits in   `await stream.read_bytes()`, `await stream.write()`; beneath them, one epoll_wait(2) in each process
Runs       `processes` at once, one thread each: a slow answer delays its own process, unless it awaits
Costs      an interpreter each; a stream and a task per client, two futures and a trip through the loop per answer
Breaks at  the descriptor limit
Compare    asyncio_streams (same coroutines, one process), prefork_epoll (same processes, no coroutines)
"""

from __future__ import annotations

import asyncio
import logging

from tornado.iostream import StreamClosedError

from iolab.processes.supervisor import Supervisor
from iolab.server.server import Server
from iolab.sockets.coroutines import serve_clients
from iolab.sockets.framework import Stream
from iolab.sockets.tornado_stream import PatientStream


def serve(server: Supervisor) -> None:
    """Serve until the stop is requested and every peer has received what it is owed."""
    # Tornado warns of peers' faults, which iolab counts instead.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    server.supervise(work)


def work(server: Server) -> None:
    """Run one process's event loop, after the fork."""
    asyncio.run(serve_clients(server, converse))


async def converse(server: Server, stream: Stream) -> None:
    """One client from its first byte to its last."""
    work = server.work
    client = PatientStream(stream, server.settings.buffer_size)
    try:
        while True:
            data = await client.read()
            stream.received_bytes += len(data)
            if stream.finishing:
                continue
            if work.wait_seconds:
                await asyncio.sleep(work.wait_seconds)
            respond = work.respond
            answer = respond(data)
            stream.answers += 1
            stream.sent_bytes += len(answer)
            # Back-pressure: nothing is read meanwhile, so at most one read is owed.
            await client.write(answer)
    except StreamClosedError:
        if isinstance(client.error, OSError):
            stream.error = client.error
    finally:
        # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
        client.close()
        server.books.closed(stream)

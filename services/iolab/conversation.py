"""Ring 1 for blocking code: one client from its first byte to its last, by whoever has nothing else to do meanwhile."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from iolab.connection import BUGS, begin_farewell, finished, unacknowledged
from iolab.server import DRAIN_TICK, Peer, Server
from iolab.session import Respond

# tcpi_state once the peer's FIN has come and ours has not gone: linux/tcp_states.h.
TCP_CLOSE_WAIT = 8


def converse(server: Server, peer: Peer, answer: Respond) -> None:
    """Answer `peer`, which `server.opened`, until it is over; then close it and the books on it.

    The socket blocks. A send that blocks is the back-pressure: nothing is read meanwhile, and one read at most is owed.
    """
    sock = peer.sock
    try:
        if server.settings.idle_seconds:
            _limit_silence(sock, server.settings.idle_seconds)
        while not server.stop.requested and (data := _receive(server, peer)):
            _reply(peer, data, answer)
        if server.stop.requested:
            _drain(server, peer, answer)
    except OSError as error:
        if error.errno in BUGS:
            raise
        peer.error = error
    finally:
        # The socket first: once the books are empty the process may end, and only closed sockets are waited for.
        sock.close()
        server.closed(peer)


def interrupt(server: Server) -> None:
    """Wake everyone who blocks in recv(2), so that they see the stop. Called once, after `stop.requested`."""
    for peer in server.open_peers():
        # Gone, or closed by its owner a moment ago.
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RD)


def _receive(server: Server, peer: Peer) -> bytes:
    """The next bytes; b"" at the peer's FIN, at the stop, and after `idle_seconds` in which nothing moved."""
    while True:
        in_flight = unacknowledged(peer.sock) if server.settings.idle_seconds else 0
        try:
            return peer.sock.recv(server.settings.buffer_size)
        except BlockingIOError:
            # Silence, unless the peer is still taking answers out of the kernel's buffer.
            if unacknowledged(peer.sock) == in_flight:
                return b""


def _reply(peer: Peer, data: bytes, answer: Respond) -> None:
    peer.received_bytes += len(data)
    reply = answer(data)
    peer.answers += 1
    peer.sock.sendall(reply)
    peer.sent_bytes += len(reply)


def _drain(server: Server, peer: Peer, answer: Respond) -> None:
    """Serve a peer until it is quiet, then say farewell.

    `interrupt` has shut the reading side, so that an empty read means nothing: later bytes can still be read, but
    nothing waits for them any more, and only the state of the connection tells the peer's FIN. Once our own FIN is sent,
    Linux answers later bytes with an RST (RFC 1122, 4.2.2.13), so that it goes only when all answers are acknowledged.
    """
    sock = peer.sock
    last_byte = server.stop.requested_at
    while True:
        # Asked before the read: a FIN that was there already has no bytes behind it.
        peer_finished = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE_WAIT
        sock.setblocking(False)
        try:
            data = sock.recv(server.settings.buffer_size)
        except BlockingIOError:
            data = b""
        sock.setblocking(True)
        if data:
            _reply(peer, data, answer)
            last_byte = time.monotonic()
        elif (
            peer_finished or time.monotonic() - last_byte >= server.settings.drain_quiet_seconds
        ) and not unacknowledged(sock):
            break
        else:
            time.sleep(DRAIN_TICK)
    begin_farewell(sock)
    while not finished(sock):
        time.sleep(DRAIN_TICK)


def _limit_silence(sock: socket.socket, seconds: float) -> None:
    """Have recv and send give up after `seconds`. `settimeout` would put a poll(2) before every call."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

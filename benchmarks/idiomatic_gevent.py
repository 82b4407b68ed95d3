"""Gevent's own echo server, StreamServer with recv and sendall: what gevent_greenlets is measured against.

It keeps no contract: nothing limits its clients, and what is in flight at the stop is lost.
"""

import socket

from gevent.server import StreamServer


def handle(sock: socket.socket, address: object) -> None:
    """One client."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(65536):
        sock.sendall(data.upper())


server = StreamServer(("127.0.0.1", 0), handle, backlog=1024)
server.start()
print(server.server_port, flush=True)
server.serve_forever()

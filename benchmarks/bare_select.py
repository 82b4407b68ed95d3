"""The least that a select server in Python can be: what select_loop is measured against. Keeps no contract."""

import select
import socket

listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(listener.getsockname()[1], flush=True)


def serve():
    listening = listener.fileno()
    sockets = {}
    watched = [listening]
    while True:
        for fd in select.select(watched, [], [])[0]:
            if fd == listening:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sockets[sock.fileno()] = sock
                watched.append(sock.fileno())
                continue
            sock = sockets[fd]
            try:
                data = sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                watched.remove(fd)
                sockets.pop(fd).close()
                continue
            sock.send(data.upper())


serve()

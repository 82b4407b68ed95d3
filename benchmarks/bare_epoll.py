"""The least that an epoll server in Python can be: what epoll_loop is measured against. Keeps no contract."""

import contextlib
import select
import socket
import sys

listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(listener.getsockname()[1], flush=True)
size = int(sys.argv[1]) if len(sys.argv) > 1 else 65536


def serve():
    listening = listener.fileno()
    poller = select.epoll()
    poller.register(listening, select.EPOLLIN)
    sockets = {}
    owed = {}
    while True:
        for fd, _ in poller.poll():
            if fd == listening:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sockets[sock.fileno()] = sock
                poller.register(sock.fileno(), select.EPOLLIN)
                continue
            sock = sockets[fd]
            if fd in owed:
                rest = owed.pop(fd)
                with contextlib.suppress(OSError):
                    rest = rest[sock.send(rest) :]
                if rest:
                    owed[fd] = rest
                else:
                    poller.modify(fd, select.EPOLLIN)
                continue
            try:
                data = sock.recv(size)
            except OSError:
                data = b""
            if not data:
                owed.pop(fd, None)
                poller.unregister(fd)
                sockets.pop(fd).close()
                continue
            answer = data.upper()
            try:
                sent = sock.send(answer)
            except BlockingIOError:
                sent = 0
            except OSError:
                poller.unregister(fd)
                sockets.pop(fd).close()
                continue
            if sent < len(answer):
                owed[fd] = memoryview(answer)[sent:]
                poller.modify(fd, select.EPOLLOUT)


serve()

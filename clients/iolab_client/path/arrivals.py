"""What comes to the back of a path, and which of it are the other ends of certain clients."""

from __future__ import annotations

import socket
from collections.abc import Sequence, Set

from iolab_client.path.ends import End, Fault, ready
from iolab_client.servers.address import Deadline

TOKEN_BYTES = 16
# How the two versions of the PROXY protocol begin.
PROXY_PROTOCOL = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
NO_PROXY_PROTOCOL = "haproxy: a server line without send-proxy; nginx: proxy_protocol off"


class DidNotCome(Fault):
    """The front accepted a connection, and the back has none of it."""


class Arrivals:
    """Connections as they come. Those of the clients say a token first; all others are strangers, and are closed."""

    def __init__(self, listeners: Sequence[socket.socket], tokens: Set[bytes], deadline_seconds: float) -> None:
        self._listeners = listeners
        self._tokens = tokens
        self._deadline_seconds = deadline_seconds
        self._found: dict[bytes, End] = {}
        # Who has not said all of its token, and what it said.
        self._begun: dict[socket.socket, bytes] = {}
        self._strangers: list[bytes] = []

    def find(self) -> dict[bytes, End]:
        """The end for each token. Raises Fault when none comes within the deadline after the one before."""
        deadline = Deadline(self._deadline_seconds)
        try:
            while missing := len(self._tokens) - len(self._found):
                try:
                    left = deadline.left()
                except TimeoutError:
                    raise DidNotCome(self._complaint(missing)) from None
                for sock in ready([*self._listeners, *self._begun], left):
                    if sock in self._listeners:
                        self._begun[sock.accept()[0]] = b""
                    elif self._hear(sock):
                        deadline = Deadline(self._deadline_seconds)
        except Fault:
            for end in self._found.values():
                end.close()
            raise
        finally:
            for sock in self._begun:
                sock.close()
        return self._found

    def _hear(self, sock: socket.socket) -> bool:
        """Hear more of what a connection says; whether it is one that was looked for."""
        before = self._begun.pop(sock)
        try:
            said = before + sock.recv(TOKEN_BYTES - len(before))
        except OSError:
            said = before
        if said in self._tokens:
            self._found[said] = End(sock, "server", self._deadline_seconds)
            return True
        if said != before and any(token.startswith(said) for token in self._tokens):
            self._begun[sock] = said
            return False
        sock.close()
        if said.startswith(PROXY_PROTOCOL):
            raise Fault("the server gets a header of the PROXY protocol first", NO_PROXY_PROTOCOL)
        self._strangers.append(said)
        return False

    def _complaint(self, missing: int) -> str:
        count = len(self._tokens)
        many = f"{missing} of {count} connections" if count > 1 else "the connection"
        text = f"{many} that the front accepted did not come to the back within {self._deadline_seconds:g} s"
        said = [*filter(None, self._begun.values()), *filter(None, self._strangers)]
        return f"{text}, but one that said {said[0]!r}" if said else text

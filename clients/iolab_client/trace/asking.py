"""The clients of a timeline: a few, one a little after the other, each with a few messages. The same for all models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from iolab_client.contract import peers
from iolab_client.servers.address import Address, connect
from iolab_client.servers.explain import explain

# Enough that a picture shows who came first, and less than any answer takes.
STAGGER_SECONDS = 0.01


class NotAnswered(Exception):
    """A client of the script got no answer, or a wrong one. The message is one line."""


@dataclass(kw_only=True)
class Question:
    """One message of one client. Seconds since the epoch, as strace's are."""

    text: str
    sent: float
    answered: float


@dataclass(kw_only=True)
class Visit:
    """A client from its connect(2) to its close(2). `port` is its own, by which the server's calls name it."""

    client: int
    port: int
    came: float
    left: float = 0.0
    questions: list[Question] = field(default_factory=list)


def ask(address: Address, clients: int, messages: int, deadline_seconds: float) -> list[Visit]:
    """Have `clients` come STAGGER_SECONDS apart; each sends a message as soon as it has the answer to the one before.

    Raises NotAnswered.
    """
    visits: list[Visit] = []
    failures: list[NotAnswered] = []
    begin = threading.Barrier(clients)

    def come(client: int) -> None:
        begin.wait()
        time.sleep(STAGGER_SECONDS * client)
        try:
            visits.append(_visit(address, client + 1, messages, deadline_seconds))
        except NotAnswered as error:
            failures.append(error)

    _in_threads(come, clients)
    if failures:
        raise failures[0]
    return sorted(visits, key=lambda visit: visit.client)


def _visit(address: Address, client: int, messages: int, deadline_seconds: float) -> Visit:
    came = time.time()
    try:
        with connect(address, deadline_seconds=deadline_seconds) as peer:
            visit = Visit(client=client, port=peer.getsockname()[1], came=came)
            for number in range(1, messages + 1):
                text = f"client {client}, message {number}\n"
                sent = time.time()
                answer = peers.ask(peer, text.encode(), deadline_seconds=deadline_seconds)
                visit.questions.append(Question(text=text, sent=sent, answered=time.time()))
                if answer != text.upper().encode():
                    raise NotAnswered(f"{text.strip()}: the answer is {answer!r}")
    except OSError as error:
        raise NotAnswered(f"client {client}: {explain(error)}") from None
    visit.left = time.time()
    return visit


def _in_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

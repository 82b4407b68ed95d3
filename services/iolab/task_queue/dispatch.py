"""A server's way to the workers and back: tasks sent through the broker, answers fetched from it by one thread.

How many connections that takes does not depend on the number of clients: those that publish are a small pool, and all
answers come over one.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from iolab import log
from iolab.kernel.threads import start_thread
from iolab.task_queue.address import RETRY_SECONDS, configured
from iolab.task_queue.application import ANSWER_SECONDS, NUMBER_BYTES
from iolab.task_queue.own_broker import own
from iolab.work import NoAnswer

if TYPE_CHECKING:
    from iolab.server.server import Server

# How long one fetch waits for an answer, and so how soon a broker that fell silent is noticed.
FETCH_SECONDS = 1.0
# How long after `visibility_timeout` a task is sent again: another worker has it within 3 s of that, whoever died when.
TAKE_OVER_SECONDS = 2.0


class _Task:
    """A message on its way: when it was sent the last time, and what came back."""

    __slots__ = ("answers", "sent")

    def __init__(self) -> None:
        # None in place of an answer: the broker may have forgotten the task.
        self.answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.sent = time.monotonic()


class Broker:
    """Sends each message as a task, and hands each answer to the thread that waits for it."""

    def __init__(self, server: Server, url: str) -> None:
        # Celery takes a while to import, and only this model needs it.
        from iolab.task_queue.application import COMMAND_SECONDS, ERRORS, application, register, store

        self._server = server
        # What a broker that is gone, or full, is noticed by.
        self._errors = ERRORS
        self._list = f"iolab:answers:{secrets.token_hex(8)}"
        self._app = application(server.settings, url)
        self._task = register(self._app)
        self._store = store(url, socket_timeout=FETCH_SECONDS + COMMAND_SECONDS)
        self._numbers = count()
        self._waiting: dict[int, _Task] = {}
        self._reachable = threading.Event()
        self._closing = False
        self._last_answer = 0.0
        # When the task was sent that the workers have come to: the queue keeps the order.
        self._front = 0.0
        self._overdue = server.settings.visibility_timeout + TAKE_OVER_SECONDS
        work = server.settings.work
        self._patience = server.settings.broker_seconds + work.cpu_us / 1_000_000 + work.wait_ms / 1000

    def start(self) -> None:
        """Begin to fetch answers, and open all connections that it will have: clients open none."""
        from iolab.task_queue.application import PUBLISHERS, QUEUE

        start_thread(self._fetch, "answers")
        tasks = self._app.amqp.queues[QUEUE]
        # Without a broker they are opened when it is there.
        with contextlib.suppress(*self._errors), contextlib.ExitStack() as taken:
            for _ in range(PUBLISHERS):
                taken.enter_context(self._app.producer_pool.acquire(block=True)).maybe_declare(tasks)

    def close(self) -> None:
        """Nobody waits for an answer any more: that the broker goes away now is no news."""
        self._closing = True

    def answer(self, data: bytes) -> bytes:
        """The answer to `data`, from whichever worker gets to it. Raises NoAnswer.

        A task whose turn is still to come is waited for as long as answers come to others; else for `broker_seconds`.
        """
        number = next(self._numbers)
        task = _Task()
        self._waiting[number] = task
        heard = task.sent
        try:
            self._send(number, data, task, heard)
            while True:
                now = time.monotonic()
                if self._front < task.sent:
                    heard = max(heard, self._last_answer)
                if now >= heard + self._patience:
                    raise NoAnswer(f"no worker answered within {self._server.settings.broker_seconds:g} s")
                # A worker that dies between taking a task and noting that it has it leaves no trace of it.
                overdue = max(heard, task.sent) + self._overdue
                if now >= overdue:
                    self._send(number, data, task, heard)
                    continue
                with contextlib.suppress(queue.Empty):
                    answer = task.answers.get(timeout=min(overdue, heard + self._patience) - now)
                    if answer is not None:
                        return answer
                    self._send(number, data, task, heard)
        finally:
            del self._waiting[number]

    def _send(self, number: int, data: bytes, task: _Task, heard: float) -> None:
        """Publish the task, however often that takes."""
        work = self._server.settings.work
        while (left := heard + self._patience - time.monotonic()) > 0:
            if not self._reachable.wait(left):
                break
            task.sent = time.monotonic()
            try:
                with self._app.producer_pool.acquire(block=True, timeout=left) as producer:
                    self._task.apply_async(
                        (self._list, number, data, work.cpu_us, work.wait_ms),
                        producer=producer,
                        retry=False,
                        # Else Celery spells the bytes out for its log.
                        argsrepr="",
                    )
                return
            except self._errors as error:
                log.debug("not_sent", error=str(error))
            time.sleep(RETRY_SECONDS)
        raise NoAnswer(f"the broker was not reached within {self._server.settings.broker_seconds:g} s")

    def _fetch(self) -> None:
        """Fetch answers; tell everyone who waits when the broker was gone, and has perhaps forgotten his task."""
        lost = False
        while not self._closing:
            try:
                if not self._reachable.is_set():
                    # It writes: a replica, to which no task could be sent, would answer a ping.
                    self._store.expire(self._list, ANSWER_SECONDS)
                    self._reachable.set()
                    if lost:
                        log.info("broker_back", waiting=len(self._waiting))
                        for task in list(self._waiting.values()):
                            task.answers.put(None)
                self._fetch_one()
            except self._errors as error:
                if not self._closing and (self._reachable.is_set() or not lost):
                    log.warning("broker_lost", error=str(error), waiting=len(self._waiting))
                lost = True
                self._reachable.clear()
                time.sleep(RETRY_SECONDS)

    def _fetch_one(self) -> None:
        found = self._store.blpop([self._list], timeout=FETCH_SECONDS)
        if found is None:
            return
        message = found[1]
        assert isinstance(message, bytes)
        self._last_answer = time.monotonic()
        # None waits for an answer that came twice: its task was sent or done again, and the first time was only slow.
        task = self._waiting.get(int.from_bytes(message[:NUMBER_BYTES]))
        if task is not None:
            self._front = max(self._front, task.sent)
            task.answers.put(message[NUMBER_BYTES:])


@contextlib.contextmanager
def open_broker(server: Server) -> Iterator[Broker]:
    """The way to the broker that is configured, or to one of the server's own for as long. Raises CannotServe."""
    with contextlib.ExitStack() as stack:
        url = configured(server.settings) or stack.enter_context(own())
        broker = Broker(server, url)
        broker.start()
        try:
            yield broker
        finally:
            broker.close()

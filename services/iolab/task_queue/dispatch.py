"""A server's way to the workers and back: tasks sent through the broker, answers fetched from it by one thread.

The number of connections does not depend on the number of clients: a small pool publishes, and all answers come over
one.
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

# How long one fetch waits for an answer, and so how soon a silent broker is noticed.
FETCH_SECONDS = 1.0
# How long after `visibility_timeout` a task is sent again: whenever a worker dies, another has its task within 3 s of
# that.
TAKE_OVER_SECONDS = 2.0


class _Task:
    """A message on its way: when it was last sent, and what came back."""

    __slots__ = ("answers", "sent")

    def __init__(self) -> None:
        # None in place of an answer: the broker may have lost the task.
        self.answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.sent = time.monotonic()


class Broker:
    """Sends each message as a task, and hands each answer to the thread that waits for it."""

    def __init__(self, server: Server, url: str) -> None:
        # Imported here: Celery takes a while, and only this model needs it.
        from iolab.task_queue.application import COMMAND_SECONDS, ERRORS, application, register, store

        self._server = server
        # The errors that show that the broker is gone, or full.
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
        # When the latest answered task was sent. The queue keeps the order, so workers have come that far.
        self._front = 0.0
        self._overdue = server.settings.visibility_timeout + TAKE_OVER_SECONDS

    @property
    def _patience(self) -> float:
        """Seconds without any answer after which a client is given up; it changes with the work dial."""
        work = self._server.settings.work
        return self._server.settings.broker_seconds + work.cpu_us / 1_000_000 + work.wait_ms / 1000

    def start(self) -> None:
        """Begin to fetch answers, and open all connections to the broker: clients open none."""
        from iolab.task_queue.application import PUBLISHERS, QUEUE

        start_thread(self._fetch, "answers")
        tasks = self._app.amqp.queues[QUEUE]
        # If the broker is not there yet, they are opened later.
        with contextlib.suppress(*self._errors), contextlib.ExitStack() as taken:
            for _ in range(PUBLISHERS):
                taken.enter_context(self._app.producer_pool.acquire(block=True)).maybe_declare(tasks)

    def close(self) -> None:
        """Expect no more answers: from now on it is no error if the broker goes away."""
        self._closing = True

    def answer(self, data: bytes) -> bytes:
        """The answer to `data`, from any worker. Raises NoAnswer.

        While the task's turn is still to come, this waits as long as others are answered; else for `broker_seconds`.
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
                # A worker that dies between taking a task and recording that leaves no trace of the task.
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
        """Publish the task, with as many tries as it takes."""
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
                        # Else Celery formats the bytes for its log.
                        argsrepr="",
                    )
                return
            except self._errors as error:
                log.debug("not_sent", error=str(error))
            time.sleep(RETRY_SECONDS)
        raise NoAnswer(f"the broker was not reached within {self._server.settings.broker_seconds:g} s")

    def _fetch(self) -> None:
        """Fetch answers; after the broker was gone, tell all waiting threads that it may have lost their tasks."""
        lost = False
        while not self._closing:
            try:
                if not self._reachable.is_set():
                    # A write, not a ping: a replica answers a ping, but takes no tasks.
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
        # No thread waits for a second answer: a task that was only slow was sent or done again.
        task = self._waiting.get(int.from_bytes(message[:NUMBER_BYTES]))
        if task is not None:
            self._front = max(self._front, task.sent)
            task.answers.put(message[NUMBER_BYTES:])


@contextlib.contextmanager
def open_broker(server: Server) -> Iterator[Broker]:
    """A connection to the configured broker, or to a broker of the server's own for the block. Raises CannotServe."""
    with contextlib.ExitStack() as stack:
        url = configured(server.settings) or stack.enter_context(own())
        broker = Broker(server, url)
        broker.start()
        try:
            yield broker
        finally:
            broker.close()

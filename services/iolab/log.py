"""The log: one JSON object a line on stdout, about the life of the server and not about its connections.

No serving or stopping thread ever waits for its reader: a pipe may be full, and a terminal may hold output back after
Ctrl-S. Lines go into a bounded queue, and a thread of their own writes them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import threading
import time
from typing import Any

from iolab.kernel.threads import NoThread, start_thread

_logger = logging.getLogger("iolab")

STDOUT = 1
# About a megabyte of lines that wait to be read.
QUEUE_LINES = 4096
# How long the end of a process waits for a reader that takes nothing.
FLUSH_SECONDS = 1.0
# When to write again, if another process that shares our output has made it non-blocking.
RETRY_SECONDS = 0.1


class _JsonFormatter(logging.Formatter):
    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "model": self._model,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


class _QueueHandler(logging.Handler):
    """Queues lines for a thread that writes them; drops and counts those for which there is no room.

    Its lock, which `logging` holds around `emit`, guards the count. No thread waits for anything while holding it.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.setFormatter(_JsonFormatter(model))
        self._forget()
        # A fork does not copy the writing thread, and the parent writes what is queued. That thread may have held the
        # lock of the queue during the fork, so the child gets a new queue.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A line, or an event to set when all lines before it are written.
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line. Once one is dropped, drop all that follow until the queue is empty."""
        if self._writer is None:
            try:
                self._writer = start_thread(self._write, "log", self._queue)
            except NoThread:
                self._dropped += 1
                return
        if self._dropped or self._queue.qsize() >= QUEUE_LINES:
            self._dropped += 1
        else:
            self._put(record)

    def wait_until_written(self, seconds: float) -> None:
        """Wait until all lines so far are written, at most `seconds`."""
        if self._writer is None:
            return
        written = threading.Event()
        self.acquire()
        try:
            self._tell_what_was_dropped()
            self._queue.put(written)
        finally:
            self.release()
        written.wait(seconds)

    def _put(self, record: logging.LogRecord) -> None:
        self._queue.put(self.format(record).encode() + b"\n")

    def _tell_what_was_dropped(self) -> None:
        if self._dropped:
            fields = {"fields": {"lines": self._dropped}}
            self._dropped = 0
            self._put(_logger.makeRecord(_logger.name, logging.WARNING, "", 0, "log_dropped", (), None, extra=fields))

    def _write(self, entries: queue.SimpleQueue[bytes | threading.Event]) -> None:
        while True:
            if self._dropped and entries.empty():
                self.acquire()
                self._tell_what_was_dropped()
                self.release()
            match entries.get():
                case threading.Event() as written:
                    written.set()
                case line:
                    # The reader has gone, such as a `head` at the end of the pipe, or the disk is full. That cannot be
                    # reported anywhere; the next line may succeed.
                    with contextlib.suppress(OSError):
                        write(STDOUT, line)


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however long that takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Not time.sleep or poll(2): gevent's versions would make a hub for this thread.
            threading.Event().wait(RETRY_SECONDS)


def configure(level: str, model: str) -> None:
    """Log to stdout as this model, from `level` (debug, info, warning) on."""
    _logger.handlers = [_QueueHandler(model)]
    _logger.setLevel(level.upper())
    _logger.propagate = False
    # For a process that ends by Python's own exit, after which its threads are frozen.
    atexit.register(flush)


def adopt(logger: logging.Logger) -> None:
    """Put a library's warnings among our lines."""
    logger.handlers = _logger.handlers
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait until the log is written, at most `seconds`: there may be no reader."""
    for handler in _logger.handlers:
        assert isinstance(handler, _QueueHandler)
        handler.wait_until_written(seconds)


def info(event: str, **fields: Any) -> None:
    """Log an event in the server's life."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: Any) -> None:
    """Log an event that somebody should look at."""
    _logger.warning(event, extra={"fields": fields})


def debug(event: str, **fields: Any) -> None:
    """Log an event of one connection."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug(event, extra={"fields": fields})

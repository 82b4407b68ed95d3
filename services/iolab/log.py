"""The log: one JSON object a line on stdout, about the life of the server and not about its connections.

Nobody who serves or stops ever waits for whoever reads it: a pipe may be full, and a terminal may hold its output back
after Ctrl-S. Lines go into a bounded queue, and one thread of its own writes them.
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
# About a megabyte of lines that wait for their reader.
QUEUE_LINES = 4096
# How long the end of a process waits for a reader who takes nothing.
FLUSH_SECONDS = 1.0
# When to try again where whoever shares our output has made it one that does not block.
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
    """Queues lines for a thread that writes them, and drops and counts those for which there is no room.

    Its lock, which `logging` holds around `emit`, guards the count. Nobody waits for anything while holding it.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.setFormatter(_JsonFormatter(model))
        self._forget()
        # The thread that writes is not forked with us, and what it has not written is the parent's to write. What it
        # held at that moment may be its queue's lock, so that the child gets a queue of its own.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A line, or somebody to tell that all lines before are written.
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line, or drop it: then also those that follow, until the queue was emptied."""
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
        """Wait until all lines so far are written, `seconds` at most."""
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
                    # The reader has gone, such as the `head` that it was piped into, or the disk is full: to whom
                    # should that be told? The next line may find somebody.
                    with contextlib.suppress(OSError):
                        write(STDOUT, line)


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however long that takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Not time.sleep, nor poll(2): gevent's would make a hub for this thread.
            threading.Event().wait(RETRY_SECONDS)


def configure(level: str, model: str) -> None:
    """Log to stdout from `level` (debug, info, warning) on, as this model."""
    _logger.handlers = [_QueueHandler(model)]
    _logger.setLevel(level.upper())
    _logger.propagate = False
    # For a process that ends as Python does: its threads are frozen after that.
    atexit.register(flush)


def adopt(logger: logging.Logger) -> None:
    """Have a library's warnings among our lines."""
    logger.handlers = _logger.handlers
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait until what was logged is written, `seconds` at most: nobody may read it."""
    for handler in _logger.handlers:
        assert isinstance(handler, _QueueHandler)
        handler.wait_until_written(seconds)


def info(event: str, **fields: Any) -> None:
    """Something that belongs to the server's life."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: Any) -> None:
    """Something that someone should look at."""
    _logger.warning(event, extra={"fields": fields})


def debug(event: str, **fields: Any) -> None:
    """Something about one connection."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug(event, extra={"fields": fields})

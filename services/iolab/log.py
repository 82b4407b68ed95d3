"""The log: one JSON object a line on stdout, about the life of the server and not about its connections."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

_logger = logging.getLogger("iolab")


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


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Go on without a word where nobody reads the log any more, such as the `head` that it was piped into."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)


def configure(level: str, model: str) -> None:
    """Log to stdout from `level` (debug, info, warning) on, as this model."""
    handler = _Handler(sys.stdout)
    handler.setFormatter(_JsonFormatter(model))
    _logger.handlers = [handler]
    _logger.setLevel(level.upper())
    _logger.propagate = False


def adopt(logger: logging.Logger) -> None:
    """Have a library's warnings among our lines."""
    logger.handlers = _logger.handlers
    logger.setLevel(logging.WARNING)
    logger.propagate = False


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

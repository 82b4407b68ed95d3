"""Why a model is not there, in words, as far as that is known here."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import deque

import aiohttp

from iolab.registry import Model
from iolab.run import run_files
from iolab_client.servers.targets import BadConfig, configured

# Of a server's last line in its log.
MOST_CHARACTERS = 300
LOG_BYTES = 8192


def in_compose() -> bool:
    """Whether this is a container beside those of the models."""
    return os.environ.get("IOLAB_IN_COMPOSE") == "1"


def why_not_there(model: Model, *, ever_seen: bool) -> str:
    """Of a model that has left no run file, as a plain process."""
    with contextlib.suppress(BadConfig):
        if reason := model.unavailable(configured(model)):
            return f"unavailable on this machine: {reason}"
    ended = "it has ended" if ever_seen else "it does not run"
    words = _last_words(model)
    return f"{ended}{f'; its log says: {words}' if words else ''}; `iolab up {model.slug}` starts it"


def why_unreachable(model: Model, error: Exception, *, ever_seen: bool) -> str:
    """Of a model whose admin port did not answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror) and in_compose():
        ended = "its container has ended" if ever_seen else "it has no container that runs"
        service = model.service
        return f"{ended}; `docker compose logs {service}` tells why, `docker compose up -d {service}` starts it"
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerDisconnectedError | ConnectionError):
        return "its admin port takes no connection: it is starting, or has ended"
    return f"its admin port says what is not understood: {' '.join(str(error).split())[:MOST_CHARACTERS]}"


def _last_words(model: Model) -> str:
    """The last line of the log that `iolab up --detach` keeps; empty if there is none."""
    try:
        with run_files.opened(run_files.folder()) as descriptor:
            log = os.open(f"{model.slug}.log", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            with os.fdopen(log, "rb") as opened:
                opened.seek(max(0, os.fstat(log).st_size - LOG_BYTES))
                last = deque(opened.read().decode(errors="replace").splitlines(), maxlen=1)
    except (OSError, run_files.UnusableFolder):
        return ""
    line = last[0] if last else ""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        said = json.loads(line)
        # What it was told to do is no reason.
        return "" if said["event"] == "stopped" else str(said.get("reason") or said.get("error") or said["event"])
    return line[:MOST_CHARACTERS]

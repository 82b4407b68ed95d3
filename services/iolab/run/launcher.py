"""All models and the playground as plain processes, without Docker: `iolab up` and `iolab down`.

The caller has blocked the stop's signals. They are taken between two steps, so that a signal always finds code that
ends what was started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from iolab.configs import load_playground
from iolab.kernel.parent import told_of_parents_end
from iolab.registry import MODELS, find
from iolab.run import run_files
from iolab.run.run_files import Running
from iolab.server.listener import shown
from iolab.server.stop import SIGNALS, is_second
from iolab.settings import Settings

# Long enough to import many modules on a busy machine.
START_SECONDS = 30
# How long `stop` waits beyond the servers' own drain_seconds.
GRACE_SECONDS = 10
TICK_SECONDS = 0.05
# Not a model, and not part of this package: it shows the models in a browser. And a library that only it needs.
PLAYGROUND = "playground"
PLAYGROUND_NEEDS = ("iolab_client", "aiohttp", "numpy")


class LaunchError(Exception):
    """A server that did not start, or did not stop. The message is shown to the user."""


def start(
    slugs: tuple[str, ...], settings: Mapping[str, Settings], folder: Path | None, *, detach: bool
) -> tuple[list[Running], dict[str, str]]:
    """Start the models `slugs` (all and the playground, if empty), each once: one that runs already is stopped first.

    `settings` are those of all models, which each server reads again from `folder`. Returns the servers, and the reason
    for each that this machine cannot run. Detached servers log to files in the run folder. Raises LaunchError,
    KeyboardInterrupt.
    """
    chosen = [slug if slug == PLAYGROUND else find(slug).slug for slug in slugs] or [*MODELS, PLAYGROUND]
    stop(chosen)
    ports = {PLAYGROUND: load_playground(folder).port} | {slug: values.port for slug, values in settings.items()}
    reasons = {slug: reason for slug in chosen if (reason := _unavailable(slug, settings))}
    chosen = [slug for slug in chosen if slug not in reasons]
    if not chosen:
        raise LaunchError("\n".join(f"{slug} is unavailable: {reason}" for slug, reason in reasons.items()))
    started: dict[str, subprocess.Popen[bytes]] = {}
    servers = []
    try:
        for slug in chosen:
            started[slug] = _start(slug, folder, detach=detach, hands_on=PLAYGROUND in chosen)
        for slug, process in started.items():
            server = _wait_until_announced(slug, process, detach=detach)
            if server.port != ports[slug]:
                raise LaunchError(f"{slug} listens on {server.port} instead of {ports[slug]}")
            servers.append(server)
    except BaseException:
        # Also at a signal: all models were asked for, not some of them.
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()
        raise
    return servers, reasons


def run_until_stopped(servers: list[Running]) -> int:
    """Wait until every server is gone; at a signal stop them. Return 1 if one of them failed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    children = {server.pid for server in servers}
    failed = False
    first = None
    while True:
        for child in tuple(children):
            try:
                pid, status = os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                # It ended at once: `subprocess` has collected its exit code, and does not report it.
                pid, status = child, os.EX_SOFTWARE
            children.discard(pid)
            failed = failed or status != 0
        if not children:
            return int(failed)
        if signal.sigwait({*SIGNALS, signal.SIGCHLD}) == signal.SIGCHLD:
            continue
        if first is None or is_second(first):
            first = first or time.monotonic()
            for child in children:
                os.kill(child, signal.SIGTERM)


def stop(slugs: list[str] | None = None) -> list[Running]:
    """Stop what `start` started, of the models `slugs` if given; return what was stopped.

    Raises LaunchError, KeyboardInterrupt.
    """
    try:
        # Files in a folder that others can write to could make us signal any process.
        with contextlib.suppress(FileNotFoundError), run_files.opened(run_files.folder()):
            pass
    except run_files.UnusableFolder as error:
        raise LaunchError(str(error)) from None
    wanted = [server for server in run_files.running() if server.by_up and (slugs is None or server.model in slugs)]
    servers = [server for server in wanted if run_files.stop(server)]
    end = time.monotonic() + GRACE_SECONDS + max((server.drain_seconds for server in servers), default=0)
    # A server removes its file a little before it ends.
    while left := [server for server in servers if server.lives()]:
        if time.monotonic() > end:
            names = ", ".join(f"{server.model} (pid {server.pid})" for server in left)
            raise LaunchError(f"still there after their drain_seconds: {names}; end them with kill -9")
        _tick()
    return servers


def table(servers: list[Running]) -> str:
    """A table of models and addresses, with a command to try for each."""
    rows = [("model", "address", "try it")]
    for server in servers:
        address = shown(server.host, server.port)
        line = f"printf 'hi\\n' | nc -N {server.host} {server.port}"
        if server.model == PLAYGROUND:
            line = f"open http://{address} in a browser"
        rows.append((server.model, address, line))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{model:{widths[0]}}  {address:{widths[1]}}  {line}" for model, address, line in rows)


def _unavailable(slug: str, settings: Mapping[str, Settings]) -> str | None:
    """Why this machine cannot run it; None if it can."""
    if slug != PLAYGROUND:
        return MODELS[slug].unavailable(settings[slug])
    missing = [name for name in PLAYGROUND_NEEDS if find_spec(name) is None]
    return f"{missing[0]} is not installed; pip install 'iolab[client]'" if missing else None


def _start(slug: str, folder: Path | None, *, detach: bool, hands_on: bool) -> subprocess.Popen[bytes]:
    words = ["iolab_client", slug] if slug == PLAYGROUND else ["iolab", "serve", slug]
    command = [sys.executable, "-P", "-m", *words]
    environment = os.environ | {run_files.STARTED_BY: run_files.BY_UP}
    if folder:
        environment["IOLAB_CONFIGS"] = str(folder)
    if hands_on:
        environment.setdefault("IOLAB_HANDS_ON", "1")
    if not detach:
        # Its own process group, so that `iolab up` alone passes on a terminal's signals, once. If `iolab up` dies, the
        # kernel tells the server to stop.
        told = told_of_parents_end(signal.SIGTERM)
        return subprocess.Popen(command, env=environment, process_group=0, preexec_fn=told)
    try:
        with (
            run_files.opened(run_files.folder(), make=True) as logs,
            os.fdopen(run_files.create(f"{slug}.log", logs), "wb") as log,
        ):
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    except OSError as error:
        raise LaunchError(f"{_log(slug)}: {error.strerror}") from None


def _log(slug: str) -> Path:
    return run_files.folder() / f"{slug}.log"


def _wait_until_announced(slug: str, process: subprocess.Popen[bytes], *, detach: bool) -> Running:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for server in run_files.running():
            if server.pid == process.pid:
                return server
        if process.poll() is not None:
            said = "its message is above"
            if detach:
                said = _log(slug).read_text(errors="replace").strip() or "it said nothing"
            raise LaunchError(f"{slug} ended with exit {process.returncode}: {said}")
        _tick()
    raise LaunchError(f"{slug} (pid {process.pid}) did not listen within {START_SECONDS} s")


def _tick() -> None:
    """Wait a moment. Raises KeyboardInterrupt if a signal comes."""
    if signal.sigtimedwait(SIGNALS, TICK_SECONDS):
        raise KeyboardInterrupt

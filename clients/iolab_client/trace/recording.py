"""A fresh server as a process under strace(1), and the clients that ask it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from iolab.registry import MODELS, Model
from iolab_client.servers.address import Address
from iolab_client.servers.printed import NotListening, wait_until_listening
from iolab_client.trace import refusal
from iolab_client.trace.asking import NotAnswered, Visit, ask
from iolab_client.trace.calls import parse
from iolab_client.trace.lanes import Timeline, timeline
from iolab_client.trace.threads import Traced

# Threads and children too, the time as Perfetto reads it, how long each call took, what each descriptor is, and enough
# of a message to know it by. The calls of a start, which nobody looks at, cost the most.
STRACE = ("strace", "-f", "-ttt", "-T", "-yy", "-s", "64")
START_SECONDS = 120.0
END_SECONDS = 20.0
# Beyond what the answers themselves take, one after the other.
ANSWER_SECONDS = 60.0
# The last calls are those that the last answer causes.
AFTER_SECONDS = 0.05
PROCESSES = 2


class CannotTrace(Exception):
    """Nothing can be recorded. The message is one line that says what is in the way, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the clients do: the same for all models. Each answer takes `wait_ms` milliseconds."""

    clients: int = 3
    messages: int = 2
    wait_ms: int = 50

    @property
    def deadline_seconds(self) -> float:
        """How long a client waits for an answer: as if every answer were made alone."""
        return ANSWER_SECONDS + self.clients * self.messages * self.wait_ms / 1000


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was recorded of one model: the tracers' texts by name, and what they mean."""

    timeline: Timeline
    texts: dict[str, str]


def record(model: Model, script: Script, configs: Path | None) -> Recording:
    """Start the model under strace as a process of this machine, ask it, stop it. Raises CannotTrace."""
    if os.environ.get("IOLAB_IN_COMPOSE") == "1":
        raise CannotTrace("the client's container starts no servers; run `.venv/bin/iolab-client trace` on the machine")
    if shutil.which(STRACE[0]) is None:
        raise CannotTrace(refusal.NO_STRACE)
    with tempfile.TemporaryDirectory(prefix="iolab-trace-") as name:
        folder = Path(name)
        settings = write_configs(model, script, configs, folder / "configs")
        with _server(model, settings, folder) as (address, text):
            visits = have_asked(model, address, script)
        record = text.read_text(errors="replace")
    return Recording(
        timeline=timeline(model.slug, script.wait_ms, visits, [Traced(strace=parse(record.splitlines()))]),
        texts={model.slug: record},
    )


def clearest(record: Callable[[], Recording], tries: int) -> Recording:
    """Of several recordings the one in which the machine was least in the way. Raises CannotTrace.

    That is the one that was over first; of a model with several processes, of those in which most of them served.
    """

    def order(one: Recording) -> tuple[int, float]:
        readers = {passage.reader for passage in one.timeline.passages}
        processes = {lane.process for lane in one.timeline.lanes if lane.key in readers}
        return -len(processes), one.timeline.end

    return min((record() for _ in range(tries)), key=order)


def have_asked(model: Model, address: Address, script: Script) -> list[Visit]:
    """Play the script, in which whoever answered once before has imported, started and connected what it needs to.

    Raises CannotTrace.
    """
    try:
        ask(address, script.clients, 1, script.deadline_seconds)
        time.sleep(AFTER_SECONDS)
        visits = ask(address, script.clients, script.messages, script.deadline_seconds)
    except NotAnswered as error:
        raise CannotTrace(f"{model.slug}: {error}") from None
    time.sleep(AFTER_SECONDS)
    return visits


def write_configs(model: Model, script: Script, configs: Path | None, folder: Path) -> Path:
    """A folder of YAML files like the user's, in which each answer of the model takes what the script says."""
    defaults = _yaml(configs / "defaults.yaml") if configs else {}
    own = {"port": model.port, **(_yaml(configs / "models" / f"{model.slug}.yaml") if configs else {})}
    own["work"] = {**(own.get("work") or {}), "wait_ms": script.wait_ms}
    if model.forks and own.get("processes") is None:
        # As many as a picture has room for, and the same on every machine.
        own["processes"] = PROCESSES
    (folder / "models").mkdir(parents=True)
    (folder / "defaults.yaml").write_text(yaml.safe_dump(defaults or {"work": {"wait_ms": script.wait_ms}}))
    for slug in MODELS:
        values = own if slug == model.slug else {"port": MODELS[slug].port}
        (folder / "models" / f"{slug}.yaml").write_text(yaml.safe_dump(values))
    return folder


def _yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CannotTrace(f"{file}: {' '.join(str(error).split())}; `iolab check-config` tells more") from None
    return values if isinstance(values, dict) else {}


@contextlib.contextmanager
def _server(model: Model, configs: Path, folder: Path) -> Iterator[tuple[Address, Path]]:
    """A server under strace: where it listens, and the file that has the record once the block has ended."""
    text, log = folder / "strace", folder / "log"
    command = [*STRACE, "-o", str(text), sys.executable, "-P", "-m", "iolab", "serve", model.slug]
    command += ["--configs", str(configs), "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]
    # Its own broker, and no run file that others would take it for the user's server by.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("IOLAB_")}
    environment["IOLAB_RUN_DIR"] = str(folder / "run")
    tracer, pid = None, 0
    # An interrupt in the middle of the start would leave the tracer behind. The server sets its own mask.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        try:
            with log.open("wb") as output:
                # A group of its own: Ctrl-C is for us, and we end it.
                tracer = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0, env=environment
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            listening = wait_until_listening(tracer.poll, partial(log.read_text, errors="replace"), START_SECONDS)
        except NotListening as error:
            raise CannotTrace(refusal.reason(error.printed) or f"{model.slug}: {error}") from None
        pid = int(listening["pid"])
        yield ("127.0.0.1", int(listening["port"])), text
    finally:
        if tracer:
            _end(tracer, pid)


def _end(tracer: subprocess.Popen[bytes], pid: int) -> None:
    """Stop the server, and its tracer with it, which ends when its last process has."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            tracer.wait(END_SECONDS)
            return
    # The tracer takes no signal but this; what it has started is of its group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(tracer.pid, signal.SIGKILL)
    tracer.wait()

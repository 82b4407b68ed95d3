"""The target `process`: servers as plain processes of this machine, on ports that the kernel picks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from iolab import broker
from iolab.registry import Model
from iolab.settings import Settings as ServerSettings
from tests.support.fork_server import ForkServer
from tests.support.server import ForkedServer, Settings, Target, skip
from tests.support.waiting import DEADLINE_SECONDS

BUSY_POLL_NICENESS = 5


def environment(folder: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would reach a server through it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("IOLAB_")}
    return kept | {"IOLAB_RUN_DIR": str(folder / "run")} | dict(changes or {})


class Process(ForkedServer):
    """A server that is a process of its own session."""

    host = "127.0.0.1"

    def __init__(self, model: Model, settings: Settings, folder: Path, pid: int) -> None:
        super().__init__(model, settings)
        self._folder = folder
        self._pid = pid

    def read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""

    def beside(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        # It may have ended a moment ago, and its exit code not be there yet.
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def remove(self) -> None:
        # The whole group: a server may have children, and may be suspended.
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
        self.wait()


class ProcessTarget(Target):
    """Starts processes, each in a folder of its own."""

    name = "process"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="iolab-test-")
        interpreter = [sys.executable, "-W", "error"]
        self._fork_server = ForkServer(interpreter, environment=environment(Path(self._folder.name)))
        self._parts = contextlib.ExitStack()
        self._broker_url = ""

    def start(self, model: Model, settings: Settings, *, prefix: Sequence[str] | None = None, port: int = 0) -> Process:
        """Start a server. `prefix` is a command that runs another one, such as `prlimit`."""
        if model.parts:
            settings = {"broker_url": self._broker(), **settings}
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        pid = self._fork_server.start(
            model,
            str(folder),
            ["--port", str(port), "--config", str(config)],
            environment={"IOLAB_RUN_DIR": str(folder / "run")},
            # It polls as long as it is there; whoever else is tested meanwhile comes first.
            niceness=BUSY_POLL_NICENESS if model.slug == "busy_poll" else 0,
            prefix=prefix,
        )
        return Process(model, settings, folder, pid)

    def start_alone(self, model: Model, settings: Settings) -> Process:
        return self.start(model, settings)

    def _broker(self) -> str:
        """The URL of a broker with a worker, which all servers here that need one share."""
        if not self._broker_url:
            if reason := broker.unavailable(ServerSettings()):
                skip(reason)
            self._broker_url = self._parts.enter_context(broker.own())
        return self._broker_url

    def close(self) -> None:
        self._fork_server.close()
        self._parts.close()
        self._folder.cleanup()

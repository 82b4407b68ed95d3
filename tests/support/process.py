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
from tests.support.server import RunningServer, Settings, Target, skip
from tests.support.waiting import DEADLINE_SECONDS

BUSY_POLL_NICENESS = 5


def environment(folder: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would reach a server through it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("IOLAB_")}
    return kept | {"IOLAB_RUN_DIR": str(folder / "run")} | dict(changes or {})


class Process(RunningServer):
    """A server that is a process of its own session."""

    host = "127.0.0.1"

    def __init__(self, model: Model, settings: Settings, folder: Path, prefix: Sequence[str], port: int) -> None:
        super().__init__(model, settings)
        self._stdout = folder / "stdout"
        self._stderr = folder / "stderr"
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        command = [sys.executable, "-W", "error", "-m", "iolab", "serve", model.slug]
        command += ["--port", str(port), "--config", str(config)]
        if model.slug == "busy_poll":
            # It polls as long as it is there; whoever else is tested meanwhile comes first.
            command = ["nice", f"--adjustment={BUSY_POLL_NICENESS}", *command]
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*prefix, *command],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._stdout.read_text()

    def errors(self) -> str:
        return self._stderr.read_text()

    def beside(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        return self._process.wait(seconds)

    def remove(self) -> None:
        if self._process.poll() is None:
            # The whole group: a server may have children, and may be suspended.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class ProcessTarget(Target):
    """Starts processes, each in a folder of its own."""

    name = "process"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="iolab-test-")
        self._parts = contextlib.ExitStack()
        self._broker_url = ""

    def start(self, model: Model, settings: Settings, *, prefix: Sequence[str] = (), port: int = 0) -> Process:
        """Start a server. `prefix` is a command that runs another one, such as `prlimit`."""
        if model.parts:
            settings = {"broker_url": self._broker(), **settings}
        return Process(model, settings, Path(tempfile.mkdtemp(dir=self._folder.name)), prefix, port)

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
        self._parts.close()
        self._folder.cleanup()

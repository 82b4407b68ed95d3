"""The target `process`: servers as plain processes of this machine, on ports that the kernel picks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from iolab.registry import Model
from iolab.settings import Settings as ServerSettings
from iolab.task_queue import address, own_broker
from tests.support.fork_server import ForkServer
from tests.support.missing import skip
from tests.support.output import Output
from tests.support.server import ForkedServer, Settings, Target
from tests.support.waiting import DEADLINE_SECONDS

BUSY_POLL_NICENESS = 5


def environment(folder: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would reach a server through it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("IOLAB_")}
    return kept | {"IOLAB_RUN_DIR": str(folder / "run")} | dict(changes or {})


class Process(ForkedServer):
    """A server that is a process of its own session. Its stdout may be one of which the test reads what it wants."""

    host = "127.0.0.1"

    def __init__(self, *arguments: Any, stdout: Output | None = None, **start: Any) -> None:
        self._stdout = stdout
        if stdout is not None:
            start["stdout"] = stdout.path
        super().__init__(*arguments, **start)

    def await_first_line(self) -> None:
        if self._stdout is None:
            super().await_first_line()

    def output(self) -> str:
        return super().output() if self._stdout is None else self._stdout.read()

    def beside(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout


class ProcessTarget(Target):
    """Starts processes, each in a folder of its own."""

    name = "process"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="iolab-test-")
        interpreter = [sys.executable, "-W", "error"]
        self._fork_server = ForkServer(interpreter, environment=environment(Path(self._folder.name)))
        self._parts = contextlib.ExitStack()
        self._broker_url = ""

    def start(
        self,
        model: Model,
        settings: Settings,
        *,
        prefix: Sequence[str] | None = None,
        port: int = 0,
        **outputs: Any,
    ) -> Process:
        """Start a server. `prefix` is a command that runs another one, such as `prlimit`.

        `stdout` may be an Output, and `stderr` a path.
        """
        if model.parts:
            settings = {"broker_url": self._broker(), **settings}
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        return Process(
            model,
            settings,
            self._fork_server,
            str(folder),
            ["--port", str(port), "--config", str(config)],
            environment={"IOLAB_RUN_DIR": str(folder / "run")},
            # It polls as long as it is there; whoever else is tested meanwhile comes first.
            niceness=BUSY_POLL_NICENESS if model.slug == "busy_poll" else 0,
            prefix=prefix,
            **outputs,
        )

    def start_alone(self, model: Model, settings: Settings) -> Process:
        return self.start(model, settings)

    def _broker(self) -> str:
        """The URL of a broker with a worker, which all servers here that need one share."""
        if not self._broker_url:
            if reason := address.unavailable(ServerSettings()):
                skip(reason)
            self._broker_url = self._parts.enter_context(own_broker.own())
        return self._broker_url

    def close(self) -> None:
        self._fork_server.close()
        self._parts.close()
        self._folder.cleanup()

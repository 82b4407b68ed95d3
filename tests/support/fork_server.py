"""A fork server: nine tenths of a server's start are imports, which its servers find done already.

This module is its handle for the tests. It is its program too, run wherever the servers run, a container's inside
included, where there is nothing of the tests: as text, with nothing imported at the top that is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iolab.registry import Model

END_SECONDS = 60
LOOK_SECONDS = 0.01
FIRST_LINE_SECONDS = 10.0


class ForkServer:
    """Starts servers by fork(2) out of a process that has imported all that every server imports.

    Nothing of a model is among it: what a framework sets up when it is imported is done by the server itself. That each
    model also starts as users start it is seen by the tests that give a `prefix`, and by those of whole containers.

    Each server has a folder. It is its working directory, and has its files `stdout` and `stderr`, and `code` when it
    has ended: its exit code, or -N where signal N ended it.
    """

    def __init__(self, interpreter: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """`interpreter` is the command of one where the servers shall be."""
        command = [*interpreter, "-P", "-c", Path(__file__).read_text()]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(
        self,
        model: Model,
        folder: str,
        options: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
        prefix: Sequence[str] | None = None,
        stdout: str = "stdout",
        stderr: str = "stderr",
    ) -> int:
        """Start `iolab serve` in a session of its own; return its process id, as itself sees it.

        With a `prefix`, a command that runs another one, it is started as anyone would: nothing is imported before. So
        is a model before which nothing may be. `stdout` and `stderr` are paths, of a pipe or a terminal perhaps; a
        terminal becomes that of its session.
        """
        if model.patches and prefix is None:
            prefix = []
        pid: int = self._ask(
            "start",
            folder=folder,
            arguments=["serve", model.slug, *options],
            environment=dict(environment or {}),
            niceness=niceness,
            prefix=None if prefix is None else list(prefix),
            stdout=stdout,
            stderr=stderr,
        )
        return pid

    def read(self, folder: str, name: str) -> str:
        """What is in a file of a server's folder; empty if it is not there."""
        text: str = self._ask("read", folder=folder, name=name)
        return text

    def await_first_line(self, folder: str) -> None:
        """Wait until a server has printed something or ended, for ten seconds at most: whoever asked looks again."""
        self._ask("await_first_line", folder=folder)

    def kill(self, folder: str, pid: int, number: signal.Signals) -> None:
        """Send a signal to a server, unless it has ended."""
        self._ask("kill", folder=folder, pid=pid, number=int(number))

    def remove(self, folder: str, pid: int) -> None:
        """End a server and its children at once, if they are still there, and remove the folder."""
        self._ask("remove", folder=folder, pid=pid)

    def _ask(self, order: str, **arguments: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([order, arguments]).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the fork server ended: exit {self._process.wait(END_SECONDS)}")
        return json.loads(answer)

    def close(self) -> None:
        """End it; its servers stay."""
        self._process.communicate(timeout=END_SECONDS)


def take_orders() -> None:
    """Do what each line of stdin asks for, until there is no more. Returns in those processes too that serve."""
    orders: dict[str, Callable[..., object]] = {
        "read": read,
        "await_first_line": await_first_line,
        "kill": kill,
        "remove": remove,
    }
    import_module("iolab.__main__")
    import_module("iolab.run.serve")
    # Nobody asks for the keepers' exit codes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        if name != "start":
            print(json.dumps(orders[name](**arguments)), flush=True)
        elif os.fork() == 0:
            # The server answers, when it has become one.
            keep(**arguments)
            return


def keep(folder: str, **arguments: Any) -> None:
    """Have a child become the server, and leave its exit code in the folder."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    child = os.fork()
    if child == 0:
        become_server(**arguments)
        return
    # The pipes are the fork server's: to hold them would hide its end.
    redirect("/dev/null", "/dev/null", "/dev/null")
    _, status = os.waitpid(child, 0)
    with open("code.part", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(status)))
    # Who looks sees all of it or nothing.
    os.rename("code.part", "code")
    os._exit(0)


def become_server(
    *,
    arguments: list[str],
    environment: dict[str, str],
    niceness: int,
    prefix: list[str] | None,
    stdout: str,
    stderr: str,
) -> None:
    """Be `iolab` with these arguments. Returns as `iolab` does."""
    os.setsid()
    os.nice(niceness)
    os.environ.update(environment)
    # Whoever runs the tests may be under nohup(1).
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    print(os.getpid(), flush=True)
    redirect("/dev/null", stdout, stderr)
    if prefix is None:
        from iolab.__main__ import main

        main(arguments, prog_name="iolab")
    else:
        # What the interpreter ignores for itself; what it handles, the kernel resets.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        command = [*prefix, sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-m", "iolab", *arguments]
        os.execvp(command[0], command)


def read(folder: str, name: str) -> str:
    """A file; empty if it is not there."""
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def await_first_line(folder: str) -> None:
    """Wait until there is something in `stdout`, or an exit code."""
    deadline = time.monotonic() + FIRST_LINE_SECONDS
    while not read(folder, "stdout") and not read(folder, "code") and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def kill(folder: str, pid: int, number: int) -> None:
    """Send a signal, unless there is an exit code."""
    # It may have ended a moment ago, and its exit code not be there yet.
    with contextlib.suppress(ProcessLookupError):
        if not read(folder, "code"):
            os.kill(pid, number)


def remove(folder: str, pid: int) -> None:
    """Kill, wait for the exit code, remove the folder."""
    # The whole group: a server may have children, and may be suspended.
    kill(folder, -pid, signal.SIGKILL)
    while not read(folder, "code"):
        time.sleep(LOOK_SECONDS)
    shutil.rmtree(folder)


def redirect(stdin: str, stdout: str, stderr: str) -> None:
    """Read from and write to these files, which are made anew."""
    for descriptor, name in enumerate((stdin, stdout, stderr)):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(name, flags, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)


if __name__ == "__main__":
    take_orders()

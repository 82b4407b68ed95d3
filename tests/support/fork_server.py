"""A fork server: nine tenths of a server's start are imports, which its servers find done already.

This module is its handle for the tests. It is its program too, run wherever the servers run, a container's inside
included, where there is nothing of the tests: as text, with nothing imported at the top that is not there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iolab.registry import Model

END_SECONDS = 60


class ForkServer:
    """Starts servers by fork(2) out of a process that has imported all that every server imports.

    Nothing of a model is among it: what a framework sets up when it is imported is done by the server itself.
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
    ) -> int:
        """Start `iolab serve` in a session of its own; return its process id, as itself sees it.

        `folder` is made if there is none. It is the server's working directory, and has its files `stdout` and
        `stderr`, and `code` when it has ended: its exit code, or -N where signal N ended it. With a `prefix`, a command
        that runs another one, it is started as anyone would; so is a model before which nothing may be imported.
        """
        if model.patches and prefix is None:
            prefix = []
        order = {
            "folder": folder,
            "arguments": ["serve", model.slug, *options],
            "environment": dict(environment or {}),
            "niceness": niceness,
            "prefix": None if prefix is None else list(prefix),
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the fork server ended: exit {self._process.wait(END_SECONDS)}")
        return int(answer)

    def close(self) -> None:
        """End it; its servers stay."""
        self._process.communicate(timeout=END_SECONDS)


def take_orders() -> None:
    """Start what each line of stdin asks for, until there is no more. Returns in those processes too that serve."""
    import_module("iolab.__main__")
    import_module("iolab.serve")
    # Nobody asks for the keepers' exit codes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            keep(json.loads(line))
            return


def keep(order: dict[str, Any]) -> None:
    """Have a child become the server, and leave its exit code in the folder."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = order["folder"]
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    child = os.fork()
    if child == 0:
        become_server(**order)
        return
    # The pipes are the fork server's and the server's: to hold them would hide the end of either.
    redirect("/dev/null", "/dev/null", "/dev/null")
    _, status = os.waitpid(child, 0)
    with open("code.part", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(status)))
    # Who looks sees all of it or nothing.
    os.rename("code.part", "code")
    os._exit(0)


def become_server(
    *, folder: str, arguments: list[str], environment: dict[str, str], niceness: int, prefix: list[str] | None
) -> None:
    """Be `iolab` with these arguments. Returns as `iolab` does."""
    os.setsid()
    os.nice(niceness)
    os.environ.update(environment)
    print(os.getpid(), flush=True)
    redirect("/dev/null", "stdout", "stderr")
    if prefix is None:
        from iolab.__main__ import main

        main(arguments, prog_name="iolab")
    else:
        # What the interpreter ignores for itself; what it handles, the kernel resets.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        command = [*prefix, sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-m", "iolab", *arguments]
        os.execvp(command[0], command)


def redirect(stdin: str, stdout: str, stderr: str) -> None:
    """Read from and write to these files, which are made anew."""
    for descriptor, name in enumerate((stdin, stdout, stderr)):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(name, flags, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)


if __name__ == "__main__":
    take_orders()

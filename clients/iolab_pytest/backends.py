"""Where a fixture's servers run: as processes of this machine, or in containers."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from iolab_client.servers.address import Address
from iolab_client.servers.printed import NotListening, wait_until_listening
from iolab_pytest import CannotStart
from iolab_pytest.kept import Kept

# An interpreter's imports on a machine that is busy with something else. Nothing is judged by this.
START_SECONDS = 60.0
# The image's, whatever model it serves: services/image.sh.
IMAGE = "iolab"
PORT, ADMIN_PORT = 8000, 9100
DOCKER_SECONDS = 60
# A broker of task_queue has its socket in /tmp.
HARDENING = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


class Listening(NamedTuple):
    """A program that listens, and where its ports are reached from here."""

    program: Kept
    address: Address
    admin: Address


def start_process(arguments: Sequence[str], folder: Path) -> Listening:
    """`iolab` with these arguments, on ports that the kernel picks; `folder` has what it leaves. Raises CannotStart."""
    # A test that fails here shall show its own line.
    __tracebackhide__ = True
    command = [sys.executable, "-P", "-m", "iolab", *arguments, "--port", "0", "--admin-port", "0"]
    program = Kept(command, _environment(folder), folder)
    listening = _wait_until_listening(program, arguments)
    host = str(listening["host"])
    return Listening(program, (host, int(listening["port"])), (host, int(listening["admin_port"])))


def start_container(arguments: Sequence[str], folder: Path) -> Listening:
    """The same in a container of $IOLAB_IMAGE, or `iolab`, on loopback ports that the engine picks.

    Raises CannotStart.
    """
    __tracebackhide__ = True
    if shutil.which("docker") is None:
        raise CannotStart("backend: got 'docker', but there is no docker command; install one, or leave it out")
    name = f"iolab-pytest-{secrets.token_hex(6)}"
    ports = [f"--publish=127.0.0.1::{port}" for port in (PORT, ADMIN_PORT)]
    image = os.environ.get("IOLAB_IMAGE") or IMAGE
    # It passes SIGTERM on, and removes the container when that has ended.
    command = ["docker", "run", "--rm", "--no-healthcheck", f"--name={name}", *HARDENING, *ports, image, *arguments]
    program = Kept(command, dict(os.environ), folder)
    _wait_until_listening(program, arguments)
    return Listening(program, _published(name, PORT), _published(name, ADMIN_PORT))


def _environment(folder: Path) -> dict[str, str]:
    """Ours, without what would reach a server through it; whoever looks for the user's servers finds none of these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("IOLAB_")}
    return kept | {"IOLAB_RUN_DIR": str(folder)}


def _published(name: str, port: int) -> Address:
    command = ["docker", "port", name, f"{port}/tcp"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER_SECONDS, check=True).stdout
    host, _, published = shown.splitlines()[0].rpartition(":")
    return host, int(published)


def _wait_until_listening(program: Kept, arguments: Sequence[str]) -> dict[str, Any]:
    """Its `listening` line. Raises CannotStart, after the program's end."""
    __tracebackhide__ = True
    try:
        return wait_until_listening(program.ended, program.printed, START_SECONDS)
    except NotListening as error:
        program.end()
        # Docker's own line is followed by advice.
        docker = next((line for line in error.printed.splitlines() if line.startswith("docker: ")), None)
        raise CannotStart(f"iolab {' '.join(arguments)}: {docker or error}") from None

"""Where a run is made: machine, kernel, Python, libraries, commit.

`python -m iolab_client.results.environment` prints the interpreter's part, so that a container can be asked for it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from iolab.checkout import CHECKOUT
from iolab_client.results.measurement import Environment

PROJECT = "iolab"
GIT_SECONDS = 10


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A Python, and the project's libraries that are installed in it."""

    python: str
    libraries: dict[str, str]


def interpreter() -> Interpreter:
    """The running interpreter."""
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in metadata.requires(PROJECT) or ()}
    libraries = {}
    for name in sorted(names - {PROJECT}, key=str.lower):
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Interpreter(python=platform.python_version(), libraries=libraries)


def machine(place: str) -> Environment:
    """This machine, with this process's interpreter."""
    here = interpreter()
    return Environment(
        place=place,
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=here.python,
        libraries=here.libraries,
        git_commit=commit(),
        load_average=os.getloadavg()[0],
    )


def processor() -> str:
    """The processor's name; "unknown" if the kernel shows none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.processor() or "unknown"


def commit() -> str | None:
    """`git describe --always --dirty` of the checkout that this runs from; None outside a checkout."""
    if CHECKOUT is None:
        # Where a package is installed, git would describe another project.
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(interpreter()))

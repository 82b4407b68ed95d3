"""The parts written in C: the image has them compiled, elsewhere the machine's C compiler does it once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from iolab.checkout import CHECKOUT

# Where the image keeps what it has compiled.
INSTALLED = Path("/opt/iolab/compiled")
# The same as in services/Dockerfile.
COMPILER = ("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class NotCompiled(Exception):
    """This machine has no such program and cannot compile it. The message says why and what to do, in one line."""


def compiled(source: Path, name: str, *options: str) -> Path:
    """The file `name`, compiled from `source`: the image's, or one that is compiled now if it is not there yet.

    It is kept in the checkout, or else in the user's cache. Raises NotCompiled.
    """
    if (INSTALLED / name).exists():
        return INSTALLED / name
    # Another source has another folder, not another file name: top and ps show that.
    made = _folder() / "compiled" / hashlib.sha256(source.read_bytes()).hexdigest()[:16] / name
    if made.exists():
        return made
    if shutil.which(COMPILER[0]) is None:
        raise NotCompiled(f"no {name}: no C compiler; install gcc and libc6-dev")
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: if two processes compile at once, neither runs half a program.
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            part = Path(folder, made.name)
            command = [*COMPILER, *options, "-o", str(part), str(source)]
            compiler = subprocess.run(command, capture_output=True, text=True, check=False)
            if compiler.returncode != 0:
                first = next(iter(compiler.stderr.splitlines()), f"exit {compiler.returncode}")
                raise NotCompiled(f"no {name}: {COMPILER[0]} fails: {first}")
            part.rename(made)
    except OSError as error:
        raise NotCompiled(f"no {name}: {error.filename or made.parent}: {error.strerror}") from None
    return made


def _folder() -> Path:
    if CHECKOUT:
        return CHECKOUT / ".tools"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iolab"

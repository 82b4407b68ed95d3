"""The wheel, built as for a release and installed apart from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.installed import Installed
from tests.support.missing import skip

CHECKOUT = Path(__file__).parents[2]
# What scripts/setup.sh makes .venv with.
UV = CHECKOUT / ".tools" / "uv" / "bin" / "uv"
# A crowded machine takes its time.
BUILD_SECONDS = 240


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The sdist, and the wheel that is built out of it."""
    folder = tmp_path_factory.mktemp("distributions")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True, timeout=BUILD_SECONDS)
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def wheel(distributions: list[Path]) -> Path:
    """The wheel."""
    (found,) = (path for path in distributions if path.suffix == ".whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment that has the wheel, and beside it an empty folder to use it in.

    What it depends on is borrowed from the environment of the tests, so that nobody needs a network. The checkout is
    not: its place is told there by a .pth file, and those of a borrowed folder are not read. With $IOLAB_PYTHON, which
    is another interpreter, the dependencies are installed for that one.
    """
    folder = tmp_path_factory.mktemp("installed")
    environment = folder / "environment"
    if not UV.exists():
        skip(f"there is no {UV.relative_to(CHECKOUT)}: make check")
    other = os.environ.get("IOLAB_PYTHON")
    needs = [f"{wheel}[all]", "pytest"] if other else ["--offline", "--no-deps", str(wheel)]
    for command in (
        ["venv", "--python", other or sys.executable, str(environment)],
        ["pip", "install", "--python", str(environment), *needs],
    ):
        subprocess.run([UV, *command], check=True, capture_output=True, timeout=BUILD_SECONDS)
    if not other:
        (packages,) = environment.glob("lib/python3*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    return Installed(environment / "bin", folder / "empty")

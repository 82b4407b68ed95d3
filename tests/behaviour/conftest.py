"""What several of these modules are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launcher import Launcher


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """The commands in a folder of their own; what they have started is stopped at the end."""
    launcher = Launcher(tmp_path)
    yield launcher
    code, _, errors = launcher.run("down")
    assert code == 0, errors

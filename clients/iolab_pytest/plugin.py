"""The entry point `pytest11`: two fixtures, and nothing that a test session notices which asks for neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from iolab_pytest import MisbehavingFactory, ServerFactory
    from iolab_pytest.lab import Lab


@pytest.fixture(scope="session")
def _iolab_lab(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The servers of this session; under pytest-xdist each worker has a session of its own."""
    from iolab_pytest.lab import Lab
    from iolab_pytest.report import FailureReport

    report = FailureReport()
    pytestconfig.pluginmanager.register(report)
    with Lab(tmp_path_factory.mktemp("iolab"), report.note) as lab:
        yield lab
    pytestconfig.pluginmanager.unregister(report)


@pytest.fixture(scope="session")
def iolab_server(_iolab_lab: Lab) -> ServerFactory:
    """Gives servers that answer each byte in ASCII upper case: iolab_server("epoll_loop", backlog=16).address."""
    return _iolab_lab.server


@pytest.fixture(scope="session")
def iolab_misbehaving(_iolab_lab: Lab) -> MisbehavingFactory:
    """Gives servers that misbehave on command: iolab_misbehaving("answer 2; reset").address."""
    return _iolab_lab.misbehaving

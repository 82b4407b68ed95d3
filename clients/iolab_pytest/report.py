"""What a failed test is told of its servers: their logs, and what each of their threads was doing."""

from __future__ import annotations

from collections.abc import Generator
from http.client import HTTPException
from typing import Any

import pytest

from iolab_pytest.servers import KeptServer

# Of a log that many tests have added to.
SHOWN_LINES = 50
# A server that does not tell by then has something to tell by that.
LOOK_SECONDS = 5.0


class FailureReport:
    """A plugin that is registered as soon as a server is asked for, and notes who has used which."""

    def __init__(self) -> None:
        # The fixtures that are being set up, the innermost last.
        self._setting_up: list[str] = []
        # A dict, because it keeps the order, and each of them once.
        self._by_fixture: dict[str, dict[KeptServer, None]] = {}
        self._by_test: dict[KeptServer, None] = {}

    def note(self, server: KeptServer) -> None:
        """Somebody was given a server: the test that runs, or a fixture, for the tests that use it."""
        used = self._by_fixture[self._setting_up[-1]] if self._setting_up else self._by_test
        used[server] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Note which fixture asks."""
        self._setting_up.append(fixturedef.argname)
        self._by_fixture[fixturedef.argname] = {}
        try:
            return (yield)
        finally:
            self._setting_up.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add what there is to tell, while the servers are as the failure has left them."""
        report = yield
        if report.failed:
            for server in self._used_by(item):
                host, port = server.address
                title = f"iolab {server.name} at {host}:{port}"
                report.sections.append((f"{title}: log", _last_lines(server.log)))
                report.sections.append((f"{title}: threads", _threads(server)))
        if call.when == "teardown":
            self._by_test.clear()
        return report

    def _used_by(self, item: pytest.Item) -> list[KeptServer]:
        used = dict(self._by_test)
        for name in getattr(item, "fixturenames", ()):
            used |= self._by_fixture.get(name, {})
        return list(used)


def _last_lines(text: str) -> str:
    lines = text.splitlines()
    left_out = [f"... {len(lines) - SHOWN_LINES} lines before"] if len(lines) > SHOWN_LINES else []
    return "\n".join([*left_out, *lines[-SHOWN_LINES:]])


def _threads(server: KeptServer) -> str:
    """A line for each thread: process, thread, the kernel's letter for its state, what it waits in."""
    try:
        seen = server.threads(deadline_seconds=LOOK_SECONDS)
    except (OSError, ValueError, HTTPException) as error:
        return f"not to be had: {error}" if server.runs else "it has ended"
    rows = [
        ("process", "thread", "state", "in"),
        *((f"{one.process} {one.pid}", one.name, one.state, one.syscall) for one in seen),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    )

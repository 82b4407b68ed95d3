"""What this machine lacks: a test that cannot run is skipped by name; in CI, which installs what it needs, it fails."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

# What no installation can bring: such a test is named at the end, but CI passes without it.
KERNEL = "this machine's kernel: "


def skip(reason: str) -> NoReturn:
    """Skip the test for want of a program, an engine, a compiler. `reason` says what is missing and how to get it."""
    pytest.skip(reason)


def skip_for_kernel(reason: str) -> NoReturn:
    """Skip the test for what the machine's kernel, or who runs it, does not grant."""
    pytest.skip(f"{KERNEL}{reason}")


def reason_of(report: pytest.TestReport) -> str:
    """Why a test was skipped."""
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def fail_in_ci(report: pytest.TestReport) -> None:
    """In CI a skipped test would look like a passed one."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = reason_of(report)
        if not reason.startswith(KERNEL):
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not accept: {reason}"


def summary(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each reason, the one that cost most tests first."""
    counted = Counter(reason_of(report) for report in reports)
    return [f"{count} tests: {reason}" for reason, count in counted.most_common()]

"""`choose` as a user meets it: the ranked table with the command that checks it, and the refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iolab_client.__main__ import main
from iolab_client.results import bundle
from tests.client.runs import comparison

WANTED = ("-c", "64", "-R", "5k", "--p99", "50ms")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["choose", *arguments])


@pytest.fixture
def measured() -> Path:
    folder = Path("results/one")
    bundle.save(comparison(("epoll_loop", "task_queue"), connections=(64,), rounds=3), folder)
    return folder


def test_the_models_are_ranked_with_the_reason_and_the_command_that_checks_it(measured: Path) -> None:
    result = run(*WANTED)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "epoll_loop" in line or "task_queue" in line]
    assert "it answers up to" in lines[0]
    assert "5,000 are wanted" in lines[1]
    assert "iolab-client load epoll_loop -c 64 -R 5000 -s 64 --fail-if 'p99>50000us'" in result.stdout
    assert json.loads(run(str(measured), *WANTED, "--json").stdout)["candidates"][0]["model"] == "epoll_loop"


def test_it_refuses_where_nothing_was_measured_near_by_and_says_how_to_measure_it(measured: Path) -> None:
    result = run(str(measured), "-c", "5000", "-R", "5k", "--p99", "50ms", "--wait", "5ms")
    assert result.exit_code == 1
    assert "nothing was measured near by" in result.stderr
    assert "measured were 64 connections" in result.stderr
    assert "iolab-client compare -c 5000 -s 64 -R 5000, with work: {wait_ms: 5, cpu_us: 0}" in result.stderr


def test_without_a_bundle_it_says_who_makes_one() -> None:
    result = run(*WANTED)
    assert result.exit_code == 1
    assert "no bundle in docs/results or results/*; `iolab-client compare` makes one" in result.stderr

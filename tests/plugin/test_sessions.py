"""Whole test sessions with the plugin, and without it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually

FAILS = """
import pytest


@pytest.fixture(scope="module")
def address(iolab_server):
    return iolab_server("poll_loop").address


def test_by_a_fixture(address):
    assert address is None


def test_by_itself(iolab_misbehaving):
    assert iolab_misbehaving("close") is None


def test_passes(address):
    assert address


def test_uses_none():
    assert False
"""
WAITS = """
import json, os, time


def test_waits(iolab_server, iolab_misbehaving):
    servers = [iolab_server("prefork_epoll", processes=2), iolab_misbehaving("never-answer")]
    pids = {thread.pid for server in servers for thread in server.threads()}
    with open("pids.part", "w") as file:
        json.dump(sorted(pids), file)
    os.rename("pids.part", "pids")
    time.sleep(600)
"""
USES_NONE = """
import sys


def test_it_has_loaded_nothing_but_the_plugin(request):
    assert request.config.pluginmanager.has_plugin("iolab")
    loaded = {name.partition(".")[0] for name in sys.modules} & {"iolab", "iolab_client", "msgspec", "yaml"}
    assert loaded == set()


def test_the_options_are_its_own(request):
    assert request.config.getoption("--backend") == "mine"


def test_so_are_its_fixtures(server):
    assert server == "mine"
"""
USES_NONE_CONFTEST = """
import pytest


def pytest_addoption(parser):
    parser.addoption("--backend", default="mine")
    parser.addoption("--target", default="mine")


@pytest.fixture
def server():
    return "mine"
"""
# What else is installed here is not the subject, and takes its time to load.
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:valkey", "-p", "no:timeout")


def test_a_failed_test_tells_what_its_servers_said_and_did(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    # Divided among workers: what is told has to reach the session that shows it.
    result = pytester.runpytest_subprocess(*ALONE, "-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=1, failed=3)
    told = {}
    for part in result.stdout.str().split("\n___")[1:]:
        name = part.strip("_ ").split()[0]
        told[name] = part
    for name, server, waits in (("test_by_a_fixture", "poll_loop", "poll"), ("test_by_itself", "misbehave", "poll")):
        other = {"poll_loop": "misbehave", "misbehave": "poll_loop"}[server]
        assert f" iolab {server} at 127.0.0.1:" in told[name]
        assert '"event": "listening"' in told[name]
        assert next(line.split()[-1] for line in told[name].splitlines() if line.startswith(f"{server} ")) == waits
        assert f"iolab {other} at" not in told[name]
    assert "iolab " not in told["test_uses_none"].partition("short test summary")[0]


def test_nothing_is_left_when_pytest_is_killed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WAITS)
    known = Path(pytester.path, "pids")
    command = [sys.executable, "-m", "pytest", *ALONE]
    with subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.DEVNULL) as session:
        try:
            eventually(known.exists, "its servers are there")
            pids = json.loads(known.read_text())
            # A supervisor and its two children, and one that misbehaves; between them and the session, their keepers.
            assert len(pids) == 4
            family = psutil.Process(session.pid).children(recursive=True)
            assert {process.pid for process in family} >= set(pids)
        finally:
            session.send_signal(signal.SIGKILL)
    eventually(lambda: not any(process.is_running() for process in family), "all of them are gone")


def test_a_project_that_uses_no_fixture_notices_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_NONE)
    pytester.makeconftest(USES_NONE_CONFTEST)
    result = pytester.runpytest_subprocess(*ALONE, "-W", "error", "--strict-markers", "--strict-config")
    result.assert_outcomes(passed=3)

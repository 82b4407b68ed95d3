"""The commands as a user meets them: what they print where, and their exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iolab.run import run_files
from iolab_client.__main__ import main
from iolab_client.contract.clauses import CLAUSES
from iolab_client.servers.address import Address, show
from tests.client import fakes
from tests.client.fakes import Fake, admin_serving, serving
from tests.support.misbehave import misbehaving


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def epoll_loop() -> Iterator[Fake]:
    """An honest server with an admin port that is found as the model of that name."""
    with (
        serving(fakes.honest) as fake,
        admin_serving(lambda: len(fake.open)) as admin,
        run_files.announced("epoll_loop", *fake.address, admin[1], 5),
    ):
        yield fake


@pytest.mark.usefixtures("epoll_loop")
def test_try_shows_model_address_answer_and_time() -> None:
    result = run("try", "größe", "epoll-loop")
    assert result.exit_code == 0
    assert "GRößE" in result.stdout
    assert "time (ms)" in result.stdout


def test_try_says_why_a_model_does_not_answer(epoll_loop: Fake, refusing: Address) -> None:
    result = run("try", "hi", "--json", "epoll_loop", show(refusing))
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)
    assert (good["model"], good["address"], good["answer"]) == ("epoll_loop", show(epoll_loop.address), "HI")
    assert good["error"] is None
    assert (bad["address"], bad["answer"]) == (show(refusing), None)
    assert bad["error"].startswith("connection refused; start it with `make up`")


def test_try_shows_a_wrong_answer_and_fails() -> None:
    with misbehaving("banner WELCOME") as fake:
        result = run("try", "hi", show(fake.address))
    assert result.exit_code == 1
    assert "byte 0 of 2" in result.stdout


def test_an_answer_cannot_drive_the_terminal() -> None:
    with serving(fakes.honest) as fake:
        result = run("try", "\x1b[31mred [bold]", show(fake.address))
    assert "\x1b" not in result.stdout
    assert "[BOLD]" in result.stdout


def test_check_prints_a_matrix_and_passes_an_honest_server(epoll_loop: Fake) -> None:
    result = run("check", "epoll_loop")
    assert result.exit_code == 0, result.output
    rows = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in result.stdout.splitlines() if "│" in line
    }
    assert rows.keys() == {clause.__name__ for clause in CLAUSES}
    assert rows["order"] == "ok"
    assert rows["stop"] == "not from outside"


def test_check_tells_broken_clauses_and_fails() -> None:
    with misbehaving("answer; banner !") as fake:
        result = run("check", "--json", show(fake.address))
    assert result.exit_code == 1
    (server,) = json.loads(result.stdout)
    assert server["model"] == server["address"] == show(fake.address)
    assert server["clauses"]["half_close"] == "FAIL: hi: 1 bytes more than the 2 expected"
    assert server["clauses"]["stop"] == "not from outside: it would end the server"


def test_check_examines_several_servers_at_once() -> None:
    both_are_there = threading.Barrier(2, timeout=30)

    def waits_for_the_other(fake: Fake, sock: socket.socket) -> None:
        if not getattr(fake, "met", False):
            fake.met = True  # type: ignore[attr-defined]
            both_are_there.wait()
        fakes.honest(fake, sock)

    with serving(waits_for_the_other) as first, serving(waits_for_the_other) as second:
        result = run("check", "--deadline", "30", "--json", show(first.address), show(second.address))
    assert not both_are_there.broken
    assert [server["model"] for server in json.loads(result.stdout)] == [show(first.address), show(second.address)]


def test_check_of_a_server_that_is_not_there_fails_with_the_remedy(refusing: Address) -> None:
    result = run("check", show(refusing))
    assert result.exit_code == 1
    assert "FAIL: connection refused; start it with `make up`" in result.stdout


@pytest.mark.usefixtures("epoll_loop")
def test_threads_shows_where_each_waits() -> None:
    result = run("threads", "epoll_loop")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "epoll_wait" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "iolab 7",
        "main [bold]",
        "S",
        "epoll_wait",
        "1.50",
        "1,234",
        "5",
    ]
    assert json.loads(run("threads", "epoll_loop", "--json").stdout) == fakes.THREADS


@pytest.mark.usefixtures("epoll_loop")
def test_metrics_are_a_table_or_as_they_are_served() -> None:
    table = run("metrics", "epoll_loop")
    assert table.exit_code == 0
    limit = next(line for line in table.stdout.splitlines() if "max_connections" in line)
    assert [cell.strip() for cell in limit.strip("│").split("│")] == [
        "iolab_limit",
        "limit=max_connections",
        "16,320",
        "What really holds",
    ]
    assert any("high_water" in line and "131072" in line for line in table.stdout.splitlines())
    assert run("metrics", "epoll_loop", "--raw").stdout == fakes.METRICS.format(open=0, limit=16320, idle=0)


@pytest.mark.parametrize("command", ["threads", "metrics"])
def test_an_admin_port_that_cannot_be_found_is_one_line_with_the_reason(command: str) -> None:
    result = run(command, "epoll_loop")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: epoll_loop: its admin port is not known: no run file, and Docker does not")
    assert len(result.stderr.splitlines()) == 1


def test_an_admin_port_that_refuses_is_one_line_with_the_remedy(refusing: Address) -> None:
    result = run("threads", show(refusing))
    assert result.exit_code == 1
    assert result.stderr.endswith("fails: connection refused; start it with `make up`\n")


@pytest.mark.parametrize("command", ["threads", "metrics"])
def test_an_admin_port_that_is_something_else_is_one_line(command: str) -> None:
    with serving(fakes.honest) as fake:
        result = run(command, show(fake.address))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["try", "hi"], ["check"], ["threads"], ["metrics"]])
def test_an_unknown_model_is_a_usage_error_that_lists_them(arguments: list[str]) -> None:
    result = run(*arguments, "epol_loop")
    assert result.exit_code == 2
    assert "epoll_loop" in result.stderr
    assert "blocking_pool" in result.stderr


def test_a_bad_config_is_a_usage_error_of_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("backlog: no\n")
    monkeypatch.setenv("IOLAB_CONFIGS", str(tmp_path))
    result = run("try", "hi", "epoll_loop")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "defaults.yaml: backlog" in result.stderr


def test_a_pipe_gets_the_data_alone_without_colours_and_a_row_a_line(epoll_loop: Fake) -> None:
    text = "x" * 150
    # TERM as on a terminal: what decides is where stdout goes.
    done = subprocess.run(
        [sys.executable, "-m", "iolab_client", "try", text, "epoll_loop"],
        env=os.environ | {"TERM": "xterm-256color"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "\x1b" not in done.stdout
    assert text.upper() in done.stdout
    assert done.stderr == ""

"""Whatever the command line says: it is done, or refused with one line and exit 2; nothing is started to find out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iolab_client import commands
from iolab_client.__main__ import COMMANDS, main
from tests.support.programs import WORDS, is_one_line, run

BAD = [
    ["check", "--deadline", "nan"],
    ["check", "--deadline", "inf"],
    ["try", "hi", "--deadline", "0"],
    ["try", "hi", "a..b:80"],
    ["try", "hi", "host:99999"],
    ["try", "hi", "host:" + "9" * 5000],
    ["top", "--interval", "nan"],
    ["top", "--interval", "0.01"],
    ["load", "epoll_loop", "--cpus", "0-99999999999"],
    ["load", "epoll_loop", "--cpus", "5-2"],
    ["load", "epoll_loop", "-d", "9" * 300 + "h"],
    ["load", "epoll_loop", "-R", "nan"],
    ["load", "epoll_loop", "-c", "9" * 300],
    ["load", "epoll_loop", "--processes", "1025"],
    ["load", "epoll_loop", "-s", "64:" + "9" * 400],
    ["load", "epoll_loop", "--seed", "-1"],
    ["load", "epoll_loop", "--fail-if", "verdict!=GOOD"],
    ["load", "epoll_loop", "--fail-if", "p99>5"],
    ["path", "--front", "127.0.0.1:1", "--back", "9" * 300],
    ["path", "--front", "h" * 300 + ":1", "--back", "1"],
    ["compare", "--rounds", "0"],
    ["compare", "--seed", "9" * 30],
]
# Installed without its extra, as Python sees it.
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from iolab_client.__main__ import main; main(['threads', 'x'])"
# What comes last is bad in any case: nothing is ever looked for.
LAST = {
    "load": ["--processes", "none"],
    "compare": ["--processes", "none"],
    "check": ["--deadline", "none"],
    "try": ["--deadline", "none"],
    "top": ["--interval", "none"],
}
LOAD = ["-c", "-d", "-R", "-s", "-n", "--cpus", "--churn", "--idle", "--warmup", "--fail-if", "--seed", "--pipeline"]
OPTIONS = {
    "load": [*LOAD, "--connect-rate", "--timeout", "--arrivals"],
    "compare": ["-c", "-s", "-R", "-d", "--warmup", "--rounds", "--server-cpus", "--seed", "--place", "--fail-if"],
    "check": ["--deadline"],
    "try": ["--deadline"],
    "top": ["--interval", "--sort"],
}


@pytest.mark.parametrize("words", BAD, ids=[" ".join(words)[:40] for words in BAD])
def test_a_value_that_cannot_be_is_one_line_and_exit_2(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)
    assert len(result.stderr) < 1000


@pytest.mark.parametrize(
    ("words", "bounds"),
    [
        (["check", "--deadline", "nan"], "from 1us to 24h"),
        (["load", "epoll_loop", "-R", "nan"], "from 0.001 to 1G"),
        (["load", "epoll_loop", "-c", "many"], "from 1 to 1,000,000,000"),
        (["load", "epoll_loop", "--seed", "x"], "from 0 to 4294967295"),
    ],
)
def test_what_is_no_number_is_told_the_bounds_of_one(words: list[str], bounds: str) -> None:
    assert bounds in CliRunner().invoke(main, words).stderr


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([(command, option) for command, options in OPTIONS.items() for option in options]), WORDS)
def test_made_up_options_are_refused_with_one_line(where: tuple[str, str], value: str) -> None:
    command, option = where
    result = CliRunner().invoke(main, [command, "epoll_loop", option, value, *LAST[command]])
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)
    assert len(result.stderr) < 1000


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["check", "load", "try", "top", "threads", "metrics", "compare"]), WORDS)
def test_made_up_addresses_are_refused_with_one_line(command: str, value: str) -> None:
    result = CliRunner().invoke(main, [command, *(["hi"] if command == "try" else []), "--", f"{value}:", "a:b"])
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ["compare", "--place", "as-found", "--out", str(tmp_path / "file" / "below"), "epoll_loop"]
    done = run(["iolab_client", *words])
    assert done.returncode == 2
    assert is_one_line(done.stderr)


def test_without_what_its_extra_brings_it_says_so_in_a_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH], capture_output=True, text=True, timeout=60, check=False
    )
    expected = "Error: rich is not installed; pip install 'iolab[client]'\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", expected)


def test_each_command_is_listed_and_found_in_its_module() -> None:
    modules = {file.stem.strip("_") for file in Path(commands.__path__[0]).glob("*.py")}
    assert modules - {"init"} == set(COMMANDS)
    for name in COMMANDS:
        shown = CliRunner().invoke(main, [name, "--help"])
        assert shown.output.startswith(f"Usage: iolab-client {name} ")
    unknown = CliRunner().invoke(main, ["chek"])
    assert unknown.exit_code == 2
    assert "No such command 'chek'" in unknown.stderr
    assert "check" in unknown.stderr

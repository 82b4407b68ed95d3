"""Whatever the command line says: it is done, or refused with one line and exit 2; nothing is started to find out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iolab_client.__main__ import main

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
    ["load", "epoll_loop", "-s", "64:" + "9" * 400],
    ["load", "epoll_loop", "--seed", "-1"],
    ["load", "epoll_loop", "--fail-if", "verdict!=GOOD"],
    ["load", "epoll_loop", "--fail-if", "p99>5"],
    ["compare", "--rounds", "0"],
    ["compare", "--seed", "9" * 30],
]
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["nan", "inf", "-1", "0", "9" * 400, "1e400", "0-", "5-2", "--", "\0", "\n", "\ud800", "é", "1:2:3"]
    ),
)
# Only what is refused before anything is looked for: each value stands where no value of these is good.
OPTIONS = st.sampled_from(
    ["-c", "-d", "-R", "-s", "-n", "--cpus", "--churn", "--idle", "--warmup", "--fail-if", "--seed"]
)


def is_one_line(text: str) -> bool:
    """Usage, a hint, and the one line that says what is wrong."""
    errors = [line for line in text.splitlines() if line.startswith(("Error: ", "iolab"))]
    return len(errors) == 1 and "Traceback" not in text


@pytest.mark.parametrize("words", BAD, ids=[" ".join(words)[:40] for words in BAD])
def test_a_value_that_cannot_be_is_one_line_and_exit_2(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)
    assert len(result.stderr) < 1000


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPTIONS, VALUES)
def test_made_up_options_are_refused_with_one_line(option: str, value: str) -> None:
    # The last option is bad in any case: nothing is ever loaded.
    result = CliRunner().invoke(main, ["load", "epoll_loop", option, value, "--processes", "none"])
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)


def run(words: list[str], redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "iolab_client", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False
    )


WORDS = ["report", "FOLDER", "--json"]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command that prints much and needs no server."""
    from iolab_client.report.folder import write_folder
    from tests.client.runs import comparison

    write_folder(comparison(), tmp_path / "run")
    return ["report", str(tmp_path / "run"), "--json"]


def test_a_full_disk_under_stdout_is_one_line(words: list[str]) -> None:
    done = run(words, ">/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "iolab-client: standard output: no space left on device"
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_is_nobody_to_tell(words: list[str]) -> None:
    done = run(words, ">&-")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_left_is_no_news(words: list[str]) -> None:
    done = run(words, "| head -c 10")
    assert len(done.stdout) == 10
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_an_encoding_of_few_characters_is_spelled_out(words: list[str]) -> None:
    done = run(words[:2], "", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(["compare", "--place", "as-found", "--out", str(tmp_path / "file" / "below"), "epoll_loop"], "")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1

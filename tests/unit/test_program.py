"""What `iolab` and `iolab-client` say where they can't do what is asked: one line, whatever their output is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iolab.__main__ import main
from iolab.server.errors import CannotServe
from iolab.settings import Settings
from iolab.task_queue.address import configured
from tests.support.programs import WORDS, is_one_line, run

# Each prints something, and needs neither a server nor a folder.
PROGRAMS = {"iolab": ["iolab", "check-config", "--dotenv"], "iolab-client": ["iolab_client", "--help"]}
OPTIONS = st.sampled_from(["--host", "--config", "--configs", "--port", "--admin-port"])


@pytest.fixture(params=PROGRAMS)
def name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_full_disk_under_stdout_is_one_line(name: str) -> None:
    done = run(PROGRAMS[name], ">/dev/full")
    assert (done.returncode, done.stderr) == (1, f"{name}: standard output: no space left on device\n")


def test_a_closed_stdout_is_nobody_to_tell(name: str) -> None:
    done = run(PROGRAMS[name], ">&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_that_left_is_no_news(name: str) -> None:
    done = run(PROGRAMS[name], "| head -c 10")
    assert (len(done.stdout), done.stderr) == (10, "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(name: str, redirection: str) -> None:
    done = run([PROGRAMS[name][0], "nosuch"], redirection)
    assert (done.returncode, done.stdout) == (2, "")


PRINTS = """
import click, rich
from iolab.program import Program

@click.group(cls=Program, name="prints", invoke_without_command=True)
def main() -> None:
    rich.print("p99 20 µs")

main()
"""


def test_an_encoding_of_few_characters_is_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    done = run(["prints"], PYTHONPATH=str(tmp_path), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (done.returncode, done.stdout, done.stderr) == (0, "p99 20 \\xb5s\n", "")


def test_the_configs_are_good_whoever_hears_it() -> None:
    assert run(["iolab", "check-config"], "2>/dev/full").returncode == 0


def test_no_command_is_a_page_of_help(name: str) -> None:
    done = run(PROGRAMS[name][:1])
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")
    assert "Commands:" in done.stderr


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPTIONS, WORDS)
def test_made_up_options_of_a_server_are_refused_with_one_line(option: str, value: str) -> None:
    # The last option is bad in any case: nothing is ever started.
    result = CliRunner().invoke(main, ["serve", "epoll_loop", option, value, "--port", "none"])
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)
    assert len(result.stderr) < 300


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["up", "down", "check-config", ""]), WORDS)
def test_made_up_words_are_refused_with_one_line(command: str, word: str) -> None:
    result = CliRunner().invoke(main, [command, f"--no{word}"])
    assert result.exit_code == 2, result.output
    assert is_one_line(result.stderr)


BAD = {
    "a host of no letters": (["--host", "a..b"], {}, "--host: got a..b, expected an address of this machine"),
    "a host of two lines": (["--host", "a\nb"], {}, "--host: got a\\nb, expected"),
    "no port": (["--port", "nan"], {}, "'nan' is not a whole number from 0 to 65535; see"),
    "a port too high": (["--port", "65536"], {}, "'65536' is not a whole number from 0 to 65535; see"),
    "no seconds": ([], {"IOLAB_STOP_GRACE_SECONDS": "nan"}, "IOLAB_STOP_GRACE_SECONDS: got nan, expected a number"),
    "no published port": ([], {"IOLAB_PUBLISHED_PORT": "1e9"}, "IOLAB_PUBLISHED_PORT: got 1e9, expected a number"),
    "no broker": ([], {"IOLAB_BROKER_URL": "rubbish"}, "IOLAB_BROKER_URL: got rubbish, expected redis://"),
    "a broker's port": ([], {"IOLAB_BROKER_URL": "redis://b:99999/0"}, "got redis://b:99999/0, expected redis://"),
    "a broker's host": ([], {"IOLAB_BROKER_URL": "redis://a..b/0"}, "got redis://a..b/0, expected redis://"),
}


@pytest.mark.parametrize(("words", "environment", "line"), BAD.values(), ids=BAD.keys())
def test_what_a_server_is_told_beside_its_file_is_refused_with_one_line(
    words: list[str], environment: dict[str, str], line: str
) -> None:
    done = run(["iolab", "serve", "task_queue", *words], **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr)
    assert line in done.stderr


@pytest.mark.parametrize("content", [None, b"\xff", ""], ids=["a folder", "no text", "a zero in its path"])
def test_a_password_that_cannot_be_read_is_one_line(content: bytes | str | None, tmp_path: Path) -> None:
    file = tmp_path / "password"
    if content is None:
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    named = f"{file}\0" if content == "" else str(file)
    with pytest.raises(CannotServe, match="the broker's password cannot be read") as raised:
        configured(Settings(broker_url="redis://127.0.0.1:1/0", broker_password_file=named))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("words", [["down"], ["up", "--detach", "epoll_loop"]], ids=["down", "up"])
@pytest.mark.parametrize("folder", ["/dev/full", "a" * 300], ids=["a file", "a name too long"])
def test_a_run_folder_that_cannot_be_is_one_line(words: list[str], folder: str) -> None:
    done = run(["iolab", *words], IOLAB_RUN_DIR=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert is_one_line(done.stderr)
    assert "set IOLAB_RUN_DIR to a folder of your own" in done.stderr


ADDRESSES = {
    "of another machine": (["--host", "192.0.2.1"], "that is no address of this machine"),
    "of a link": (["--host", "fe80::1"], "needs its interface"),
}


@pytest.mark.parametrize(("words", "advice"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_the_advice_is_that_of_the_error(words: list[str], advice: str) -> None:
    done = run(["iolab", "serve", "epoll_loop", "--port", "0", *words])
    assert done.returncode == 1
    assert is_one_line(done.stderr)
    assert advice in done.stderr
    assert "stop what listens there" not in done.stderr


def test_a_port_that_is_taken_is_told_with_who_has_it_to_be_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(["iolab", "serve", "epoll_loop", "--port", str(taken.getsockname()[1])])
    assert done.returncode == 1
    assert "stop what listens there, or choose another port" in done.stderr

"""`top`: what is seen of real servers, that none stalls the rest, and that a terminal is left as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from iolab.registry import MODELS
from iolab.run import run_files
from iolab.run.run_files import Running
from iolab_client.__main__ import main
from iolab_client.commands import top
from iolab_client.contract import peers
from iolab_client.servers import watching
from iolab_client.servers.address import Address, connect, show
from iolab_client.servers.targets import resolve_admin
from iolab_client.servers.watching import Look, Row, Watch, rates, scrape
from tests.client.fakes import admin_serving
from tests.support.waiting import DEADLINE_SECONDS, eventually

# Short: nothing here is measured.
INTERVAL_SECONDS = 0.1


class Servers:
    """Real servers as processes of this machine, found by their run files as a user's are."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self._folder = folder
        self._ends = ends
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, slug: str, **settings: object) -> Running:
        """One more, listening."""
        config = self._folder / f"{slug}.yaml"
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "iolab", "serve", slug, "--port", "0", "--config", str(config)]
        with (self._folder / f"{slug}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._processes[process.pid] = process
        self._ends.callback(self._remove, process)

        def announced() -> list[Running]:
            assert process.poll() is None, (self._folder / f"{slug}.log").read_text()
            return [server for server in run_files.running() if server.pid == process.pid]

        return eventually(announced, f"{slug} listens")[0]

    def end(self, server: Running) -> None:
        """Stop one."""
        self._processes[server.pid].terminate()
        self._processes[server.pid].wait(DEADLINE_SECONDS)

    def _remove(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            # The whole group: it may have children, and may be suspended.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as ends:
        yield Servers(tmp_path, ends)


def address(server: Running) -> Address:
    return server.host, server.port


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["top", "--interval", str(INTERVAL_SECONDS), *arguments])


def row_of(watch: Watch, model: str) -> Row | None:
    return next((row for row in watch.rows() if row.model == model), None)


def test_one_table_tells_who_is_served_who_waits_and_what_in(servers: Servers) -> None:
    pool = servers.start("blocking_pool", workers=2)
    clients = [connect(address(pool)) for _ in range(3)]
    try:

        def served_and_waiting() -> bool:
            (row,) = json.loads(run("--json").stdout)
            shown = (row["model"], row["open"], row["waiting"], row["accept_queue"], row["waits"])
            return shown == ("blocking_pool", 3, 1, 0, {"recvfrom": 2, "accept4": 1})

        eventually(served_and_waiting, "two are served, one waits")
        result = run("--once")
    finally:
        for client in clients:
            client.close()
    assert result.exit_code == 0
    headings, *lines = result.stdout.splitlines()
    assert re.split("  +", headings.strip()) == [
        "model", "open", "waiting", "accept queue", "answers/s", "CPU %", "memory", "threads", "waits in"
    ]  # fmt: skip
    (line,) = lines
    assert re.fullmatch(r"blocking_pool +3 +1 +0 +0 +\d+(\.\d)? +\d+ MiB +6 +2 recvfrom, 1 accept4 *", line), line


def test_a_model_of_several_processes_is_one_line(servers: Servers) -> None:
    servers.start("prefork_epoll", processes=2)

    def both_children_wait() -> bool:
        (row,) = json.loads(run("--json", "prefork-epoll").stdout)
        shown = (row["model"], row["processes"], row["waits"])
        return shown == ("prefork_epoll", 3, {"epoll_wait": 2})

    eventually(both_children_wait, "the supervisor is no server, its children are")


def test_answers_and_processor_time_are_told_per_second(servers: Servers) -> None:
    server = servers.start("epoll_loop")
    enough = threading.Event()

    def talk() -> None:
        with connect(address(server)) as client:
            while not enough.is_set():
                peers.ask(client, b"more")

    talker = threading.Thread(target=talk)
    talker.start()
    try:

        def busy() -> bool:
            (row,) = json.loads(run("--json").stdout)
            return bool(row["answers_per_second"] > 0 and row["cpu_percent"] > 0)

        eventually(busy, "answers and processor time are seen")
    finally:
        enough.set()
        talker.join()


def test_a_suspended_server_is_told_of_and_stalls_nobody(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its scrape is never given up: whoever had to wait for it would wait for ever.
    monkeypatch.setattr(watching, "SCRAPE_SECONDS", 10 * DEADLINE_SECONDS)
    servers.start("select_loop")
    hung = servers.start("epoll_loop")
    with Watch((), INTERVAL_SECONDS) as watch:

        def answers(model: str) -> Look | None:
            row = row_of(watch, model)
            return row.look if row and row.silent_seconds is None and row.cpu_percent is not None else None

        def told_of(model: str) -> str:
            row = row_of(watch, model)
            return top.last_cell(row).parts[0] if row else ""

        eventually(lambda: answers("select_loop") and answers("epoll_loop"), "both answer")
        os.kill(hung.pid, signal.SIGSTOP)
        try:
            eventually(lambda: told_of("epoll_loop").startswith("no answer for "), "the suspended one is told of")
            for _ in range(3):
                before = eventually(lambda: answers("select_loop"), "the other one answers")
                eventually(
                    lambda before=before: (look := answers("select_loop")) and look.at > before.at,  # type: ignore[misc]
                    "the other one is looked at again",
                )
            assert answers("epoll_loop") is None
        finally:
            os.kill(hung.pid, signal.SIGCONT)
        eventually(lambda: answers("epoll_loop"), "the resumed one answers")


def test_a_server_that_does_not_answer_has_its_line_in_the_one_table(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "SETTLE_SECONDS", 3)
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0)
    hung = servers.start("epoll_loop")
    os.kill(hung.pid, signal.SIGSTOP)
    as_json, table = run("--json"), run("--once")
    assert (as_json.exit_code, table.exit_code) == (1, 1)
    (row,) = json.loads(as_json.stdout)
    assert (row["model"], row["open"], row["answers_per_second"]) == ("epoll_loop", None, None)
    assert row["no_answer_seconds"] >= 0.5
    assert re.fullmatch(r"epoll_loop( +-){7} +no answer for \d+ s *", table.stdout.splitlines()[1])


def test_a_server_that_has_started_again_has_no_negative_rate(servers: Servers) -> None:
    first = servers.start("epoll_loop")
    with connect(address(first)) as client:
        for _ in range(10):
            peers.ask(client, b"more")
    before = scrape(resolve_admin(MODELS["epoll_loop"]))
    servers.end(first)
    servers.start("epoll_loop")
    target = resolve_admin(MODELS["epoll_loop"])
    after, later = scrape(target), scrape(target)
    assert (before.answers, after.answers) == (10, 0)
    assert rates(before, after) == (None, None)
    assert rates(after, later)[0] == 0


def test_models_that_appear_and_vanish_are_noticed(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RESOLVE_SECONDS", 0.1)
    early = servers.start("epoll_loop")

    def models(watch: Watch) -> list[str]:
        return sorted(row.model for row in watch.rows() if row.look and row.silent_seconds is None)

    with Watch((), INTERVAL_SECONDS) as watch:
        eventually(lambda: models(watch) == ["epoll_loop"], "the first is seen")
        servers.start("select_loop")
        eventually(lambda: models(watch) == ["epoll_loop", "select_loop"], "the second is seen, too")
        servers.end(early)
        eventually(lambda: [row.model for row in watch.rows()] == ["select_loop"], "the first is gone")
        servers.start("epoll_loop")
        eventually(lambda: models(watch) == ["epoll_loop", "select_loop"], "it is seen at its new address")


def test_a_bad_config_while_it_runs_is_told_and_ends_nothing(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watching, "RESOLVE_SECONDS", 0.1)
    servers.start("epoll_loop")
    with Watch((), INTERVAL_SECONDS) as watch:
        assert watch.complaint == ""
        (tmp_path / "configs").mkdir()
        defaults = tmp_path / "configs" / "defaults.yaml"
        defaults.write_text("backlog: no\n")
        eventually(lambda: "defaults.yaml: backlog" in watch.complaint, "the config is complained of")
        assert [row.model for row in watch.rows()] == ["epoll_loop"]
        defaults.unlink()
        defaults.parent.rmdir()
        eventually(lambda: watch.complaint == "", "the complaint has gone")


@pytest.mark.parametrize("arguments", [[], ["--json"], ["epoll_loop"]])
def test_where_nothing_runs_the_remedy_is_told(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: nothing runs: ")
    assert "start it with `make up`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_model_that_was_named_and_does_not_run_has_its_line(servers: Servers) -> None:
    servers.start("epoll_loop")
    result = run("--json", "epoll_loop", "busy_poll")
    assert result.exit_code == 0
    # By name.
    missing, running = json.loads(result.stdout)
    assert (running["model"], running["error"]) == ("epoll_loop", None)
    assert (missing["model"], missing["open"]) == ("busy_poll", None)
    assert missing["error"].startswith("no run file")


def test_an_admin_port_of_something_else_is_no_model() -> None:
    with admin_serving() as somewhere:
        result = run("--json", show(somewhere))
    assert result.exit_code == 1
    assert "it is another server's" in json.loads(result.stdout)[0]["error"]


def row(model: str = "epoll_loop", *, silent_seconds: float | None = None, **numbers: float) -> Row:
    """A row with these numbers; the rest is large."""
    numbers = {"answers": 123_456.7, "cpu": 1234.5, "open": 12_345, "memory": 3e9} | numbers
    look = Look(
        at=1,
        open=int(numbers["open"]),
        waiting=12_345,
        accept_queue=4096,
        answers=0,
        cpu_seconds=0,
        memory_bytes=int(numbers["memory"]),
        processes=1,
        threads=1029,
        waits={"recvfrom": 1024, "futex": 2, "accept4": 1, "rt_sigtimedwait": 1},
    )
    return Row(
        model=model,
        address="127.0.0.1:8004",
        runs=True,
        look=look,
        answers_per_second=numbers["answers"],
        cpu_percent=numbers["cpu"],
        silent_seconds=silent_seconds,
        error=None if silent_seconds is None else f"{model}: its admin port 127.0.0.1:39123 fails: timed out",
    )


@pytest.mark.parametrize("width", [80, 100, top.WIDE, 140])
def test_nothing_wraps_and_no_number_is_cut(width: int) -> None:
    rows = [row(model) for model in MODELS] + [row("thread_per_connection", silent_seconds=123)]
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(top.table(rows, width))
    lines = capture.get().splitlines()
    assert len(lines) == 1 + len(rows)
    assert all(len(line) <= width for line in lines)
    assert "…" not in capture.get()
    assert all("1024 recvfrom" in line for line in lines[1:-1])
    assert "no answer for 123 s" in lines[-1]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (50, "1024 recvfrom, 2 futex, 1 accept4"),
        (33, "1024 recvfrom, 2 futex, 1 accept4"),
        (32, "1024 recvfrom, 2 futex, +1"),
        (20, "1024 recvfrom, +2"),
        (5, "1024 recvfrom, +2"),
    ],
)
def test_a_narrow_column_tells_how_many_calls_it_leaves_out(width: int, line: str) -> None:
    parts = ("1024 recvfrom", "2 futex", "1 accept4")
    assert top.Fitting(parts, counts_rest=True).line(width) == line


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (9999.4, "9999"),
        (9999.6, "10k"),
        (12_345, "12k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (9_949_999, "9.9M"),
        (9_950_000, "10M"),
        (123_456_789, "123M"),
        (1.5e9, "1.5G"),
    ],
)
def test_a_short_number_has_four_characters_at_most(number: float, shown: str) -> None:
    assert top.short(number) == shown


def test_the_largest_comes_first_and_who_is_silent_last() -> None:
    rows = [
        row("a", answers=1, cpu=3),
        row("a-silent", silent_seconds=9),
        row("b", answers=2, cpu=1),
        row("c", answers=2),
    ]
    assert [one.model for one in top.ordered(rows, "answers")] == ["b", "c", "a", "a-silent"]
    assert [one.model for one in top.ordered(rows, "cpu")] == ["c", "a", "b", "a-silent"]
    # By name it is found where it was.
    assert [one.model for one in top.ordered(rows, "model")] == ["a", "a-silent", "b", "c"]


def test_a_row_keeps_its_place_whatever_its_numbers_do() -> None:
    order = top.Lineup("answers")

    def seen(*rows: Row) -> list[str]:
        return [row.model for row in order.of(rows)]

    assert seen(row("a", answers=1), row("b", answers=2)) == ["b", "a"]
    # The largest of all is new, and last; who fell silent or grew stays.
    assert seen(row("c", answers=9), row("a", answers=5), row("b", silent_seconds=3)) == ["b", "a", "c"]
    assert seen(row("c", answers=9), row("a", answers=5)) == ["a", "c"]
    assert seen(row("a", answers=5), row("b", answers=0), row("c", answers=9)) == ["b", "a", "c"]
    order.again()
    assert seen(row("a", answers=5), row("b", answers=0), row("c", answers=9)) == ["c", "a", "b"]
    assert seen(row("a", answers=10), row("b", answers=0), row("c", answers=9)) == ["c", "a", "b"]


def test_rows_are_sorted_as_soon_as_all_have_their_number() -> None:
    order = top.Lineup("cpu")
    silent = row("c", silent_seconds=9)

    def seen(*rows: Row) -> list[str]:
        return [row.model for row in order.of([*rows, silent])]

    assert seen(replace(row("a"), cpu_percent=None), row("b", cpu=2)) == ["b", "a", "c"]
    assert seen(row("a", cpu=7), row("b", cpu=2)) == ["a", "b", "c"]
    assert seen(row("a", cpu=1), row("b", cpu=2)) == ["a", "b", "c"]


class Terminal:
    """A real terminal of 80 columns with `top` in it."""

    def __init__(self, *arguments: str) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.modes_before = termios.tcgetattr(self.theirs)
        self._written = b""
        self._process = subprocess.Popen(
            # setsid makes it the controlling terminal, without which there is no Ctrl-C.
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "iolab_client", "top", *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env=os.environ | {"TERM": "xterm-256color"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def written(self) -> str:
        """All that came until now, its escapes too."""
        return self._written.decode()

    def modes(self) -> list[object]:
        """How the terminal is set now."""
        return termios.tcgetattr(self.theirs)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        # The reader's end of file: nobody has the other side any more.
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                self._written += os.read(self._ours, 65536)
            except OSError:
                return


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    opened = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049l", "\x1b[?25h"


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        pytest.param(lambda terminal: terminal.type(b"q"), 0, id="q"),
        pytest.param(lambda terminal: terminal.type(b"\x03"), 0, id="Ctrl-C"),
        pytest.param(lambda terminal: terminal.terminate(), 128 + signal.SIGTERM, id="SIGTERM"),
    ],
)
def test_a_terminal_shows_frames_until_one_leaves_and_is_then_as_before(
    servers: Servers, open_terminal: Callable[..., Terminal], leave: Callable[[Terminal], None], code: int
) -> None:
    servers.start("epoll_loop")
    terminal = open_terminal("--interval", "0.2")
    eventually(lambda: terminal.written.count("1 epoll_wait") >= 2, "frames are drawn")
    assert "\x1b[?1049h" in terminal.written
    assert terminal.modes() != terminal.modes_before
    leave(terminal)
    assert terminal.wait() == code
    assert terminal.modes() == terminal.modes_before
    eventually(lambda: LEAVE_SCREEN in terminal.written and SHOW_CURSOR in terminal.written, "the screen is given back")
    after = terminal.written.rpartition(LEAVE_SCREEN)[2]
    assert "epoll_loop" not in after
    assert "Traceback" not in terminal.written


def test_a_terminal_where_nothing_runs_keeps_its_screen(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    assert terminal.wait() == 1
    eventually(lambda: "nothing runs" in terminal.written, "the reason is told")
    assert "\x1b[?1049h" not in terminal.written

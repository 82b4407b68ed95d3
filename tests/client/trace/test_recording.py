"""Real servers under strace: what a picture is made of, and what the command does with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from iolab.configs import load
from iolab.registry import MODELS
from iolab_client.__main__ import main
from iolab_client.trace import refusal
from iolab_client.trace.calls import parse
from iolab_client.trace.lanes import Passage
from iolab_client.trace.recording import CannotTrace, Recording, Script, record, write_configs
from tests.support.missing import skip, skip_for_kernel
from tests.support.waiting import DEADLINE_SECONDS, eventually

# Longer than any pause of a busy machine, so that what can overlap does.
SCRIPT = Script(clients=2, messages=1, wait_ms=700)
# What the importer of https://ui.perfetto.dev reads: a thread, seconds since the epoch, and a call or a half of one.
PERFETTO = re.compile(
    r"\d{1,9} +\d{10}\.\d{6} ([\w?]+\(.*(= .+|<unfinished \.\.\.>|<detached \.\.\.>)|<\.\.\. [\w?]+ resumed>.*)"
)

pytestmark = [pytest.mark.targets("process"), pytest.mark.xdist_group("traces")]


@pytest.fixture
def recorded() -> Callable[[str], Recording]:
    """A recording of a model, made once for all tests."""
    if shutil.which("strace") is None:
        skip("no strace; install it: apt-get install strace")
    try:
        _record("epoll_loop")
    except CannotTrace as error:
        if "ptrace is refused" in str(error):
            skip_for_kernel(str(error))
        raise
    return _record


@cache
def _record(slug: str) -> Recording:
    return record(MODELS[slug], SCRIPT, None)


def overlap(passages: list[Passage]) -> bool:
    """Whether two of them were being answered at one time."""
    times = [(one.read or 0.0, one.replied or 0.0) for one in passages]
    return any(one[0] < other[1] and other[0] < one[1] for one, other in combinations(times, 2))


def test_the_settings_are_the_users_but_for_the_wait_and_for_how_many_processes_a_picture_has_room(
    tmp_path: Path,
) -> None:
    (tmp_path / "users" / "models").mkdir(parents=True)
    (tmp_path / "users" / "defaults.yaml").write_text("backlog: 7\nwork: {cpu_us: 3}\n")
    own = tmp_path / "users" / "models" / "prefork_epoll.yaml"
    own.write_text("port: 9000\nprocesses: null\nwork: {wait_ms: 1}\n")
    model = MODELS["prefork_epoll"]
    folder = write_configs(model, Script(wait_ms=20), tmp_path / "users", tmp_path / "first")
    settings = load(model, folder)
    assert (settings.backlog, settings.port, settings.processes) == (7, 9000, 2)
    assert (settings.work.wait_ms, settings.work.cpu_us) == (20, 3)
    own.write_text("port: 9000\nprocesses: 5\n")
    assert load(model, write_configs(model, Script(), tmp_path / "users", tmp_path / "second")).processes == 5
    assert load(model, write_configs(model, Script(), None, tmp_path / "third")).work.wait_ms == 50


def test_a_loop_answers_one_after_the_other_in_one_thread(recorded: Callable[[str], Recording]) -> None:
    timeline = recorded("epoll_loop").timeline
    assert not overlap(timeline.passages)
    assert all(passage.answered - passage.sent >= SCRIPT.wait_ms for passage in timeline.passages)
    assert {passage.reader for passage in timeline.passages} == {timeline.lanes[0].key}
    assert [lane.name for lane in timeline.lanes] == ["epoll_loop"]


def test_a_pool_answers_side_by_side_each_in_a_thread_of_its_own(recorded: Callable[[str], Recording]) -> None:
    timeline = recorded("blocking_pool").timeline
    assert overlap(timeline.passages)
    assert len({passage.reader for passage in timeline.passages}) == 2
    woken = {wake.receiver for wake in timeline.wakes if wake.through == "futex"}
    assert woken & {passage.reader for passage in timeline.passages}


def test_coroutines_overlap_in_one_thread(recorded: Callable[[str], Recording]) -> None:
    timeline = recorded("asyncio_streams").timeline
    assert overlap(timeline.passages)
    assert len({passage.reader for passage in timeline.passages}) == 1


def test_children_have_lanes_and_names(recorded: Callable[[str], Recording]) -> None:
    found = parse(recorded("prefork_epoll").texts["prefork_epoll"].splitlines())
    processes = {found.names[thread]: 0 for thread in found.processes}
    assert {"supervisor", "prefork_epoll", "stop", "books"} <= set(processes)
    assert len(set(found.processes.values())) == 3
    timeline = recorded("prefork_epoll").timeline
    assert {"prefork_epoll"} == {lane.name for lane in timeline.lanes}
    assert any(quiet.name == "supervisor" for quiet in timeline.quiet)


def test_each_line_of_the_kept_text_is_one_that_perfetto_reads(recorded: Callable[[str], Recording]) -> None:
    lines = recorded("epoll_loop").texts["epoll_loop"].splitlines()
    assert PERFETTO.fullmatch(lines[0])
    calls = [line for line in lines if " +++ " not in line and " --- " not in line]
    assert [line for line in calls if not PERFETTO.fullmatch(line)] == []


def test_nothing_is_left_running(recorded: Callable[[str], Recording]) -> None:
    recorded("epoll_loop")
    assert [child for child in psutil.Process().children() if child.name() in ("strace", "epoll_loop")] == []


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, ["trace", *words])


def test_the_command_draws_keeps_and_prints(recorded: Callable[[str], Recording], tmp_path: Path) -> None:
    recorded("epoll_loop")
    result = invoke(
        "epoll_loop", "poll-loop", "-c", "1", "-n", "1", "--wait-ms", "1", "--json",
        "--svg", str(tmp_path / "all.svg"), "--each", str(tmp_path / "each"), "--strace", str(tmp_path / "raw"),
        "--html", str(tmp_path / "page.html"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    timelines = json.loads(result.stdout)
    assert [one["model"] for one in timelines] == ["epoll_loop", "poll_loop"]
    assert [one["calls"]["sendto"] for one in timelines] == [1, 1]
    assert "epoll_wait" in timelines[0]["calls"]
    assert "poll" in timelines[1]["calls"]
    assert "poll_loop" in (tmp_path / "all.svg").read_text()
    assert {file.name for file in tmp_path.rglob("*") if file.is_file() and "run" not in file.parts} == {
        "page.html", "all.svg", "epoll_loop.svg", "poll_loop.svg", "epoll_loop.strace", "poll_loop.strace"
    }  # fmt: skip


def test_the_command_explains_and_counts(recorded: Callable[[str], Recording]) -> None:
    recorded("epoll_loop")
    result = invoke("epoll_loop", "-c", "1", "-n", "1", "--wait-ms", "1", "--explain")
    assert result.exit_code == 0, result.stderr
    assert "epoll_loop: the life of client 1's message 1" in result.stdout
    assert "# the answer's own 1 ms: this thread sleeps in it" in result.stdout
    assert "ptrace slows every call" in result.stdout
    assert re.search(r"epoll_loop +│ +[\d.]+ │ .*sendto 1\b", result.stdout)


def test_without_strace_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = invoke("epoll_loop")
    assert (result.exit_code, result.stderr) == (1, f"Error: {refusal.NO_STRACE}\n")


def test_a_tracer_that_is_refused_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "strace"
    fake.write_text("#!/bin/sh\necho 'strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = invoke("epoll_loop")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ptrace is refused")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["strace", "epoll_loop"])
def test_an_interrupt_leaves_no_tracer_and_no_server(recorded: Callable[[str], Recording], name: str) -> None:
    recorded("epoll_loop")
    command = [sys.executable, "-P", "-m", "iolab_client", "trace", "epoll_loop", "-c", "16", "--wait-ms", "2000"]
    tracing = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    own = psutil.Process(tracing.pid)

    def begun() -> list[psutil.Process]:
        return [child for child in own.children(recursive=True) if child.name() == name]

    eventually(begun, f"{name} is there")
    family = own.children(recursive=True)
    tracing.terminate()
    _, said = tracing.communicate(timeout=DEADLINE_SECONDS)
    assert (tracing.returncode, said) == (130, "interrupted: tidying up; nothing is kept\n")
    assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


def test_the_clients_container_says_where_to_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOLAB_IN_COMPOSE", "1")
    result = invoke("epoll_loop")
    assert result.exit_code == 1
    assert "on the machine" in result.stderr


def test_without_an_engine_containers_are_refused_with_the_way_out() -> None:
    result = invoke("epoll_loop", "--containers")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no containers: ")
    assert result.stderr.endswith("; trace processes, without --containers\n")


def test_a_server_that_does_not_start_says_why(recorded: Callable[[str], Recording], tmp_path: Path) -> None:
    (tmp_path / "configs" / "models").mkdir(parents=True)
    (tmp_path / "configs" / "defaults.yaml").write_text("backlog: 5\n")
    (tmp_path / "configs" / "models" / "epoll_loop.yaml").write_text("port: 8004\nbacklog: none\n")
    result = invoke("epoll_loop", "-c", "1")
    assert result.exit_code == 1
    assert "backlog: got none, expected" in result.stderr


@pytest.mark.parametrize(
    "words", [["127.0.0.1:80"], ["yardstick"], ["-c", "0"], ["-c", "17"], ["-n", "21"], ["--wait-ms", "2001"]]
)
def test_what_cannot_be_traced_is_one_line_and_exit_2(words: list[str]) -> None:
    result = invoke("epoll_loop", *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1

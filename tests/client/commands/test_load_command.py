"""`load` as a user meets it: what it prints where, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from iolab.registry import MODELS
from iolab.run import run_files
from iolab_client import load
from iolab_client.__main__ import main
from iolab_client.commands.load import panel
from iolab_client.load import Progress
from iolab_client.results.measurement import INCONSISTENT, Fairness, Measurement, Plan
from iolab_client.servers.address import Address, show
from iolab_client.servers.targets import Target, resolve
from iolab_client.terminal import screen
from tests.client import fakes
from tests.client.fakes import Fake, http_serving, serving
from tests.client.runs import measurement
from tests.support.misbehave import misbehaving
from tests.support.waiting import eventually

METRICS = """\
iolab_processes 1.0
iolab_process_resident_memory_bytes 1e+07
iolab_process_threads 3.0
iolab_process_cpu_seconds_total{{mode="user"}} {cpu}
iolab_process_cpu_seconds_total{{mode="system"}} 0.5
iolab_process_context_switches_total{{kind="voluntary"}} 10.0
iolab_process_context_switches_total{{kind="involuntary"}} 20.0
iolab_settings_info{{cpus="(0, 1)"}} 1.0
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["load", *arguments])


def short(address: Address, *arguments: str) -> Result:
    return run(show(address), "-c", "2", "-d", "200ms", "--warmup", "0", *arguments)


@pytest.fixture
def honest() -> Iterator[Fake]:
    with serving(fakes.honest) as fake:
        yield fake


def test_the_result_is_a_table_a_verdict_and_what_a_closed_loop_hides(honest: Fake) -> None:
    result = short(honest.address)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for words in ("answers", "rate", "latency", "p99", "errors", "none", "not known: only its own port is known"):
        assert words in result.stdout
    assert "coordinated omission" in result.stdout


def test_an_open_loop_shows_both_latencies_and_hides_nothing(honest: Fake) -> None:
    result = short(honest.address, "-R", "500")
    assert "latency from when due" in result.stdout
    assert "latency from when sent" in result.stdout
    assert "of 500 planned" in result.stdout
    assert "coordinated omission" not in result.stdout


def test_json_is_the_measurement_with_its_plan(honest: Fake) -> None:
    result = short(
        honest.address, "--json", "-s", "10:3,1KiB", "--pipeline", "2", "--idle", "1", "-n", "20", "--timeout", "1m"
    )
    one = msgspec.json.decode(result.stdout, type=Measurement)
    assert one.subject == show(honest.address)
    assert one.answers == 20
    assert one.plan.pipeline == 2
    assert [(size.size, size.share) for size in one.plan.sizes] == [(10, 3.0), (1024, 1.0)]
    assert (one.plan.idle, one.plan.timeout_seconds, one.plan.warmup_seconds) == (1, 60.0, 0.0)


def test_the_servers_part_is_measured_between_two_looks(honest: Fake) -> None:
    def as_the_server_saw_it() -> bool:
        cpu = iter([1.0, 1.25, 1.75])
        looks = []

        def pages(path: str) -> tuple[str, str]:
            looks.append(time.monotonic())
            return "text/plain", METRICS.format(cpu=next(cpu))

        with http_serving(pages) as admin, run_files.announced("epoll_loop", *honest.address, admin[1], 5):
            result = run("epoll_loop", "--json", "-c", "2", "-d", "300ms", "--warmup", "100ms")
        one = msgspec.json.decode(result.stdout, type=Measurement)
        # Three looks and none in between: nobody watches.
        assert next(cpu, None) is None
        assert one.subject == "epoll_loop"
        assert one.server is not None
        assert one.server.cpu_seconds == 0.5
        assert one.server.cpus == (0, 1)
        assert (one.server.threads, one.server.memory_bytes, one.server.memory_growth_bytes) == (3, 10_000_000, 0)
        return (
            one.server.seconds == pytest.approx(looks[2] - looks[1], abs=0.03)
            and one.server.seconds == pytest.approx(0.3, abs=0.25)
            and one.server.answers == pytest.approx(one.answers, rel=0.5)
        )

    # Where the machine is crowded, a look takes its time, or comes late.
    eventually(as_the_server_saw_it, "the server's part is that between the last two looks")


def test_a_server_whose_admin_port_fails_is_measured_without(honest: Fake, refusing: Address) -> None:
    with run_files.announced("epoll_loop", *honest.address, refusing[1], 5):
        result = run("epoll_loop", "--json", "-c", "2", "-d", "200ms", "--warmup", "0")
    one = msgspec.json.decode(result.stdout, type=Measurement)
    assert result.exit_code == 0
    assert one.server is None
    assert "connection refused" in one.server_unknown


def test_errors_exit_1_with_samples(refusing: Address) -> None:
    result = short(refusing)
    assert result.exit_code == 1
    assert "2 refused" in result.stdout
    assert "refused: connection 0: connection refused" in result.stdout
    assert "ERRORS: 2 errors (2 refused)" in result.stdout


def test_no_answer_at_all_exits_1() -> None:
    with misbehaving("never-answer") as fake:
        result = short(fake.address, "--timeout", "500ms")
    assert result.exit_code == 1


def test_a_missed_threshold_exits_99_and_says_which(honest: Fake) -> None:
    result = short(honest.address, "--fail-if", "errors>0", "--fail-if", "rate<1G", "--fail-if", "max>1ns")
    assert result.exit_code == 99
    assert [line.partition(": ")[2].partition(":")[0] for line in result.stderr.splitlines()] == ["rate<1G", "max>1ns"]


def test_thresholds_that_are_kept_exit_0(honest: Fake) -> None:
    assert short(honest.address, "--fail-if", "errors>0", "--fail-if", "rate<1").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-c", "0"], "'0' is not a whole number from 1 to 1,000,000,000"),
        (["-R", "10x"], "unit 'x' is not known"),
        (["-d", "0s"], "not from 1us to 24h"),
        (["-s", "0"], "from 1 to 64MiB"),
        (["--fail-if", "p77>5ms"], "none of p50"),
        (["--cpus", "x"], "not a list of processors"),
        (["--cpus", "4000"], "processor 4000 is not one of those that may be used"),
        (["--processes", "100"], "100 processes for 64 connections"),
        (["-c", "10M"], "use more --processes"),
    ],
)
def test_a_plan_that_cannot_be_is_a_usage_error_with_the_reason(
    refusing: Address, arguments: list[str], words: str
) -> None:
    result = run(show(refusing), *arguments)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_a_host_that_does_not_exist_is_one_line() -> None:
    result = run("no.such.host.invalid:80")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no such host" in result.stderr


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Target]:
    """A model in a process of its own, as it is found by its name."""
    command = [sys.executable, "-P", "-m", "iolab", "serve", "epoll_loop", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as server:
        try:
            assert server.stdout
            assert b"listening" in server.stdout.readline()
            (target,) = resolve([MODELS["epoll_loop"]])
            yield target
        finally:
            server.terminate()


def measured_by_two(target: Target, folder: Path) -> list[str]:
    """Files with what two generators measured that loaded a server at the same time."""
    both = threading.Barrier(2)

    def load_it(connections: int) -> str:
        plan = Plan(connections=connections, rate=connections * 100.0, warmup_seconds=0.3, duration_seconds=0.7)
        file = folder / f"{connections}.json"
        file.write_bytes(msgspec.json.encode(load.run(target, plan, rendezvous=lambda: met(both))))
        return str(file)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(load_it, (2, 5)))


def met(both: threading.Barrier) -> None:
    """Wait for the other one."""
    both.wait(60)


def test_two_generators_at_once_are_merged_and_the_server_agrees_that_they_were(loop: Target, tmp_path: Path) -> None:
    def merged() -> Measurement | None:
        result = run("--merge", *measured_by_two(loop, tmp_path), "--json")
        one = msgspec.json.decode(result.stdout, type=Measurement)
        return None if one.verdict.word == INCONSISTENT else one

    # Where the machine is crowded, one of them may be held back.
    one = eventually(merged, "the server counts what both sent while each of them measured")
    assert one
    assert (one.subject, one.plan.connections, one.plan.rate, one.errors.total) == ("epoll_loop", 7, 700.0, 0)
    assert one.answers == pytest.approx(one.sent, rel=0.2)
    assert one.server
    assert one.server.received_bytes
    assert one.server.received_bytes == pytest.approx(700 * 64 * one.server.seconds, rel=0.3)
    assert one.server.answers == pytest.approx(one.server.received_bytes / 64, rel=0.3)


def test_what_is_merged_is_shown_judged_and_failed_like_a_load(tmp_path: Path) -> None:
    files = []
    for name, rate in {"a": 20_000.0, "b": 30_000.0}.items():
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_bytes(
            msgspec.json.encode(measurement(rate=rate, fairness=Fairness(least=1, median=rate, most=9, index=0.5)))
        )
    result = run("--merge", *files, "--fail-if", "verdict!=VALID")
    assert "50,000/s" in result.stdout
    assert "1 to 9, median not known; Jain's index" in result.stdout
    assert "128 connections" in result.stdout
    assert "INCONSISTENT: while " in result.stdout
    assert (result.exit_code, result.stderr.count("threshold missed")) == (99, 1)
    assert run("--merge", *files, "--json").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'MODEL|HOST:PORT'"),
        (["epoll_loop", "poll_loop"], "unexpected extra argument (poll_loop)"),
        (["no_model"], "Invalid value for 'MODEL|HOST:PORT': no model is called 'no_model'"),
        (["--merge"], "expected two FILEs or more"),
        (["--merge", "a.json"], "expected two FILEs or more"),
        (["--merge", "a.json", "b.json"], "a.json: no such file or directory"),
        (["--merge", "a.json", "b.json", "-c", "64"], "--connections plans a load"),
        (["-R", "10", "--merge", "a.json", "b.json"], "--rate plans a load"),
        (["--on", "tcp://a:1", "--merge", "a.json", "b.json"], "--on plans a load"),
    ],
)
def test_who_names_no_server_or_no_files_is_told_so_in_one_line(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_files_that_are_not_of_one_load_are_one_line(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, subject in zip(files, ("epoll_loop", "poll_loop"), strict=True):
        file.write_bytes(msgspec.json.encode(measurement(subject=subject)))
    result = run("--merge", *map(str, files))
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr == f"Error: {files[1]}: subject is poll_loop, and in {files[0]} it is epoll_loop: not one load\n"
    )


def test_the_panel_shows_rate_latency_errors_and_the_servers_processor() -> None:
    progress = Progress(
        phase="measuring",
        seconds=3,
        of_seconds=10,
        connected=64,
        answers=1000,
        rate=12345,
        p50=250,
        p99=1500,
        errors=2,
        server_busy=0.5,
    )
    console = screen.console()
    with console.capture() as captured:
        console.print(panel("epoll_loop", progress))
    shown = captured.get()
    for words in ("epoll_loop measuring", "3 of 10 s", "12,345 requests/s", "p50 250 µs, p99 1.50 ms", "2 errors"):
        assert words in shown
    assert "server 50% CPU" in shown

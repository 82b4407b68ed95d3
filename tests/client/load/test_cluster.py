"""A load that three workers of a Dask cluster make together, on one machine."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iolab_client.__main__ import main
from iolab_client.load import Interrupted, cluster
from iolab_client.load.conductor import BadPlan, LoadFailed
from iolab_client.load.progress import Progress
from iolab_client.results.measurement import ERRORS, INCONSISTENT, VALID, Plan
from iolab_client.results.merge import merge
from iolab_client.servers.address import Address, show
from tests.client import fakes
from tests.client.fakes import Fake, serving
from tests.client.runs import measurement
from tests.support.waiting import eventually

SHORT = Plan(connections=7, rate=210.0, duration_seconds=0.5, warmup_seconds=0.1)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Any]]:
    """Starts a scheduler with so many workers, each a thread of this process that is reached by TCP."""
    import dask
    from distributed import LocalCluster

    def start(workers: int) -> Any:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        )

    with dask.config.set(temporary_directory=str(tmp_path_factory.mktemp("dask"))):
        yield start


@pytest.fixture(scope="module")
def dask(start: Callable[[int], Any]) -> Iterator[Any]:
    """A scheduler with three workers."""
    with start(3) as made:
        yield made


@pytest.fixture
def honest() -> Iterator[Fake]:
    with serving(fakes.honest) as fake:
        yield fake


def load_on(scheduler: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["load", "--on", scheduler, *arguments])


def ctrl_c(when: Callable[[Progress], bool]) -> Callable[[Progress], None]:
    """Who is told of a load, and interrupts it, once."""
    pressed: list[Progress] = []

    def tell(progress: Progress) -> None:
        if when(progress) and not pressed:
            pressed.append(progress)
            raise KeyboardInterrupt

    return tell


def test_a_plan_is_split_and_its_parts_make_the_whole_again() -> None:
    plan = Plan(connections=11, idle=4, rate=110.0, requests=100, connect_rate=30.0, seed=(1 << 32) - 1, processes=2)
    parts = cluster.split(plan, 3)
    assert [part.connections for part in parts] == [3, 4, 4]
    assert [part.rate for part in parts] == pytest.approx([30.0, 40.0, 40.0])
    assert [part.seed for part in parts] == [(1 << 32) - 1, 0, 1]
    whole = merge({str(number): measurement(plan=part) for number, part in enumerate(parts)}).plan
    assert (whole.connections, whole.idle, whole.requests, whole.processes) == (11, 4, 100, 6)
    assert whole.rate == pytest.approx(110.0)
    assert whole.connect_rate == pytest.approx(30.0)
    closed = cluster.split(Plan(connections=3), 3)
    assert closed == [Plan(connections=1)] * 3


@pytest.mark.parametrize("asked", [{"connections": 5, "processes": 2}, {"requests": 2}])
def test_a_plan_with_too_little_for_each_process_cannot_be(asked: dict[str, int]) -> None:
    with pytest.raises(BadPlan, match=r"for 3 workers with \d processes each"):
        cluster.split(Plan(**asked), 3)  # type: ignore[arg-type]


def test_three_workers_load_one_server_and_begin_when_the_last_one_is_connected(dask: Any) -> None:
    open_at_each_request: list[int] = []

    def converse(fake: Fake, sock: socket.socket) -> None:
        while data := sock.recv(fakes.READ_BYTES):
            open_at_each_request.append(len(fake.open))
            sock.sendall(data.upper())

    told: list[Progress] = []
    with serving(converse) as fake:
        one = cluster.run(dask.scheduler_address, show(fake.address), SHORT, told.append)
    assert open_at_each_request[0] == 7
    assert (one.subject, one.errors.total) == (show(fake.address), 0)
    assert one.plan.rate == pytest.approx(210.0)
    assert (one.plan.connections, one.plan.processes) == (7, 3)
    assert one.answered_connections == 7
    assert one.latency.count == pytest.approx(105, abs=10)
    # Its own counters are not known, so nobody saw that they ran at the same time.
    assert one.verdict.word != VALID
    assert one.server_unknown.startswith("tcp://127.0.0.1:")
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == [phase for phase in cluster.PHASES if phase in phases]
    assert max(progress.connected for progress in told) == 7


def test_they_begin_together_as_the_server_sees(dask: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "iolab", "serve", "epoll_loop", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as server:
        try:
            assert server.stdout
            assert b"listening" in server.stdout.readline()

            def look() -> Any:
                one = cluster.run(dask.scheduler_address, "epoll_loop", SHORT)
                return one if one.verdict.word not in (INCONSISTENT, ERRORS) else None

            # Where the machine is crowded, one of them may be held back.
            one = eventually(look, "the server counts what all sent while each of them measured")
        finally:
            server.terminate()
    assert one.subject == "epoll_loop"
    assert one.server.answers == pytest.approx(one.answers, rel=0.3)


def test_the_command_shows_it_as_a_load(dask: Any, honest: Fake) -> None:
    words = ["-c", "3", "-R", "90", "-d", "300ms", "--warmup", "0", "--fail-if", "verdict!=VALID"]
    result = load_on(dask.scheduler_address, show(honest.address), *words)
    assert result.exit_code == 99, result.output
    assert "3 connections x 1" in result.stdout
    assert "of 90 planned" in result.stdout


def test_ctrl_c_ends_all_and_shows_what_there_is(dask: Any, honest: Fake) -> None:
    plan = Plan(connections=3, duration_seconds=600.0, warmup_seconds=0.0)
    with pytest.raises(Interrupted) as ended:
        cluster.run(dask.scheduler_address, show(honest.address), plan, ctrl_c(lambda told: told.answers > 0))
    assert ended.value.measurement.answers > 0
    assert ended.value.measurement.seconds < 300
    eventually(lambda: not honest.open, "all connections are closed")


def test_ctrl_c_before_the_begin_ends_all_with_nothing_to_show(dask: Any, honest: Fake) -> None:
    plan = Plan(connections=3, duration_seconds=600.0)
    with pytest.raises(KeyboardInterrupt) as ended:
        cluster.run(dask.scheduler_address, show(honest.address), plan, ctrl_c(lambda told: not told.answers))
    assert not isinstance(ended.value, Interrupted)
    eventually(lambda: not honest.open, "all connections are closed")


def test_one_that_cannot_do_its_part_is_named_with_its_reason(dask: Any) -> None:
    result = load_on(dask.scheduler_address, "no.such.host.invalid:80", "-c", "3")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: tcp://127.0.0.1:")
    assert "no such host" in result.stderr


def test_a_plan_that_no_worker_can_do_is_a_usage_error(dask: Any, refusing: Address) -> None:
    result = load_on(dask.scheduler_address, show(refusing), "-c", "3", "--cpus", "4000")
    assert result.exit_code == 2
    assert "processor 4000 is not one of those that may be used" in result.stderr


def test_a_worker_that_is_killed_is_one_line_and_the_others_stop(dask: Any, honest: Fake, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        dask.scheduler_address,
        "--no-nanny",
        "--nthreads=1",
    ]
    command += ["--no-dashboard", "--memory-limit=0", "--host=127.0.0.1", f"--local-directory={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        from distributed import Client

        try:
            with Client(dask.scheduler_address, set_as_default=False) as client:
                eventually(lambda: len(client.nthreads()) == 4, "the fourth worker is there")

            def kill(progress: Progress) -> None:
                if progress.phase == "measuring":
                    worker.send_signal(signal.SIGKILL)

            plan = Plan(connections=4, duration_seconds=600.0, warmup_seconds=0.0)
            with pytest.raises(LoadFailed, match=r"the worker tcp://127\.0\.0\.1:\d+ has died in the middle") as failed:
                cluster.run(dask.scheduler_address, show(honest.address), plan, kill)
            assert "\n" not in failed.value.message
        finally:
            worker.kill()
    eventually(lambda: not honest.open, "all connections are closed")


def test_whoever_asked_is_gone_and_nobody_goes_on(dask: Any, honest: Fake) -> None:
    command = [sys.executable, "-m", "iolab_client", "load", "--on", dask.scheduler_address, show(honest.address)]
    with subprocess.Popen([*command, "-c", "3", "-d", "1h"], stdout=subprocess.DEVNULL) as parent:
        eventually(lambda: len(honest.open) == 3, "three connections")
        parent.kill()
    eventually(lambda: not honest.open, "all connections are closed")


def test_no_scheduler_is_one_line(refusing: Address) -> None:
    result = load_on(f"tcp://{show(refusing)}", "epoll_loop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("no scheduler of Dask answers there: connection refused\n")


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_somebody_else_than_a_scheduler_is_one_line(said: bytes) -> None:
    def converse(fake: Fake, sock: socket.socket) -> None:
        sock.sendall(said)

    with serving(converse) as fake:
        result = load_on(f"tcp://{show(fake.address)}", "epoll_loop")
    assert result.exit_code == 2
    assert result.stderr.endswith("no scheduler of Dask answers there: it speaks another protocol\n")


def test_one_that_says_nothing_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, honest: Fake) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    result = load_on(f"tcp://{show(honest.address)}", "epoll_loop")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "address", ["scheduler", "scheduler:8786", "tcp://scheduler", "http://a:80", "tcp://[::", "tcp://a:x"]
)
def test_what_is_no_address_of_a_scheduler_is_a_usage_error(address: str) -> None:
    result = load_on(address, "epoll_loop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected a scheduler of Dask as in tcp://HOST:8786" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_scheduler_without_workers_says_what_to_do(start: Callable[[int], Any]) -> None:
    with start(0) as empty:
        result = load_on(empty.scheduler_address, "epoll_loop")
    assert result.exit_code == 2
    assert f"start one on each machine, `dask worker {empty.scheduler_address}`" in result.stderr


def test_without_dask_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = load_on("tcp://127.0.0.1:8786", "epoll_loop")
    assert result.exit_code == 2
    assert "pip install 'iolab[cluster]'" in result.stderr


def test_dask_is_imported_only_where_it_is_used() -> None:
    program = "import sys, iolab_client.__main__; assert 'distributed' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

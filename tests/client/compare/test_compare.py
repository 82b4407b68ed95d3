"""A comparison of plain processes: fresh ones in each round, pinned, checked first, and kept as far as it came."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from iolab import compiled, registry, yardstick
from iolab.registry import YARDSTICK, Model
from iolab.run import run_files
from iolab_client.__main__ import main
from iolab_client.commands import compare as commands
from iolab_client.compare import places
from iolab_client.compare.comparison import Asked, Comparison, OfferedRate, rounded
from iolab_client.compare.places import PlaceFailed, Processes, Started
from iolab_client.results import bundle
from iolab_client.results.measurement import Run, Size
from iolab_client.results.thresholds import ThresholdType
from iolab_client.servers.targets import Target
from tests.support.misbehave import misbehaving
from tests.support.waiting import eventually

EPOLL = registry.find("epoll_loop")
POOL = registry.find("epoll_pool")
CPUS = sorted(os.sched_getaffinity(0))
TINY = ("-c", "2", "-d", "100ms", "--warmup", "0s", "--place", "processes")


def asked(*models: Model, rounds: int = 1, rates: tuple[OfferedRate, ...] = ()) -> Asked:
    return Asked(
        models=tuple(model.slug for model in models),
        connections=(2,),
        sizes=((Size(size=64),),),
        rates=rates,
        # Long enough that a machine which halts now and then has answered meanwhile.
        duration_seconds=1.0,
        warmup_seconds=0.0,
        rounds=rounds,
        server_cpus=(CPUS[0],),
        client_cpus=(CPUS[-1],),
        seed=1,
    )


class Watched(Processes):
    """Processes, of which it is noted who was started and on which processors."""

    def __init__(self) -> None:
        super().__init__((CPUS[0],), (CPUS[-1],))
        self.seen: list[tuple[str, int, list[int]]] = []

    @contextlib.contextmanager
    def start(self, model: Model) -> Iterator[Started]:
        with super().start(model) as started:
            assert started.pid
            self.seen.append((model.slug, started.pid, psutil.Process(started.pid).cpu_affinity()))
            yield started
        assert not psutil.pid_exists(started.pid)


def test_each_round_has_a_fresh_process_of_each_on_the_servers_processor() -> None:
    place = Watched()
    with place:
        comparison = Comparison(asked(EPOLL, POOL, rounds=2), [EPOLL, POOL], place, "compare")
        run = comparison.measure()

    subjects = {EPOLL.slug, POOL.slug, YARDSTICK.slug}
    for number in (1, 2):
        group = [one for one in run.measurements if one.round == number]
        assert {one.subject for one in group} == subjects
        assert len(group) == len(subjects)
    assert len({pid for _, pid, _ in place.seen}) == len(place.seen) == 2 * len(subjects)
    assert all(cpus == [CPUS[0]] for _, _, cpus in place.seen)
    assert all(one.answers for one in run.measurements)
    assert all(one.server and one.server.cpus == (CPUS[0],) for one in run.measurements)
    assert all(one.plan.cpus == (CPUS[-1],) for one in run.measurements)
    assert run.ended
    assert run.environment.limits[EPOLL.slug]["backlog"]
    assert run.models[EPOLL.slug]["high_water"] == 131072


def test_a_share_of_the_closed_loops_rate_is_the_same_offer_in_each_round() -> None:
    place = Watched()
    with place:
        run = Comparison(asked(EPOLL, rounds=2, rates=(OfferedRate(share=0.1),)), [EPOLL], place, "compare").measure()

    mine = [one for one in run.measurements if one.subject == EPOLL.slug]
    closed = next(one for one in mine if one.plan.rate is None)
    offered = {one.plan.rate for one in mine if one.plan.rate is not None}
    assert offered == {rounded(closed.rate * 0.1)}
    assert len([one for one in mine if one.plan.rate]) == 2


def test_a_model_that_breaks_the_contract_is_left_out_with_its_reason() -> None:
    kept: list[set[str]] = []
    with misbehaving("corrupt 1000000") as fake:

        class Broken(Watched):
            @contextlib.contextmanager
            def start(self, model: Model) -> Iterator[Started]:
                if model is POOL:
                    yield Started(model=model, target=Target(model=model, address=fake.address))
                else:
                    with super().start(model) as started:
                        yield started

        with Broken() as place:
            comparison = Comparison(
                asked(EPOLL, POOL), [EPOLL, POOL], place, "compare", keep=lambda run: kept.append({*run.left_out})
            )
            assert not comparison.check()
            run = comparison.measure()

    assert run.left_out[POOL.slug].startswith("it breaks the contract: order: ")
    assert {one.subject for one in run.measurements} == {EPOLL.slug, YARDSTICK.slug}
    assert run.checked[EPOLL.slug]["all_bytes"] == "ok"
    assert kept[0] == {POOL.slug}


def test_a_model_that_does_not_start_is_left_out_with_its_own_words_and_has_broken_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "defaults.yaml").write_text("{}\n")
    (tmp_path / "models" / "epoll_pool.yaml").write_text("workers: none\n")
    monkeypatch.setenv("IOLAB_CONFIGS", str(tmp_path))
    with Watched() as place:
        comparison = Comparison(asked(POOL), [POOL], place, "compare")
        assert comparison.check()
    assert "epoll_pool.yaml: workers: " in comparison.run.left_out[POOL.slug]


def test_without_a_compiler_there_is_no_yardstick_and_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiled, "CHECKOUT", tmp_path)
    for name in ("PATH", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(compiled.NotCompiled, match=r"^no yardstick: no C compiler; install gcc and libc6-dev$"):
        yardstick.program()


def test_a_yardstick_that_does_not_start_is_left_out_with_its_reason() -> None:
    class Without(Watched):
        @contextlib.contextmanager
        def start(self, model: Model) -> Iterator[Started]:
            if model is YARDSTICK:
                raise PlaceFailed("no yardstick: no C compiler; install gcc")
            with super().start(model) as started:
                yield started

    with Without() as place:
        run = Comparison(asked(EPOLL), [EPOLL], place, "compare").measure()
    assert run.left_out == {YARDSTICK.slug: "round 1: no yardstick: no C compiler; install gcc"}
    assert {one.subject for one in run.measurements} == {EPOLL.slug}


def test_the_command_writes_a_bundle_and_prints_the_places(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["compare", "epoll-loop", *TINY, "--rounds", "1", "--out", str(tmp_path / "results")]
    )

    assert result.exit_code == 0, result.output
    assert "epoll_loop" in result.stdout
    (folder,) = (tmp_path / "results").iterdir()
    assert str(folder / "report.html") in result.stderr
    run = bundle.read(folder)
    assert {one.subject for one in run.measurements} == {EPOLL.slug, YARDSTICK.slug}
    assert run.settings["seed"] is not None
    assert run.environment.place == "processes"
    assert run_files.running() == []


def test_a_missed_threshold_is_exit_99_and_names_the_model(tmp_path: Path) -> None:
    arguments = ["compare", "epoll-loop", *TINY, "--rounds", "1", "--unchecked", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--fail-if", "rate<1M"])
    assert result.exit_code == 99, result.output
    assert "threshold missed: epoll_loop, 2 connections, 64 B, in 1 of 1 rounds: rate<1M" in result.stderr


def test_the_yardstick_itself_misses_no_threshold() -> None:
    with Watched() as place:
        run = Comparison(asked(), [], place, "compare").measure()
    threshold = ThresholdType().convert("rate<1M", None, None)
    assert list(commands.missed_thresholds(run, [threshold])) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_is_kept_when_it_is_interrupted_and_no_process_stays(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "iolab_client", "compare", "epoll_loop", *TINY, "--rounds", "1000", "--unchecked"]
    with subprocess.Popen(
        [*command, "--out", "results"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:

            def measured() -> Run | None:
                files = list((tmp_path / "results").glob("*/results.json"))
                run = bundle.read(files[0].parent) if files else None
                return run if run and run.measurements else None

            eventually(measured, "something is measured")
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130, stderr
    (folder,) = (tmp_path / "results").iterdir()
    run = bundle.read(folder)
    assert run.measurements
    assert run.ended == ""
    assert (folder / "report.html").exists()
    assert run_files.running() == []


def test_processors_that_are_shared_are_named_in_each_result() -> None:
    with Processes((CPUS[0],), (CPUS[0],)) as place, place.start(EPOLL) as started:
        assert any("processor" in problem for problem in started.others)
    assert os.sched_getaffinity(0) == set(CPUS)


def test_another_server_of_this_machine_is_named_in_each_result() -> None:
    beside = Processes((), ())
    with beside, beside.start(POOL) as other, Watched() as place, place.start(EPOLL) as started:
        assert f"epoll_pool (process {other.pid}) ran on the same machine" in started.others


def test_what_is_found_running_is_measured_with_the_names_of_the_others() -> None:
    servers = Processes((), ())
    with servers, servers.start(EPOLL), servers.start(POOL), places.AsFound(()) as place:
        with place.start(EPOLL) as started:
            assert "epoll_pool ran beside it" in started.others
            measured = place.load(started, asked(EPOLL).plan(2, (Size(size=64),)))
        with pytest.raises(PlaceFailed, match="nothing answers"), place.start(YARDSTICK):
            pass
    assert measured.answers


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["127.0.0.1:7"], "only models are compared"),
        (["--server-cpus", "4000"], "processor 4000 may not be used"),
        (["-R", "0%"], "not from 0.001 to 1G"),
        (["-c", "1,none"], "is not a number"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_json_has_the_summary_and_where_the_rest_is(tmp_path: Path) -> None:
    arguments = ["compare", "epoll-loop", *TINY, "--rounds", "1", "--unchecked", "--json", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    said = json.loads(result.stdout)
    assert Path(said["folder"]).parent == tmp_path
    assert {cell["subject"] for cell in said["summary"]["cells"]} == {EPOLL.slug, YARDSTICK.slug}

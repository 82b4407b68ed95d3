"""The load generator against servers that keep the echo, or break it in one way each."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from hdrh.histogram import HdrHistogram

import iolab
import iolab_client
from iolab_client.contract import payload, peers
from iolab_client.load import Progress, fast_path, run
from iolab_client.load.conductor import BadPlan
from iolab_client.load.requests import UNIQUE, Requests
from iolab_client.load.timetable import Timetable
from iolab_client.results import verdicts
from iolab_client.results.measurement import CLIENT_BOUND, ERRORS, OVERLOADED, STARVED, Machine, Measurement, Plan, Size
from iolab_client.results.recorded import Recorded
from iolab_client.servers.address import Address, show
from iolab_client.servers.targets import Target
from tests.client import fakes
from tests.client.fakes import Conversation, Fake, serving
from tests.support.misbehave import misbehaving
from tests.support.waiting import eventually

SIZE = 64
CLASSES = ("refused", "reset", "timeout", "short", "wrong", "closed")


def load(address: Address, **asked: Any) -> Measurement:
    """A short load; what is asked for goes over what is short."""
    size = asked.pop("size", SIZE)
    plan: dict[str, Any] = {
        "connections": 2,
        "duration_seconds": 0.3,
        "warmup_seconds": 0.0,
        "sizes": (Size(size=size),),
    } | asked
    return run(Target(model=None, address=address), Plan(**plan))


def undisturbed(address: Address, **asked: Any) -> Measurement:
    """A load, without an error, in which the machine held nobody back for a tenth of the measured time.

    What it holds back at the begin or the end of that time counts whole, or not at all.
    """

    def look() -> Measurement | None:
        one = load(address, **asked)
        assert seen(one) == {}
        tenth = one.seconds * 1e6 / len(one.parts)
        return one if one.latency.max < tenth and one.parts[-1] else None

    one = eventually(look, "a load is measured while the machine has the time")
    assert one
    return one


def seen(measurement: Measurement) -> dict[str, int]:
    """The errors that there were, by class."""
    return {name: getattr(measurement.errors, name) for name in CLASSES if getattr(measurement.errors, name)}


def hold(connections: int, seconds: float, *, of: int) -> str:
    """The script by which so many connections wait before each answer but their first one, and the others never."""
    slow = f"answer 1; wait {seconds}s; repeat"
    return " | ".join([slow] * connections + ["answer"] * (of - connections))


def messages(sock: socket.socket, size: int) -> Iterator[bytes]:
    """Messages of that size until the client's FIN."""
    while len(data := peers.read_exactly(sock, size)) == size:
        yield data


def stalls(after_seconds: float, for_seconds: float) -> Conversation:
    """Answers nobody for a while, counted from the first request of all: no script knows of other connections."""
    lock = threading.Lock()
    begin: list[float] = []

    def converse(fake: Fake, sock: socket.socket) -> None:
        while data := sock.recv(fakes.READ_BYTES):
            with lock:
                if not begin:
                    begin.append(time.monotonic() + after_seconds)
            silence = begin[0] + for_seconds - time.monotonic()
            if 0 < silence <= for_seconds:
                fake.stopped.wait(silence)
            sock.sendall(data.upper())

    return converse


@pytest.fixture
def honest() -> Any:
    with serving(fakes.honest) as fake:
        yield fake


@pytest.mark.parametrize(
    ("script", "expected", "words", "asked"),
    [
        ("corrupt 1000000", "wrong", "byte 16960 of 65536 is 0x", {"size": 1 << 16}),
        ("corrupt 1000000", "wrong", "is 0x", {"pipeline": 8, "size": 1 << 14}),
        ("answer 9; corrupt 5", "wrong", "byte 5 of 64 is 0x", {}),
        ("answer 9; double", "wrong", "", {}),
        ("swap", "wrong", "out of order: that of request", {"pipeline": 2}),
        ("answer 51; banner !", "wrong", "", {}),
        ("banner WELCOME", "wrong", "", {}),
        ("answer 50; cut 63", "short", "closed after 63 of 64 bytes", {}),
        ("cut 63", "short", "63 of 64", {"pipeline": 3}),
        ("answer 50; ignore; close", "closed", "closed and owed 1 answers", {}),
        ("answer 5; ignore; close", "closed", "closed and owed 1", {"rate": 1000.0}),
        ("answer 50; ignore; fin", "closed", "closed and owed 1 answers", {}),
        ("answer 50; ignore; reset", "reset", "connection reset by peer", {}),
        ("close", "refused", "closed it", {}),
        ("ignore; close", "refused", "closed it before its first answer", {}),
        ("ignore; fin", "refused", "closed it before its first answer", {}),
        ("ignore; reset", "refused", "reset it before its first answer", {}),
        ("never-answer", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("never-read", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("never-accept", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("wait 1m", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("drip 1 every 1s", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_broken_echo_is_caught_and_classed_on_every_connection(
    script: str, expected: str, words: str, asked: dict[str, Any]
) -> None:
    with misbehaving(script, message_bytes=None if "size" in asked else SIZE) as server:
        measurement = load(server.address, **({"duration_seconds": 5.0} | asked))
    is_caught(measurement, expected, words)


def test_a_server_that_is_only_slow_is_not_wrong() -> None:
    with misbehaving("drip 16 every 10ms; repeat", message_bytes=SIZE) as server:
        measurement = load(server.address)
    assert seen(measurement) == {}
    # Four pieces, each after its wait.
    assert measurement.latency.min >= 39_000


def test_text_for_bytes_is_wrong() -> None:
    with serving(fakes.upper_cases_latin_letters) as fake:
        is_caught(load(fake.address, duration_seconds=5.0), "wrong", "of 64 is 0x")


def is_caught(measurement: Measurement, expected: str, words: str) -> None:
    assert seen(measurement) == {expected: 2}, measurement.errors
    assert all(sample.startswith(f"{expected}: connection ") for sample in measurement.errors.samples)
    assert words in measurement.errors.samples[0].lower()
    assert measurement.verdict.word == ERRORS


@pytest.mark.parametrize("asked", [{}, {"pipeline": 2}, {"rate": 1000.0}])
def test_a_byte_after_the_last_answer_is_wrong(asked: dict[str, Any]) -> None:
    with misbehaving("answer 5; banner !", message_bytes=SIZE) as fake:
        measurement = load(fake.address, connections=1, requests=5, duration_seconds=20.0, **asked)
    assert seen(measurement) == {"wrong": 1}
    assert "1 bytes more than were due came" in measurement.errors.samples[0]


def test_a_lost_answer_does_not_hold_up_the_end() -> None:
    with misbehaving("answer 3; ignore; close", message_bytes=SIZE) as fake:
        measurement = load(fake.address, connections=2, requests=6, duration_seconds=60.0)
    assert measurement.seconds < 30


def test_nobody_listens(refusing: Address) -> None:
    measurement = load(refusing, connections=3)
    assert seen(measurement) == {"refused": 3}
    assert "connection refused" in measurement.errors.samples[0]
    assert measurement.answers == 0


def test_a_full_server_is_told_from_one_that_closes_early() -> None:
    with serving(fakes.honest, limit=2) as fake:
        measurement = load(fake.address, connections=5, connect_rate=100.0)
    assert seen(measurement) == {"refused": 3}
    assert "it is full" in measurement.errors.samples[0]
    assert (measurement.open_connections, measurement.answered_connections) == (2, 2)


def test_connections_that_wait_for_a_worker_are_starved_and_no_error() -> None:
    with serving(fakes.honest, one_at_a_time=True) as fake:
        measurement = load(fake.address, connections=3)
    assert seen(measurement) == {}
    assert measurement.answered_connections == 1
    assert measurement.verdict.word == STARVED


def test_a_stall_is_in_the_open_loops_p99_and_not_in_the_closed_loops() -> None:
    asked = {"connections": 4, "duration_seconds": 2.0}
    with serving(stalls(0.4, 1.0)) as fake:
        opened = load(fake.address, rate=500.0, **asked)
    with serving(stalls(0.4, 1.0)) as fake:
        closed = load(fake.address, **asked)
    assert seen(opened) == seen(closed) == {}
    # Half of all requests were due in the stall.
    assert opened.latency.p99 > 900_000
    assert opened.latency_from_send is not None
    assert opened.latency_from_send.p50 < opened.latency.p99 / 2
    # Four of thousands waited.
    assert closed.latency.max > 900_000
    assert closed.latency.p99 < 500_000
    assert closed.latency_from_send is None


def test_a_stall_that_outlasts_the_open_loop_is_in_its_p99() -> None:
    with serving(stalls(0.5, 2.5)) as fake:
        one = load(fake.address, rate=500.0, connections=4, duration_seconds=1.5)
    assert seen(one) == {}
    # Two thirds of all requests were due in the stall; when it was over nobody counted any more.
    assert one.latency.count == pytest.approx(750, abs=50)
    assert one.answers < 400
    assert one.latency.p99 > 900_000
    assert one.latency.p50 > 100_000


def test_what_is_in_flight_at_the_end_is_waited_for_and_measured() -> None:
    with misbehaving(hold(2, 1.5, of=8), message_bytes=SIZE) as fake:
        one = load(fake.address, connections=8, duration_seconds=0.5)
    assert seen(one) == {}
    assert one.seconds == pytest.approx(0.5)
    assert (one.late >= 2, one.unanswered) == (True, 0)
    assert one.latency.count == one.answers + one.late
    assert one.latency.max > 1_400_000
    assert one.latency.censored == 0


def test_the_latency_of_an_open_loop_is_that_of_answers_and_not_of_waiting_until_the_end() -> None:
    with misbehaving("drip 64 every 1s; repeat", message_bytes=SIZE) as fake:
        one = load(fake.address, connections=40, rate=30.0, duration_seconds=1.0)
    assert seen(one) == {}
    assert (one.due, one.unsent, one.unanswered) == (30, 0, 0)
    assert one.latency.count == 30
    assert one.latency.min > 990_000
    # All was sent: that the answers are late is no fault of the generator's.
    assert one.sent == pytest.approx(30, abs=2)
    assert one.verdict.word != CLIENT_BOUND


def test_what_finds_no_room_marks_the_percentiles_that_it_could_change() -> None:
    with misbehaving("drip 64 every 100ms; repeat", message_bytes=SIZE) as fake:
        one = load(fake.address, connections=2, rate=200.0, duration_seconds=1.0)
    assert seen(one) == {}
    assert one.due == 200
    assert one.unsent > 150
    assert one.latency.censored == one.unsent
    assert one.latency.count == one.answers + one.late + one.unsent == pytest.approx(200, abs=4)
    assert one.latency.is_bound(one.latency.p99)
    assert not one.latency.is_bound(one.latency.censored_from - 1) if one.latency.censored_from else False
    # Whatever else the machine had to do meanwhile.
    one.machine = Machine()
    verdict = verdicts.judge_one(one)
    assert verdict.word == OVERLOADED
    assert "latencies grow with the duration" in verdict.reason


def test_no_more_answers_than_requests_are_counted_in_an_open_loop() -> None:
    """What was due in the warm-up and is answered in the measured time is of neither."""
    with serving(stalls(0.0, 0.4)) as fake:
        one = load(fake.address, rate=1000.0, warmup_seconds=0.4, duration_seconds=0.4)
    assert seen(one) == {}
    assert one.answers <= one.due == pytest.approx(400, abs=2)


@pytest.mark.parametrize("asked", [{}, {"pipeline": 2}, {"rate": 1000.0}])
def test_a_reset_that_a_send_finds_is_a_reset(asked: dict[str, Any]) -> None:
    with misbehaving("answer 20; reset", message_bytes=SIZE) as fake:
        one = load(fake.address, connections=1, duration_seconds=5.0, **asked)
    assert seen(one) == {"reset": 1}, one.errors


def test_any_free_connection_takes_what_is_due_unless_they_are_bound() -> None:
    """One of four keeps its second answer for itself: it holds up nobody else, or a quarter of the timetable."""
    asked = {"connections": 4, "rate": 400.0, "duration_seconds": 0.5}
    with misbehaving(hold(1, 2.0, of=4), message_bytes=SIZE) as fake:
        free = load(fake.address, **asked)
    with misbehaving(hold(1, 2.0, of=4), message_bytes=SIZE) as fake:
        bound = load(fake.address, bound=True, **asked)
    assert seen(free) == seen(bound) == {}
    assert free.unsent == 0
    assert free.late >= 1
    assert bound.unsent == pytest.approx(50, abs=5)


def test_random_arrivals_come_at_their_rate_and_with_the_gaps_of_independent_users(honest: Fake) -> None:
    data = fast_path.Data()
    timetable = Timetable(Plan(rate=1000.0, arrivals="poisson", seed=1), 0, data)
    timetable.start(10**9)
    moments = np.array([timetable.due(turn) for turn in range(100_000)])
    gaps = np.diff(moments) / 1e6
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1.0, rel=0.02)
    # Of an exponential distribution mean and deviation are equal; of even gaps there is no deviation.
    assert gaps.std() == pytest.approx(1.0, rel=0.05)
    assert [timetable.before(moment) for moment in moments[:50].tolist()] == list(range(50))
    one = undisturbed(honest.address, rate=400.0, arrivals="poisson", duration_seconds=0.5)
    assert one.due == pytest.approx(200, abs=80)
    assert one.answers == pytest.approx(one.due, abs=5)


def test_no_two_loads_send_the_same_unless_they_are_told_to() -> None:
    said = []
    for seed in (None, None, 7, 7):
        counting = _Counting()
        with serving(counting) as fake:
            one = load(fake.address, connections=1, requests=5, duration_seconds=20.0, seed=seed)
        said.append(counting.payloads[:5])
        assert one.plan.seed is not None
    assert said[0] != said[1]
    assert said[2] == said[3]


def test_all_that_is_measured_agrees(honest: Fake) -> None:
    one = undisturbed(honest.address, connections=4, warmup_seconds=0.1, duration_seconds=0.5)
    assert one.answers == sum(one.parts) > 0
    assert one.latency.count == one.answers + one.late
    assert (one.unanswered, one.unsent, one.latency.censored) == (0, 0, 0)
    assert one.connect
    assert one.connect.count == 4
    assert one.over_time
    assert sum(Recorded([text]).count for text in one.over_time.histograms if text) == one.answers
    assert len(one.over_time.histograms) * one.over_time.interval_seconds == pytest.approx(one.seconds, rel=0.05)
    assert one.fairness
    assert one.fairness.median is not None
    assert one.fairness.least <= one.fairness.median <= one.fairness.most
    assert 0.25 <= one.fairness.index <= 1
    assert len(one.parts) == 10
    assert one.received_bytes == one.answers * SIZE
    assert abs(one.sent_bytes - one.received_bytes) <= 4 * SIZE
    assert (one.open_connections, one.answered_connections) == (4, 4)
    assert one.in_flight == pytest.approx(4, rel=0.02)
    assert one.rate * one.latency.mean / 1e6 == pytest.approx(one.in_flight, rel=0.1)
    assert 0 < one.latency.min <= one.latency.p50 <= one.latency.p90 <= one.latency.p99 <= one.latency.max
    assert one.seconds == pytest.approx(0.5)
    assert 0 < one.generator.busy <= 1.05


def test_a_generator_is_busy_with_what_is_due_and_not_with_waiting_for_it(honest: Fake) -> None:
    def waits() -> bool:
        """Whether some of its processor time has gone into looking whether the next request is due."""
        one = load(honest.address, connections=1, rate=20_000.0)
        share = one.generator.cpu_seconds / one.seconds
        assert 0 < one.generator.busy <= share
        return one.generator.busy < 0.9 * share

    # Where the machine is crowded it has no time to wait.
    eventually(waits, "a generator waits for the next request")


def test_the_histogram_has_every_answer_in_nanoseconds(honest: Fake) -> None:
    one = load(honest.address)
    histogram = HdrHistogram.decode(one.latency.histogram)
    assert histogram.get_total_count() == one.answers + one.late
    assert histogram.get_value_at_percentile(50) / 1000 == one.latency.p50


def test_the_measurement_is_what_its_schema_says(honest: Fake) -> None:
    one = load(honest.address, rate=200.0)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Measurement) == one


def test_an_open_loop_keeps_its_rate(honest: Fake) -> None:
    one = undisturbed(honest.address, rate=400.0, duration_seconds=0.5, processes=2)
    assert one.answers == pytest.approx(200, abs=30)
    assert one.latency_from_send is not None
    assert one.latency_from_send.mean <= one.latency.mean
    assert one.generator.lag_p99 is not None


@pytest.mark.parametrize("asked", [{}, {"rate": 1000.0}, {"pipeline": 5}, {"processes": 2}, {"churn": 7}])
def test_it_ends_with_the_requests_that_were_asked_for(honest: Fake, asked: dict[str, Any]) -> None:
    one = load(honest.address, requests=101, duration_seconds=20.0, warmup_seconds=0.05, **asked)
    assert seen(one) == {}
    assert one.answers == 101
    assert one.seconds < 10


def test_a_message_of_a_megabyte_is_compared_too(honest: Fake) -> None:
    one = load(honest.address, size=1 << 20, requests=5, duration_seconds=20.0)
    assert seen(one) == {}
    assert one.received_bytes == 5 << 20


def test_sizes_are_mixed_by_their_shares(honest: Fake) -> None:
    sizes = (Size(size=10, share=0.75), Size(size=1000, share=0.25))
    one = load(honest.address, sizes=sizes, requests=2000, duration_seconds=20.0)
    assert seen(one) == {}
    assert one.received_bytes / one.answers == pytest.approx(0.75 * 10 + 0.25 * 1000, rel=0.2)


class _Counting:
    """Counts connections and the messages on each."""

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.payloads: list[bytes] = []
        self.lock = threading.Lock()

    def __call__(self, fake: Fake, sock: socket.socket) -> None:
        count = 0
        for data in messages(sock, SIZE):
            count += 1
            with self.lock:
                self.payloads.append(data)
            sock.sendall(data.upper())
        with self.lock:
            self.messages.append(count)


def test_churn_makes_a_new_connection_after_so_many_requests() -> None:
    counting = _Counting()
    with serving(counting) as fake:
        one = load(fake.address, churn=5, requests=50, duration_seconds=20.0)
    assert seen(one) == {}
    assert sum(counting.messages) == 50
    assert max(counting.messages) == 5
    # Ten for the requests, and those that were made to go on.
    assert 10 <= len(counting.messages) <= 12
    # Two may have shared the last five.
    assert 10 <= one.answered_connections <= 11


def test_silent_connections_stay_silent_and_open() -> None:
    counting = _Counting()
    with serving(counting) as fake:
        one = load(fake.address, idle=7, processes=2)
    assert seen(one) == {}
    assert one.open_connections == 9
    assert one.answered_connections == 2
    assert counting.messages.count(0) == 7


def test_an_idle_connection_that_the_server_closes_is_an_error() -> None:
    somebody_talks = threading.Event()

    def closes_who_is_silent(fake: Fake, sock: socket.socket) -> None:
        while not select.select([sock], [], [], 0.01)[0]:
            if somebody_talks.is_set():
                return
        somebody_talks.set()
        fakes.honest(fake, sock)

    with serving(closes_who_is_silent) as fake:
        one = load(fake.address, connections=1, idle=1)
    assert seen(one) == {"closed": 1}
    assert "idle connection 1: the server closed, and owed nothing" in one.errors.samples[0]


@pytest.mark.parametrize("asked", [{"pipeline": 3}, {}])
def test_no_payload_comes_twice_and_all_bytes_come(asked: dict[str, Any]) -> None:
    counting = _Counting()
    with serving(counting) as fake:
        one = load(fake.address, connections=4, processes=2, requests=6000, duration_seconds=60.0, **asked)
    assert seen(one) == {}
    assert max(Counter(counting.payloads).values()) == 1
    # Each begins one byte after the one before: so many random bytes have every value, but once in 10 ** 8 times.
    assert len(counting.payloads) >= 6000
    assert set(b"".join(counting.payloads)) == set(payload.ALL_BYTES)


def test_a_process_that_is_done_waits_for_no_other() -> None:
    """Its report is its last word, whether or not the others have given theirs."""
    first = threading.Lock()

    def closes_one_late(fake: Fake, sock: socket.socket) -> None:
        late = first.acquire(blocking=False)
        fakes.honest(fake, sock)
        if late:
            fake.stopped.wait(1)

    with serving(closes_one_late) as fake:
        one = load(fake.address, processes=2)
    assert seen(one) == {}
    assert one.answered_connections == 2


def test_payloads_are_unique_for_millions_of_requests() -> None:
    requests = Requests((Size(size=8),), seed="0")
    assert UNIQUE > 4_000_000
    drawn = [requests.pattern[begin : begin + size] for begin, size in map(requests.request, range(100_000))]
    assert len(set(drawn)) == len(drawn)
    assert requests.answers == payload.answer(requests.pattern)


def test_progress_is_told(honest: Fake) -> None:
    told: list[Progress] = []
    plan = Plan(connections=2, duration_seconds=0.8, warmup_seconds=0.0)
    run(Target(model=None, address=honest.address), plan, told.append)
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases[:2] == ["starting", "connecting"]
    assert phases[-2:] == ["measuring", "waiting for the last answers"]
    last = [progress for progress in told if progress.phase == "measuring"][-1]
    assert last.answers > 0
    assert last.rate > 0
    assert last.p50 is not None
    assert last.connected == 2
    assert last.errors == 0


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"processes": 3}, "3 processes for 2 connections"),
        ({"cpus": (4000,)}, "processor 4000"),
        ({"connections": 10_000_000}, "use more --processes"),
        ({"processes": 2, "requests": 1}, "1 requests for 2 processes"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_starts(
    refusing: Address, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadPlan, match=words):
        load(refusing, **asked)


def _parent(address: Address, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "iolab_client", "load", show(address), "-c", "4", "-d", "60s", "--processes", "2"]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has what it starts in the background ignore Ctrl-C, and the suite may be that: signal(7), "inherited".
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _workers(parent: subprocess.Popen[str], fake: Fake) -> list[psutil.Process]:
    eventually(lambda: len(fake.open) == 4, "four connections")
    return psutil.Process(parent.pid).children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(honest: Fake, number: signal.Signals) -> None:
    with _parent(honest.address) as parent:
        workers = _workers(parent, honest)
        assert len(workers) == 2
        parent.send_signal(number)
        parent.communicate(timeout=30)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert (len(gone), alive) == (2, [])


def test_ctrl_c_ends_the_load_and_shows_what_there_is() -> None:
    answered = set()

    def notes(fake: Fake, sock: socket.socket) -> None:
        while data := sock.recv(1024):
            sock.sendall(data.upper())
            answered.add(sock)

    with serving(notes) as fake, _parent(fake.address, "--warmup", "0", "--json") as parent:
        workers = _workers(parent, fake)
        eventually(lambda: len(answered) == 4, "each connection was answered")
        os.kill(parent.pid, signal.SIGINT)
        stdout, _ = parent.communicate(timeout=30)
    one = msgspec.json.decode(stdout, type=Measurement)
    assert parent.returncode == 130
    assert 0 < one.seconds < 50
    assert one.answers > 0
    # What was in flight was not waited for, and says so.
    assert one.latency.count == one.answers + one.late + one.unanswered
    assert psutil.wait_procs(workers, timeout=30)[1] == []


@pytest.mark.parametrize("compiler", [True, False])
def test_without_a_compiler_the_same_load_is_made_in_python_and_says_so(
    honest: Fake, tmp_path: Path, compiler: bool
) -> None:
    packages, cache = tmp_path / "packages", tmp_path / "cache"
    for package in (iolab, iolab_client):
        folder = Path(*package.__path__)
        shutil.copytree(folder, packages / folder.name)
    environment = os.environ | {"PYTHONPATH": str(packages), "XDG_CACHE_HOME": str(cache)}
    if not compiler:
        environment["PATH"] = str(tmp_path)
    command = [sys.executable, "-m", "iolab_client", "load", show(honest.address), "-c", "4", "-n", "400", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    one = msgspec.json.decode(done.stdout, type=Measurement)
    assert (done.returncode, one.answers, seen(one)) == (0, 400, {})
    assert one.generator.in_c is compiler
    assert len(list(cache.glob("iolab/compiled/*/fast_path.so"))) == compiler


@pytest.mark.parametrize("pipeline", [1, 4])
@pytest.mark.parametrize("rate", [None, 2000.0])
def test_fast_path_and_python_count_the_same(honest: Fake, pipeline: int, rate: float | None) -> None:
    """What goes beside the fast path, such as more in flight than one, is asked, answered and noted as often."""
    sizes = (Size(size=1, share=0.5), Size(size=3000, share=0.5))
    plan = {"connections": 4, "processes": 2, "requests": 600, "duration_seconds": 60.0, "sizes": sizes}
    one = load(honest.address, pipeline=pipeline, rate=rate, **plan)
    assert seen(one) == {}
    assert one.answers == one.latency.count == 600
    assert one.sent_bytes == one.received_bytes > 600 * 1000

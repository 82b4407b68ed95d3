"""`check` sees an honest server keep the contract, and finds the clause that a bad one breaks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import pytest

from iolab import registry
from iolab.settings import Settings, WorkDial
from iolab_client.contract import clauses
from iolab_client.contract import subject as subjects
from iolab_client.contract.check import FAIL, OK, UNSEEN, check, judge
from iolab_client.contract.subject import Subject
from iolab_client.servers.targets import Target
from tests.client import fakes
from tests.client.fakes import Conversation, Fake, admin_serving, serving
from tests.support.misbehave import Misbehaviour, misbehaving
from tests.support.waiting import eventually

MODEL = registry.find("epoll_loop")
# What a server that does not answer is given: it costs that much, and an honest one never comes near it.
SHORT_SECONDS = 0.7
STALLS = (
    fakes.waits_for_a_line,
    fakes.stalls_for_a_slow_reader,
    "answer; wait 1m",
    "never-answer",
    "never-read",
    "never-accept",
    "swap",
)


def subject(fake: Fake | Misbehaviour, *, deadline_seconds: float = 10) -> Subject:
    target = Target(model=MODEL, address=fake.address)
    return Subject(target=target, settings=Settings(), deadline_seconds=deadline_seconds)


def test_an_honest_server_keeps_every_clause_that_can_be_seen() -> None:
    with serving(fakes.honest) as fake, admin_serving(lambda: len(fake.open)) as admin:
        verdicts = check(Target(model=MODEL, address=fake.address, admin=admin), 10)
    unseen = {"max_connections", "idle_seconds", "stop", "capacity", "configs"}
    assert {name for name, verdict in verdicts.items() if verdict == OK} == set(verdicts) - unseen
    assert all(verdicts[name].startswith(f"{UNSEEN}: ") for name in unseen)


def test_what_the_admin_port_would_tell_is_not_seen_without_it() -> None:
    with serving(fakes.honest) as fake:
        verdict = judge(clauses.nothing_left, subjects.examine(Target(model=None, address=fake.address), 10))
    assert verdict.startswith(f"{UNSEEN}: ")
    assert "admin port is not known" in verdict


@pytest.mark.parametrize(
    ("bad", "clause", "reason"),
    [
        (fakes.upper_cases_latin_letters, clauses.all_bytes, "byte 224 of 256 is 0xc0, expected 0xe0"),
        ("corrupt 1000000", clauses.order, "byte 1000000 of 4194304 is"),
        ("corrupt", clauses.all_bytes, "byte 0 of 256 is 0x01, expected 0x00"),
        ("double", clauses.all_bytes, "256 bytes more than the 256 expected"),
        ("cut 10", clauses.all_bytes, "ended after 10 of 256 bytes"),
        ("close", clauses.half_close, "ended after 0 of 2 bytes"),
        ("fin", clauses.half_close, "ended after 0 of 2 bytes"),
        ("ignore; reset", clauses.half_close, "reset"),
        ("answer 9; ignore; reset", clauses.split, "reset"),
        ("swap", clauses.split, "0 of 1 bytes came within"),
        ("never-answer", clauses.split, "0 of 1 bytes came within"),
        ("never-read", clauses.split, "0 of 1 bytes came within"),
        ("never-accept", clauses.split, "0 of 1 bytes came within"),
        ("answer; banner !", clauses.order, "1 bytes more than the 4194304 expected"),
        ("answer; banner !", clauses.half_close, "1 bytes more"),
        (fakes.waits_for_a_line, clauses.split, "0 of 1 bytes came within"),
        ("answer; wait 1m", clauses.half_close, "2 of 2 bytes and no end came within"),
        (fakes.drops_the_tail, clauses.late_reader, "ended after"),
        (fakes.never_stops_reading, clauses.back_pressure, "were taken from a client that reads nothing"),
        (fakes.stalls_for_a_slow_reader, clauses.never_reads, "a client that was there before"),
        # Whoever is there when the server learns of the reset: the client beside, or the next one to break.
        (fakes.closes_everybody_on_a_reset, clauses.broken_peers, "reset"),
        ("banner WELCOME", clauses.silent_clients, "a client beside silent ones: byte 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", None),
)
def test_the_clause_that_a_bad_server_breaks_fails_with_the_reason(
    bad: Conversation | str, clause: Callable[[Subject], None], reason: str
) -> None:
    stalls = bad in STALLS
    with misbehaving(bad) if isinstance(bad, str) else serving(bad) as fake:
        verdict = judge(clause, subject(fake, deadline_seconds=SHORT_SECONDS if stalls else 10))
    assert verdict.startswith(FAIL)
    assert reason in verdict


@pytest.mark.parametrize("clause", [clauses.silent_clients, clauses.many_clients, clauses.never_reads])
def test_a_server_of_one_client_at_a_time_fails_those_who_come_together(clause: Callable[[Subject], None]) -> None:
    with serving(fakes.honest, one_at_a_time=True) as fake:
        assert judge(clause, subject(fake, deadline_seconds=SHORT_SECONDS)).startswith(FAIL)


def test_a_server_that_is_told_to_misbehave_in_nothing_keeps_every_clause() -> None:
    with misbehaving("answer") as server:
        verdicts = check(Target(model=None, address=server.address), 20)
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.startswith(FAIL)}


def test_a_slow_server_keeps_the_clauses() -> None:
    with misbehaving("drip 4096 every 1ms; repeat") as server:
        assert judge(clauses.many_clients, subject(server)) == OK


def test_a_bad_server_fails_only_what_it_breaks() -> None:
    with serving(fakes.never_stops_reading) as fake:
        verdicts = check(Target(model=MODEL, address=fake.address), 10)
    assert {name for name, verdict in verdicts.items() if verdict.startswith(FAIL)} == {"back_pressure"}


def test_a_connection_that_is_left_behind_is_found() -> None:
    with serving(fakes.honest) as fake, admin_serving(lambda: 3) as admin:
        bad = subjects.examine(Target(model=MODEL, address=fake.address, admin=admin), SHORT_SECONDS)
        bad.before["iolab_connections_open"] = 2
        assert "open connections from 3 to 2 did not come back" in judge(clauses.nothing_left, bad)


@pytest.mark.parametrize(("limit", "verdict"), [(2, OK), (None, f"{FAIL}3 connections are served at once")])
def test_max_connections_is_held_or_not(limit: int | None, verdict: str) -> None:
    with serving(fakes.honest, limit=limit) as fake:
        full = dataclasses.replace(subject(fake), settings=Settings(max_connections=2))
        assert judge(clauses.max_connections, full).startswith(verdict)


@pytest.mark.parametrize(
    ("closes_after", "verdict"),
    [(1, OK), (0.1, f"{FAIL}a silent client was closed after 0."), (60, f"{FAIL}0 bytes and no end came within")],
)
def test_idle_seconds_is_held_or_not(closes_after: float, verdict: str) -> None:
    with serving(fakes.closes_after_silence(closes_after)) as fake:
        idle = dataclasses.replace(subject(fake, deadline_seconds=SHORT_SECONDS), settings=Settings(idle_seconds=1))
        assert judge(clauses.idle_seconds, idle).startswith(verdict)


def test_the_settings_are_those_that_the_server_tells() -> None:
    with serving(fakes.honest) as fake, admin_serving(limit=9, idle=4.5) as admin:
        seen = subjects.examine(Target(model=MODEL, address=fake.address, admin=admin), 10)
    assert (seen.settings.max_connections, seen.settings.idle_seconds, seen.settings.high_water) == (9, 4.5, 131072)
    assert seen.at_once == 9


def test_never_more_than_three_connections_are_held_to_a_pool() -> None:
    most = 0

    def count(fake: Fake, sock: object) -> None:
        nonlocal most
        # Those that the client has closed already may take the busy fake a moment to close too.
        with contextlib.suppress(AssertionError):
            eventually(lambda: len(fake.open) <= 3, "no more than three are held", seconds=2)
        most = max(most, len(fake.open))
        with contextlib.suppress(OSError):
            fakes.honest(fake, sock)  # type: ignore[arg-type]

    with serving(count) as fake:
        verdicts = check(Target(model=registry.find("blocking_pool"), address=fake.address), 10)
    assert not [verdict for verdict in verdicts.values() if verdict.startswith(FAIL)]
    assert most <= 3


def test_a_slow_answer_is_waited_for() -> None:
    slow = Settings(work=WorkDial(wait_ms=200))
    with serving(fakes.honest) as fake:
        patient = dataclasses.replace(subject(fake, deadline_seconds=1), settings=slow)
    assert patient.deadline(answers=10) == pytest.approx(5)
    assert patient.quiet_seconds > 0.8


def test_small_reads_make_the_streams_shorter() -> None:
    with serving(fakes.honest) as fake:
        tiny = dataclasses.replace(subject(fake), settings=Settings(buffer_size=1))
    assert tiny.size(clauses.STREAM_BYTES) == subjects.ANSWERS


def test_a_server_that_holds_few_connections_is_not_blamed_for_those_of_the_clause_before() -> None:
    with (
        serving(fakes.honest, limit=2) as fake,
        admin_serving(lambda: len(fake.open), limit=2) as admin,
    ):
        verdicts = check(Target(model=MODEL, address=fake.address, admin=admin), 10)
    assert not {name for name, verdict in verdicts.items() if verdict.startswith(FAIL)}


def test_what_takes_silence_is_not_seen_where_silent_clients_are_closed_soon() -> None:
    with serving(fakes.closes_after_silence(0.3)) as fake, admin_serving(idle=0.3) as admin:
        verdicts = check(Target(model=MODEL, address=fake.address, admin=admin), 10)
    assert not {name for name, verdict in verdicts.items() if verdict.startswith(FAIL)}
    assert verdicts["idle_seconds"] == OK
    assert verdicts["never_reads"].startswith(UNSEEN)

"""`load` and `check` class each way to misbehave as what it is."""

from __future__ import annotations

from typing import Any

import pytest

from iolab.settings import Settings
from iolab_client.contract import clauses
from iolab_client.contract.check import FAIL, check, judge
from iolab_client.contract.subject import Subject
from iolab_client.load import run
from iolab_client.results.measurement import ERRORS, Errors, Plan, Size
from iolab_client.servers.targets import Target
from tests.support.misbehave import misbehaving

SIZE = 64
CLASSES = ("refused", "reset", "timeout", "short", "wrong", "closed")


def errors(script: str, **asked: Any) -> Errors:
    """The errors of a load on such a server, with two connections."""
    plan: dict[str, Any] = {
        "connections": 2,
        "duration_seconds": 5.0,
        "warmup_seconds": 0.0,
        "sizes": (Size(size=SIZE),),
    } | asked
    with misbehaving(script, message_bytes=SIZE) as server:
        measurement = run(Target(model=None, address=server.address), Plan(**plan))
    assert measurement.verdict.word == ERRORS
    return measurement.errors


@pytest.mark.parametrize(
    ("script", "expected", "words", "asked"),
    [
        ("close", "refused", "closed it", {}),
        ("ignore; close", "refused", "closed it before its first answer", {}),
        ("ignore; fin", "refused", "closed it before its first answer", {}),
        ("ignore; reset", "refused", "reset it before its first answer", {}),
        ("answer 9; ignore; reset", "reset", "connection reset by peer", {}),
        ("answer 9; ignore; close", "closed", "closed and owed 1 answers", {}),
        ("answer 9; ignore; fin", "closed", "closed and owed 1 answers", {}),
        ("answer 9; cut 10", "short", "closed after 10 of 64 bytes", {}),
        ("answer 9; corrupt 5", "wrong", "byte 5 of 64 is 0x", {}),
        ("answer 9; double", "wrong", "", {}),
        ("swap", "wrong", "out of order", {"pipeline": 2}),
        ("banner hello; answer", "wrong", "", {}),
        ("never-answer", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("never-read", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("never-accept", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("wait 1m; answer", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
        ("drip 1 every 1s", "timeout", "no answer within 0.2 s", {"timeout_seconds": 0.2}),
    ],
)
def test_load_classes_it(script: str, expected: str, words: str, asked: dict[str, Any]) -> None:
    found = errors(script, **asked)
    assert {name: getattr(found, name) for name in CLASSES if getattr(found, name)} == {expected: 2}, found
    assert words in found.samples[0]


def test_load_finds_nothing_wrong_with_one_that_is_only_slow() -> None:
    with misbehaving("wait 20ms; answer 1; drip 32 every 10ms; repeat", message_bytes=SIZE) as server:
        plan = Plan(connections=2, duration_seconds=0.5, warmup_seconds=0.0, sizes=(Size(size=SIZE),))
        measurement = run(Target(model=None, address=server.address), plan)
    assert measurement.errors.total == 0
    assert measurement.latency.mean >= 5_000
    assert measurement.verdict.word != ERRORS


@pytest.mark.parametrize(
    ("script", "broken", "reason"),
    [
        ("corrupt", "all_bytes", "byte 0 of 256 is 0x01, expected 0x00"),
        ("corrupt 1000000", "order", "byte 1000000 of 4194304 is"),
        ("double", "all_bytes", "256 bytes more than the 256 expected"),
        ("answer; banner x", "half_close", "1 bytes more"),
        ("answer; wait 1m", "half_close", "2 of 2 bytes and no end came within"),
        ("banner hello", "silent_clients", "byte 0"),
        ("cut 10", "all_bytes", "ended after 10 of 256 bytes"),
        ("ignore; reset", "all_bytes", "reset"),
        ("never-answer", "split", "0 of 1 bytes came within"),
        ("never-read", "split", "0 of 1 bytes came within"),
        ("never-accept", "split", "0 of 1 bytes came within"),
        ("close", "all_bytes", "ended after 0 of 256 bytes"),
        ("fin", "all_bytes", "ended after 0 of 256 bytes"),
    ],
)
def test_check_finds_the_clause_that_it_breaks(script: str, broken: str, reason: str) -> None:
    with misbehaving(script) as server:
        examined = Subject(target=Target(model=None, address=server.address), settings=Settings(), deadline_seconds=0.7)
        verdict = judge(getattr(clauses, broken), examined)
    assert verdict.startswith(FAIL)
    assert reason in verdict


def test_check_finds_nothing_wrong_with_one_that_does_not_misbehave() -> None:
    with misbehaving("answer") as server:
        verdicts = check(Target(model=None, address=server.address), 20)
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.startswith(FAIL)}

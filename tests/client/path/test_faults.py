"""Each fault fails the clauses that are about it, one way where it is one way's, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iolab_client.path.ends import Way
from iolab_client.path.examination import EXAMINED, Judgement, judge
from iolab_client.path.harness import Back, Harness, Patience
from iolab_client.path.remedies import REMEDIES
from iolab_client.servers.address import Address
from tests.client.path import proxies
from tests.client.path.proxies import Proxy, Relay, between
from tests.support.missing import skip_for_kernel

# What is kept may take as long as it likes; what is broken is found out at the latest then.
KEPT_SECONDS, BROKEN_SECONDS = 100.0, 5.0
# What a clause waits for at least; for what a fault does at its own time, at most.
LONGER: dict[type, dict[str, float]] = {
    proxies.Unbounded: {"quiet_seconds": 20.0},
    proxies.ClosesIdle: {"idle_seconds": 60.0},
    proxies.ClosesSoonAfterFin: {"late_seconds": 20.0},
}
SHORT = {"idle_seconds": 0.1, "late_seconds": 0.2, "quiet_seconds": 0.1}
THERE, BACK = Way
# (fault, the way in which it is, the clauses that it breaks, what is said of it): clauses of one way are broken that
# way only. What holds for both ways is no matter of this one.
FAULTS = [
    (proxies.ChangesBytes, THERE, {"all_bytes"}, "byte 255 of 516 is 0x3f, expected 0xff"),
    (proxies.Doubles, BACK, {"bulk", "late_reader", "back_pressure"}, "other bytes than were sent"),
    (proxies.WaitsForMore, BACK, {"one_at_a_time"}, "got 0 of 1 bytes, then nothing for 5 s"),
    (proxies.ClosesAtFin, THERE, {"half_close"}, "FIN does not come back"),
    (proxies.ClosesSoonAfterFin, BACK, {"half_close"}, "FIN"),
    (proxies.ThrowsAwayUnread, BACK, {"late_reader"}, "then RST"),
    (proxies.FinOvertakes, THERE, {"fin_after_data", "late_reader"}, ", then FIN"),
    (proxies.ResetAsFin, THERE, {"reset"}, "client's RST came to the server as FIN"),
    (proxies.ResetAsFin, BACK, {"reset"}, "server's RST came to the client as FIN"),
    (proxies.Unbounded, THERE, {"back_pressure"}, "bytes were taken while the server read nothing"),
    (proxies.ClosesIdle, THERE, {"idle"}, "s of silence"),
    (proxies.ResetsAtSecondFin, THERE, {"simultaneous_close"}, "met RST in place of FIN"),
    (proxies.KeepsTheRefused, THERE, {"refused"}, "still open after 5 s"),
    (proxies.FewAtOnce, THERE, {"many_at_once"}, "56 of 64 connections that the front accepted did not come"),
    (proxies.WaitsForTheClient, THERE, {"server_first"}, "nobody came to the server within 5 s"),
]
ONCE = {examined.clause for examined in EXAMINED if examined.way is None}


@pytest.fixture
def back() -> Iterator[Back]:
    """Where the paths lead to."""
    found = Back("127.0.0.1", 0)
    yield found
    found.close()


def examine(front: Address, back: Back, broken: dict[str, Patience]) -> dict[str, Judgement]:
    """Every clause; those that are broken with a patience of their own."""
    return {
        one.name: judge(
            one, Harness(front, back, broken.get(one.name, Patience(deadline_seconds=KEPT_SECONDS, **SHORT)))
        )
        for one in EXAMINED
    }


@pytest.mark.parametrize(
    ("fault", "way", "clauses", "said"),
    FAULTS,
    ids=lambda value: getattr(value, "__name__", getattr(value, "value", "")),
)
def test_a_fault_breaks_its_own_clauses_and_no_other(
    fault: type[Relay] | type[Proxy], way: Way, clauses: set[str], said: str, back: Back
) -> None:
    patience = Patience(deadline_seconds=BROKEN_SECONDS, **SHORT | LONGER.get(fault, {}))
    broken = {clause if clause in ONCE else f"{clause}, {way.value}": patience for clause in clauses}
    with between(back.address, fault, faulty="client" if way is THERE else "server") as front:
        judged = examine(front, back, broken)
    assert {name: one.seen for name, one in judged.items() if not one.kept}.keys() == broken.keys()
    for name in broken:
        assert said in (judged[name].seen or "")
        assert judged[name].remedy == REMEDIES.get(judged[name].of.clause)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_proxy_without_fault_keeps_every_clause(host: str) -> None:
    try:
        back = Back(host, 0)
    except OSError as error:
        skip_for_kernel(str(error))
    with between(back.address, Relay, host=host) as front:
        judged = examine(front, back, {})
    back.close()
    assert {name: one.seen for name, one in judged.items() if not one.kept} == {}
    assert judged["refused"].seen == "accepted, then closed"
    assert (judged["back_pressure, client to server"].held_bytes or 0) > 0


def test_a_direct_connection_keeps_every_clause_and_holds_nothing(back: Back) -> None:
    judged = examine(back.address, back, {})
    assert {name: one.seen for name, one in judged.items() if not one.kept} == {}
    assert judged["refused"].seen == "refused"
    assert {one.held_bytes for one in judged.values()} == {None, 0}

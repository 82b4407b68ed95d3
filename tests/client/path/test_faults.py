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


def examine(front: Address, back: Back, broken: set[str], idle_seconds: float = 0.1) -> dict[str, Judgement]:
    def patience(name: str) -> Patience:
        return Patience(
            deadline_seconds=BROKEN_SECONDS if name in broken else KEPT_SECONDS,
            idle_seconds=idle_seconds,
            late_seconds=0.2,
            quiet_seconds=0.1,
        )

    return {examined.name: judge(examined, Harness(front, back, patience(examined.name))) for examined in EXAMINED}


@pytest.mark.parametrize(
    ("fault", "way", "clauses", "said"),
    FAULTS,
    ids=lambda value: getattr(value, "__name__", getattr(value, "value", "")),
)
def test_a_fault_breaks_its_own_clauses_and_no_other(
    fault: type[Relay] | type[Proxy], way: Way, clauses: set[str], said: str, back: Back
) -> None:
    broken = {clause if clause in ONCE else f"{clause}, {way.value}" for clause in clauses}
    faulty = "client" if way is THERE else "server"
    with between(back.address, fault, faulty=faulty) as front:
        judged = examine(front, back, broken, idle_seconds=4.0 if "idle" in clauses else 0.1)
    assert {name: one.seen for name, one in judged.items() if not one.kept}.keys() == broken
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
        judged = examine(front, back, set())
    back.close()
    assert {name: one.seen for name, one in judged.items() if not one.kept} == {}
    assert judged["refused"].seen == "accepted, then closed"
    assert (judged["back_pressure, client to server"].held_bytes or 0) > 0


def test_a_direct_connection_keeps_every_clause_and_holds_nothing(back: Back) -> None:
    judged = examine(back.address, back, set())
    assert {name: one.seen for name, one in judged.items() if not one.kept} == {}
    assert judged["refused"].seen == "refused"
    assert {one.held_bytes for one in judged.values()} == {None, 0}

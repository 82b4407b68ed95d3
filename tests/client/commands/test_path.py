"""The command `path`: what it prints, writes and exits with, and what it refuses in one line."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from iolab_client.__main__ import main
from iolab_client.path.examination import EXAMINED
from iolab_client.servers.address import Address, show
from tests.client.path import proxies
from tests.client.path.proxies import Proxy, Relay, between
from tests.support.programs import is_one_line

QUICK = ("--idle", "100ms", "--late", "100ms")


@pytest.fixture
def back() -> Iterator[Address]:
    """An address of loopback that is free, and stays so for whoever listens there with SO_REUSEADDR."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        address: Address = holder.getsockname()
        yield address


def run(front: Address, back: Address, *words: str) -> Result:
    return CliRunner().invoke(main, ["path", "--front", show(front), "--back", show(back), *words])


def refused_with(result: Result, said: str) -> bool:
    return result.exit_code == 2 and is_one_line(result.stderr) and said in result.stderr and not result.stdout


def test_a_clean_path_is_a_matrix_of_ok_and_exit_0(back: Address) -> None:
    with between(back, Relay) as front:
        result = run(front, back, *QUICK)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "│" in line]
    cells = {line.split()[1]: line.count("ok") for line in lines}
    for clause in {examined.clause for examined in EXAMINED}:
        assert cells[clause] == sum(examined.clause == clause for examined in EXAMINED)
    assert "FAIL" not in result.stdout


def test_a_broken_path_is_told_with_cause_and_remedy_and_exit_1(back: Address, tmp_path: Path) -> None:
    file = tmp_path / "path.xml"
    with between(back, proxies.ClosesAtFin) as front:
        result = run(front, back, *QUICK, "--json", "--junit", str(file))
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["front"], told["back"]) == (show(front), show(back))
    assert not any(one["accepted"] for one in told["clauses"])
    (broken,) = [one for one in told["clauses"] if not one["kept"]]
    assert (broken["clause"], broken["way"]) == ("half_close", "client to server")
    assert broken["seen"] == "an answer to the client's FIN does not come back"
    assert "proxy_half_close on" in broken["remedy"]
    held = {one["way"]: one["held_bytes"] for one in told["clauses"] if one["clause"] == "back_pressure"}
    assert all(isinstance(count, int) and count > 0 for count in held.values())

    suite = ElementTree.parse(file).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(EXAMINED)), "1")
    failed = {case.get("name"): case.find("failure") for case in suite if case.find("failure") is not None}
    (failure,) = failed.values()
    assert failed.keys() == {"half_close, client to server"}
    assert failure is not None
    assert failure.get("message") == broken["seen"]
    assert failure.text == broken["remedy"]


def test_what_is_accepted_is_shown_and_does_not_count(back: Address, tmp_path: Path) -> None:
    file = tmp_path / "path.xml"
    with between(back, proxies.ResetAsFin) as front:
        result = run(front, back, *QUICK, "--accept", "reset", "--accept", "idle", "--junit", str(file))
    assert result.exit_code == 0
    assert "FAIL: the client's RST came to the server as FIN" in result.stdout
    suite = ElementTree.parse(file).getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert [case.get("name") for case in suite if case.find("skipped") is not None] == ["reset, client to server"]


def test_the_remedy_stands_below_the_matrix(back: Address) -> None:
    with between(back, proxies.SaysWhoComes) as front:
        result = run(front, back, *QUICK)
    assert result.exit_code == 1
    assert result.stdout.count("FAIL: the server gets a header of the PROXY protocol first") == len(EXAMINED)
    assert result.stdout.splitlines()[-1].startswith("every clause: haproxy: a server line without send-proxy")
    assert result.stdout.count("send-proxy") == 1


def test_what_serves_one_connection_only_is_told_how_to_serve_more(back: Address) -> None:
    with between(back, proxies.ServesOne) as front:
        result = run(front, back, *QUICK, "--json")
    assert result.exit_code == 1
    for one in json.loads(result.stdout)["clauses"]:
        assert one["seen"] == f"{show(front)} refuses connections"
        assert "socat: ...,fork" in one["remedy"]


def test_a_port_alone_is_both_addresses_of_loopback(back: Address) -> None:
    result = CliRunner().invoke(main, ["path", "--front", show(back), "--back", str(back[1]), *QUICK, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["back"]
    assert told in (show(back), f"{show(back)} and [::1]:{back[1]}")
    assert (":" in told.replace(show(back), "")) == _has_ipv6()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_front_where_nobody_is_is_one_line(refusing: Address, back: Address) -> None:
    assert refused_with(run(refusing, back), f"{show(refusing)} refuses connections: start what listens there")


def test_a_front_that_has_no_address_is_one_line(back: Address) -> None:
    assert refused_with(run(("nowhere.invalid", 1), back), "no connection to nowhere.invalid:1: no such host")


@pytest.mark.parametrize("fault", [proxies.Swallows, proxies.KeepsTheRefused])
def test_a_front_that_leads_elsewhere_is_one_line(
    fault: type[Relay] | type[Proxy], back: Address, refusing: Address
) -> None:
    with between(back if fault is proxies.Swallows else refusing, fault) as front:
        result = run(front, back, "--deadline", "500ms")
    assert refused_with(result, f"did not come to the back within 0.5 s: does {show(front)} lead to {show(back)}?")


def test_a_back_port_in_use_is_one_line(refusing: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        back: Address = taken.getsockname()
        assert refused_with(run(refusing, back), f"{show(back)} is in use: stop who listens there")


def test_a_back_that_is_no_address_of_this_machine_is_one_line(refusing: Address) -> None:
    assert refused_with(run(refusing, ("192.0.2.1", 9000)), "192.0.2.1:9000: cannot assign requested address")


def test_a_namespace_that_is_none_is_one_line(refusing: Address, back: Address, tmp_path: Path) -> None:
    result = run(refusing, back, "--back-namespace", str(tmp_path / "none"))
    assert refused_with(result, "none: no such file or directory; it takes root and a network namespace")
    file = tmp_path / "file"
    file.touch()
    # Whether the file or the right is missed first is the kernel's affair.
    assert refused_with(run(refusing, back, "--back-namespace", str(file)), "it takes root and a network namespace")


def test_a_junit_file_that_cannot_be_written_is_one_line_before_anything_is_tried(
    refusing: Address, back: Address, tmp_path: Path
) -> None:
    assert refused_with(run(refusing, back, "--junit", str(tmp_path / "none" / "x.xml")), "no such file or directory")


def test_too_few_descriptors_are_told_before_they_are_missed(
    refusing: Address, back: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert refused_with(run(refusing, back), "100 descriptors may be open (ulimit -Hn)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing option '--front'"),
        (("--front", "epoll_loop", "--back", "9000"), "'epoll_loop' is not HOST:PORT"),
        (("--front", "127.0.0.1:0", "--back", "9000"), "is not HOST:PORT"),
        (("--front", ":80", "--back", "9000"), "':80' is not HOST:PORT"),
        (("--front", "127.0.0.1:80"), "Missing option '--back'"),
        (("--front", "127.0.0.1:80", "--back", "0"), "'0' is not PORT (1 to 65535) or HOST:PORT"),
        (("--front", "127.0.0.1:80", "--back", "70000"), "is not PORT"),
        (("--front", "127.0.0.1:80", "--back", "9000", "--accept", "x"), "'x' is not one of 'all_bytes'"),
        (("--front", "127.0.0.1:80", "--back", "9000", "--idle", "long"), "from 1us to 24h"),
        (("--front", "127.0.0.1:80", "--back", "9000", "--deadline", "0"), "from 1us to 24h"),
    ],
)
def test_a_bad_option_is_one_line(words: tuple[str, ...], said: str) -> None:
    assert refused_with(CliRunner().invoke(main, ["path", *words]), said)

"""What a container lets be seen: its log, its metrics, and what each of its threads waits in."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import partial
from importlib import import_module

from prometheus_client.parser import text_string_to_metric_families

from iolab.registry import MODELS, Model
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.docker.project import Service
from tests.support.waiting import eventually

# System calls by the names that the kernel has for what the manual calls otherwise.
SPELLINGS = {
    "accept": {"accept", "accept4"},
    "recv": {"recvfrom"},
    "select": {"select", "pselect6"},
    "poll": {"poll", "ppoll"},
    "epoll_wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2"},
}
# The threads that every server has, whatever its model, and those that keep several processes together.
HOUSEKEEPING = {"admin", "stop", "supervisor", "books", "log"}
# Waits for the broker as Redis's client does, whatever the model waits in.
ANSWERS = "answers"


def waits_in(model: Model) -> frozenset[str]:
    """The system calls that the field "Waits in" of a model's docstring names; none for one that never waits."""
    words = re.search(r"^Waits in +(.*)$", import_module(f"iolab.models.{model.slug}").__doc__ or "", re.MULTILINE)
    assert words
    # What follows is for other settings than the usual ones.
    usual = words[1].partition("; or ")[0]
    # Nobody waits in send(2) while every client reads.
    return frozenset() if usual.startswith("nowhere") else frozenset(re.findall(r"(\w+)\(2\)", usual)) - {"send"}


def seen(service: Service) -> set[str]:
    """What the model's own threads are in."""
    return {thread["syscall"] for thread in service.threads() if thread["name"] not in {*HOUSEKEEPING, ANSWERS}}


def test_the_threads_of_each_container_wait_where_its_model_says_and_nowhere_that_only_others_do(
    service: Service,
) -> None:
    client = service.connect()
    assert peers.ask(client, b"served, and silent from now on") == b"SERVED, AND SILENT FROM NOW ON"
    own = waits_in(service.model)
    others = frozenset().union(*map(waits_in, MODELS.values())) - own

    def is_in(call: str) -> bool:
        return bool(seen(service) & SPELLINGS.get(call, {call}))

    for call in own:
        eventually(partial(is_in, call), f"{service.model.slug} waits in {call}")
    assert [call for call in others if is_in(call)] == []


def test_each_page_of_threads_and_metrics_is_about_the_containers_own_server(service: Service) -> None:
    photograph = json.loads(service.page("/threads")[1])
    assert photograph["model"] == service.model.slug
    assert photograph["processes"][0]["pid"] == service.pid
    for thread in service.threads():
        assert {"name", "state", "syscall", "cpu_seconds", "voluntary_switches", "involuntary_switches"} <= set(thread)

    samples = [
        sample
        for family in text_string_to_metric_families(service.page("/metrics")[1])
        for sample in family.samples
        if sample.name.startswith("iolab_")
    ]
    assert {sample.labels["model"] for sample in samples} == {service.model.slug}
    assert not [sample for sample in samples if service.address[0] in sample.labels.values()]


def test_metrics_count_what_clients_do(service: Service) -> None:
    before = {name: service.metric(name) for name in ("connections_accepted_total", "received_bytes_total")}
    with connect(service.address) as client:
        assert len(peers.exchange(client, bytes(5000))) == 5000

    assert service.metric("connections_accepted_total") - before["connections_accepted_total"] == 1
    eventually(lambda: service.metric("connections_open") == 0, "everyone has left")
    assert service.metric("received_bytes_total") - before["received_bytes_total"] == 5000
    assert service.metric("process_cpu_seconds_total", mode="user") > 0
    assert service.metric("process_resident_memory_bytes") > 1024 * 1024
    assert service.metric("limit", limit="descriptors") == 16384


def test_every_line_of_docker_logs_is_json_about_the_servers_life(service: Service) -> None:
    """Of all its runs, also those that the tests before this one have ended."""
    container = service.container
    lines = container.logs().decode().splitlines()
    assert container.logs(stdout=False, stderr=True) == b""

    events = [json.loads(line) for line in lines]
    assert all(isinstance(event["event"], str) for event in events)
    assert {event["model"] for event in events} == {service.model.slug}
    assert {event["level"] for event in events} <= {"info", "warning"}
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert events[0]["event"] == "listening"
    for event in events:
        if event["event"] == "listening":
            assert (event["host"], event["port"], event["admin_port"]) == ("::", service.model.port, 9100)
            assert event["limits"]["descriptors"] == 16384
            assert event["limits"]["threads"] == 512
        elif event["event"] == "stopped":
            assert event["totals"]["accepted"] >= 0

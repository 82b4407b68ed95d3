"""The health check: a client like any other, so a pool that is full fails it, and that is the truth about a pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iolab.registry import MODELS, Model
from iolab_client.contract import peers
from tests.docker.conftest import WORKERS
from tests.docker.project import Outcomes, Project, Service, at_once
from tests.support.models import only
from tests.support.waiting import eventually, pause

# As compose has it: so many checks have to fail one after the other, each of which gives up after 2 s.
RETRIES = 3
HEALTH_SECONDS = 180
LOOK_SECONDS = 0.2
# The pools, and one that is none: their check is the same as everybody's, and each costs a process every few seconds.
WATCHED = [model for model in MODELS.values() if model.pool or model.slug == "epoll_loop"]

watched_ones = only(*(model.slug for model in WATCHED))


@dataclass(frozen=True, kw_only=True)
class Crowded:
    """A container's health while as many clients as a pool has workers say nothing."""

    checks: list[int]
    health: str


def becomes_healthy(service: Service) -> None:
    def look() -> bool:
        pause(LOOK_SECONDS)
        return service.health == "healthy"

    eventually(look, f"{service.model.service} is healthy", seconds=HEALTH_SECONDS)


def next_checks(service: Service, count: int) -> list[int]:
    """The exit codes of so many checks, all of them begun after now."""
    results: dict[str, int] = {}
    # The first one that ends may have begun before.
    known = set(checks(service))

    def look() -> bool:
        pause(LOOK_SECONDS)
        results.update((begun, code) for begun, code in checks(service).items() if begun not in known)
        return len(results) > count

    eventually(look, f"{service.model.service} is checked {count} times", seconds=HEALTH_SECONDS)
    return [results[begun] for begun in sorted(results)][1 : count + 1]


def checks(service: Service) -> dict[str, int]:
    """The last five checks that have ended: when each began, and its exit code."""
    service.container.reload()
    return {check["Start"]: check["ExitCode"] for check in service.container.attrs["State"]["Health"]["Log"]}


@pytest.fixture(scope="module")
def watched(engine: None) -> Iterator[Project]:
    """Servers that are checked often, up for these tests only."""
    settings = {model.slug: {"workers": WORKERS} for model in WATCHED if model.pool}
    project = Project(settings, HEALTH_INTERVAL="3s")
    try:
        project.up(*(model.service for model in WATCHED))
        yield project
    finally:
        project.close()


@pytest.fixture(scope="module")
def crowded(watched: Project) -> Outcomes[Crowded]:
    """Each with its clients, at the same time; they have left when a test looks."""

    def crowd(model: Model) -> Crowded:
        service = watched.service(model)
        becomes_healthy(service)
        try:
            for client in service.connect_many(WORKERS):
                # Served, and not in the queue behind a check.
                assert peers.ask(client, b"a") == b"A"
            return Crowded(checks=next_checks(service, RETRIES), health=service.health)
        finally:
            service.close_clients()

    return at_once(crowd, WATCHED)


@watched_ones
def test_a_full_pool_is_unhealthy_and_another_model_with_as_many_clients_is_not(
    crowded: Outcomes[Crowded], model: Model
) -> None:
    seen = crowded.of(model)

    if model.pool:
        assert all(seen.checks)
        assert seen.health == "unhealthy"
    else:
        assert seen.checks == [0] * RETRIES
        assert seen.health == "healthy"


@watched_ones
def test_it_is_healthy_when_the_clients_have_left(crowded: Outcomes[Crowded], watched: Project, model: Model) -> None:
    becomes_healthy(watched.service(model))

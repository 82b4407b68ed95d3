"""A changed YAML file holds in its container by `make up`; by less than that, the server stops and says what to do.

One project goes through it: its files changed, then `docker compose up`, then what `make up` does, then bad files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from iolab.registry import MODELS, Model
from iolab_client.contract import payload, peers
from iolab_client.servers.address import Address, connect
from tests.docker.project import Outcomes, Project, at_once

PORT_STEP = 1000
BACKLOG = 7
BUFFER_BYTES = 1234
FIRST = next(iter(MODELS.values()))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A container that is no more."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Running:
    """A container that serves."""

    container_id: str | None
    health: str
    listening: dict[str, Any]
    published_ports: list[str]
    answers: list[bytes]
    reads: float
    old_port_is_open: bool


def ends(project: Project, model: Model) -> Ended:
    """Wait for a container's end."""
    container = project.container(model)
    code = int(container.wait(timeout=60)["StatusCode"])
    return Ended(
        exit_code=code,
        stdout=container.logs(stdout=True, stderr=False).decode(),
        stderr=container.logs(stdout=False, stderr=True).decode(),
    )


def look_at(project: Project, model: Model) -> Running:
    """Talk to a container by both ways."""
    service = project.service(model)
    ports = service.container.attrs["NetworkSettings"]["Ports"]
    before = service.metric("answers_total")
    answers = []
    for address in (service.address, service.published):
        with connect(address) as client:
            answers.append(peers.exchange(client, payload.ALL_BYTES * 100))
    return Running(
        container_id=service.container.id,
        health=service.health,
        listening=service.listening,
        published_ports=[port for port, bindings in ports.items() if bindings],
        answers=answers,
        reads=service.metric("answers_total") - before,
        old_port_is_open=_is_open((service.host, model.port)),
    )


def _is_open(address: Address) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def changed(engine: None) -> Iterator[Project]:
    """A project whose files name other ports than Compose publishes."""
    # Up twice, and waited for until the first check of each.
    project = Project(HEALTH_INTERVAL="10s")
    try:
        for model in MODELS.values():
            project.write(model, port=model.port + PORT_STEP, backlog=BACKLOG, buffer_size=BUFFER_BYTES)
        yield project
    finally:
        project.close()


@pytest.fixture(scope="module")
def refused(changed: Project) -> Outcomes[Ended]:
    """What came of plain `docker compose up`."""
    changed.up()
    return at_once(lambda model: ends(changed, model))


@pytest.fixture(scope="module")
def followed(changed: Project, refused: Outcomes[Ended]) -> Outcomes[Running]:
    """What came of `make up`, which returns when all are healthy."""
    made = changed.follow_configs()
    assert made.returncode == 0, made.stderr
    changed.up("--wait")
    return at_once(lambda model: look_at(changed, model))


@pytest.fixture(scope="module")
def one_more(changed: Project, followed: Outcomes[Running]) -> Outcomes[Running]:
    """What came of `make up` again, with one value of one file changed."""
    changed.write(FIRST, backlog=BACKLOG + 1)
    assert changed.follow_configs().returncode == 0
    changed.up("--wait")
    return at_once(lambda model: look_at(changed, model))


@dataclass(frozen=True, kw_only=True)
class Refused:
    """`make up` with bad files: what it said and left running, and what came of one container started all the same."""

    printed: str
    container_ids: dict[str, str | None]
    ended: Ended


@pytest.fixture(scope="module")
def bad(changed: Project, one_more: Outcomes[Running]) -> Refused:
    """What came of every file made bad."""
    for model in MODELS.values():
        changed.write(model, backlog="many")
    made = changed.follow_configs()
    assert made.returncode == 2, made.stderr
    container_ids = {slug: changed.container(model).id for slug, model in MODELS.items()}
    changed.up("--force-recreate", FIRST.service)
    return Refused(printed=made.stderr, container_ids=container_ids, ended=ends(changed, FIRST))


def test_a_port_that_compose_does_not_publish_stops_the_container_with_the_line_that_says_what_to_do(
    refused: Outcomes[Ended], model: Model
) -> None:
    ended = refused.of(model)
    port = model.port + PORT_STEP

    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert f"/etc/iolab/models/{model.slug}.yaml: port: got {port}, " in line
    assert f"docker-compose.yml publishes {model.port};" in line
    assert "`make up`" in line
    assert f"{model.environment_prefix}_PORT={port}" in line


def test_after_make_up_every_model_is_healthy(followed: Outcomes[Running], model: Model) -> None:
    assert followed.of(model).health == "healthy"


def test_after_make_up_the_new_port_answers(followed: Outcomes[Running], model: Model) -> None:
    running = followed.of(model)

    assert running.published_ports == [f"{model.port + PORT_STEP}/tcp"]
    assert running.answers == [payload.answer(payload.ALL_BYTES * 100)] * 2
    assert not running.old_port_is_open


def test_after_make_up_backlog_and_buffer_size_hold(followed: Outcomes[Running], model: Model) -> None:
    running = followed.of(model)

    assert running.listening["limits"]["backlog"] == BACKLOG
    assert running.listening["settings"]["backlog"] == BACKLOG
    assert running.listening["settings"]["buffer_size"] == BUFFER_BYTES
    assert running.reads >= sum(map(len, running.answers)) / BUFFER_BYTES


def test_make_up_makes_those_anew_whose_file_changed_and_no_other(
    followed: Outcomes[Running], one_more: Outcomes[Running], model: Model
) -> None:
    before, after = followed.of(model), one_more.of(model)

    assert (after.container_id != before.container_id) == (model is FIRST)
    assert after.listening["limits"]["backlog"] == BACKLOG + (model is FIRST)


def test_a_bad_file_stops_make_up_with_one_line_before_it_touches_what_runs(
    bad: Refused, one_more: Outcomes[Running], changed: Project
) -> None:
    (line,) = bad.printed.splitlines()
    assert f"{changed.folder}/models/{FIRST.slug}.yaml: backlog: got many, expected an integer" in line
    assert bad.container_ids == {slug: one_more.of(model).container_id for slug, model in MODELS.items()}


def test_a_bad_file_stops_its_container_with_one_line(bad: Refused) -> None:
    assert (bad.ended.exit_code, bad.ended.stdout) == (2, "")
    (line,) = bad.ended.stderr.splitlines()
    assert f"/etc/iolab/models/{FIRST.slug}.yaml: backlog: got many, expected an integer" in line


def test_make_up_finds_two_models_on_one_port(engine: None) -> None:
    project = Project()
    try:
        for model in list(MODELS.values())[:2]:
            file = project.write(model, port=9000)
        made = project.follow_configs()
    finally:
        project.close()

    assert made.returncode == 2
    (line,) = made.stderr.splitlines()
    assert f"{file}: port: got 9000" in line


def test_down_leaves_nothing(changed: Project, bad: object) -> None:
    changed.down()

    assert changed.leftovers() == {"containers": [], "networks": [], "volumes": []}

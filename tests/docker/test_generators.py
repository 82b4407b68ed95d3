"""Three generators in containers that load a model in its container together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pytest
from docker.models.containers import Container

from iolab.registry import MODELS
from iolab_client.results.measurement import INCONSISTENT, Measurement
from tests.support.compose import UNCHECKED, ComposeTarget
from tests.support.waiting import eventually

LOOP = MODELS["epoll_loop"]
PROFILE = ("--profile", "generators")
COUNT = 3
LOAD = ["load", "--on", "tcp://scheduler:8786", LOOP.slug, "-c", "9", "-R", "300", "-d", "1s", "--warmup", "300ms"]


def is_registered(generator: Container) -> bool:
    """Whether a generator has told its scheduler of itself."""
    return b"Registered to" in generator.logs()


@pytest.fixture(scope="module")
def target(engine: None) -> Iterator[ComposeTarget]:
    """A model, a scheduler, and generators that are at it."""
    target = ComposeTarget()
    try:
        variables = UNCHECKED | {"IOLAB_CONFIGS": str(target.configs({LOOP.slug: {"port": LOOP.port}}))}
        up = ["up", "--detach", "--no-build", "--no-deps"]
        target.compose(*PROFILE, *up, "scheduler", LOOP.service, variables=variables | {"EPOLL_LOOP_HOST_PORT": ""})
        target.compose(*PROFILE, *up, "--scale", f"generator={COUNT}", "generator", variables=variables)
        for generator in target.containers_of("generator"):
            eventually(partial(is_registered, generator), "a generator is at its scheduler")
        yield target
    finally:
        target.close()


def test_generators_of_several_containers_load_one_server_at_the_same_time(target: ComposeTarget) -> None:
    def look() -> Measurement | None:
        printed = target.compose("run", "--rm", "--no-TTY", "client", *LOAD, "--json")
        one = msgspec.json.decode(printed, type=Measurement)
        return None if one.verdict.word == INCONSISTENT else one

    # Where the machine is crowded, one of them may be held back.
    one = eventually(look, "the server counts what all sent while each of them measured")
    assert one
    assert (one.subject, one.plan.connections, one.plan.processes, one.errors.total) == (LOOP.slug, 9, COUNT, 0)
    assert one.answered_connections == 9
    assert one.address == f"{LOOP.service}:{LOOP.port}"
    assert one.server
    assert one.server.received_bytes == pytest.approx(300 * 64 * one.server.seconds, rel=0.3)


def test_scheduler_and_generators_are_hardened_and_out_of_the_models_reach(target: ComposeTarget) -> None:
    (scheduler,) = target.containers_of("scheduler")
    generators = target.containers_of("generator")
    assert len(generators) == COUNT
    for container in (scheduler, *generators):
        host = container.attrs["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["PidsLimit"]) == (True, ["ALL"], 512)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert container.attrs["Config"]["User"] == "10001:10001"
        assert not any(container.attrs["NetworkSettings"]["Ports"].values())
    assert list(scheduler.attrs["NetworkSettings"]["Networks"]) == [f"{target.project}_generators"]
    (model,) = target.containers_of(LOOP.service)
    assert list(model.attrs["NetworkSettings"]["Networks"]) == [f"{target.project}_front"]

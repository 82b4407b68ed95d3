"""One project that is up for the whole suite; every test leaves it as it found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from iolab.registry import MODELS, Model
from tests.docker.project import Project, Service
from tests.support.compose import ComposeTarget

HERE = Path(__file__).parent
# Whose logs are shown if a test fails.
CONTAINERS = pytest.StashKey[Callable[[], list[Container]]]()

# Long enough that no stop is cut because this machine is busy; what the deadline does is shown with a short one.
SHARED_SETTINGS = {"drain_seconds": 55, "drain_quiet_seconds": 2, "high_water": 2 * 1024 * 1024}
STOP_GRACE_SECONDS = 60
WORKERS = 6
# What is done to all models at once is the first test's time: on a crowded machine more than one test is given.
TEST_SECONDS = 300


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Who asks for processes only is not given containers."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    if config.getoption("target") == "process":
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


@pytest.fixture(scope="session")
def engine(_targets: Any) -> None:
    """Docker and Compose: without them the suite is skipped."""
    _targets.fleet("compose")


@pytest.fixture
def target(engine: None) -> Iterator[ComposeTarget]:
    """Containers of this test alone, which are gone after it."""
    target = ComposeTarget()
    try:
        yield target
    finally:
        target.close()


# Not for the session: the suites that come after this one have no need of its containers.
@pytest.fixture(scope="package")
def project(engine: None) -> Iterator[Project]:
    """Every model in its container."""
    settings = {
        slug: SHARED_SETTINGS | ({"workers": WORKERS} if "workers" in model.own_keys else {})
        for slug, model in MODELS.items()
    }
    project = Project(settings, STOP_GRACE_SECONDS=str(STOP_GRACE_SECONDS))
    try:
        project.up_unchecked()
        yield project
    finally:
        project.close()


@pytest.fixture(autouse=True)
def _rest(request: pytest.FixtureRequest) -> Iterator[None]:
    """What polls has its rest after each test."""
    project = request.getfixturevalue("project") if "project" in request.fixturenames else None
    yield
    if project:
        project.let_rest()


@pytest.fixture
def service(project: Project, model: Model, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The container of `model`, whatever the test does to it."""
    service = project.service(model)
    request.node.stash[CONTAINERS] = partial(project.containers, model)
    yield service
    service.close_clients()
    project.restore(model)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    # At the last teardown they are gone.
    if report.failed and call.when != "teardown" and (containers := item.stash.get(CONTAINERS, None)):
        report.sections += [(f"log of {one.name}", one.logs().decode()) for one in containers()]
    return report

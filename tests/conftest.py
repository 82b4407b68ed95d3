"""What every suite is given: servers on the chosen targets, for each model of the registry."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iolab.registry import MODELS, Model
from tests.support import compose, swarm
from tests.support.fleet import Fleet, Lab
from tests.support.missing import fail_in_ci, skip, summary
from tests.support.models import Variant, variants
from tests.support.namespaces import another_network
from tests.support.process import ProcessTarget
from tests.support.server import RunningServer, Target

USED = pytest.StashKey[list[RunningServer]]()
USED_TARGETS = pytest.StashKey["_Targets"]()
TARGETS = ("process", "compose")
# Where a module of the docker suite is done beside the others, in a project of its own.
DOCKER_GROUPS = {
    "test_health": "docker health",
    "test_image": "docker image",
    "test_stop": "docker stop and settings",
    "test_settings": "docker stop and settings",
    "test_task_queue": "docker task_queue",
    "test_generators": "docker machines",
    "test_swarm": "docker machines",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target",
        choices=(*TARGETS, "both"),
        default="both",
        help="where servers are started: as processes of this machine, in containers, or both",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Once pytest has left a folder it forgets its conftest's autouse fixtures, also when it comes back to it. Named
    # in order, no folder is left twice.
    config.args.sort()
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # By nohup(1). Servers would inherit that, and take this signal for no stop; a handler ends at execve(2).
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    # The same in all workers, which inherit it.
    os.environ.setdefault("CI_RUN_ID", secrets.token_hex(8))
    config.addinivalue_line("markers", "models(predicate): only the models for which it is true; see support.models")
    config.addinivalue_line("markers", "xdist_group(name): of pytest-xdist, where it is used")
    config.addinivalue_line("markers", "targets(*names): only these targets: the others cannot show it")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """When all tests are over, also those of all workers of pytest-xdist."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("target") != "process":
        swarm.end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a model runs with each of the registry; one that asks for a target, on each chosen.

    The contract is kept by every variant of a model. Its containers differ in nothing from the usual one's, so that
    the others are held to it as processes.
    """
    asked = metafunc.fixturenames
    chosen = metafunc.config.getoption("target")
    possible = [name for mark in metafunc.definition.iter_markers("targets") for name in mark.args] or TARGETS
    targets = [name for name in TARGETS if name in possible and chosen in (name, "both")]
    predicates = [mark.args[0] for mark in metafunc.definition.iter_markers("models")]
    models = [model for model in MODELS.values() if all(predicate(model) for predicate in predicates)]
    if "lab" in asked:
        whole = metafunc.definition.path.parent.name == "contract"
        servers = [
            pytest.param(target, variant, id=f"{target}-{variant.name}")
            for target in targets
            for variant in variants(models)
            if not variant.settings or (whole and target == "process")
        ]
        metafunc.parametrize(("fleet", "variant"), servers, indirect=["fleet"])
    elif "fleet" in asked:
        metafunc.parametrize("fleet", targets, indirect=True)
    elif "model" in asked:
        metafunc.parametrize("model", models, ids=[model.slug for model in models])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One model after the other, so that its servers can be used again and no busy one runs beside the rest.

    What only the target shows that was not chosen is left out.
    """
    places = variants()

    def place(item: pytest.Item) -> tuple[int, int]:
        target, variant = _parameter(item, "fleet"), _parameter(item, "variant")
        if target not in TARGETS:
            return 0, 0
        return 1 + TARGETS.index(target), places.index(variant) if variant else 0

    elsewhere = [item for item in items if _parameter(item, "fleet") not in (None, *TARGETS)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = sorted((item for item in items if item not in elsewhere), key=place)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tell pytest-xdist what belongs together. It looks before pytest_collection_modifyitems of this file runs."""
    item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without groups every worker starts the shared servers and projects once more: slow, and too much at once."""
    if session.config.getoption("loadgroup", False):
        alone = [item.nodeid for item in session.items if "@" not in item.nodeid]
        if alone:
            raise pytest.UsageError(f"pytest-xdist has not grouped {alone[0]} and {len(alone) - 1} more")


def _group(item: pytest.Item) -> str:
    """What one worker does one after the other, where pytest-xdist divides the suites among several.

    A model's tests use its servers together. The docker suite is a few groups: each has a project running meanwhile.
    """
    target, variant = _parameter(item, "fleet"), _parameter(item, "variant")
    module = item.path.relative_to(item.config.rootpath)
    if module.is_relative_to("tests/docker"):
        return DOCKER_GROUPS.get(module.stem, "docker")
    if target not in TARGETS or not variant:
        return str(module)
    return f"{target} {variant.name}"


def _parameter(item: pytest.Item, name: str) -> Any:
    return item.callspec.params.get(name) if hasattr(item, "callspec") else None


class _Targets:
    """The targets that were asked for until now."""

    def __init__(self) -> None:
        self._fleets: dict[str, Fleet] = {}
        self._no_engine: str | None = None
        self._asked = False

    def fleet(self, name: str) -> Fleet:
        if name not in self._fleets:
            self._fleets[name] = Fleet(self._make(name))
        return self._fleets[name]

    def _make(self, name: str) -> Target:
        if name == "process":
            return ProcessTarget()
        if not self._asked:
            self._no_engine = compose.unavailable()
            self._asked = True
        if self._no_engine:
            skip(self._no_engine)
        return compose.ComposeTarget()

    def end_shared(self) -> None:
        """End the servers that tests shared until now."""
        for fleet in self._fleets.values():
            fleet.end_shared()

    def close(self) -> None:
        for fleet in self._fleets.values():
            fleet.close()


@pytest.fixture(scope="session")
def _targets(request: pytest.FixtureRequest) -> Iterator[_Targets]:
    targets = request.session.stash[USED_TARGETS] = _Targets()
    yield targets
    targets.close()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a group's tests share ends with the group: one that polls would go on beside whatever comes next."""
    targets = item.session.stash.get(USED_TARGETS, None)
    if targets and (nextitem is None or _group(nextitem) != _group(item)):
        targets.end_shared()


@pytest.fixture
def fleet(request: pytest.FixtureRequest, _targets: _Targets) -> Fleet:
    """The servers of one target."""
    return _targets.fleet(request.param)


@pytest.fixture
def compose_target(_targets: _Targets) -> compose.ComposeTarget:
    """Containers and Compose, for a test that is about them and not about one model's server."""
    target = _targets.fleet("compose").target
    assert isinstance(target, compose.ComposeTarget)
    return target


@pytest.fixture
def model(variant: Variant) -> Model:
    """Which of the registry the test's servers are of."""
    return variant.model


@pytest.fixture
def lab(fleet: Fleet, variant: Variant, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Servers of one model: `lab.start` makes one for this test only, `lab.share` one that others use too."""
    lab = Lab(fleet, variant)
    request.node.stash[USED] = lab.used
    yield lab
    lab.close()


@pytest.fixture
def server(lab: Lab) -> RunningServer:
    """A server with usual settings that this test leaves as it was."""
    return lab.share()


@pytest.fixture
def start(lab: Lab) -> Callable[..., RunningServer]:
    """Starts a server that only this test uses, and may stop or hurt."""
    return lab.start


@pytest.fixture
def start_alone(lab: Lab) -> Callable[..., RunningServer]:
    """As `start`; in a container the network ends with it, so that what the kernel still holds is lost."""
    return lab.start_alone


@pytest.fixture
def share(lab: Lab) -> Callable[..., RunningServer]:
    """Gives a server with these settings, which this test leaves as it was."""
    return lab.share


@pytest.fixture
def other_network() -> Iterator[Path]:
    """The file of a network namespace that is not this process's."""
    with another_network() as file:
        yield file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    fail_in_ci(report)
    # At the teardown they may be gone; what they complained of is the failure then.
    if report.failed and call.when != "teardown":
        for server in item.stash.get(USED, ()):
            report.sections.append((f"log of {server.model.slug}", server.everything_printed()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not seen is said last, where it can't be missed."""
    if skipped := terminalreporter.getreports("skipped"):
        terminalreporter.section("NOT SEEN on this machine", yellow=True)
        for line in summary(skipped):
            terminalreporter.write_line(line)

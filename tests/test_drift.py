"""What stands in several places says the same in all of them: registry, configs, compose, docs, modules."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import msgspec
import msgspec.inspect
import pytest
import yaml

from iolab.configs import load_all
from iolab.registry import MODELS, Model
from iolab.settings import OWN_KEYS, PlaygroundSettings, Settings, WorkDial

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
# `key: value  # [least, most] what it means`, as the configs have it.
BOUNDS = re.compile(r"(\w+): [^#\n]*(?:# )?\[([\d.]+), ([\d.]+)[]:]")
FIELDS = ("Waits in", "Runs", "Costs", "Breaks at", "Compare")


def test_every_model_is_a_service_and_every_service_is_a_model_or_known() -> None:
    services = {name for name, service in COMPOSE["services"].items() if "profiles" not in service}
    assert services - {"playground"} == {name for model in MODELS.values() for name in (model.service, *model.parts)}


def test_the_stack_is_what_is_made_of_the_compose_file() -> None:
    made = subprocess.run([sys.executable, "scripts/stack.py"], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert (ROOT / "deploy" / "stack.yml").read_bytes() == made.stdout, "deploy/stack.yml is old: make stack"


def test_every_model_has_its_config_and_no_config_is_left_over() -> None:
    assert {file.stem for file in (ROOT / "configs" / "models").iterdir()} == set(MODELS)


def test_every_model_has_its_module_and_no_module_is_left_over() -> None:
    modules = {file.stem for file in (ROOT / "services" / "iolab" / "models").glob("*.py")} - {"__init__"}
    assert modules == set(MODELS)


def test_every_model_has_its_page_and_no_page_is_left_over() -> None:
    assert {file.stem for file in (ROOT / "docs" / "models").iterdir()} == set(MODELS)


def test_every_model_has_its_timeline_and_its_page_and_the_sheet_show_it(model: Model) -> None:
    picture = (ROOT / "docs" / "timelines" / f"{model.slug}.svg").read_text()
    assert f">{model.slug} <" in picture
    assert "ptrace slows every call" in picture
    assert f"](../timelines/{model.slug}.svg)" in (ROOT / "docs" / "models" / f"{model.slug}.md").read_text()
    assert f"| [{model.slug}](models/{model.slug}.md) |" in (ROOT / "docs" / "timelines.md").read_text()
    assert f">{model.slug} <" in (ROOT / "docs" / "timelines" / "all.svg").read_text()


def test_no_timeline_is_left_over() -> None:
    assert {file.stem for file in (ROOT / "docs" / "timelines").iterdir()} == {*MODELS, "all", "three"}


def test_the_default_port_of_a_model_is_the_same_everywhere(model: Model) -> None:
    service = COMPOSE["services"][model.service]
    variable = f"{model.environment_prefix}_PORT"
    published = f"${{{variable}:-{model.port}}}"
    assert load_all(ROOT / "configs")[model.slug].port == model.port
    assert service["ports"] == [f"127.0.0.1:${{{model.environment_prefix}_HOST_PORT-{published}}}:{published}"]
    assert service["environment"]["IOLAB_PUBLISHED_PORT"] == published
    assert f"port {model.port}," in (ROOT / "docs" / "models" / f"{model.slug}.md").read_text()


def test_a_container_is_made_anew_when_its_models_config_has_changed(model: Model) -> None:
    for name in (model.service, *(part for part in model.parts if "entrypoint" in COMPOSE["services"][part])):
        assert COMPOSE["services"][name]["labels"] == {"iolab.config": f"${{{model.environment_prefix}_CONFIG:-}}"}


def test_a_service_runs_its_own_model(model: Model) -> None:
    service = COMPOSE["services"][model.service]
    assert service["command"] == [model.slug]
    assert service["image"] == f"iolab/{model.service}"


def test_a_busy_poll_is_given_half_a_core_where_nothing_else_is_said() -> None:
    assert COMPOSE["services"]["busy-poll"]["cpus"] == "${BUSY_POLL_CPUS:-0.5}"


def test_the_readme_has_a_row_for_each_model(model: Model) -> None:
    row = f"| [{model.slug}](docs/models/{model.slug}.md) | {model.port} |"
    assert row in (ROOT / "README.md").read_text()


def test_the_defaults_of_the_file_are_those_of_the_class() -> None:
    written = yaml.safe_load((ROOT / "configs" / "defaults.yaml").read_text())
    defaults = json.loads(msgspec.json.encode(Settings()))
    assert written == {key: value for key, value in defaults.items() if key not in {*OWN_KEYS, "port"}}


def test_the_defaults_of_the_playgrounds_file_are_those_of_the_class() -> None:
    written = yaml.safe_load((ROOT / "configs" / "playground.yaml").read_text())
    assert written == json.loads(msgspec.json.encode(PlaygroundSettings()))


def test_the_bounds_that_a_comment_tells_are_those_that_hold() -> None:
    text = "\n".join(file.read_text() for file in sorted((ROOT / "configs").rglob("*.yaml")))
    told = {(key, float(least), float(most)) for key, least, most in BOUNDS.findall(text)}
    hold = {
        (field.encode_name, float(kind.ge or 0), float(kind.le or 0))
        for struct in (Settings, WorkDial, PlaygroundSettings)
        for field in msgspec.inspect.type_info(struct).fields  # type: ignore[attr-defined]
        for kind in getattr(field.type, "types", (field.type,))
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    }
    assert told == hold


def test_a_config_shows_each_key_that_only_its_model_has(model: Model) -> None:
    written = yaml.safe_load((ROOT / "configs" / "models" / f"{model.slug}.yaml").read_text())
    assert {"port", "backlog", "buffer_size", *model.own_keys} <= set(written)


def test_a_model_serves_and_says_what_it_is_in_the_five_fields(model: Model) -> None:
    module = import_module(f"iolab.models.{model.slug}")
    assert list(inspect.signature(module.serve).parameters) == ["server"]
    lines = (inspect.getdoc(module) or "").splitlines()
    assert ": " in lines[0]
    assert [field for line in lines for field in FIELDS if line.startswith(f"{field} ")] == list(FIELDS)


def test_the_functions_of_a_model_stand_in_the_order_of_all_models(model: Model) -> None:
    tree = ast.parse((ROOT / "services" / "iolab" / "models" / f"{model.slug}.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    order = [name for name in ("serve", "accept", "advance", "drain") if name in names]
    assert [name for name in names if name in order] == order
    assert names[0] == "serve"


@pytest.mark.parametrize(
    "framework", ["asyncio", "tornado", "twisted", "gevent", "uvloop", "celery", "redis", "prometheus_client"]
)
def test_the_registry_imports_no_framework_and_no_model(framework: str) -> None:
    program = f"""
import sys, iolab.registry
assert {framework!r} not in sys.modules
assert not [name for name in sys.modules if name.startswith("iolab.models")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_fact_names_files_and_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "kernel-facts.md").read_text()
    named = re.findall(
        r"`((?:tests|clients|services|processes|server|sockets|models|kernel|observe)/[\w/.]+)(?:::(\w+))?`", text
    )
    assert len(named) > 40
    for path, test in named:
        file = next((root / path for root in (ROOT, ROOT / "services" / "iolab") if (root / path).exists()), None)
        assert file, path
        assert not test or f"def {test}(" in file.read_text(), f"{path} has no {test}"


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = {}
    for package in ("services/iolab", "clients/iolab_client", "clients/iolab_pytest"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_page_holds_both_sides_of_a_merge() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if re.search("^(<<<<<<<|>>>>>>>) ", page.read_text(), re.MULTILINE)] == []


def test_the_clients_tests_are_apart_from_this_machine_in_whatever_order_they_are_named() -> None:
    # Away from their folder, and back: without the order in tests/conftest.py the rest wrote into the checkout.
    named = ["tests/client/results/test_units.py", "tests/test_results.py", "tests/client/compare/test_compare.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--setup-plan", *named]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    tests = [line for line in planned.splitlines() if "tests/client/" in line and "::" in line]
    assert {line.split("::")[0].strip() for line in tests} == {named[0], named[2]}
    assert not [line for line in tests if "lonely" not in line]

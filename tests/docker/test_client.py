"""The client's container, as the README has it: it finds every model by its name on the Docker network."""

from __future__ import annotations

import json

import pytest

from iolab.registry import MODELS, Model
from iolab_client.contract import payload
from tests.docker.project import Project, Service
from tests.support.models import only


def test_try_has_every_model_answer(project: Project) -> None:
    text = "hello, Grüße"
    answers = json.loads(project.run_client("try", text, "--json"))

    assert [answer["model"] for answer in answers] == list(MODELS)
    for answer, model in zip(answers, MODELS.values(), strict=True):
        assert answer["address"] == f"{model.service}:{model.port}"
        assert (answer["answer"], answer["error"]) == (payload.answer(text.encode()).decode(), None)


def test_try_prints_a_table_of_models_addresses_answers_and_times(project: Project) -> None:
    printed = project.run_client("try", "hello")

    for word in ("model", "address", "answer", "time"):
        assert word in printed
    for model in MODELS.values():
        (row,) = (line for line in printed.splitlines() if model.slug in line.split())
        assert f"{model.service}:{model.port}" in row
        assert "HELLO" in row


@only(next(iter(MODELS)))
def test_try_fails_where_a_model_does_not_run(project: Project, service: Service) -> None:
    service.container.kill()

    with pytest.raises(AssertionError, match="exit 1\n") as failure:
        project.run_client("try", "hello", service.model.slug)
    assert service.model.slug in str(failure.value)


@pytest.fixture(scope="module")
def checked(project: Project) -> dict[str, dict[str, str]]:
    """What `check` found of each model, by clause."""
    # All at the same time, beside other suites: a machine that is slow breaks no clause.
    found = json.loads(project.run_client("check", "--json", "--deadline", "60"))
    return {one["model"]: one["clauses"] for one in found}


def test_check_finds_every_clause_of_the_contract_kept(checked: dict[str, dict[str, str]], model: Model) -> None:
    clauses = checked[model.slug]

    assert [clause for clause, verdict in clauses.items() if verdict == "ok"]
    assert {clause: verdict for clause, verdict in clauses.items() if verdict.startswith("FAIL")} == {}


# The command of each model, in one interpreter: starting one for each command would take longer than all they do.
LOOK = """
import sys
from iolab_client.__main__ import main

for slug in sys.argv[1:]:
    main(["threads", slug, "--json"], standalone_mode=False)
    print("--", flush=True)
    main(["metrics", slug, "--raw"], standalone_mode=False)
    print("--", flush=True)
"""


@pytest.fixture(scope="module")
def looked_at(project: Project) -> dict[str, tuple[str, str]]:
    """What `threads` and `metrics` print of each model, in one container of the client."""
    run = ("run", "--rm", "--no-TTY", "--entrypoint", "python", "client", "-c", LOOK, *MODELS)
    *printed, nothing = project.compose(*run).split("--\n")
    assert not nothing
    return dict(zip(MODELS, zip(printed[::2], printed[1::2], strict=True), strict=True))


def test_threads_and_metrics_reach_the_admin_port(looked_at: dict[str, tuple[str, str]], model: Model) -> None:
    threads, metrics = looked_at[model.slug]
    photograph = json.loads(threads)

    assert photograph["model"] == model.slug
    assert all(process["threads"] for process in photograph["processes"])
    assert f'\niolab_answers_total{{model="{model.slug}"}} ' in metrics


def test_threads_and_metrics_print_tables(project: Project) -> None:
    slug = next(iter(MODELS))

    assert "waits in" in project.run_client("threads", slug)
    assert "iolab_answers_total" in project.run_client("metrics", slug)

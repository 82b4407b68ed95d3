"""The client's container, as the README has it: it finds every model by its name on the Docker network."""

from __future__ import annotations

import json

import pytest

from iolab.registry import MODELS, Model
from iolab_client import payload
from tests.docker.project import Outcomes, Project, Service, at_once
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
        (row,) = (line for line in printed.splitlines() if model.slug in line)
        assert f"{model.service}:{model.port}" in row
        assert "HELLO" in row


@only(next(iter(MODELS)))
def test_try_fails_where_a_model_does_not_run(project: Project, service: Service) -> None:
    service.container.kill()

    with pytest.raises(AssertionError, match="exit 1\n") as failure:
        project.run_client("try", "hello", service.model.slug)
    assert service.model.slug in str(failure.value)


@pytest.fixture(scope="module")
def checked(project: Project) -> Outcomes[dict[str, str]]:
    """What `check` found of each model, by clause. Most of its time it waits: one container a model, all at once."""

    def check(model: Model) -> dict[str, str]:
        (found,) = json.loads(project.run_client("check", model.slug, "--json"))
        assert found["model"] == model.slug
        return dict(found["clauses"])

    return at_once(check)


def test_check_finds_every_clause_of_the_contract_kept(checked: Outcomes[dict[str, str]], model: Model) -> None:
    clauses = checked.of(model)

    assert [clause for clause, verdict in clauses.items() if verdict == "ok"]
    assert {clause: verdict for clause, verdict in clauses.items() if verdict.startswith("FAIL")} == {}


@pytest.fixture(scope="module")
def looked_at(project: Project) -> dict[str, list[str]]:
    """Each model's `threads` and `metrics`, a line for each, by one container of the client."""
    look = (
        'for model; do iolab-client threads "$model" --json | tr -d "\n" && echo'
        ' && iolab-client metrics "$model" --raw | grep ^iolab_answers_total; done'
    )
    lines = project.compose("run", "--rm", "--no-TTY", "--entrypoint", "bash", "client", "-c", look, "look", *MODELS)
    return {slug: pair for slug, *pair in zip(MODELS, lines.splitlines()[::2], lines.splitlines()[1::2], strict=True)}


def test_threads_and_metrics_reach_the_admin_port(looked_at: dict[str, list[str]], model: Model) -> None:
    threads, metrics = looked_at[model.slug]
    photograph = json.loads(threads)

    assert photograph["model"] == model.slug
    assert all(process["threads"] for process in photograph["processes"])
    assert metrics.startswith(f'iolab_answers_total{{model="{model.slug}"}} ')


def test_threads_and_metrics_print_tables(project: Project) -> None:
    slug = next(iter(MODELS))

    assert "waits in" in project.run_client("threads", slug)
    assert "iolab_answers_total" in project.run_client("metrics", slug)

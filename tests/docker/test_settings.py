"""A changed YAML file holds in its container by `make up`, and by nothing less: then the server says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iolab.registry import MODELS, Model
from tests.docker.project import Project

PORT_STEP = 1000
CHANGES = {"backlog": 7, "buffer_size": 1234}


def new_port(model: Model) -> int:
    return model.port + PORT_STEP


@pytest.fixture(scope="module")
def changed(engine: None) -> Iterator[Project]:
    """A project whose YAML files have other ports than compose publishes."""
    project = Project()
    try:
        for model in MODELS.values():
            project.write(model, port=new_port(model), **CHANGES)
        yield project
    finally:
        project.close()
    assert project.leftovers() == {}

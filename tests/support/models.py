"""Which models a test is about, by what the registry says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from iolab.registry import MODELS, Model


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model with settings that make another one of it: the contract is kept by each."""

    model: Model
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's, and what is set."""
        return "-".join([self.model.slug, *(str(value) for value in self.settings.values())])


# What else than its usual settings a model waits by.
OTHERS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "asyncio_streams": [{"loop": "uvloop"}],
}


def variants(models: Sequence[Model] = tuple(MODELS.values())) -> list[Variant]:
    """Each of these models, and what else it can be."""
    return [
        Variant(model=model, settings=settings) for model in models for settings in ({}, *OTHERS.get(model.slug, ()))
    ]


def only(*slugs: str) -> pytest.MarkDecorator:
    """The test is about these models."""
    return pytest.mark.models.with_args(lambda model: model.slug in slugs)


def but(*slugs: str) -> pytest.MarkDecorator:
    """The test is about every model but these."""
    return pytest.mark.models.with_args(lambda model: model.slug not in slugs)


# A container changes nothing about it: the same lines run there. Containers themselves are tried by `check`
# (docker/test_client.py) and `docker stop` (docker/test_stop.py).
as_process = pytest.mark.targets("process")

# A client waits until one of `workers` is free to begin with it.
pools = pytest.mark.models.with_args(lambda model: model.pool)

# A supervisor and several processes that serve.
forks = pytest.mark.models.with_args(lambda model: model.forks)
without_children = pytest.mark.models.with_args(lambda model: not model.forks)


# Nothing costs processor time while nothing happens: that it does in busy_poll is its exhibit.
waiting = but("busy_poll")

"""Which models a test is about, by what the registry says of them."""

from __future__ import annotations

import pytest


def only(*slugs: str) -> pytest.MarkDecorator:
    """The test is about these models."""
    return pytest.mark.models.with_args(lambda model: model.slug in slugs)


def but(*slugs: str) -> pytest.MarkDecorator:
    """The test is about every model but these."""
    return pytest.mark.models.with_args(lambda model: model.slug not in slugs)


# A client waits until one of `workers` is free to begin with it.
pools = pytest.mark.models.with_args(lambda model: model.pool)

# A supervisor and several processes that serve.
forks = pytest.mark.models.with_args(lambda model: model.forks)


# Nothing costs processor time while nothing happens: that it does in busy_poll is its exhibit.
waiting = but("busy_poll")

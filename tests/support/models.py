"""Which models a test is about, by what the registry says of them."""

from __future__ import annotations

from iolab.registry import Model
from pytest import MarkDecorator, mark


def only(*slugs: str) -> MarkDecorator:
    """The test is about these models."""
    return mark.models.with_args(lambda model: model.slug in slugs)


def but(*slugs: str) -> MarkDecorator:
    """The test is about every model but these."""
    return mark.models.with_args(lambda model: model.slug not in slugs)


# A client waits until one of `workers` is free to begin with it.
pools = mark.models.with_args(lambda model: model.pool)


# Nothing costs processor time while nothing happens: that it does in busy_poll is its exhibit.
waiting = but("busy_poll")

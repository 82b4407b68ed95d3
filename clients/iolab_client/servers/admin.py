"""The admin port of a server: /metrics and /threads over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from typing import Any

import click
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from iolab_client.servers.address import DEADLINE_SECONDS, show
from iolab_client.servers.explain import explain
from iolab_client.servers.targets import Target


class Unreachable(click.ClickException):
    """The admin port is not known, does not answer, or says something else. One line."""


def fetch(target: Target, page: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> str:
    """A page (`/metrics`) as text. Raises Unreachable."""
    if target.admin is None:
        raise Unreachable(f"{target.name}: its admin port is not known: {target.no_admin}")
    # http.client, because urllib.request would go through the proxy that the environment names.
    connection = HTTPConnection(*target.admin, timeout=deadline_seconds)
    try:
        connection.request("GET", page)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        # What is no HTTP is quoted as it came, so it is brought on one line.
        reason = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())
        raise Unreachable(f"{target.name}: its admin port {show(target.admin)} fails: {reason}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Unreachable(f"{target.name}: {page} at {show(target.admin)} answers {response.status}")
    return text


def threads(target: Target, *, deadline_seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
    """What every thread of the server does, as served: model, and processes with their threads. Raises Unreachable."""
    text = fetch(target, "/threads", deadline_seconds=deadline_seconds)
    try:
        photograph: dict[str, Any] = json.loads(text)
    except ValueError:
        raise Unreachable(f"{target.name}: /threads is not JSON") from None
    return photograph


def parse(text: str) -> list[Metric]:
    """The families of a Prometheus text, without the times at which the counters began."""
    return [family for family in text_string_to_metric_families(text) if not family.name.endswith("_created")]


def metrics(target: Target, *, deadline_seconds: float = DEADLINE_SECONDS) -> list[Metric]:
    """The metrics of the server. Raises Unreachable."""
    return parse_metrics(target, fetch(target, "/metrics", deadline_seconds=deadline_seconds))


def parse_metrics(target: Target, text: str) -> list[Metric]:
    """The families of what the target answered. Raises Unreachable."""
    try:
        return parse(text)
    except ValueError as error:
        raise Unreachable(f"{target.name}: /metrics is not Prometheus text: {error}") from None


def value(families: Iterable[Metric], sample_name: str, **labels: str) -> float | None:
    """The value of the first sample of that name that has these labels; None if there is none."""
    for family in families:
        for sample in family.samples:
            if sample.name == sample_name and labels.items() <= sample.labels.items():
                return sample.value
    return None

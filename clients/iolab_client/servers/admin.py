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
    """The admin port is not known, does not answer, or gives an unexpected answer. One line."""


def fetch(target: Target, page: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> str:
    """A page (`/metrics`) as text. Raises Unreachable."""
    if target.admin is None:
        raise Unreachable(f"{target.name}: its admin port is not known: {target.no_admin}")
    # http.client, because urllib.request would use a proxy that the environment names.
    connection = HTTPConnection(*target.admin, timeout=deadline_seconds)
    try:
        connection.request("GET", page)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        # The error quotes an answer that is no HTTP as it came, so it is put on one line.
        reason = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())
        raise Unreachable(f"{target.name}: its admin port {show(target.admin)} fails: {reason}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Unreachable(f"{target.name}: {page} at {show(target.admin)} answers {response.status}")
    return text


def threads(target: Target, *, deadline_seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
    """The page /threads: the model, and its processes with their threads. Raises Unreachable."""
    text = fetch(target, "/threads", deadline_seconds=deadline_seconds)
    try:
        photograph: dict[str, Any] = json.loads(text)
    except ValueError:
        raise Unreachable(f"{target.name}: /threads is not JSON") from None
    return photograph


def parse(text: str) -> list[Metric]:
    """The metric families of a Prometheus text, without the counters' start times."""
    return [family for family in text_string_to_metric_families(text) if not family.name.endswith("_created")]


def metrics(target: Target, *, deadline_seconds: float = DEADLINE_SECONDS) -> list[Metric]:
    """The metrics of the server. Raises Unreachable."""
    return parse_metrics(target, fetch(target, "/metrics", deadline_seconds=deadline_seconds))


def parse_metrics(target: Target, text: str) -> list[Metric]:
    """The metric families of the target's answer. Raises Unreachable."""
    try:
        return parse(text)
    except ValueError as error:
        raise Unreachable(f"{target.name}: /metrics is not Prometheus text: {error}") from None


def value(families: Iterable[Metric], sample_name: str, **labels: str) -> float | None:
    """The value of the first sample with that name and these labels; None if there is none."""
    for family in families:
        for sample in family.samples:
            if sample.name == sample_name and labels.items() <= sample.labels.items():
                return sample.value
    return None

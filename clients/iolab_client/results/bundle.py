"""A run as a folder: data for people, programs and HdrHistogram's tools, and the report.

`results.json` is the run, and `iolab-client report FOLDER` remakes all other files from it.
"""

from __future__ import annotations

import ast
import csv
import inspect
import io
import itertools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from iolab_client.results import measurement as measurements
from iolab_client.results import summary as summaries
from iolab_client.results.measurement import ERROR_CLASSES, Measurement, Run, Size
from iolab_client.results.recorded import Recorded
from iolab_client.results.summary import Case, Summary, case_of, summarise

RESULTS = "results.json"
VERSION = 1

Kind = TypeVar("Kind")


class BadBundle(click.ClickException):
    """A folder that can't be read as a run: one line that names file, key and expectation; exit code 2."""

    exit_code = 2


class Results(Run, kw_only=True):
    """The content of `results.json`: the run as it was measured, and its summary."""

    summary: Summary


class _Version(msgspec.Struct):
    schema: int


def read(folder: Path) -> Run:
    """The run in a folder. Its summary is not read but remade. Raises BadBundle."""
    file = folder / RESULTS
    data = _bytes_of(file, "a folder that `iolab-client compare` wrote")
    version = _decoded(file, data, _Version).schema
    if version != VERSION:
        raise BadBundle(f"{file}: schema is {version}, expected {VERSION}: another version of iolab wrote it")
    return _decoded(file, data, Run)


def read_measurement(file: Path) -> Measurement:
    """A measurement that `load --json` has printed into a file. Raises BadBundle."""
    return _decoded(file, _bytes_of(file, "what `iolab-client load --json` prints"), Measurement)


def _bytes_of(file: Path, expected: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadBundle(f"{file}: {reason}; expected {expected}") from None


def _decoded(file: Path, data: bytes, kind: type[Kind]) -> Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.measurements[0].answers`"
        expectation, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$.") or "the whole"
        raise BadBundle(f"{file}: {key}: {expectation[:1].lower()}{expectation[1:]}") from None
    except msgspec.DecodeError as error:
        raise BadBundle(f"{file}: expected JSON: {error}") from None


def save(run: Run, folder: Path) -> None:
    """Write what was measured so far. It is cheap and atomic, so that it can be done after each load.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: getattr(run, name) for name in Run.__struct_fields__}
    results = Results(**fields, summary=summarise(run))
    put(folder / RESULTS, msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def table(run: Run) -> str:
    """results.csv: one row per measurement, in the order of measuring; units as in results.json."""
    rows = [_row(one) for one in run.measurements]
    text = io.StringIO()
    names = list(rows[0]) if rows else ["subject"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def histograms(run: Run) -> Iterator[tuple[str, str]]:
    """Name and text of each file: percentiles as .hgrm for each measurement (µs), a .hlog for each load (ns).

    A .hlog has one interval for each measurement, tagged with its subject.
    """
    taken: Counter[str] = Counter()
    logs: dict[Case, list[Measurement]] = defaultdict(list)
    for one in run.measurements:
        case = case_of(one)
        logs[case].append(one)
        name = f"{_safe(one.subject)}-{case_name(case)}-round{one.round}"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}-{taken[name]}"
        yield f"{name}.hgrm", Recorded([one.latency.histogram]).percentiles()
        if one.latency_from_send:
            yield f"{name}-from-send.hgrm", Recorded([one.latency_from_send.histogram]).percentiles()
    for case, group in logs.items():
        yield f"{case_name(case)}.hlog", _log(group)


def case_name(case: Case) -> str:
    """A load in a file's name: `c64-s64`, then what is not the default: `p16`, `r2000`, `churn10`, `idle1000`."""
    parts = [f"c{case.connections}", f"s{sizes_name(case.sizes)}"]
    if case.pipeline != 1:
        parts.append(f"p{case.pipeline}")
    if case.rate is not None:
        parts.append(f"r{case.rate:g}")
    if case.churn is not None:
        parts.append(f"churn{case.churn}")
    if case.idle:
        parts.append(f"idle{case.idle}")
    return "-".join(parts)


def sizes_name(sizes: tuple[Size, ...]) -> str:
    """`64`, or for several sizes `64x0.9+1024x0.1`."""
    if len(sizes) == 1:
        return str(sizes[0].size)
    return "+".join(f"{each.size}x{each.share:g}" for each in sizes)


def schema() -> str:
    """The JSON Schema of results.json; the comment above a field in the source becomes its description."""
    _, components = msgspec.json.schema_components(
        [Results],
        # Only `object` has no schema: it may be anything, as in `settings`.
        schema_hook=lambda kind: {"description": "anything"},
        ref_template="#/$defs/{name}",
    )
    described = {name: text for module in (measurements, summaries) for name, text in _comments(module)}
    for struct, definition in components.items():
        if text := definition.get("description"):
            # Python 3.13 has done so already.
            definition["description"] = inspect.cleandoc(text)
        # Results inherits the fields of Run, and so their comments.
        for owner in ("Run", struct) if struct == "Results" else (struct,):
            for field, shape in definition.get("properties", {}).items():
                if text := described.get((owner, field)):
                    shape["description"] = text
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": RESULTS,
        "$ref": "#/$defs/Results",
        "$defs": dict(sorted(components.items())),
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _comments(module: Any) -> Iterator[tuple[tuple[str, str], str]]:
    source = inspect.getsource(module)
    lines = [line.strip() for line in source.splitlines()]
    for owner in ast.parse(source).body:
        for field in owner.body if isinstance(owner, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                above = itertools.takewhile(lambda line: line.startswith("#"), reversed(lines[: field.lineno - 1]))
                text = " ".join(line.removeprefix("# ") for line in reversed(list(above)))
                assert isinstance(owner, ast.ClassDef)
                yield (owner.name, field.target.id), text


def put(file: Path, data: bytes) -> None:
    """Replace a file atomically, by rename(2): a reader, or Ctrl-C, finds the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(data)
    os.replace(new, file)


def _safe(name: str) -> str:
    """The name without characters that are special in a path, a shell or a file system."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _row(one: Measurement) -> dict[str, object]:
    plan, latency, errors, generator, server = one.plan, one.latency, one.errors, one.generator, one.server
    return {
        "subject": one.subject,
        "round": one.round,
        "verdict": one.verdict.word,
        "reason": one.verdict.reason,
        "started": one.started,
        "seconds": one.seconds,
        "connections": plan.connections,
        "pipeline": plan.pipeline,
        "sizes": sizes_name(plan.sizes),
        "offered_rate": plan.rate,
        "churn": plan.churn,
        "idle": plan.idle,
        "answers": one.answers,
        "rate": one.rate,
        "mean_us": latency.mean,
        "min_us": latency.min,
        "p50_us": latency.p50,
        "p90_us": latency.p90,
        "p99_us": latency.p99,
        "p99_9_us": latency.p99_9,
        "max_us": latency.max,
        "p99_from_send_us": one.latency_from_send.p99 if one.latency_from_send else None,
        "open_connections": one.open_connections,
        "answered_connections": one.answered_connections,
        "in_flight": one.in_flight,
        **{name: getattr(errors, name) for name in ERROR_CLASSES},
        "generator_busy": generator.busy,
        "generator_lag_p99_us": generator.lag_p99,
        "server_busy": server.busy if server else None,
        "server_cost_us": server.cost if server else None,
        "server_voluntary_switches": server.voluntary_switches if server else None,
        "server_involuntary_switches": server.involuntary_switches if server else None,
        "server_memory_bytes": server.memory_bytes if server else None,
        "server_memory_growth_bytes": server.memory_growth_bytes if server else None,
        "server_threads": server.threads if server else None,
        "server_processes": server.processes if server else None,
    }


def _log(group: list[Measurement]) -> str:
    """HdrHistogram's log format 1.2. The package's own writer has no tags, and truncates the maximum to whole ms."""
    lines = ["#[Latencies in nanoseconds, the greatest of each interval in ms]", "#[Histogram log format version 1.2]"]
    lines.append('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"')
    for one in sorted(group, key=lambda one: one.started):
        started = datetime.fromisoformat(one.started).timestamp()
        lines.append(
            f"Tag={_safe(one.subject)},{started:.3f},{one.seconds:.3f},{one.latency.max / 1000:.3f},"
            f"{one.latency.histogram}"
        )
    return "\n".join(lines) + "\n"

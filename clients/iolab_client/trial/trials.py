"""Trials: a claim and what came of it, one after another, and the file that has them all."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from iolab_client.compare.places import PlaceFailed
from iolab_client.results import bundle
from iolab_client.results.measurement import ERRORS, INCONSISTENT, NOISY, STARVED, Environment
from iolab_client.trial import claim as claims
from iolab_client.trial.bench import Bench
from iolab_client.trial.claim import Claim
from iolab_client.trial.finding import CANNOT_TELL, Finding, Missing, Word
from iolab_client.trial.seen import Point, Seen

CLAIMS = "claims.json"
# Where so many were taken on a busy machine, nothing is said.
NOISY_SHARE = 0.5
# A measurement with such a verdict is none of what it was to be, unless the experiment expects it.
VOID = (ERRORS, STARVED, INCONSISTENT)


class Trial(msgspec.Struct, kw_only=True):
    """One claim, what was seen, and what was found. The finding is made of the points again by `judged`."""

    name: str
    quick: bool
    seconds: float
    # What was lacking; empty: nothing.
    missing: str = ""
    predicted: Word | None = None
    # Those of the experiment when it was measured, which the words of the finding name.
    constants: dict[str, str] = msgspec.field(default_factory=dict)
    finding: Finding
    points: list[Point]


class Docket(msgspec.Struct, kw_only=True):
    """All trials of one call: what claims.json holds."""

    schema: int = 1
    command: str
    started: str
    environment: Environment
    trials: list[Trial] = msgspec.field(default_factory=list)


def put_on_trial(claim: Claim, bench: Bench, predicted: Word | None = None) -> Trial:
    """Measure and judge one. What is missing, or does not start, is CANNOT TELL and no exception."""
    began = time.monotonic()
    missing = ""
    try:
        claim.measure(bench)
    except (Missing, PlaceFailed) as error:
        missing = str(error)
    return Trial(
        name=claim.name,
        quick=bench.means.quick,
        seconds=round(time.monotonic() - began, 1),
        missing=missing,
        predicted=predicted,
        constants=dict(claim.constants),
        finding=judged(claim, bench.points, missing),
        points=bench.points,
    )


def judged(claim: Claim, points: list[Point], missing: str = "") -> Finding:
    """What the points say of a claim."""
    if missing:
        return Finding(word=CANNOT_TELL, why=f"Something is missing: {missing}.")
    void = [point for point in points if point.doubt.partition(":")[0] in VOID]
    if void:
        example = f"{void[0].side} was {void[0].doubt}"
        why = f"{len(void)} of {len(points)} measurements are not what they were to be: {example}."
        return Finding(word=CANNOT_TELL, why=why)
    noisy = [point.doubt for point in points if point.doubt.startswith(NOISY)]
    finding = claim.judge(Seen(points))
    if points and len(noisy) >= NOISY_SHARE * len(points):
        # What others take, they do not take alike from one thread and from sixteen.
        busy = f"{len(noisy)} of {len(points)} measurements were {noisy[0]}"
        why = f"{busy}. What was measured nevertheless: {finding.why}"
        return Finding(word=CANNOT_TELL, why=why)
    return finding


def doubts(points: list[Point]) -> list[str]:
    """Of the verdicts of its measurements, those that are not VALID, each with how often and an example."""
    words = list(dict.fromkeys(point.doubt.partition(":")[0] for point in points if point.doubt))
    said = []
    for word in words:
        having = [point for point in points if point.doubt.startswith(f"{word}:")]
        said.append(f"{len(having)} of {len(points)} measurements were {having[0].doubt}")
    return said


def save(docket: Docket, folder: Path) -> None:
    """Write claims.json, whole or not at all. Raises OSError."""
    bundle.put(folder / CLAIMS, msgspec.json.format(msgspec.json.encode(docket), indent=1) + b"\n")


def read(file: Path) -> Docket:
    """What `save` wrote, judged again. Raises click.ClickException."""
    file = file / CLAIMS if file.is_dir() else file
    try:
        docket = msgspec.json.decode(file.read_bytes(), type=Docket)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadDocket(f"{file}: {reason}; expected a file that `experiment` wrote") from None
    except msgspec.DecodeError as error:
        raise BadDocket(f"{file}: expected the JSON that `experiment` wrote: {error}") from None
    for trial in docket.trials:
        if trial.name not in claims.names():
            known = ", ".join(claims.names())
            raise BadDocket(f"{file}: no experiment is called {trial.name!r}; expected one of {known}")
        trial.finding = judged(claims.find(trial.name), trial.points, trial.missing)
    return docket


class BadDocket(click.ClickException):
    """A file that can't be read as trials: one line; exit code 2."""

    exit_code = 2

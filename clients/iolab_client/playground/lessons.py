"""Lessons: a question that asks for a prediction, steps that are done live, what is to be seen, and why.

Each is a YAML file in configs/lessons/; the smallest is the template. The page does the steps, by the requests that its
own forms make, so that a lesson can do nothing that its reader could not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iolab.configs import read_as
from iolab.registry import MODELS
from iolab.settings import BadSetting

Text = Annotated[str, Meta(min_length=1, max_length=2000)]
ModelName = Annotated[str, Meta(min_length=1, max_length=64)]
Seconds = Annotated[float, Meta(ge=0, le=30)]
# So many as the pool of the model has threads, or a number.
Clients = Annotated[int, Meta(ge=1, le=1000)] | Literal["workers"]


class Doable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is done with a model."""

    model: ModelName


class SayStep(Doable, frozen=True, kw_only=True):
    """One client says hello, and waits so long for the answer."""

    patience_seconds: Annotated[float, Meta(ge=0.5, le=10)] = 10


class CrowdStep(Doable, frozen=True, kw_only=True):
    """Silent clients come."""

    count: Clients


class LoadStep(Doable, frozen=True, kw_only=True):
    """A load, whose result is seen."""

    connections: Clients
    size: Annotated[int, Meta(ge=1, le=65536)] = 64
    seconds: Annotated[int, Meta(ge=1, le=20)] = 3


class DialStep(Doable, frozen=True, kw_only=True):
    """The work dial is turned."""

    wait_ms: Annotated[int, Meta(ge=0, le=2000)] = 0
    cpu_us: Annotated[int, Meta(ge=0, le=200_000)] = 0


class LookStep(Doable, frozen=True, kw_only=True):
    """A figure of the model's card is looked at for some seconds."""

    figure: Literal["cpu_percent", "memory_bytes", "threads", "open", "waiting", "rate", "calls", "processes"]
    seconds: Annotated[float, Meta(ge=1, le=20)] = 3


class LessonStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step: what it is in words, and one thing that is done; `named`: the row of what was seen."""

    tell: Text
    named: Annotated[str, Meta(max_length=200)] = ""
    say: SayStep | None = None
    crowd: CrowdStep | None = None
    never_reads: Doable | None = None
    load: LoadStep | None = None
    dial: DialStep | None = None
    kill: Doable | None = None
    look: LookStep | None = None
    # Everything that the lesson has opened so far ends.
    end: bool = False
    wait_seconds: Seconds = 0

    def acts(self) -> list[Doable]:
        """What is done."""
        return [
            one for one in (self.say, self.crowd, self.never_reads, self.load, self.dial, self.kill, self.look) if one
        ]


class Prediction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer that can be given before; one of them is what happens."""

    text: Text
    right: bool = False


class Lesson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lesson."""

    title: Annotated[str, Meta(min_length=1, max_length=100)]
    question: Text
    choices: Annotated[tuple[Prediction, ...], Meta(min_length=2, max_length=6)]
    steps: Annotated[tuple[LessonStep, ...], Meta(min_length=1, max_length=20)]
    # Why it was so, a paragraph each.
    explain: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=6)]
    # The name of the experiment that puts it on trial: `iolab-client experiment NAME`.
    claim: Annotated[str, Meta(max_length=64)] = ""

    def models(self) -> list[str]:
        """The models that it is about, in the order of their appearance."""
        return list(dict.fromkeys(act.model for step in self.steps for act in step.acts()))


def load_lessons(folder: Path | None) -> dict[str, Lesson]:
    """The lessons of `folder`/lessons by their names, in the order of the files. Raises BadSetting."""
    files = sorted((folder / "lessons").glob("*.yaml")) if folder else []
    return {file.stem.partition("-")[2] or file.stem: _load(file) for file in files}


def _load(file: Path) -> Lesson:
    lesson = read_as(file, Lesson, "title: A pool of threads is full")
    for number, step in enumerate(lesson.steps):
        if len(step.acts()) + step.end > 1:
            raise BadSetting(f"{file}: steps[{number}]: does several things; expected one, and `tell`")
    for slug in lesson.models():
        if slug not in MODELS:
            raise BadSetting(f"{file}: model: got {slug}, expected one of {', '.join(MODELS)}")
    if sum(choice.right for choice in lesson.choices) != 1:
        raise BadSetting(f"{file}: choices: expected one with `right: true`")
    return lesson

"""Subjects are told apart, by whatever eyes."""

from __future__ import annotations

import itertools

import pytest

from iolab.registry import MODELS
from iolab_client.report import palette
from iolab_client.report.palette import Style
from iolab_client.results.measurement import YARDSTICK
from iolab_client.results.summary import AGAIN
from tests.client.report import eyes

# Five times what is just noticed: lines are thin, and do not touch.
FAR = 0.10
# What WCAG asks of graphics, 1.4.11.
CONTRAST = 3.0
SUBJECTS = [*MODELS, YARDSTICK, f"epoll_loop{AGAIN}"]


def colour(style: Style, dark: bool) -> str:
    if style.colour in palette.INK:
        return palette.INK[style.colour][dark]
    return (palette.DARK if dark else palette.LIGHT)[int(style.colour.removeprefix("series-"))]


def test_what_the_eyes_are_tested_with_is_known() -> None:
    # Red and green of the same lightness: what deuteranopia is known for.
    assert eyes.apart("#b05050", "#6f7a3c", "deuteranopia") < 0.06 < eyes.apart("#b05050", "#6f7a3c", "tritanopia")
    assert eyes.apart("#ffffff", "#000000", "three kinds of cones") == pytest.approx(1, abs=0.001)
    assert eyes.contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", eyes.EYES)
def test_lines_that_are_dashed_alike_have_colours_that_are_far_apart(sight: str, dark: bool) -> None:
    looks = palette.looks(SUBJECTS)
    alike = [pair for pair in itertools.combinations(looks, 2) if looks[pair[0]].dashes == looks[pair[1]].dashes]
    near = {
        pair: found
        for pair in alike
        if (found := eyes.apart(colour(looks[pair[0]], dark), colour(looks[pair[1]], dark), sight)) < FAR
    }
    assert len(alike) > len(MODELS)
    assert near == {}


def test_no_two_markers_are_alike() -> None:
    looks = palette.looks(SUBJECTS)
    assert len({(look.marker, look.hollow) for look in looks.values()}) == len(SUBJECTS)
    # That is what is not VALID.
    assert "x" not in {look.marker for look in looks.values()}


@pytest.mark.parametrize("dark", [False, True])
def test_each_colour_is_seen_on_its_card(dark: bool) -> None:
    card = palette.INK["card"][dark]
    for style in palette.looks(SUBJECTS).values():
        assert eyes.contrast(colour(style, dark), card) >= CONTRAST, style


def test_a_look_does_not_depend_on_who_else_is_there() -> None:
    looks = palette.looks(SUBJECTS)
    assert palette.looks(["10.0.0.1:80", "task_queue"])["task_queue"] == looks["task_queue"]
    assert palette.looks(["10.0.0.1:80"])["10.0.0.1:80"] not in [looks[model] for model in MODELS]

"""Numbers with units, as a user types them."""

from __future__ import annotations

import click
import pytest

from iolab_client.results import units
from iolab_client.results.measurement import Size


@pytest.mark.parametrize(("text", "rate"), [("500", 500), ("10k", 10_000), ("1.5M", 1_500_000), (".5k", 500)])
def test_rates(text: str, rate: float) -> None:
    assert units.Rate().convert(text, None, None) == rate


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("500ms", 0.5), ("2m", 120), ("20us", 2e-5), ("20µs", 2e-5), ("1.5 s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert units.Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("64", [(64, 1.0)]),
        ("64KiB", [(65536, 1.0)]),
        ("1kB", [(1000, 1.0)]),
        ("1MB", [(1_000_000, 1.0)]),
        ("64:0.9,64KiB:0.1", [(64, 0.9), (65536, 0.1)]),
        ("1,2", [(1, 1.0), (2, 1.0)]),
    ],
)
def test_sizes(text: str, sizes: list[tuple[int, float]]) -> None:
    expected = tuple(Size(size=size, share=share) for size, share in sizes)
    assert units.Sizes().convert(text, None, None) == expected


@pytest.mark.parametrize(("text", "cpus"), [("0", (0,)), ("1,3", (1, 3)), ("2-5,3", (2, 3, 4, 5))])
def test_processors(text: str, cpus: tuple[int, ...]) -> None:
    assert units.Cpus().convert(text, None, None) == cpus


def test_counts_are_whole_and_may_have_a_unit() -> None:
    assert units.Count().convert("10k", None, None) == 10_000
    assert units.Count(zero=True).convert("0", None, None) == 0


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (units.Rate(), "fast", "is not a number"),
        (units.Rate(), "10x", "unit 'x' is not known"),
        (units.Rate(), "-5", "is not a number"),
        (units.Rate(), "0", "not from 0.001 to 1G"),
        (units.Rate(), "nan", "is not a number"),
        (units.Rate(), "9" * 400, "not from 0.001 to 1G"),
        (units.Duration(), "inf", "is not a number"),
        (units.Duration(), "9" * 400 + "h", "characters"),
        (units.Duration(), "25h", "not from 1us to 24h"),
        (units.Duration(), "0", "not from 1us to 24h"),
        (units.Count(), "2G", "not a whole number from 1 to 1,000,000,000"),
        (units.Count(), "9" * 400, "not a whole number from 1 to 1,000,000,000"),
        (units.Cpus(), "0-99999999999", "not a range of processors from 0 to 8191"),
        (units.Cpus(), "5-2", "the smaller number first"),
        (units.Sizes(), "64:" + "9" * 400, "a share is above 0"),
        (units.Duration(), "5 parsecs", "units: ns, us, ms, s, m, h"),
        (units.Count(), "1.5", "not a whole number"),
        (units.Count(), "0", "not a whole number from 1"),
        (units.Sizes(), "0", "from 1 to 64MiB"),
        (units.Sizes(), "1GiB", "from 1 to 64MiB"),
        (units.Sizes(), "64:", "is not a number"),
        (units.Sizes(), "64:0", "a share is above 0"),
        (units.Sizes(), "64,,5", "is not a number"),
        (units.Cpus(), "0-", "not a list of processors"),
    ],
)
def test_what_is_no_number_says_what_was_expected(kind: click.ParamType[object], text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        kind.convert(text, None, None)

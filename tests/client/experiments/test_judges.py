"""What each verdict function makes of data that leads to each of its outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from iolab_client.results.summary import AGAIN
from iolab_client.trial import claim as claims
from iolab_client.trial.finding import CANNOT_TELL, DEPENDS, FAILS, HOLDS, Finding
from iolab_client.trial.seen import Point, Seen

# What the rounds make of a value: some per cent.
STEADY = (1.0, 1.01, 0.99)
WILD = (1.0, 3.0, 0.3)

Values = Mapping[str, float]
Data = Mapping[tuple[str, float], Values]


def seen(data: Data, *, swing: Sequence[float] = STEADY) -> Seen:
    """Three rounds of these values, each side swinging in its own way; the first one has its twin."""
    first = next(iter(data))[0]
    points = []
    for number, factor in enumerate(swing):
        for (side, at), values in data.items():
            # Sides that swing alike would be told apart however wild they are.
            own = factor if side == first else swing[-1 - number]
            points.append(Point(side=side, at=at, round=number, values={n: v * own for n, v in values.items()}))
            if side == first:
                points.append(Point(side=f"{side}{AGAIN}", at=at, round=number, values=dict(points[-1].values)))
    return Seen(points)


def judged(name: str, data: Data, *, swing: Sequence[float] = STEADY) -> Finding:
    finding = claims.find(name).judge(seen(data, swing=swing))
    assert len(finding.why) > 100, "a paragraph, with the numbers and the reason"
    assert "nan" not in finding.why
    assert bool(finding.flip) == (finding.word == DEPENDS)
    return finding


def pool(answered: Callable[[int], int], threads: Callable[[int], int] = lambda clients: clients) -> Data:
    return {
        (side, clients): {"answered": of(clients)}
        for side, of in (("blocking_pool", answered), ("thread_per_connection", threads))
        for clients in (2, 4, 8, 16)
    }


@pytest.mark.parametrize(
    ("answered", "threads", "word"),
    [
        (lambda clients: min(clients, 4), lambda clients: clients, HOLDS),
        (lambda clients: clients, lambda clients: clients, FAILS),
        (lambda clients: min(clients, 4), lambda clients: min(clients, 8), CANNOT_TELL),
    ],
)
def test_pool_cap(answered: Callable[[int], int], threads: Callable[[int], int], word: str) -> None:
    assert judged("pool-cap", pool(answered, threads), swing=(1, 1, 1)).word == word


@pytest.mark.parametrize(
    ("burns", "rate", "swing", "word"),
    [
        (1.0, 2_000, STEADY, HOLDS),
        (0.002, 2_000, STEADY, FAILS),
        (1.0, 20_000, STEADY, DEPENDS),
        (1.0, 2_000, WILD, CANNOT_TELL),
    ],
)
def test_busy_poll_burn(burns: float, rate: float, swing: Sequence[float], word: str) -> None:
    data: Data = {
        ("blocking_pool", 8): {"silent_busy": 0.001, "rate": 10_000},
        ("busy_poll", 8): {"silent_busy": burns, "rate": rate},
    }
    assert judged("busy-poll-burn", data, swing=swing).word == word

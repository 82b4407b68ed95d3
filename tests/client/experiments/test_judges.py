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
    sides = list(dict.fromkeys(side for side, _ in data))
    first = sides[0]
    points = []
    for number in range(len(swing)):
        for (side, at), values in data.items():
            # Sides that swing alike would be told apart however wild they are.
            own = swing[(number + sides.index(side)) % len(swing)]
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


def spots(value: str, **sides: Mapping[float, float]) -> Data:
    """One value for each place of each side's dial; `__` in a name is a comma and a space, and `_ms` what it says."""
    return {(side.replace("__", ", "), at): {value: of} for side, dial in sides.items() for at, of in dial.items()}


@pytest.mark.parametrize(
    ("selected", "polled", "word"), [(960, 2048, HOLDS), (2048, 2048, FAILS), (960, 1500, CANNOT_TELL)]
)
def test_select_ceiling(selected: float, polled: float, word: str) -> None:
    data = spots("answered", select_loop={2048: selected}, poll_loop={2048: polled}, epoll_loop={2048: 2048})
    assert judged("select-ceiling", data, swing=(1, 1, 1)).word == word


@pytest.mark.parametrize(
    ("polls", "epolls", "swing", "word"),
    [
        (150, 11, STEADY, HOLDS),
        (11, 11, STEADY, FAILS),
        (150, 50, STEADY, FAILS),
        (150, 11, WILD, CANNOT_TELL),
    ],
)
def test_idle_crowd(polls: float, epolls: float, swing: Sequence[float], word: str) -> None:
    data = spots(
        "cost",
        epoll_loop={0: 10, 800: epolls},
        poll_loop={0: 10, 800: polls},
        select_loop={0: 10, 800: 100},
        io_uring_ring={0: 9, 800: 9},
        asyncio_streams={0: 20, 800: 20},
    )
    if swing is WILD:
        # Wild in one place of the dial and not in the other, or what swings alike would cancel out.
        assert claims.find("idle-crowd").judge(seen_wild(data, at=800)).word == word
    else:
        assert judged("idle-crowd", data, swing=swing).word == word


def seen_wild(data: Data, at: float) -> Seen:
    """As `seen`, swinging wildly at one place of the dial only."""
    steady, wild = seen(data), seen(data, swing=WILD)
    return Seen([other if one.at == at else one for one, other in zip(steady.points, wild.points, strict=True)])


@pytest.mark.parametrize(
    ("waiting", "computing", "swing", "word", "flip"),
    [
        ((6_000, 12_000), 900, STEADY, DEPENDS, "between 0 and 1 ms of waiting"),
        ((30_000, 12_000), 2_000, STEADY, HOLDS, ""),
        ((30_000, 12_000), 900, STEADY, DEPENDS, "where answers wait, not where they compute"),
        ((6_000, 500), 900, STEADY, FAILS, ""),
        ((6_000, 12_000), 900, WILD, CANNOT_TELL, ""),
    ],
)
def test_threads_on_epoll(
    waiting: tuple[float, float], computing: float, swing: Sequence[float], word: str, flip: str
) -> None:
    loop: dict[float, float] = {0: 20_000, 1: 900, 5: 190}
    pool: dict[float, float] = {0: waiting[0], 1: waiting[1], 5: waiting[1] / 5}
    data: Data = {
        **spots("rate", epoll_loop=loop, epoll_pool=pool),
        ("epoll_loop, computing", 1): {"rate": 950},
        ("epoll_pool, computing", 1): {"rate": computing},
    }
    finding = judged("threads-on-epoll", data, swing=swing)
    assert finding.word == word
    assert flip in finding.flip


@pytest.mark.parametrize(
    ("threads", "loop", "word"),
    [(300, 600, HOLDS), (15_000, 18_000, FAILS), (300, 18_000, DEPENDS)],
)
def test_gil_handover(threads: float, loop: float, word: str) -> None:
    data = spots("rate", thread_per_connection={0: 16_000, 1: threads}, epoll_loop={0: 20_000, 1: loop})
    assert judged("gil-handover", data).word == word
    assert claims.find("gil-handover").judge(seen_wild(data, at=1)).word == CANNOT_TELL


@pytest.mark.parametrize(
    ("loop", "threads", "word"),
    [(160_000, 10_400, HOLDS), (10_400, 10_400, FAILS), (160_000, 80_000, DEPENDS)],
)
def test_head_of_line(loop: float, threads: float, word: str) -> None:
    data = spots(
        "p50",
        epoll_loop={1: 10_200, 16: loop},
        thread_per_connection={1: 10_200, 16: threads},
        asyncio_streams={1: 10_300, 16: 10_900},
    )
    assert judged("head-of-line", data).word == word
    assert claims.find("head-of-line").judge(seen_wild(data, at=16)).word == CANNOT_TELL


@pytest.mark.parametrize(
    ("rate", "grown", "word"), [(19_500, 300_000, FAILS), (500, 300_000, HOLDS), (19_500, 8 << 20, HOLDS)]
)
def test_slow_reader(rate: float, grown: float, word: str) -> None:
    names = ("epoll_loop", "thread_per_connection", "asyncio_streams")
    data: Data = {
        (name, at): {"rate": rate if at else 20_000, "memory": 30e6 + at * grown} for name in names for at in (0, 2)
    }
    assert judged("slow-reader", data, swing=(1.0, 1.001, 0.999)).word == word


def test_what_a_slow_reader_leaves_is_not_told_by_rates_that_swing() -> None:
    rates = spots("rate", epoll_loop={0: 20, 2: 19}, thread_per_connection={0: 20, 2: 19}, asyncio_streams={0: 9, 2: 9})
    points = [
        Point(side=one.side, at=one.at, round=one.round, values={**one.values, "memory": 30e6})
        for one in seen_wild(rates, at=2).points
    ]
    assert claims.find("slow-reader").judge(Seen(points)).word == CANNOT_TELL


@pytest.mark.parametrize(
    ("blocks", "loops", "ring", "word"),
    [(2.01, 3.02, 0.1, HOLDS), (3.4, 3.02, 0.1, FAILS), (2.01, 2.0, 0.1, FAILS), (2.01, 3.02, 1.2, FAILS)],
)
def test_system_calls(blocks: float, loops: float, ring: float, word: str) -> None:
    data = spots(
        "calls",
        thread_per_connection={1: blocks, 64: blocks},
        epoll_loop={1: loops, 64: 2.1},
        io_uring_ring={1: 1.0, 64: ring},
    )
    assert judged("system-calls", data, swing=(1, 1, 1)).word == word


@pytest.mark.parametrize(
    ("switched", "swing", "word"), [(1.2, STEADY, HOLDS), (0.06, STEADY, FAILS), (1.2, WILD, CANNOT_TELL)]
)
def test_context_switches(switched: float, swing: Sequence[float], word: str) -> None:
    data = spots(
        "switched",
        epoll_loop={1: 1.0, 64: 0.03},
        thread_per_connection={1: 1.1, 64: switched},
        epoll_pool={1: 3.0, 64: 1.5},
    )
    assert judged("context-switches", data, swing=swing).word == word


@pytest.mark.parametrize(
    ("small", "large", "swing", "word", "flip"),
    [
        ((9, 6, 5), (20, 15, 12), STEADY, HOLDS, ""),
        ((14, 13, 12), (40, 42, 44), STEADY, FAILS, ""),
        ((14, 8, 5), (20, 15, 12), STEADY, DEPENDS, "between 1 and 16 clients"),
        ((9, 6, 5), (40, 42, 44), STEADY, DEPENDS, "one of the sizes"),
        ((9, 6, 5), (20, 15, 12), WILD, CANNOT_TELL, ""),
    ],
)
def test_true_async(
    small: tuple[float, ...], large: tuple[float, ...], swing: Sequence[float], word: str, flip: str
) -> None:
    clients = (1, 16, 128)
    rows = {
        "epoll_loop": (11, 10, 9.5),
        "io_uring_ring": small,
        "epoll_loop, 16 KiB": (30, 30, 30),
        "io_uring_ring, 16 KiB": large,
    }
    data: Data = {
        (side, at): {"cost": cost} for side, row in rows.items() for at, cost in zip(clients, row, strict=True)
    }
    finding = judged("true-async", data, swing=swing)
    assert finding.word == word
    assert flip in finding.flip


@pytest.mark.parametrize(
    ("memory", "rate", "swing", "word"),
    [
        (8_000, 30_000, STEADY, HOLDS),
        (60_000, 5_000, STEADY, FAILS),
        (8_000, 5_000, STEADY, DEPENDS),
        (8_000, 30_000, WILD, CANNOT_TELL),
    ],
)
def test_coroutines_vs_threads(memory: float, rate: float, swing: Sequence[float], word: str) -> None:
    data: Data = {
        ("thread_per_connection", 1000): {"memory_each": 24_000, "rate": 15_000},
        ("asyncio_streams", 1000): {"memory_each": memory, "rate": rate},
    }
    assert judged("coroutines-vs-threads", data, swing=swing).word == word


@pytest.mark.parametrize(
    ("processes", "threads", "word"),
    [(1_900, 1_000, HOLDS), (1_050, 1_000, FAILS), (1_900, 1_800, DEPENDS)],
)
def test_several_cores(processes: float, threads: float, word: str) -> None:
    data = spots("rate", prefork_epoll={1: 1_000, 2: processes}, epoll_pool={1: 1_000, 2: threads})
    assert judged("several-cores", data).word == word
    assert claims.find("several-cores").judge(seen_wild(data, at=2)).word == CANNOT_TELL


@pytest.mark.parametrize(
    ("own", "shared", "exclusive", "word"),
    [(20, 30, 60, HOLDS), (50, 60, 60, FAILS), (20, 20, 20, FAILS), (20, 60, 20, DEPENDS)],
)
def test_who_gets_the_connection(own: float, shared: float, exclusive: float, word: str) -> None:
    data: Data = {
        (way, 64): {"busiest": count, "p99": 9_000}
        for way, count in (("reuseport", own), ("shared", shared), ("exclusive", exclusive))
    }
    assert judged("who-gets-the-connection", data).word == word


@pytest.mark.parametrize(
    ("shortest", "longest", "word"), [(1.03e6, 4e4, HOLDS), (5e4, 4e4, FAILS), (1.03e6, 1.1e6, CANNOT_TELL)]
)
def test_backlog(shortest: float, longest: float, word: str) -> None:
    data = spots("waited", epoll_loop={1: shortest, 16: shortest, 1024: longest})
    assert judged("backlog", data).word == word


@pytest.mark.parametrize(
    ("costs", "swing", "word", "flip"),
    [
        ((400, 200, 100, 50, 25), STEADY, HOLDS, ""),
        ((25, 50, 100, 200, 400), STEADY, FAILS, ""),
        ((400, 200, 100, 60, 60), STEADY, DEPENDS, "up to 64 KiB"),
        ((100, 100, 100, 100, 100), STEADY, CANNOT_TELL, ""),
    ],
)
def test_buffer_size(costs: tuple[float, ...], swing: Sequence[float], word: str, flip: str) -> None:
    places = (1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10)
    finding = judged("buffer-size", spots("cost", epoll_loop=dict(zip(places, costs, strict=True))), swing=swing)
    assert finding.word == word
    assert flip in finding.flip


@pytest.mark.parametrize(("short", "long", "word"), [(8, 8, HOLDS), (0, 8, DEPENDS), (0, 5, FAILS)])
def test_drain(short: float, long: float, word: str) -> None:
    data: Data = {
        (name + how, at): {"answered": 0 if how else count}
        for name in ("thread_per_connection", "asyncio_streams")
        for how in ("", ", killed")
        for at, count in ((0.2, short), (10.0, long))
    }
    assert judged("drain", data, swing=(1, 1, 1)).word == word


@pytest.mark.parametrize(
    ("four", "lost", "swing", "word"),
    [
        (190, 0, STEADY, HOLDS),
        (60, 0, STEADY, FAILS),
        (190, 3, STEADY, FAILS),
        (190, 0, WILD, CANNOT_TELL),
    ],
)
def test_queue_decouples(four: float, lost: float, swing: Sequence[float], word: str) -> None:
    rates = {1: 48.0, 2: 95.0, 3: 120.0, 4: four}
    data: Data = {
        ("task_queue", at): {"rate": rate, "errors": lost if at == 3 else 0, "max": 1.2e6} for at, rate in rates.items()
    }
    if word == CANNOT_TELL:
        assert claims.find("queue-decouples").judge(seen_wild(data, at=4)).word == word
    else:
        assert judged("queue-decouples", data, swing=swing).word == word


@pytest.mark.parametrize(
    ("free", "swing", "word"), [(1_900, STEADY, HOLDS), (1_000, STEADY, FAILS), (1_900, WILD, CANNOT_TELL)]
)
def test_free_threads(free: float, swing: Sequence[float], word: str) -> None:
    data: Data = {("with the lock", 2): {"rate": 950, "busy": 1}, ("without it", 2): {"rate": free, "busy": 1.9}}
    assert judged("free-threads", data, swing=swing).word == word


def test_each_claim_has_its_test() -> None:
    assert {f"test_{name.replace('-', '_')}" for name in claims.names()} <= set(globals())


def test_a_worker_that_had_no_task_when_it_was_killed_tells_nothing() -> None:
    data: Data = {
        ("task_queue", at): {"rate": rate, "errors": 0, "max": 0.2e6}
        for at, rate in ((1, 48), (2, 95), (3, 120), (4, 190))
    }
    assert judged("queue-decouples", data).word == CANNOT_TELL

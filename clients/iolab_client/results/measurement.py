"""What a load is asked to be and what it came to: the schema of every result, as JSON and in memory.

Sizes are bytes, rates are per second, durations seconds and latencies microseconds, unless a name says otherwise.
Nothing here is derived over repeats: medians, intervals, shares and ranks are computed from these by `summary`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

# How requests of an open loop arrive.
EVEN: Final = "even"
POISSON: Final = "poisson"

# What a server owes for what it is sent: ASCII a-z made A-Z; the same bytes; bytes that nobody knows.
UPPER: Final = "upper"
SAME: Final = "same"
NONE: Final = "none"

# The subject that stands for the C server which everything is a share of.
YARDSTICK: Final = "yardstick"

# The verdicts, the worst first: of several that hold, the first one is said.
ERRORS: Final = "ERRORS"
STARVED: Final = "STARVED"
NOISY: Final = "NOISY"
CLIENT_BOUND: Final = "CLIENT-BOUND"
OVERLOADED: Final = "OVERLOADED"
INCONSISTENT: Final = "INCONSISTENT"
UNSTABLE: Final = "UNSTABLE"
UNPROVEN: Final = "UNPROVEN"
VALID: Final = "VALID"
Word = Literal[
    "ERRORS", "STARVED", "NOISY", "CLIENT-BOUND", "OVERLOADED", "INCONSISTENT", "UNSTABLE", "UNPROVEN", "VALID"
]


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One size of message and the share of the messages that have it."""

    size: AtLeastOne
    share: Positive = 1.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load, as it was asked for."""

    connections: AtLeastOne = 64
    # Requests in flight on each connection at most.
    pipeline: AtLeastOne = 1
    # Requests a second over all connections, sent when they are due (open loop); null: each when there is room for it
    # (closed loop).
    rate: Positive | None = None
    # Open loop: evenly spaced, or after random gaps (exponential: a Poisson process), as independent users are.
    arrivals: Literal["even", "poisson"] = EVEN
    # Open loop: each request waits for a connection of its own, in turn; else any that is free takes the next one.
    bound: bool = False
    duration_seconds: Positive = 10.0
    # End sooner, with so many answers.
    requests: AtLeastOne | None = None
    sizes: tuple[Size, ...] = (Size(size=64),)
    # What the answers are compared with: upper, same, none, or 512 hexadecimal digits, two for what each byte becomes.
    expect: Annotated[str, msgspec.Meta(pattern="^(upper|same|none|[0-9a-f]{512})$")] = UPPER
    # New connections a second; null: as fast as they are accepted.
    connect_rate: Positive | None = None
    # Requests after which a connection is closed and replaced; null: never.
    churn: AtLeastOne | None = None
    # Connections beside, on which nothing is ever said.
    idle: Count = 0
    # Loaded in the same way before anything counts.
    warmup_seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    # An answer that takes longer is an error, and so is its connection.
    timeout_seconds: Positive = 10.0
    # Processes of the generator, and the processors that they may run on; empty: all of them.
    processes: AtLeastOne = 1
    cpus: tuple[Count, ...] = ()
    # What the bytes and random gaps are made of; null: drawn for each load, and told with its result.
    seed: int | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long answers took. `histogram` has all of them, in nanoseconds: HdrHistogram V2, compressed, in base64.

    What was in flight when the measured time was over is waited for, and is in it. What had no answer then either, or
    was due and never sent, is in it as long as it had waited: `censored` of them, which would be higher.
    """

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float
    histogram: str
    censored: int = 0
    # How long the one of them that waited least had waited; null: there is none.
    censored_from: float | None = None

    def is_bound(self, value: float) -> bool:
        """Whether a percentile of that value is only a lower bound: with all answers there it could be higher."""
        return self.censored_from is not None and value >= self.censored_from


# How something goes wrong, and how many samples of it are kept in words.
ERROR_CLASSES: Final = ("refused", "reset", "timeout", "short", "wrong", "closed")
SAMPLES: Final = 10


class Errors(msgspec.Struct, kw_only=True):
    """What went wrong, by class; each ends its connection. `samples` has the first few of them in words."""

    # No connection: the port is closed, the server or its queue full, or no port of ours left. A server that ended the
    # connection before its first answer counts as full.
    refused: int = 0
    # The server reset the connection.
    reset: int = 0
    # No answer, or no connection, within the plan's timeout.
    timeout: int = 0
    # The server ended the connection in the middle of an answer.
    short: int = 0
    # Something else came back than was due: other bytes, more bytes, another order.
    wrong: int = 0
    # The server ended the connection between two answers, owing some.
    closed: int = 0
    samples: list[str] = msgspec.field(default_factory=list)

    @classmethod
    def of_all(cls, several: Iterable[Errors]) -> Errors:
        """Of several, by class, with the first few samples."""
        total = cls()
        for one in several:
            for name in ERROR_CLASSES:
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.samples += one.samples[: SAMPLES - len(total.samples)]
        return total

    @property
    def total(self) -> int:
        """All of them."""
        return self.refused + self.reset + self.timeout + self.short + self.wrong + self.closed


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """What the load cost whoever made it."""

    processes: int
    cpus: tuple[int, ...]
    cpu_seconds: float
    # Processor time over time, of the busiest process: 1 means that it could not have done more. In an open loop it is
    # without what passes until the next request is due.
    busy: float
    # Open loop: how late a request was seen to be due, because the generator was busy; microseconds.
    lag_p99: float | None = None
    # Whether the common case is in C; in Python, where there is no compiler, the generator is slower.
    in_c: bool = False


class ServerUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the load cost the server, from /metrics at both ends of the measured time."""

    # Between the two looks.
    seconds: float
    cpu_seconds: float
    # Answers that came back between the same two looks, as the generator counts them.
    answers: int
    voluntary_switches: int
    involuntary_switches: int
    # At the second look, and by how much it is above the first one, when nobody was connected.
    memory_bytes: int
    memory_growth_bytes: int
    threads: int
    processes: int
    # The processors it may run on; empty: not known.
    cpus: tuple[int, ...] = ()
    # Bytes that it counted as received between the two looks; null: it does not count them.
    received_bytes: int | None = None
    # How long its threads were ready to run and did not, added up; null: it does not tell.
    waited_seconds: float | None = None
    # Connections that it served at the second look: the open ones, less those that waited for a worker.
    served: int | None = None
    # Whether nobody had been connected to it before: only then is its growth what connections cost.
    fresh: bool = False

    @property
    def busy(self) -> float:
        """Processors kept busy."""
        return self.cpu_seconds / self.seconds

    @property
    def cost(self) -> float | None:
        """Microseconds of processor time per answer."""
        return self.cpu_seconds / self.answers * 1e6 if self.answers else None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine did meanwhile, between the same looks; null where the kernel does not tell."""

    # Processors that others than server and generator kept busy.
    others: float | None = None
    # Of the processors' time, what a hypervisor gave to other machines.
    steal: float | None = None
    # Of the time, what some task of the machine waited for a processor: PSI, cpu some.
    pressure: float | None = None
    # Processors' worth of waiting in a run queue: of the generator's process that waited most, and of all the server's
    # threads, which also wait for each other.
    generator_waited: float | None = None
    server_waited: float | None = None


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """How evenly the connections were served: answers in the measured time of the one with least, the median, the most.

    `index` is Jain's: 1 if all had the same, 1/n if one had all (R. Jain et al., DEC-TR-301, 1984).
    """

    least: int
    # Null: not known. Of several generators' connections it can't be told from what each says of its own.
    median: float | None
    most: int
    index: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a result is what it seems to be, and why."""

    word: Word
    reason: str


class Measurement(msgspec.Struct, kw_only=True):
    """One load on one server."""

    # A model's slug, `yardstick`, or HOST:PORT.
    subject: str
    address: str
    plan: Plan
    # When the measured time began, in UTC, and how long it was.
    started: str
    seconds: float
    answers: int
    sent_bytes: int
    received_bytes: int
    # Connections that were open at the end of the measured time, and how many of all got an answer in it.
    open_connections: int
    answered_connections: int
    # Requests in flight, the mean over the measured time.
    in_flight: float
    # Requests that were due in the measured time (open loop; else 0), and that were sent in it.
    due: int = 0
    sent: int = 0
    # Answers that came after the measured time, to what was in flight at its end; they are in `latency` only.
    late: int = 0
    # Requests without an answer when all was over; and those that were due and never sent: no connection had room.
    unanswered: int = 0
    unsent: int = 0
    # From when a request was sent (closed loop), or was due (open loop).
    latency: Latency
    # Open loop: from when it was really sent, which a server that stalls pushes back.
    latency_from_send: Latency | None = None
    # How long connections took to be made; with churn, from then to the first answer, too.
    connect: Latency | None = None
    first_answer: Latency | None = None
    fairness: Fairness | None = None
    # Answers in each of ten equal parts of the measured time.
    parts: list[int]
    errors: Errors
    generator: Generator
    # Null where the admin port is out of reach: `server_unknown` says why.
    server: ServerUse | None = None
    server_unknown: str = ""
    machine: Machine = Machine()
    # What else was running on the machine and could have had a part of it, as far as it is known.
    others: list[str] = msgspec.field(default_factory=list)
    verdict: Verdict
    # Which round of a comparison this was; each round has a fresh process of the server.
    round: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


class Environment(msgspec.Struct, kw_only=True):
    """Where a run was made, as far as it could be known."""

    # containers, processes, or as found (servers that somebody else had started).
    place: str
    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    python: str
    libraries: dict[str, str]
    # `git describe --always --dirty`.
    git_commit: str | None = None
    # Digest of each service's image.
    images: dict[str, str] = msgspec.field(default_factory=dict)
    docker: str | None = None
    # net.core.somaxconn, descriptors, what the server's `listening` line says.
    limits: dict[str, dict[str, int | None]] = msgspec.field(default_factory=dict)
    load_average: float | None = None


class Run(msgspec.Struct, kw_only=True):
    """A comparison, whole or as far as it came. `results.json` is this, and a summary beside it."""

    schema: int = 1
    command: str
    started: str
    # Empty while it is not over; a run that was interrupted has none.
    ended: str = ""
    # What was asked for: rounds, connection counts, sizes, rates, processors.
    settings: dict[str, object]
    environment: Environment
    # The contract as `check` found it before anything was measured: subject, clause, verdict.
    checked: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    # Why a model has no measurement.
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    # The YAML settings of each model, as its `listening` line shows them.
    models: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    measurements: list[Measurement] = msgspec.field(default_factory=list)

"""The plan of a load and its result: the schema of every result, as JSON and in memory.

Sizes are bytes, rates are per second, durations seconds and latencies microseconds, unless a name says otherwise.
Nothing here is derived from several measurements: `summary` computes medians, intervals, shares and ranks.
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

# What a server owes for what it is sent: ASCII a-z made A-Z; the same bytes; unknown bytes.
UPPER: Final = "upper"
SAME: Final = "same"
NONE: Final = "none"

# The subject that is the C server, with which all others are compared.
YARDSTICK: Final = "yardstick"

# The verdicts, the worst first: if several apply, the first one is given.
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
    """A size of messages, and the share of the messages that have it."""

    size: AtLeastOne
    share: Positive = 1.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load as it was asked for."""

    connections: AtLeastOne = 64
    # The most requests in flight on each connection.
    pipeline: AtLeastOne = 1
    # Requests a second over all connections, sent when they are due (open loop); null: each is sent when there is room
    # for it (closed loop).
    rate: Positive | None = None
    # Open loop: evenly spaced, or after random gaps (exponential: a Poisson process), as independent users are.
    arrivals: Literal["even", "poisson"] = EVEN
    # Open loop: each request is bound to a connection, in turn, and waits for it; else any free connection takes it.
    bound: bool = False
    duration_seconds: Positive = 10.0
    # End sooner, after this many answers.
    requests: AtLeastOne | None = None
    sizes: tuple[Size, ...] = (Size(size=64),)
    # What answers are compared with: upper, same, none, or 512 hexadecimal digits, two for what each byte becomes.
    expect: Annotated[str, msgspec.Meta(pattern="^(upper|same|none|[0-9a-f]{512})$")] = UPPER
    # New connections a second; null: as fast as the server accepts.
    connect_rate: Positive | None = None
    # Requests after which a connection is closed and replaced; null: never.
    churn: AtLeastOne | None = None
    # Further connections, which stay silent.
    idle: Count = 0
    # How long the same load runs before anything counts.
    warmup_seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    # An answer that takes longer is an error, and so is its connection.
    timeout_seconds: Positive = 10.0
    # Processes of the generator, and the processors that they may run on; empty: all of them.
    processes: AtLeastOne = 1
    cpus: tuple[Count, ...] = ()
    # The seed of the bytes and random gaps; null: drawn for each load, and given with its result.
    seed: int | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long answers took. `histogram` has all of them, in nanoseconds: HdrHistogram V2, compressed, in base64.

    It includes requests that were in flight at the end of the measured time, which are waited for. Those that still get
    no answer, or that were due and never sent, are in it with the time that they had waited: `censored` of them, whose
    true values would be higher.
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
    # The shortest time that one of the censored had waited; null: there is none.
    censored_from: float | None = None

    def is_bound(self, value: float) -> bool:
        """Whether a percentile of that value is only a lower bound, because of requests without an answer."""
        return self.censored_from is not None and value >= self.censored_from


# The classes of errors, and how many samples are kept in words.
ERROR_CLASSES: Final = ("refused", "reset", "timeout", "short", "wrong", "closed")
SAMPLES: Final = 10


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of the measured time by when they came: the latencies of each of its equal intervals.

    Each is a histogram like that of Latency, with one digit that matters instead of three; empty: no answer came.
    """

    interval_seconds: float
    histograms: list[str]


class Errors(msgspec.Struct, kw_only=True):
    """The errors, by class; each ends its connection. `samples` has the first few in words."""

    # No connection: the port is closed, the server or its queue is full, or this machine has no port left. A server
    # that ends the connection before its first answer counts as full.
    refused: int = 0
    # The server reset the connection.
    reset: int = 0
    # No answer, or no connection, within the plan's timeout.
    timeout: int = 0
    # The server ended the connection in the middle of an answer.
    short: int = 0
    # The answer was not what was due: other bytes, more bytes, another order.
    wrong: int = 0
    # The server ended the connection between two answers, owing some.
    closed: int = 0
    samples: list[str] = msgspec.field(default_factory=list)

    @classmethod
    def of_all(cls, several: Iterable[Errors]) -> Errors:
        """The sum of several, by class, with the first few samples."""
        total = cls()
        for one in several:
            for name in ERROR_CLASSES:
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.samples += one.samples[: SAMPLES - len(total.samples)]
        return total

    @property
    def total(self) -> int:
        """The number of all errors."""
        return self.refused + self.reset + self.timeout + self.short + self.wrong + self.closed


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """What the load cost the generator."""

    processes: int
    cpus: tuple[int, ...]
    cpu_seconds: float
    # Processor time over time, of the busiest process: 1 means that it could not have done more. In an open loop the
    # time until the next request is due does not count.
    busy: float
    # Open loop: how late the busy generator noticed that a request was due; microseconds.
    lag_p99: float | None = None
    # Whether the common case ran in C; without a compiler it runs in Python, which is slower.
    in_c: bool = False


class ServerUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the load cost the server, from /metrics at both ends of the measured time."""

    # The time between the two looks.
    seconds: float
    cpu_seconds: float
    # Answers between the same two looks, as the generator counts them.
    answers: int
    voluntary_switches: int
    involuntary_switches: int
    # At the second look, and its growth since before the load, when nothing was connected.
    memory_bytes: int
    memory_growth_bytes: int
    threads: int
    processes: int
    # The processors that it may run on; empty: not known.
    cpus: tuple[int, ...] = ()
    # Bytes that it counted as received between the two looks; null: it does not count them.
    received_bytes: int | None = None
    # How long its threads were ready to run without running, added up; null: not known.
    waited_seconds: float | None = None
    # Connections that it served at the second look: the open ones without those that waited for a worker.
    served: int | None = None
    # Whether it had no connection before: only then its growth is what connections cost.
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
    """What the machine did between the same looks; null if the kernel does not count it."""

    # Processors kept busy by other processes than server and generator.
    others: float | None = None
    # The share of the processors' time that a hypervisor gave to other machines.
    steal: float | None = None
    # The share of the time in which some task of the machine waited for a processor: PSI, cpu some.
    pressure: float | None = None
    # Run-queue wait, in processors: of the generator's process that waited most, and of all threads of the server,
    # which also wait for each other.
    generator_waited: float | None = None
    server_waited: float | None = None


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """How evenly the connections were served: the least, the median and the most answers of one in the measured time.

    `index` is Jain's: 1 if all had the same, 1/n if one had all (R. Jain et al., DEC-TR-301, 1984).
    """

    least: int
    # Null: not known. For several generators the parts may not determine it.
    median: float | None
    most: int
    index: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a result can be trusted, and why."""

    word: Word
    reason: str


class Measurement(msgspec.Struct, kw_only=True):
    """One load on one server."""

    # A model's slug, `yardstick`, or HOST:PORT.
    subject: str
    address: str
    plan: Plan
    # When the measured time began, in UTC, and its length.
    started: str
    seconds: float
    answers: int
    sent_bytes: int
    received_bytes: int
    # Connections open at the end of the measured time, and how many got an answer in it.
    open_connections: int
    answered_connections: int
    # The mean number of requests in flight over the measured time.
    in_flight: float
    # Requests due in the measured time (open loop; else 0), and sent in it.
    due: int = 0
    sent: int = 0
    # Answers after the measured time to requests that were in flight at its end; they are in `latency` only.
    late: int = 0
    # Requests that never got an answer; and those that were due and never sent, because no connection had room.
    unanswered: int = 0
    unsent: int = 0
    # Counted from when a request was sent (closed loop) or due (open loop).
    latency: Latency
    # Open loop: counted from when it was really sent, which a stalling server delays.
    latency_from_send: Latency | None = None
    # The time to connect; with churn also the time from then to the first answer.
    connect: Latency | None = None
    first_answer: Latency | None = None
    fairness: Fairness | None = None
    # Null in the results of earlier versions.
    over_time: OverTime | None = None
    # Answers in each of ten equal parts of the measured time.
    parts: list[int]
    errors: Errors
    generator: Generator
    # Null if the admin port can't be reached: `server_unknown` says why.
    server: ServerUse | None = None
    server_unknown: str = ""
    machine: Machine = Machine()
    # Other programs that ran on the machine and could have disturbed the load, as far as is known.
    others: list[str] = msgspec.field(default_factory=list)
    verdict: Verdict
    # The round of a comparison; each round starts a fresh process of the server.
    round: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


class Environment(msgspec.Struct, kw_only=True):
    """Where a run was made, as far as is known."""

    # containers, processes, or as found (servers that ran already).
    place: str
    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    python: str
    libraries: dict[str, str]
    # `git describe --always --dirty`.
    git_commit: str | None = None
    # The digest of each service's image.
    images: dict[str, str] = msgspec.field(default_factory=dict)
    docker: str | None = None
    # net.core.somaxconn, descriptors, and the limits in the server's `listening` line.
    limits: dict[str, dict[str, int | None]] = msgspec.field(default_factory=dict)
    load_average: float | None = None


class Run(msgspec.Struct, kw_only=True):
    """A comparison, complete or not. `results.json` is this and a summary."""

    schema: int = 1
    command: str
    started: str
    # Empty until the run is over; stays empty if it is interrupted.
    ended: str = ""
    # What was asked for: rounds, connection counts, sizes, rates, processors.
    settings: dict[str, object]
    environment: Environment
    # What `check` found before measuring: subject, clause, verdict.
    checked: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    # Why a model was not measured.
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    # The YAML settings of each model, as its `listening` line shows them.
    models: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    measurements: list[Measurement] = msgspec.field(default_factory=list)

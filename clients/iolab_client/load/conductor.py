"""The parent of the generator's processes: starts them, gives the start time, looks at the server, adds up.

The processes are started anew and not forked, so the caller may have threads (a progress bar, Docker's SDK). A process
ends when its standard input does, so none outlives its parent, however that dies.
"""

from __future__ import annotations

import os
import resource
import secrets
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
import msgspec
import numpy as np

from iolab_client.load import buckets, machine, shared
from iolab_client.load.progress import Interrupted, Progress
from iolab_client.load.share import Report, Share, split
from iolab_client.load.shared import Counts, Shared
from iolab_client.results import verdicts
from iolab_client.results.measurement import Errors, Fairness, Generator, Latency, Measurement, Plan, ServerUse
from iolab_client.servers import metrics
from iolab_client.servers.address import connect
from iolab_client.servers.admin import Unreachable
from iolab_client.servers.explain import explain
from iolab_client.servers.metrics import Metrics
from iolab_client.servers.targets import Target

SECOND = 1_000_000_000
TELL_SECONDS = 0.25
# How often the server is asked how busy it is, if that is wanted.
WATCH_SECONDS = 1.0
WATCH_DEADLINE_SECONDS = 0.5
# The time between the command to start and the start, in which all processes read the command.
HEADSTART_NS = SECOND // 20
# The descriptors of a process beside its connections: the interpreter's, epoll, the pipes and the shared memory.
OTHER_DESCRIPTORS = 32
# The two looks at the server have to see this share of the measured time between them.
SEEN = 0.5


class LoadFailed(click.ClickException):
    """The load could not be made. The message is one line with the remedy."""


class BadPlan(click.ClickException):
    """A plan that is impossible. The message is one line; the exit code is that of a usage error."""

    exit_code = 2


class _Worker:
    """One process of the generator, and its last message."""

    def __init__(self, share: Share) -> None:
        self.shared = Shared(share.memory)
        self.word = ""
        self._rest = b""
        # Its own session, so that Ctrl-C on a terminal reaches only the parent, which stops it and takes its report.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "iolab_client.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[share.memory],
            start_new_session=True,
            bufsize=0,
        )
        self.tell(msgspec.json.encode(share).decode())

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            raise LoadFailed("a process of the generator has died; its error is above") from None

    def hear(self) -> None:
        """Read its messages. Raises LoadFailed if it has died."""
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            raise LoadFailed("a process of the generator has died; its error is above")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self.word = lines[-1].decode()

    def end(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Conductor:
    """One load on one server."""

    def __init__(
        self,
        target: Target,
        plan: Plan,
        tell: Callable[[Progress], None],
        *,
        watch: bool,
        rendezvous: Callable[[], None],
    ) -> None:
        _check(plan)
        self.target = target
        self.plan = plan if plan.seed is not None else msgspec.structs.replace(plan, seed=secrets.randbelow(1 << 32))
        self.tell = tell
        self.rendezvous = rendezvous
        self.watch = watch and target.admin is not None
        self.unknown = "" if target.admin else target.no_admin
        self.looks: list[Metrics] = []
        self.moments: list[machine.Moment] = []
        self.watched: Metrics | None = None
        self.server_busy: float | None = None
        self.next_watch = 0.0
        self.told = (0.0, 0)
        self.begin = 0
        self.started = datetime.now(UTC)
        self.workers: list[_Worker] = []

    def run(self) -> Measurement:
        """Carry out the plan. Raises LoadFailed, BadPlan, and after Ctrl-C Interrupted, with what was measured."""
        family, address = _resolve(self.target)
        memories = [shared.create() for _ in range(self.plan.processes)]
        try:
            for share in split(self.plan, family, address, memories):
                self.workers.append(_Worker(share))
            return self._conduct()
        finally:
            for worker in self.workers:
                worker.end()
            for memory in memories:
                os.close(memory)

    def _conduct(self) -> Measurement:
        interrupted = False
        try:
            self._await("starting", "ready")
            self._look()
            self._all("connect")
            self._await("connecting", "connected")
            self.rendezvous()
            start = time.monotonic_ns() + HEADSTART_NS
            self._all(f"start {start}")
            self.begin = start + int(self.plan.warmup_seconds * SECOND)
            self._await("warm-up", "over", until=self.begin)
            self.started = datetime.now(UTC)
            self._look()
            self._look_at_machine()
            self._await("measuring", "over")
            self._look()
            self._look_at_machine()
            self._all("close")
            self._await("waiting for the last answers", "{")
        except KeyboardInterrupt:
            interrupted = True
            if not self.begin:
                # There is nothing to show.
                raise
            if len(self.looks) == 2:
                self._look()
                self._look_at_machine()
            self._all("stop")
            self._await("closing", "{")
        measurement = self._measurement([msgspec.json.decode(worker.word, type=Report) for worker in self.workers])
        if interrupted:
            raise Interrupted(measurement)
        return measurement

    def _all(self, text: str) -> None:
        for worker in self.workers:
            worker.tell(text)

    def _await(self, phase: str, word: str, until: int | None = None) -> None:
        """Wait until each process has sent a message that begins so, or until a moment (monotonic nanoseconds)."""
        next_tell = 0.0
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                if not worker.word.startswith(word):
                    selector.register(worker.fileno(), selectors.EVENT_READ, worker)
            while selector.get_map():
                now = time.monotonic()
                if until is not None and now * SECOND >= until:
                    return
                if now >= next_tell:
                    next_tell = now + TELL_SECONDS
                    self._tell(phase)
                wait = next_tell - now if until is None else min(next_tell - now, until / SECOND - now)
                for key, _ in selector.select(max(0.0, wait)):
                    worker = key.data
                    worker.hear()
                    # A process ends after its report, while others may still wait for the server to close.
                    if worker.word.startswith(word):
                        selector.unregister(worker.fileno())

    # What is seen during the load

    def _total(self, counter: int) -> int:
        return sum(int(worker.shared.counters[counter]) for worker in self.workers)

    def _counts(self, histogram: int) -> Counts:
        total: Counts = np.sum([worker.shared.histograms[histogram] for worker in self.workers], axis=0)
        return total

    def _look(self) -> None:
        """Look at the server's metrics."""
        if self.unknown:
            return
        try:
            self.looks.append(metrics.read(self.target))
        except Unreachable as error:
            self.unknown = error.message

    def _look_at_machine(self) -> None:
        self.moments.append(machine.look(worker.process.pid for worker in self.workers))

    def _watch(self, now: float) -> None:
        if not self.watch or self.unknown or now < self.next_watch:
            return
        self.next_watch = now + WATCH_SECONDS
        try:
            seen = metrics.read(self.target, deadline_seconds=WATCH_DEADLINE_SECONDS)
        except Unreachable:
            self.server_busy = None
            return
        if self.watched and seen.at > self.watched.at:
            self.server_busy = (seen.cpu_seconds - self.watched.cpu_seconds) / (seen.at - self.watched.at)
        self.watched = seen

    def _tell(self, phase: str) -> None:
        now = time.monotonic()
        self._watch(now)
        answers = self._total(shared.ANSWERS)
        then, answers_then = self.told
        self.told = (now, answers)
        counts = self._counts(shared.LATENCY) if phase == "measuring" else np.zeros(1, np.int64)
        self.tell(
            Progress(
                phase=phase,
                seconds=max(0.0, now - self.begin / SECOND) if self.begin else 0.0,
                of_seconds=self.plan.duration_seconds,
                connected=self._total(shared.CONNECTED),
                answers=answers,
                rate=(answers - answers_then) / (now - then) if then else 0.0,
                p50=buckets.percentile(counts, 50),
                p99=buckets.percentile(counts, 99),
                errors=self._total(shared.ERRORS),
                server_busy=self.server_busy,
            )
        )

    # The result

    def _measurement(self, reports: list[Report]) -> Measurement:
        ended = max(report.ended for report in reports)
        seconds = max(0, ended - self.begin) / SECOND
        made = Measurement(
            subject=self.target.name,
            address=self.target.shown_address,
            plan=self.plan,
            started=self.started.isoformat(timespec="milliseconds"),
            seconds=seconds,
            answers=sum(report.answers for report in reports),
            sent_bytes=sum(report.sent_bytes for report in reports),
            received_bytes=sum(report.received_bytes for report in reports),
            open_connections=sum(report.open_connections for report in reports),
            answered_connections=sum(report.answered_connections for report in reports),
            in_flight=sum(report.flight_ns for report in reports) / SECOND / seconds if seconds else 0.0,
            due=sum(report.due for report in reports),
            sent=sum(report.sent for report in reports),
            late=sum(report.late for report in reports),
            unanswered=sum(report.censored - report.unsent for report in reports),
            unsent=sum(report.unsent for report in reports),
            latency=_bounded(self._latency(shared.LATENCY, sum(report.latency_ns for report in reports)), reports),
            latency_from_send=self._latency(shared.FROM_SEND, sum(report.from_send_ns for report in reports))
            if self.plan.rate
            else None,
            connect=self._rough(shared.CONNECT),
            first_answer=self._rough(shared.FIRST),
            over_time=buckets.over_time(
                np.sum([worker.shared.over_time for worker in self.workers], axis=0),
                reports[0].interval_ns,
                ended - self.begin,
            )
            if ended > self.begin
            else None,
            fairness=_fairness([answers for report in reports for answers in report.answers_each]),
            parts=_parts(reports, ended - self.begin),
            errors=Errors.of_all(report.errors for report in reports),
            generator=Generator(
                processes=self.plan.processes,
                cpus=self.plan.cpus,
                cpu_seconds=sum(report.cpu_seconds for report in reports),
                busy=max(report.busy_seconds for report in reports) / seconds if seconds else 0.0,
                lag_p99=buckets.percentile(self._counts(shared.LAG), 99) if self.plan.rate else None,
                in_c=all(report.in_c for report in reports),
            ),
            verdict=verdicts.UNJUDGED,
        )
        if len(self.looks) == 3:
            alone, first, second = self.looks
            answered = _Answered(reports, self.begin, ended)
            if answered.seconds(first.at, second.at) <= SEEN * seconds:
                made.server_unknown = "its admin port answered when most of the measured time was over"
            else:
                made.server = _use(alone, first, second, answered)
        else:
            made.server_unknown = self.unknown or "the load ended before the server was looked at"
        if len(self.moments) == 2:
            first_moment, second_moment = self.moments
            made.machine = machine.between(first_moment, second_moment, made.server)
        made.verdict = verdicts.judge_one(made)
        return made

    def _latency(self, histogram: int, total_ns: int) -> Latency:
        return buckets.latency(self._counts(histogram), total_ns)

    def _rough(self, histogram: int) -> Latency | None:
        """The latency of a histogram alone, with a mean precise to a thousandth; None if it is empty."""
        counts = self._counts(histogram)
        filled = np.flatnonzero(counts).tolist()
        total = sum(buckets.lowest(bucket) * int(counts[bucket]) for bucket in filled)
        return buckets.latency(counts, total) if filled else None


def _bounded(latency: Latency, reports: list[Report]) -> Latency:
    """The latency, marked with what is known of the requests without an answer."""
    waited = [report.censored_from_ns for report in reports if report.censored_from_ns is not None]
    if not waited:
        return latency
    censored = sum(report.censored for report in reports)
    return msgspec.structs.replace(latency, censored=censored, censored_from=min(waited) / 1000)


def _fairness(answers: list[int]) -> Fairness | None:
    squares = sum(count * count for count in answers)
    if not squares:
        return None
    return Fairness(
        least=min(answers),
        median=statistics.median(answers),
        most=max(answers),
        index=sum(answers) ** 2 / (len(answers) * squares),
    )


class _Answered:
    """The answers of the measured time, from `begin` to `ended` (nanoseconds), by the moments in which they came."""

    def __init__(self, reports: list[Report], begin: int, ended: int) -> None:
        self._begin, self._ended = begin / SECOND, ended / SECOND
        self._step = reports[0].step_ns / SECOND
        steps = np.sum([report.steps for report in reports], axis=0)
        self._until = np.concatenate([[0], np.cumsum(steps)])

    def seconds(self, first: float, second: float) -> float:
        """How much of the measured time lies between two moments, monotonic seconds."""
        return max(0.0, min(second, self._ended) - max(first, self._begin))

    def between(self, first: float, second: float) -> int:
        """How many came between two moments, to the nearest within a step."""
        places = [(min(max(at, self._begin), self._ended) - self._begin) / self._step for at in (first, second)]
        early, late = np.interp(places, np.arange(len(self._until)), self._until)
        return round(float(late - early))


def _use(alone: Metrics, first: Metrics, second: Metrics, answered: _Answered) -> ServerUse:
    """What the load cost the server, from looks before any connection, and at both ends of the measured time.

    A look counts for the moment in which the server had counted; one that came after the measured time, for its end:
    nothing was sent any more.
    """
    seconds = answered.seconds(first.at, second.at)
    received_bytes = None
    if first.counters and second.counters and (counted := answered.seconds(first.counted_at, second.counted_at)):
        # It counts bytes and processor time at different moments: the bytes are those of as long a time.
        received = second.counters.received_bytes - first.counters.received_bytes
        received_bytes = round(received * seconds / counted)
    return ServerUse(
        seconds=seconds,
        cpu_seconds=second.cpu_seconds - first.cpu_seconds,
        answers=answered.between(first.at, second.at),
        voluntary_switches=second.voluntary_switches - first.voluntary_switches,
        involuntary_switches=second.involuntary_switches - first.involuntary_switches,
        memory_bytes=second.memory_bytes,
        memory_growth_bytes=second.memory_bytes - alone.memory_bytes,
        threads=second.threads,
        processes=second.processes,
        cpus=second.cpus,
        received_bytes=received_bytes,
        waited_seconds=None
        if first.waited_seconds is None or second.waited_seconds is None
        else max(0.0, second.waited_seconds - first.waited_seconds),
        served=second.counters.open - second.counters.waiting if second.counters else None,
        fresh=alone.counters is not None and alone.counters.accepted == 0,
    )


def _parts(reports: list[Report], length_ns: int, parts: int = 10) -> list[int]:
    """The answers in equal parts of the measured time, to the nearest step."""
    step_ns = reports[0].step_ns
    steps = np.sum([report.steps for report in reports], axis=0)
    edges = [round(length_ns * part / parts / step_ns) for part in range(parts)]
    return [int(steps[begin:end].sum()) for begin, end in zip(edges, [*edges[1:], len(steps)], strict=True)]


def _check(plan: Plan) -> None:
    """Raise BadPlan if the plan is impossible."""
    if plan.processes > plan.connections:
        raise BadPlan(f"{plan.processes} processes for {plan.connections} connections: each needs one at least")
    if plan.requests is not None and plan.requests < plan.processes:
        raise BadPlan(f"{plan.requests} requests for {plan.processes} processes: each needs one at least")
    absent = set(plan.cpus) - os.sched_getaffinity(0)
    if absent:
        allowed = ", ".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
        raise BadPlan(f"processor {min(absent)} is not one of those that may be used: {allowed}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = -(-plan.connections // plan.processes) + -(-plan.idle // plan.processes)
    if hard != resource.RLIM_INFINITY and each + OTHER_DESCRIPTORS > hard:
        raise BadPlan(
            f"{each} connections in each process need {each + OTHER_DESCRIPTORS} descriptors, and {hard} are allowed: "
            "raise the limit (`ulimit -Hn`, or `--ulimit nofile` of a container) or use more --processes"
        )


def _resolve(target: Target) -> tuple[int, tuple[str, int]]:
    """The server's address family and address; of several, the first that answers. Raises LoadFailed."""
    try:
        found = socket.getaddrinfo(*target.address, type=socket.SOCK_STREAM)
        if len(found) > 1:
            with connect(target.address, deadline_seconds=5.0) as peer:
                return int(peer.family), peer.getpeername()[:2]
    except socket.gaierror as error:
        raise LoadFailed(f"{target.name}: {explain(error)}") from None
    except OSError:
        # The load will meet and count this error.
        pass
    family, _, _, _, address = found[0]
    return int(family), (str(address[0]), int(address[1]))

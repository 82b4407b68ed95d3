"""A load that several machines make together: the workers of a Dask cluster, each of which is a generator.

    measurement = cluster.run("tcp://scheduler:8786", "epoll_loop", Plan(connections=3000))

Each worker finds the server from where it is, makes its connections, and says so; when the last one has, all begin.
What each measured by its own clock is joined by `results.merge`. Dask carries the words: what is asked and what is
measured as JSON, the begin and the stop as its Events, the progress as its log of events.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from iolab.program import shortened
from iolab_client.contract import peers
from iolab_client.load import run as run_here
from iolab_client.load.conductor import BadPlan, LoadFailed
from iolab_client.load.progress import Interrupted, Progress
from iolab_client.load.share import part
from iolab_client.results.measurement import Measurement, Plan
from iolab_client.results.merge import merge
from iolab_client.servers.address import Address, connect
from iolab_client.servers.targets import Wanted, resolve

if TYPE_CHECKING:
    from distributed import Client, Future

# Plain, or as Dask's own configuration has its certificates.
SCHEMES = ("tcp", "tls")
CONNECT_SECONDS = 10.0
# A greeting is some hundred bytes.
MOST_GREETING_BYTES = 1 << 16
# How often the workers are looked after, and what they are doing is told.
LOOK_SECONDS = 0.25
# How long a worker that is connected waits for the others: a cluster that another load occupies never lets them come.
RENDEZVOUS_SECONDS = 120.0
# What a worker does between its last connection and the begin.
MEETING = "waiting for the others"
# In the order in which a load goes through them.
PHASES = ("starting", "connecting", MEETING, "warm-up", "measuring", "waiting for the last answers")

NOTHING_YET = Progress(
    phase="starting", seconds=0, of_seconds=0, connected=0, answers=0, rate=0, p50=None, p99=None, errors=0
)


class NoCluster(click.ClickException):
    """There is nothing to spread a load over. One line with the remedy, and the exit code of a usage error."""

    exit_code = 2


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says while it works: how far it is, and whether it waits for the others to begin."""

    worker: str
    progress: Progress


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a worker's part: a measurement, or why there is none."""

    measurement: Measurement | None = None
    complaint: str = ""
    # Whether the plan, or a setting, was at fault: exit code 2.
    is_bad_plan: bool = False


def split(plan: Plan, workers: int) -> list[Plan]:
    """The part of each worker. `processes` and `cpus` are each worker's own. Raises BadPlan."""
    if plan.connections < workers * plan.processes:
        raise BadPlan(
            f"{plan.connections} connections for {workers} workers with {plan.processes} processes each: "
            "each process needs one at least"
        )
    if plan.requests is not None and plan.requests < workers * plan.processes:
        raise BadPlan(
            f"{plan.requests} requests for {workers} workers with {plan.processes} processes each: "
            "each process needs one at least"
        )
    parts = []
    for worker in range(workers):
        connections = part(plan.connections, worker, workers)
        parts.append(
            msgspec.structs.replace(
                plan,
                connections=connections,
                idle=part(plan.idle, worker, workers),
                rate=plan.rate and plan.rate * connections / plan.connections,
                requests=plan.requests and part(plan.requests, worker, workers),
                connect_rate=plan.connect_rate and plan.connect_rate / workers,
                # No two of them may send the same bytes after the same gaps.
                seed=None if plan.seed is None else (plan.seed + worker) % (1 << 32),
            )
        )
    return parts


# On a worker


def generate(wanted: str, plan: str, name: str, watch: bool) -> str:
    """One worker's part: the Outcome as JSON. Dask runs it in a thread of the worker, by its name."""
    from distributed import Event, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    start, stop = Event(f"{name}-start"), Event(f"{name}-stop")
    latest, told_to_stop = NOTHING_YET, False

    def tell(progress: Progress) -> None:
        nonlocal latest, told_to_stop
        latest = progress
        worker.log_event(name, msgspec.to_builtins(Said(worker=worker.address, progress=progress)))
        if told_to_stop:
            return
        task = worker.state.tasks.get(key)
        # Who asked for it has told it to stop, or is gone. A load ends at that as at Ctrl-C, and goes on to tell how.
        if stop.is_set() or task is None or task.state == "cancelled":
            told_to_stop = True
            raise KeyboardInterrupt

    def rendezvous() -> None:
        deadline = time.monotonic() + RENDEZVOUS_SECONDS
        while not start.wait(timeout=LOOK_SECONDS):
            tell(msgspec.structs.replace(latest, phase=MEETING))
            if time.monotonic() > deadline:
                raise LoadFailed(
                    f"the others were not connected within {RENDEZVOUS_SECONDS:g} s: does another load keep them busy?"
                )

    try:
        (target,) = resolve([Wanted().convert(wanted, None, None)])
        asked = msgspec.json.decode(plan, type=Plan)
        outcome = Outcome(measurement=run_here(target, asked, tell, watch=watch, rendezvous=rendezvous))
    except click.ClickException as error:
        outcome = Outcome(complaint=error.format_message(), is_bad_plan=error.exit_code == 2)
    except Interrupted as ended:
        outcome = Outcome(measurement=ended.measurement)
    except KeyboardInterrupt:
        outcome = Outcome(complaint="it was stopped before it had begun")
    return msgspec.json.encode(outcome).decode()


# Where it was asked for


def run(
    scheduler: str,
    wanted: str,
    plan: Plan,
    tell: Callable[[Progress], None] = lambda progress: None,
    *,
    watch: bool = False,
) -> Measurement:
    """Spread a load over all workers that a scheduler has, and join what they measured.

    `wanted` is a model's name or HOST:PORT, as each worker knows it; `tell` and `watch` are those of `load.run`. Raises
    NoCluster, BadPlan, LoadFailed, BadMerge, and Interrupted with what there is after Ctrl-C.
    """
    try:
        from distributed import Client
    except ImportError:
        raise NoCluster("--on needs Dask's package distributed: pip install 'iolab[cluster]'") from None
    # What it would say is said in one line here.
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    try:
        _greet(scheduler)
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise NoCluster(
            f"--on {scheduler}: no scheduler of Dask answers there: {(error.strerror or str(error)).lower()}"
        ) from None
    with client:
        return Spread(client, wanted, plan, tell, watch=watch).run()


def address_of(scheduler: str) -> tuple[str, Address]:
    """Scheme and address of tcp://HOST:PORT. Raises NoCluster."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(scheduler)
        if parts.scheme in SCHEMES and parts.hostname and parts.port:
            return parts.scheme, (parts.hostname, parts.port)
    raise NoCluster(f"--on {shortened(scheduler)}: expected a scheduler of Dask as in tcp://HOST:8786")


def _greet(scheduler: str) -> None:
    """Raise OSError unless somebody is there who begins as Dask does: with the length of what he says first.

    Dask's client waits without end for who listens and says nothing, and makes room for whatever length it is told.
    """
    scheme, address = address_of(scheduler)
    with connect(address, deadline_seconds=CONNECT_SECONDS) as peer:
        if scheme == "tcp":
            length = peers.read_exactly(peer, 8, deadline_seconds=CONNECT_SECONDS)
            if len(length) < 8 or int.from_bytes(length, "little") > MOST_GREETING_BYTES:
                raise OSError("it speaks another protocol")


class Spread:
    """One load on its way through a cluster."""

    def __init__(
        self, client: Client, wanted: str, plan: Plan, tell: Callable[[Progress], None], *, watch: bool
    ) -> None:
        from distributed import Event

        self.client = client
        self.plan = plan
        self.tell = tell
        self.name = f"iolab-{secrets.token_hex(8)}"
        self.start, self.stop = (Event(f"{self.name}-{what}", client=client) for what in ("start", "stop"))
        # What the workers say comes in a thread of the client's.
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.progress: dict[str, Progress] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.interrupted = False
        workers = sorted(client.nthreads())
        if not workers:
            raise NoCluster(
                f"no worker is at the scheduler: start one on each machine, `dask worker {_address(client)}`"
            )
        parts = split(plan, len(workers))
        client.subscribe_topic(self.name, self._hear)
        self.futures: dict[str, Future[str]] = {
            worker: client.submit(
                generate,
                wanted,
                msgspec.json.encode(each).decode(),
                self.name,
                # One look a second is enough for the server.
                watch and worker == workers[0],
                key=f"{self.name}-{number}",
                workers=[worker],
                pure=False,
                retries=0,
            )
            for number, (worker, each) in enumerate(zip(workers, parts, strict=True))
        }

    def run(self) -> Measurement:
        """All of it."""
        try:
            self._follow()
        except KeyboardInterrupt:
            self.interrupted = True
            self.stop.set()
            self._follow()
        finally:
            # Where one has failed, the others do not go on with a load that nobody waits for.
            self.stop.set()
            self.client.unsubscribe_topic(self.name)
        measured = {worker: one.measurement for worker, one in self.outcomes.items() if one.measurement}
        if not measured:
            # It was stopped before there was anything to show.
            raise KeyboardInterrupt
        measurement = merge(measured)
        # What was asked for, rather than what each has made of it.
        measurement.plan = msgspec.structs.replace(measurement.plan, seed=self.plan.seed)
        if self.interrupted:
            raise Interrupted(measurement)
        return measurement

    def _follow(self) -> None:
        """Until all have done their part. Raises LoadFailed if one can't, or is gone."""
        next_look = 0.0
        while self.outcomes.keys() != self.futures.keys():
            with contextlib.suppress(queue.Empty):
                said = self.said.get(timeout=LOOK_SECONDS)
                self.progress[said.worker] = said.progress
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + LOOK_SECONDS
            self._collect()
            if self.progress.keys() == self.futures.keys():
                if all(one.phase == MEETING for one in self.progress.values()):
                    self.start.set()
                self.tell(_together(list(self.progress.values())))

    def _collect(self) -> None:
        there = self.client.nthreads()
        for worker, future in self.futures.items():
            if worker in self.outcomes:
                continue
            if future.done():
                try:
                    outcome = msgspec.json.decode(future.result(), type=Outcome)
                except ModuleNotFoundError as error:
                    raise LoadFailed(f"{worker}: {error}: install the same iolab[cluster] there as here") from None
                if outcome.measurement is None and not self.interrupted:
                    raise (BadPlan if outcome.is_bad_plan else LoadFailed)(f"{worker}: {outcome.complaint}")
                self.outcomes[worker] = outcome
            elif worker not in there:
                raise LoadFailed(f"the worker {worker} has died in the middle of the load; its own output says why")

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, message = event
        self.said.put(msgspec.convert(message, Said))


def _together(several: Sequence[Progress]) -> Progress:
    """The progress of all: counts and rates are added, and the slowest percentile stands for all until it is over."""
    least = min(several, key=lambda one: (PHASES.index(one.phase) if one.phase in PHASES else len(PHASES), one.seconds))
    return Progress(
        phase=least.phase,
        seconds=least.seconds,
        of_seconds=least.of_seconds,
        connected=sum(one.connected for one in several),
        answers=sum(one.answers for one in several),
        rate=sum(one.rate for one in several),
        p50=max((one.p50 for one in several if one.p50 is not None), default=None),
        p99=max((one.p99 for one in several if one.p99 is not None), default=None),
        errors=sum(one.errors for one in several),
        server_busy=next((one.server_busy for one in several if one.server_busy is not None), None),
    )


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "tcp://SCHEDULER:8786"

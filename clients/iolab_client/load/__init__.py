"""The load generator: processes with one epoll loop each; every answer is compared, every latency kept.

    from iolab_client.load import run
    measurement = run(target, Plan(connections=128, duration_seconds=5))

`conductor` starts the processes and adds up their results; `worker` is one process, `loop` its loop, `tally` what it
counts and `requests` what it sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from iolab_client.load.progress import Interrupted, Progress
from iolab_client.results.measurement import Measurement, Plan

if TYPE_CHECKING:
    from iolab_client.servers.targets import Target

__all__ = ["Interrupted", "Progress", "run", "run_on"]


def run(
    target: Target,
    plan: Plan,
    tell: Callable[[Progress], None] = lambda progress: None,
    *,
    watch: bool = False,
    rendezvous: Callable[[], None] = lambda: None,
) -> Measurement:
    """Load a server by the plan. `tell` is called four times a second, with `watch` also with the server's CPU.

    `rendezvous` is called when all connections are made, and the load begins when it returns: if several generators
    load one server, they wait for each other there.

    A server that refuses or fails raises nothing: that is in the measurement's errors. Raises BadPlan (impossible),
    LoadFailed (no such host, or the generator itself failed), and after Ctrl-C Interrupted, with what was measured.
    """
    # Imported here: the generator's processes import this package too, and do not need it.
    from iolab_client.load.conductor import Conductor

    return Conductor(target, plan, tell, watch=watch, rendezvous=rendezvous).run()


def run_on(
    scheduler: str,
    wanted: str,
    plan: Plan,
    tell: Callable[[Progress], None] = lambda progress: None,
    *,
    watch: bool = False,
) -> Measurement:
    """The same by all workers of a Dask cluster together: `cluster.run`."""
    from iolab_client.load import cluster

    return cluster.run(scheduler, wanted, plan, tell, watch=watch)

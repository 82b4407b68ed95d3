"""The load generator: processes of one epoll loop each, every answer compared, every latency kept.

    from iolab_client.load import run
    measurement = run(target, Plan(connections=128, duration_seconds=5))

`conductor` starts the processes and adds up; `worker` is one of them, `loop` its loop, `tally` what it notes and
`requests` what it sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from iolab_client.load.progress import Interrupted, Progress
from iolab_client.results.measurement import Measurement, Plan

if TYPE_CHECKING:
    from iolab_client.servers.targets import Target

__all__ = ["Interrupted", "Progress", "run"]


def run(
    target: Target,
    plan: Plan,
    tell: Callable[[Progress], None] = lambda progress: None,
    *,
    watch: bool = False,
    rendezvous: Callable[[], None] = lambda: None,
) -> Measurement:
    """Load a server by the plan. `tell` is called four times a second; with `watch`, it is told the server's CPU too.

    `rendezvous` is called when all connections are made, and the load begins when it returns: where several generators
    load one server, there they wait for each other.

    A server that refuses or fails is no exception here: it is in the errors. Raises BadPlan (it cannot be), Failed (no
    such host, or the generator itself broke), and Interrupted, with what there is, after Ctrl-C.
    """
    # The generator's processes import this package, too, and need none of what their parent does.
    from iolab_client.load.conductor import Conductor

    return Conductor(target, plan, tell, watch=watch, rendezvous=rendezvous).run()

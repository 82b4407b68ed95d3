"""The list of models, which commands, configs, compose, docs and tests are checked against.

Nothing here imports a model: only the server that runs on a framework loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iolab.server.server import Server
    from iolab.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Model:
    """One way to wait.

    `own_keys` are the settings that only some models have. `pool`: a client waits until one of `workers` threads is
    free. `thread_per_client`: every open connection takes a thread. `selects`: the model watches descriptors with
    select(2). `patches`: its module changes the standard library, and must do so before that is used. `library` is a
    package that it imports, installed by the extra of its name. `probe` is the module whose `unavailable(settings)`
    tells whether this machine has what the model needs beyond this package. `parts` are the compose services that it
    needs beside its own. `descriptors` is how many a server needs to serve one client and one scrape (measured: 9 to
    19, the most with uvloop), and some to spare.
    """

    slug: str
    port: int
    summary: str
    own_keys: tuple[str, ...] = ()
    pool: bool = False
    thread_per_client: bool = False
    selects: bool = False
    patches: bool = False
    library: str = ""
    probe: str = ""
    parts: tuple[str, ...] = ()
    descriptors: int = 24

    @property
    def forks(self) -> bool:
        """Whether it serves in several processes, started by a supervisor: services/iolab/processes."""
        return "processes" in self.own_keys

    @property
    def service(self) -> str:
        """The name of the compose service, which is also the host name on the Docker network."""
        return self.slug.replace("_", "-")

    @property
    def environment_prefix(self) -> str:
        """The prefix of this model's variables in compose's environment, as in EPOLL_LOOP_PORT."""
        return self.slug.upper()

    def patch(self) -> None:
        """Let the module patch the standard library, if the model `patches`."""
        if self.patches:
            import_module(f"iolab.models.{self.slug}").patch()

    def load(self) -> Callable[[Server], None]:
        """Import the model's module and return its `serve`."""
        serve: Callable[[Server], None] = import_module(f"iolab.models.{self.slug}").serve
        return serve

    def not_installed(self) -> str | None:
        """One line that says that its library is missing and how to install it; None if it is there."""
        if not self.library or find_spec(self.library):
            return None
        return f"{self.library} is not installed; pip install 'iolab[{self.service}]'"

    def unavailable(self, settings: Settings) -> str | None:
        """Why this machine cannot run the model and what to do about it, in one line; None if it can."""
        if (reason := self.not_installed()) or not self.probe:
            return reason
        unavailable: Callable[[Settings], str | None] = import_module(self.probe).unavailable
        return unavailable(settings)


MODELS = {
    model.slug: model
    for model in (
        Model(
            slug="blocking_pool",
            port=8001,
            summary="a thread per client out of a pool, each blocked in recv(2)",
            own_keys=("workers",),
            pool=True,
        ),
        Model(
            slug="busy_poll",
            port=8002,
            summary="a pool of threads that never wait, but ask again and again",
            own_keys=("workers",),
            pool=True,
        ),
        Model(
            slug="select_loop",
            port=8003,
            summary="one thread, select(2) over every socket",
            selects=True,
        ),
        Model(
            slug="epoll_loop",
            port=8004,
            summary="one thread, epoll_wait(2) for those that are ready",
        ),
        Model(
            slug="epoll_pool",
            port=8005,
            summary="epoll_wait(2) in one thread, answers in a pool of threads",
            own_keys=("workers",),
        ),
        Model(
            slug="thread_per_connection",
            port=8006,
            summary="a thread for each client, however many there are",
            thread_per_client=True,
        ),
        Model(
            slug="asyncio_streams",
            port=8007,
            summary="a coroutine for each client, on the loop of asyncio or of libuv",
            own_keys=("loop",),
        ),
        Model(
            slug="tornado_iostream",
            port=8008,
            summary="several processes, a coroutine for each client",
            own_keys=("processes",),
            library="tornado",
        ),
        Model(
            slug="twisted_reactor",
            port=8009,
            summary="one thread, a reactor that calls each client's protocol back",
            library="twisted",
        ),
        Model(
            slug="gevent_greenlets",
            port=8010,
            summary="a greenlet for each client, on sockets that only seem to block",
            patches=True,
            library="gevent",
        ),
        Model(
            slug="prefork_epoll",
            port=8011,
            summary="several processes, an epoll_loop in each",
            own_keys=("processes", "accept"),
        ),
        Model(
            slug="io_uring_ring",
            port=8012,
            summary="one thread, io_uring_enter(2) for what the kernel has accepted, received and sent",
            own_keys=("buffers",),
            probe="iolab.kernel.io_uring_probe",
        ),
        Model(
            slug="task_queue",
            port=8013,
            summary="a thread for each client, answers by workers behind a broker",
            own_keys=("broker_url", "broker_password_file", "broker_seconds", "visibility_timeout"),
            thread_per_client=True,
            library="celery",
            probe="iolab.task_queue.address",
            parts=("task-broker", "task-worker"),
            # Its own broker reserves 32, and has 6 connections.
            descriptors=48,
        ),
        Model(
            slug="poll_loop",
            port=8014,
            summary="one thread, poll(2) over every socket",
        ),
    )
}

# The server that tests clients: docs/misbehave.md, misbehave/. It is no model.
MISBEHAVE = Model(
    slug="misbehave",
    port=8020,
    summary="a thread for each client, which does what a script says",
    thread_per_client=True,
)

# What the models are measured against: no model, and in no list of them. Of the contract it keeps only the echo, and
# it has no YAML file; yardstick.c, yardstick.py.
YARDSTICK = Model(slug="yardstick", port=8000, summary="one thread, epoll_wait(2), in C")


def find(slug: str) -> Model:
    """The model of that name, in either spelling (`epoll_loop`, `epoll-loop`).

    Raises KeyError, which lists the models.
    """
    model = MODELS.get(slug.replace("-", "_"))
    if model is None:
        raise KeyError(f"no model is called {slug!r}; there are: {', '.join(MODELS)}")
    return model

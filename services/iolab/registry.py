"""Which models there are: the one list that commands, configs, compose, docs and tests are held to.

Nothing here imports a model: a framework is loaded only by the server that runs on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iolab.server import Server


@dataclass(frozen=True, kw_only=True)
class Model:
    """One way to wait.

    `own_keys` are the settings that only some models have. `pool` says that a client waits until one of `workers`
    threads is free to begin with it; `thread_per_client` that every open connection takes a thread.
    """

    slug: str
    port: int
    summary: str
    own_keys: tuple[str, ...] = ()
    pool: bool = False
    thread_per_client: bool = False
    selects: bool = False

    @property
    def service(self) -> str:
        """The name of the compose service, and so the host name on the Docker network."""
        return self.slug.replace("_", "-")

    @property
    def environment_prefix(self) -> str:
        """How this model's variables begin in compose's environment: EPOLL_LOOP_PORT."""
        return self.slug.upper()

    def load(self) -> Callable[[Server], None]:
        """Import the model's module and return its `serve`."""
        serve: Callable[[Server], None] = import_module(f"iolab.models.{self.slug}").serve
        return serve


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
            own_keys=("selector",),
        ),
        Model(
            slug="epoll_pool",
            port=8005,
            summary="epoll_wait(2) in one thread, answers in a pool of threads",
            own_keys=("workers",),
        ),
    )
}


def find(slug: str) -> Model:
    """The model of that name, in either spelling (`epoll_loop`, `epoll-loop`).

    Raises KeyError with the names there are.
    """
    model = MODELS.get(slug.replace("-", "_"))
    if model is None:
        raise KeyError(f"no model is called {slug!r}; there are: {', '.join(MODELS)}")
    return model

"""pytest fixtures for tests of whatever speaks TCP: servers that answer exactly, and servers that misbehave on command.

docs/pytest.md says how they are used. pytest loads this in every project that has iolab installed, so that nothing is
imported here, nor in `plugin`, before a fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from iolab_pytest.servers import MisbehavingServer, ModelServer

# Plain processes of this machine, or containers of the image `iolab`.
Backend = Literal["process", "docker"]


class ServerFactory(Protocol):
    """What the fixture `iolab_server` is."""

    def __call__(self, model: str = "epoll_loop", *, backend: Backend = "process", **settings: Any) -> ModelServer:
        """A server of that model with these settings, shared with all who ask for the same in this session.

        Settings are the keys of configs/: `iolab_server("epoll_pool", workers=2, work={"wait_ms": 10})`. Raises
        CannotStart.
        """


class MisbehavingFactory(Protocol):
    """What the fixture `iolab_misbehaving` is."""

    def __call__(
        self,
        script: str = "answer",
        *,
        message_bytes: int | None = None,
        seed: int | None = None,
        backend: Backend = "process",
    ) -> MisbehavingServer:
        """A server that does on each connection what the script says (docs/misbehave.md), from its beginning.

        It is shared with all who ask for the same in this session. `message_bytes` is how long a message is; None: what
        one read takes. Raises CannotStart.
        """


class CannotStart(Exception):
    """A server that does not start. The message is one line, the server's own where it has said one."""

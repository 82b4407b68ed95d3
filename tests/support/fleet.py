"""Servers that tests share, and servers that one test has to itself."""

from __future__ import annotations

import json
from typing import Any

from iolab.registry import Model
from tests.support.models import Variant
from tests.support.server import RunningServer, Target
from tests.support.waiting import eventually

# Shared servers that are alive at the same time. Each one that polls takes a processor.
ALIVE = 4
ALIVE_POLLING = 1


class Fleet:
    """A target's shared servers, one for each model and settings, the least recently used ended first."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._shared: dict[str, RunningServer] = {}

    def share(self, model: Model, settings: dict[str, Any]) -> RunningServer:
        """A running server with these settings, started if there is none."""
        key = json.dumps([model.slug, settings], sort_keys=True)
        server = self._shared.pop(key, None)
        if server is None or server.exit_code() is not None:
            self._make_room(model)
            server = self.target.start(model, settings)
        self._shared[key] = server
        return server

    def start(self, model: Model, settings: dict[str, Any]) -> RunningServer:
        """A server that is not shared."""
        self._end_others(model)
        return self.target.start(model, settings)

    def forget(self, server: RunningServer) -> None:
        """End a shared server that a test left in disorder."""
        self._shared = {key: other for key, other in self._shared.items() if other is not server}
        server.remove()

    def _make_room(self, model: Model) -> None:
        self._end_others(model)
        most = ALIVE_POLLING if model.slug == "busy_poll" else ALIVE
        while len(self._shared) >= most:
            self._shared.pop(next(iter(self._shared))).remove()

    def _end_others(self, model: Model) -> None:
        """End those of other models, whose turn is over: a busy one would take the processor from the rest."""
        for key, server in list(self._shared.items()):
            if server.model is not model:
                del self._shared[key]
                server.remove()

    def end_shared(self) -> None:
        """End those that are shared; who asks for one then has it started anew."""
        while self._shared:
            self._shared.popitem()[1].remove()

    def close(self) -> None:
        """End all."""
        try:
            self.end_shared()
        finally:
            self.target.close()


class Lab:
    """One test's servers of one model."""

    def __init__(self, fleet: Fleet, variant: Variant) -> None:
        self.variant = variant
        self.model = variant.model
        self.used: list[RunningServer] = []
        self._fleet = fleet
        self._own: list[RunningServer] = []

    @property
    def target(self) -> Target:
        """Where the servers run: for a test that starts one by itself, and has it adopted."""
        return self._fleet.target

    def start(self, **settings: Any) -> RunningServer:
        """A server for this test only, listening."""
        server = self.adopt(self._fleet.start(self.model, self._with_room(settings)))
        assert server.listening
        return server

    def start_alone(self, **settings: Any) -> RunningServer:
        """The same with a network, a container where that is the target, that ends when the server does."""
        server = self.adopt(self.target.start_alone(self.model, self._with_room(settings)))
        assert server.listening
        return server

    def share(self, **settings: Any) -> RunningServer:
        """A server that other tests use too, listening, with nobody connected."""
        server = self._fleet.share(self.model, self._with_room(settings))
        if server not in self.used:
            self.used.append(server)
        assert server.listening
        return server

    def adopt(self, server: RunningServer) -> RunningServer:
        """Have a server that the test started by itself ended with it."""
        self._own.append(server)
        self.used.append(server)
        return server

    def _with_room(self, settings: dict[str, Any]) -> dict[str, Any]:
        """A pool that is larger than what tests connect, several processes, unless the test is about their number."""
        usual = {"workers": 16, "processes": 2}
        usual = {key: value for key, value in usual.items() if key in self.model.own_keys}
        return {**usual, **self.variant.settings, **settings}

    def close(self) -> None:
        """Close the clients, end the test's own servers, and see that nobody was left in the shared ones."""
        for server in self.used:
            server.close_clients()
        complaints = []
        for server in self.used:
            if server in self._own:
                errors = server.errors()
                server.remove()
            else:
                errors = self._disorder(server)
            if errors:
                complaints.append(errors)
        assert not complaints, "\n".join(complaints)

    def _disorder(self, server: RunningServer) -> str:
        try:
            eventually(lambda: server.metric("connections_open") == 0, "everyone has left the shared server")
            return server.errors()
        except (AssertionError, OSError) as error:
            self._fleet.forget(server)
            return str(error)

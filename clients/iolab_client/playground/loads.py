"""A load with bounds, by the generator of `iolab-client load`; its result has its verdict."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import click

from iolab_client import load
from iolab_client.playground.opened import Thing
from iolab_client.results.measurement import Measurement, Plan, Size
from iolab_client.servers.targets import Target

WARMUP_SECONDS = 0.5
# Beside a page that looks at all servers nothing is measured to be published.
ANSWER_SECONDS = 10.0


class Load(Thing):
    """A load that runs, or has run."""

    kind = "load"

    def __init__(self, page: str, target: Target, connections: int, size: int, seconds: int) -> None:
        super().__init__(page, target.name, connections)
        self._target = target
        self._plan = Plan(
            connections=connections,
            sizes=(Size(size=size),),
            duration_seconds=float(seconds),
            warmup_seconds=WARMUP_SECONDS,
            timeout_seconds=ANSWER_SECONDS,
        )
        self._progress: load.Progress | None = None
        self._result: Measurement | None = None
        self._failure = ""
        self._cut = False
        self._running = asyncio.create_task(self._run())

    @property
    def runs(self) -> bool:
        """Whether it is not over."""
        return not self._running.done()

    def text(self) -> str:
        """As Thing."""
        plan = self._plan
        what = f"load: {plan.connections} connections, {plan.sizes[0].size} bytes each"
        if self._failure:
            return f"{what}; failed: {self._failure}"
        if (result := self._result) is not None:
            return f"{what}; {result.rate:,.0f} answers/s; {result.verdict.word}: {result.verdict.reason}"
        if (now := self._progress) is not None and now.phase == "measuring":
            return f"{what}; {now.seconds:.0f} of {now.of_seconds:.0f} s, {now.rate:,.0f} answers/s"
        return f"{what}; {now.phase if now else 'starting'}"

    def more(self) -> dict[str, Any]:
        """As Thing."""
        if (result := self._result) is None:
            return {"running": self.runs}
        server = result.server
        return {
            "running": False,
            "result": {
                "verdict": result.verdict.word,
                "reason": result.verdict.reason,
                "rate": result.rate,
                "answers": result.answers,
                "p50_us": result.latency.p50,
                "p99_us": result.latency.p99,
                "answered_connections": result.answered_connections,
                "cost_us": server.cost if server else None,
                "busy": server.busy if server else None,
            },
        }

    async def end(self) -> None:
        """As Thing. The generator's processes are told to stop, and waited for."""
        self._cut = True
        await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            self._result = await asyncio.to_thread(self._conduct)
        except click.ClickException as error:
            self._failure = error.message
        self.connections = 0

    def _conduct(self) -> Measurement | None:
        """All of it, in a thread of its own."""
        with contextlib.suppress(KeyboardInterrupt):
            return load.run(self._target, self._plan, self._tell)
        return None

    def _tell(self, progress: load.Progress) -> None:
        self._progress = progress
        if self._cut:
            # Once: what follows is its own end. It is how a load ends before its time, as by Ctrl-C.
            self._cut = False
            raise KeyboardInterrupt

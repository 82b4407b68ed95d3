"""Changes to a running server by its admin port, allowed only by the setting `hands_on`.

PUT /work {"wait_ms": 100, "cpu_us": 0} turns the work dial; PUT /kill {"pid": 12} ends a serving process.
"""

from __future__ import annotations

import os
import signal

import msgspec

from iolab import log
from iolab.configs import check_work
from iolab.observe.http import Page, text
from iolab.server.server import Server
from iolab.settings import BadSetting, WorkDial, one_line

# How much of an error about a bad request is shown.
MOST_CHARACTERS = 200


class Kill(msgspec.Struct, forbid_unknown_fields=True):
    """Which process to end."""

    pid: int


class HandsOn:
    """Handles what is sent to one server's admin port."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def receive(self, path: str, body: bytes) -> Page:
        """Do what is asked and log it, or answer in one line why not."""
        try:
            match path:
                case "/work":
                    return self._turn(msgspec.json.decode(body, type=WorkDial))
                case "/kill":
                    return self._kill(msgspec.json.decode(body, type=Kill).pid)
        except (msgspec.MsgspecError, BadSetting, ValueError) as error:
            return text(400, f"{path}: {one_line(str(error))[:MOST_CHARACTERS]}")
        return text(404, f"nothing is taken at {one_line(path)[:MOST_CHARACTERS]}; there are: /work, /kill")

    def _turn(self, dial: WorkDial) -> Page:
        server = self._server
        # The number of computing threads is fixed at the start.
        dial = msgspec.structs.replace(dial, threads=server.settings.work.threads)
        check_work(server.settings, server.model, dial, "work")
        server.turn(dial)
        log.info("work", wait_ms=dial.wait_ms, cpu_us=dial.cpu_us)
        return Page(200, "application/json", msgspec.json.encode(dial) + b"\n")

    def _kill(self, pid: int) -> Page:
        serving = self._server.processes()[1:]
        if pid not in serving:
            there = f"there are {', '.join(map(str, serving))}" if serving else "this model has one process"
            return text(400, f"/kill: pid: got {pid}, which is no serving process; {there}")
        os.kill(pid, signal.SIGKILL)
        log.warning("killed", pid=pid)
        return Page(200, "application/json", msgspec.json.encode({"killed": pid}) + b"\n")

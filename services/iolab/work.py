"""Ring 0, the work: what the server does with bytes. No socket, no thread, no loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

Respond = Callable[[bytes], bytes]

# Makes the answers when the work dial is 0; others compare with it by identity. ASCII only, whatever the locale.
AT_ONCE: Respond = bytes.upper


def compute() -> NoReturn:
    """Compute for ever without waiting: other threads run only by the interpreter's switch interval."""
    while True:
        pass


class NoAnswer(Exception):
    """There is no answer to be had: the connection ends, and the log gives this message as the reason."""


class Work:
    """Answers bytes with the same bytes, ASCII a-z made A-Z and every other value untouched.

    Each answer may cost something: `respond` burns `cpu_us` (microseconds of processor time); `wait_ms` is left to the
    caller as `wait_seconds`, since waiting is what the models differ in. An upper-cased byte depends on no other, so it
    does not matter how the stream is cut into reads.
    """

    def __init__(self, *, cpu_us: int = 0, wait_ms: int = 0) -> None:
        self.turn(cpu_us=cpu_us, wait_ms=wait_ms)

    def turn(self, *, cpu_us: int, wait_ms: int) -> None:
        """Make answers cost this from now on."""
        self.wait_seconds = wait_ms / 1000
        self._cpu_ns = cpu_us * 1000
        self.respond: Respond = self._burn_and_respond if cpu_us else AT_ONCE

    def answer(self, sleep: Callable[[float], object]) -> Respond:
        """`respond`, after the dial's wait, which `sleep` (given seconds) does."""
        if not self.wait_seconds:
            return self.respond

        def wait_and_respond(data: bytes) -> bytes:
            sleep(self.wait_seconds)
            return self.respond(data)

        return wait_and_respond

    def _burn_and_respond(self, data: bytes) -> bytes:
        # The thread's own clock: processor time of other threads does not count as this answer's work.
        end = time.thread_time_ns() + self._cpu_ns
        while time.thread_time_ns() < end:
            pass
        return data.upper()

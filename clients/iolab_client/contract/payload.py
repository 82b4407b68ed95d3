"""What is sent, what must come back, and where the two differ."""

from __future__ import annotations

import random

from iolab_client.results.measurement import NONE, SAME, UPPER

ALL_BYTES = bytes(range(256))
# Spelled out instead of bytes.upper(), which the servers use: an oracle must not share their mistakes.
_UPPER = bytes(byte - 32 if ord("a") <= byte <= ord("z") else byte for byte in range(256))


def make(size_bytes: int, seed: int | str = 0) -> bytes:
    """Random bytes, so that a lost or exchanged piece shows; the same seed makes the same ones."""
    return random.Random(seed).randbytes(size_bytes)


class Oracle:
    """Knows what a server owes for what it is sent; `expect` is a plan's: upper, same, none or a hexadecimal table.

    A server makes each byte into one byte, which depends on no other, so it does not matter how a stream is split.
    """

    def __init__(self, expect: str = UPPER) -> None:
        # Whether it knows the bytes that are due, and not only their number.
        self.knows_bytes = expect != NONE
        self._table = None if expect in (SAME, NONE) else _UPPER if expect == UPPER else bytes.fromhex(expect)

    def answer(self, data: bytes) -> bytes:
        """What is due for `data`; if the bytes are not known, any of that number."""
        return data.translate(self._table) if self._table else data

    def difference(self, got: bytes, sent: bytes) -> str | None:
        """The first place where `got` is not what is due for `sent`, in words; None if they are equal."""
        due = self.answer(sent)
        # If the bytes are not known, only their number is compared.
        return difference(got, due if self.knows_bytes else got[: len(due)] + due[len(got) :])


# The oracle of the contract.
UPPER_CASE = Oracle()


def answer(data: bytes) -> bytes:
    """What a server owes for `data` by the contract: ASCII a-z made A-Z, every other byte untouched."""
    return UPPER_CASE.answer(data)


def difference(got: bytes, expected: bytes) -> str | None:
    """The first place where `got` is not `expected`, in words; None if they are equal."""
    if got == expected:
        return None
    for position, (byte, due) in enumerate(zip(got, expected, strict=False)):
        if byte != due:
            return f"byte {position} of {len(expected)} is 0x{byte:02x}, expected 0x{due:02x}"
    if len(got) < len(expected):
        return f"ended after {len(got)} of {len(expected)} bytes"
    return f"{len(got) - len(expected)} bytes more than the {len(expected)} expected"

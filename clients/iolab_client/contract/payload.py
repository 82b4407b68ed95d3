"""What is sent, what must come back, and where the two differ."""

from __future__ import annotations

import random

ALL_BYTES = bytes(range(256))
# Spelled out instead of bytes.upper(), which the servers may use: an oracle must not share their mistake.
_UPPER = bytes(byte - 32 if ord("a") <= byte <= ord("z") else byte for byte in range(256))


def make(size_bytes: int, seed: int | str = 0) -> bytes:
    """Bytes of this seed alone, the same each time: random, so that a lost or exchanged piece shows."""
    return random.Random(seed).randbytes(size_bytes)


def answer(data: bytes) -> bytes:
    """What a server owes for `data`: ASCII a-z made A-Z, every other byte untouched."""
    return data.translate(_UPPER)


def difference(got: bytes, expected: bytes) -> str | None:
    """The first place where `got` is not `expected`, in words; None where they are equal."""
    if got == expected:
        return None
    for position, (byte, due) in enumerate(zip(got, expected, strict=False)):
        if byte != due:
            return f"byte {position} of {len(expected)} is 0x{byte:02x}, expected 0x{due:02x}"
    if len(got) < len(expected):
        return f"ended after {len(got)} of {len(expected)} bytes"
    return f"{len(got) - len(expected)} bytes more than the {len(expected)} expected"

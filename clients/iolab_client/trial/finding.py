"""What is found of a claim: one of four words, and why."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

HOLDS: Final = "HOLDS"
FAILS: Final = "FAILS"
DEPENDS: Final = "DEPENDS"
CANNOT_TELL: Final = "CANNOT TELL"
Word = Literal["HOLDS", "FAILS", "DEPENDS", "CANNOT TELL"]
WORDS: tuple[Word, ...] = (HOLDS, FAILS, DEPENDS, CANNOT_TELL)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The word, and a paragraph with the numbers and the reason. `flip`: of DEPENDS, where it turns."""

    word: Word
    why: str
    flip: str = ""


class Missing(Exception):
    """What an experiment needs and this machine does not have. The message is one line, with the remedy."""


def found(holds: bool | None, why: str, *, flip: str = "") -> Finding:
    """HOLDS or FAILS; None is CANNOT TELL, and a flip point is DEPENDS."""
    if flip:
        return Finding(word=DEPENDS, why=why, flip=flip)
    return Finding(word=CANNOT_TELL if holds is None else HOLDS if holds else FAILS, why=why)

"""The language of scripts that make a server misbehave; docs/misbehave.md explains it to users.

    scripts = script { "|" script }          one for each connection, in turn
    script  = clause { ";" clause }          one clause after the other, on one connection
    clause  = [ PERCENT "%:" ] verb          done with that probability; without it, always

No socket is here: a text becomes a tuple of scripts, or one line that says where it is wrong and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True)
class Reply:
    """Answer this many messages as they come; None: all, until the client's FIN."""

    messages: int | None = None


@dataclass(frozen=True)
class Ignore:
    """Read this many messages, and answer none of them."""

    messages: int = 1


@dataclass(frozen=True)
class Wait:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Drip:
    """Answer the next message in pieces of `size` bytes, each after a wait."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Corrupt:
    """Answer the next message with one bit wrong in the byte at offset `at`."""

    at: int = 0


@dataclass(frozen=True)
class Double:
    """Answer the next message twice."""


@dataclass(frozen=True)
class Swap:
    """Answer the next two messages, the second one first."""


@dataclass(frozen=True)
class Cut:
    """Answer the first `size` bytes of the next message, and close."""

    size: int


@dataclass(frozen=True)
class Fin:
    """Send FIN, and go on reading until the client's."""


@dataclass(frozen=True)
class Reset:
    """End the connection with RST."""


@dataclass(frozen=True)
class Close:
    """Close the connection."""


@dataclass(frozen=True)
class NeverAccept:
    """Leave the connection, and all that come after it, in the accept queue."""


@dataclass(frozen=True)
class NeverRead:
    """Read nothing any more, and leave the connection open."""


@dataclass(frozen=True)
class NeverAnswer:
    """Read all that comes and answer nothing, until the client's FIN."""


@dataclass(frozen=True)
class Banner:
    """Send bytes that the client has not asked for."""

    data: bytes


@dataclass(frozen=True)
class Repeat:
    """Begin the script anew."""


Verb = (
    Reply
    | Ignore
    | Wait
    | Drip
    | Corrupt
    | Double
    | Swap
    | Cut
    | Fin
    | Reset
    | Close
    | NeverAccept
    | NeverRead
    | NeverAnswer
    | Banner
    | Repeat
)
# Nothing can follow these on a connection.
LAST = (Cut, Fin, Reset, Close, NeverAccept, NeverRead, NeverAnswer, Repeat)
# A repeated script without one of these would never learn that its client has gone.
TALKS = (Reply, Ignore, Drip, Corrupt, Double, Swap, Banner)


@dataclass(frozen=True)
class Clause:
    """A verb, and the probability in percent with which it is done."""

    verb: Verb
    percent: float = 100


Script = tuple[Clause, ...]


class BadScript(Exception):
    """A script that cannot be parsed. The message is one line: the place, what is there, what was expected."""


VERBS = (
    "answer [N], ignore [N], wait TIME, drip SIZE every TIME, corrupt [AT], double, swap, cut N, fin, reset, close, "
    "never-accept, never-read, never-answer, banner TEXT, repeat"
)
MOST_SECONDS = 24 * 60 * 60
MOST_BYTES = 1 << 30
MOST_MESSAGES = 1_000_000_000

_SPACE = re.compile(r"\s*")
# At most this many digits, which is more than any valid number has.
_PERCENT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*%\s*:")
_WORD = re.compile(r"[^\s;|]+")
_END = re.compile(r"[;|]|\Z")
_COUNT = re.compile(r"\d{1,12}")
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB)?", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r"[^;|]+")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\", '"': b'"'}
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def parse(text: str, message_bytes: int | None = None) -> tuple[Script, ...]:
    """The scripts of a text; messages have `message_bytes`, if that is given. Raises BadScript."""
    return _Parser(text, message_bytes).scripts()


class _Parser:
    """A text, and the place up to which it is parsed."""

    def __init__(self, text: str, message_bytes: int | None) -> None:
        self._text = text
        self._place = 0
        self._message_bytes = message_bytes
        self._verbs: dict[str, Callable[[], Verb]] = {
            "answer": lambda: Reply(self._maybe(self._messages)),
            "ignore": lambda: Ignore(1 if (count := self._maybe(self._messages)) is None else count),
            "wait": lambda: Wait(self._time()),
            "drip": self._drip,
            "corrupt": lambda: Corrupt(self._maybe(self._offset) or 0),
            "double": Double,
            "swap": Swap,
            "cut": lambda: Cut(self._part()),
            "fin": Fin,
            "reset": Reset,
            "close": Close,
            "never-accept": NeverAccept,
            "never-read": NeverRead,
            "never-answer": NeverAnswer,
            "banner": lambda: Banner(self._data()),
            "repeat": Repeat,
        }

    def scripts(self) -> tuple[Script, ...]:
        """Parse the whole text."""
        found = [self._script()]
        while self._takes("|"):
            found.append(self._script())
        return tuple(found)

    def _script(self) -> Script:
        place = self._skip()
        clauses = [self._clause()]
        if isinstance(clauses[0].verb, Repeat):
            self._fail(place, "a clause before repeat")
        while self._takes(";"):
            place = self._skip()
            # The last clause may be followed by a semicolon, as in a shell.
            if self._text[place : place + 1] in ("", "|"):
                break
            before = clauses[-1]
            if isinstance(before.verb, LAST) and before.percent == 100:
                self._fail(place, "'|' or the end: nothing can follow the previous clause")
            clause = self._clause()
            if isinstance(clause.verb, NeverAccept):
                self._fail(place, "never-accept as the only clause: the connection is accepted by then")
            clauses.append(clause)
            if isinstance(clause.verb, Repeat) and not any(isinstance(one.verb, TALKS) for one in clauses):
                self._fail(place, "a clause that reads or sends something before repeat")
        return tuple(clauses)

    def _clause(self) -> Clause:
        place = self._skip()
        percent = 100.0
        if found := _PERCENT.match(self._text, place):
            percent = float(found[1])
            if not 0 < percent <= 100:
                self._fail(place, "a percentage above 0 and up to 100")
            place = self._place = found.end()
            place = self._skip()
        name = self._match(_WORD)
        if name is None or name[0] not in self._verbs:
            self._fail(place, f"a verb: {VERBS}")
        verb = self._verbs[name[0]]()
        if isinstance(verb, NeverAccept) and percent != 100:
            self._fail(place, "never-accept without a percentage")
        end = self._skip()
        if not _END.match(self._text, end):
            self._fail(end, "';', '|' or the end")
        return Clause(verb, percent)

    def _drip(self) -> Drip:
        size = self._size()
        place = self._skip()
        word = self._match(_WORD)
        if word is None or word[0] != "every":
            self._fail(place, "'every' and a time: drip 1 every 10ms")
        return Drip(size, self._time())

    def _maybe(self, read: Callable[[], int]) -> int | None:
        """An argument that may be left out."""
        return None if _END.match(self._text, self._skip()) else read()

    def _messages(self) -> int:
        return self._number(_COUNT, 1, MOST_MESSAGES, "a number of messages")

    def _offset(self) -> int:
        most = MOST_BYTES if self._message_bytes is None else self._message_bytes - 1
        return self._number(_SIZE, 0, most, "a place in the answer, counted from 0")

    def _part(self) -> int:
        most = MOST_BYTES if self._message_bytes is None else self._message_bytes - 1
        return self._number(_SIZE, 1, most, "a number of bytes, less than an answer has")

    def _size(self) -> int:
        return self._number(_SIZE, 1, MOST_BYTES, "a size: 1, 512B, 64KiB or 1MiB")

    def _number(self, form: re.Pattern[str], least: int, most: int, what: str) -> int:
        place = self._skip()
        found = self._match(form)
        if found is None or not self._at_end_of_word():
            self._fail(place, what)
        unit = found[2] if form is _SIZE else None
        number = int(found[1] if form is _SIZE else found[0]) * _UNITS[(unit or "B").lower()]
        if not least <= number <= most:
            self._fail(place, f"{what}, from {least} to {most}")
        return number

    def _time(self) -> float:
        place = self._skip()
        found = self._match(_TIME)
        if found is None or found[2] is None or not self._at_end_of_word():
            self._fail(place, "a time with its unit: 100ms, 1.5s or 2m")
        seconds = float(found[1]) * _SECONDS[found[2]]
        if not 0 < seconds <= MOST_SECONDS:
            self._fail(place, "a time above 0 and up to a day")
        return seconds

    def _data(self) -> bytes:
        place = self._skip()
        if quoted := self._match(_QUOTED):
            return self._unescaped(quoted)
        bare = self._match(_BARE)
        if bare is None or bare[0].startswith('"'):
            self._fail(place, r'a text, such as hello or "220 ready; go on\r\n"')
        return bare[0].strip().encode(errors="surrogateescape")

    def _unescaped(self, quoted: re.Match[str]) -> bytes:
        data = b""
        place = begin = quoted.start(1)
        for escape in _ESCAPE.finditer(self._text, begin, quoted.end(1)):
            data += self._text[place : escape.start()].encode(errors="surrogateescape")
            place = escape.end()
            code = escape[1]
            if len(code) == 3:
                data += bytes.fromhex(code[1:])
            elif code in _ESCAPES:
                data += _ESCAPES[code]
            else:
                self._fail(escape.start(), r"one of \n \r \t \0 \\ \" \xHH")
        return data + self._text[place : quoted.end(1)].encode(errors="surrogateescape")

    def _skip(self) -> int:
        """Skip white space; return the place after it."""
        self._match(_SPACE)
        return self._place

    def _takes(self, separator: str) -> bool:
        """Whether `separator` comes next; if so, skip it."""
        found = self._text.startswith(separator, self._skip())
        self._place += found
        return found

    def _match(self, form: re.Pattern[str]) -> re.Match[str] | None:
        found = form.match(self._text, self._place)
        if found:
            self._place = found.end()
        return found

    def _at_end_of_word(self) -> bool:
        return not _WORD.match(self._text, self._place)

    def _fail(self, place: int, expected: str) -> NoReturn:
        word = _WORD.match(self._text, place)
        there = ascii(word[0][:40]) if word else ascii(self._text[place : place + 1]) if place < len(self._text) else ""
        raise BadScript(f"script, character {place + 1}: got {there or 'the end'}, expected {expected}")

"""The text that `strace -f -ttt -T` writes, as calls. Reads text only: no process, no clock.

A line is `THREAD SECONDS rest`, the rest one of

    name(arguments) = result <seconds>               a call from its entry to its return
    name(arguments <unfinished ...>                  its first half, where another thread's line comes between
    <... name resumed>arguments) = result <seconds>  its second half
    restart_syscall(<... resuming interrupted name ...>) = result <seconds>
    --- SIGNAL {...} ---                             a signal that arrives
    +++ exited with 0 +++                            the thread's end; also `killed by`, `superseded by execve in pid`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

LINE = re.compile(r"(\d+) +(\d+\.\d+) (.+)")
WHOLE = re.compile(r"(\w+)\((.*)\) += (.+?)(?: <(\d+\.\d+)>)?")
FIRST_HALF = re.compile(r"(\w+)\((.*?)\s*<(?:unfinished|detached) \.\.\.>")
SECOND_HALF = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
# What is left of a call after its name: the last `) = `, because a string among the arguments may hold one, too.
REST = re.compile(r"(.*)\) += (.+?)(?: <(\d+\.\d+)>)?")
RESUMING = re.compile(r"<\.\.\. resuming interrupted (\w+) \.\.\.>")
SIGNAL = re.compile(r"--- (SIG\w+) .*---|--- stopped by (SIG\w+) ---")
END = re.compile(r"\+\+\+ (.+) \+\+\+")
MAKES_TASKS = frozenset({"clone", "clone3", "fork", "vfork"})
# A thread names itself, through its file in /proc or by prctl(2).
COMM_WRITTEN = re.compile(r'\d+<[^>]*/task/(\d+)/comm>, "((?:[^"\\]|\\.)*)"')
NAME_SET = re.compile(r'PR_SET_NAME, "((?:[^"\\]|\\.)*)"')
PROGRAM = re.compile(r'"((?:[^"\\]|\\.)*)"')
# As the kernel cuts it: TASK_COMM_LEN.
NAME_BYTES = 15
NOT_RETURNED = "?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One system call of one thread. Seconds since the epoch; a call that never returned ends with the record."""

    thread: int
    name: str
    arguments: str
    result: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start

    @property
    def number(self) -> int | None:
        """The number that it returned; None if there is none."""
        found = re.match(r"-?\d+", self.result)
        return int(found[0]) if found else None

    @property
    def failed(self) -> bool:
        """Whether it returned an error, EAGAIN among them."""
        return self.result.startswith("-1 ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A signal that a thread took."""

    thread: int
    name: str
    moment: float


@dataclass(kw_only=True)
class Strace:
    """What a record tells. `processes` has the process of each thread, by whose number it goes."""

    calls: list[Call] = field(default_factory=list)
    signals: list[Arrival] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    processes: dict[int, int] = field(default_factory=dict)
    # When the record first and last has something of a thread; `ends` has those only that ended.
    begins: dict[int, float] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Half:
    name: str
    arguments: str
    start: float


def parse(lines: Iterable[str], known: Strace | None = None) -> Strace:
    """The calls of a record, by their entry. What is no line of strace's, or was cut, is passed over.

    `known` has the names and processes of the threads that were there before the record began.
    """
    found = known or Strace()
    halves: dict[int, _Half] = {}
    last = 0.0
    for line in lines:
        parts = LINE.fullmatch(line.rstrip("\n"))
        if not parts:
            continue
        thread, moment, rest = int(parts[1]), float(parts[2]), parts[3]
        last = max(last, moment)
        found.begins.setdefault(thread, moment)
        if signal := SIGNAL.fullmatch(rest):
            found.signals.append(Arrival(thread=thread, name=signal[1] or signal[2], moment=moment))
        elif END.fullmatch(rest):
            found.ends[thread] = moment
            if half := halves.pop(thread, None):
                found.calls.append(_call(thread, half, half.arguments, NOT_RETURNED, moment))
        elif second := SECOND_HALF.fullmatch(rest):
            # Of a call that was entered before the record began nothing is known but its end.
            half = halves.pop(thread, None) or _Half(second[1], "", moment)
            if whole := REST.fullmatch(second[2]):
                end = half.start + float(whole[3]) if whole[3] else moment
                arguments = half.arguments + whole[1].removesuffix(" <unfinished ...>")
                found.calls.append(_call(thread, half, arguments, whole[2], max(end, half.start)))
            else:
                # Cut again: `<... name resumed>more <unfinished ...>`.
                half.arguments += second[2].partition("<unfinished ...>")[0]
                halves[thread] = half
        elif whole := WHOLE.fullmatch(rest):
            half = _Half(whole[1], whole[2], moment)
            end = moment + float(whole[4]) if whole[4] else moment
            found.calls.append(_call(thread, half, whole[2], whole[3], end))
        elif first := FIRST_HALF.match(rest):
            halves[thread] = _Half(first[1], first[2] + (" " if first[2].endswith(",") else ""), moment)
    found.calls += [_call(thread, half, half.arguments, NOT_RETURNED, last) for thread, half in halves.items()]
    found.calls.sort(key=lambda call: (call.start, call.end))
    _find_families(found)
    _find_names(found)
    return found


def _call(thread: int, half: _Half, arguments: str, result: str, end: float) -> Call:
    """A call that a stop of the tracer's interrupted goes on under its own name."""
    name = half.name
    if name == "restart_syscall" and (resuming := RESUMING.fullmatch(arguments)):
        name, arguments = resuming[1], ""
    return Call(thread=thread, name=name, arguments=arguments.strip(), result=result, start=half.start, end=end)


def _find_families(found: Strace) -> None:
    """Who is a thread of which process: by the calls that made them, in whose order a parent comes before its child."""
    for call in found.calls:
        if call.name in MAKES_TASKS and (child := call.number) is not None and child > 0:
            whole = found.processes.setdefault(call.thread, call.thread)
            found.processes[child] = whole if "CLONE_THREAD" in call.arguments else child
    for thread in found.begins:
        found.processes.setdefault(thread, thread)


def _find_names(found: Strace) -> None:
    """The last name that each thread had: its own, that of the program that it runs, or its parent's."""
    for call in found.calls:
        if call.failed:
            continue
        if call.name in MAKES_TASKS and (child := call.number) is not None:
            if call.thread in found.names:
                found.names.setdefault(child, found.names[call.thread])
        elif call.name == "execve" and (program := PROGRAM.match(call.arguments)):
            found.names[call.thread] = _text(program[1]).rpartition("/")[2][:NAME_BYTES]
        elif call.name == "write" and (written := COMM_WRITTEN.match(call.arguments)):
            found.names[int(written[1])] = _text(written[2])[:NAME_BYTES]
        elif call.name == "prctl" and (given := NAME_SET.match(call.arguments)):
            found.names[call.thread] = _text(given[1])[:NAME_BYTES]


def _text(quoted: str) -> str:
    """What a string of strace's stands for: it is spelled as in C."""
    try:
        return bytes(ast.literal_eval(f'b"{quoted}"')).decode(errors="replace")
    except (SyntaxError, ValueError):
        return quoted

"""Where ptrace is refused, one line says by what, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iolab_client.trace import refusal

# As strace 6.13 prints it where another user, or a filter, is in the way.
ATTACH = "strace: attach: ptrace(PTRACE_SEIZE, 7): Operation not permitted"
TRACEME = "strace: test_ptrace_get_syscall_info: PTRACE_TRACEME: Operation not permitted"


@pytest.mark.parametrize(
    ("scope", "printed", "attached", "remedy"),
    [
        ("1\n", ATTACH, True, "yama (ptrace_scope is 1: children only); as root: sysctl kernel.yama.ptrace_scope=0"),
        ("2\n", TRACEME, False, "yama (ptrace_scope is 2: root only); as root: sysctl kernel.yama.ptrace_scope=1"),
        ("3\n", TRACEME, False, "yama (ptrace_scope is 3): nothing but a restart"),
        ("0\n", ATTACH, True, "the tracer is another user than the server; give both the same uid"),
        ("0\n", f"{TRACEME}\n{ATTACH}", True, "seccomp (a filter is on the tracer)"),
        (None, TRACEME, False, "this user may not trace"),
    ],
)
def test_who_refuses_is_named(
    scope: str | None,
    printed: str,
    attached: bool,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(refusal, "filtered", lambda: False)
    file = tmp_path / "ptrace_scope"
    if scope is not None:
        file.write_text(scope)
    reason = refusal.reason(printed, attached=attached, yama=file)
    assert reason is not None
    assert remedy in reason
    assert "\n" not in reason


def test_a_seccomp_filter_is_named_where_yama_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "filtered", lambda: True)
    reason = refusal.reason(TRACEME, yama=tmp_path / "absent")
    assert reason is not None
    assert "seccomp" in reason


def test_what_strace_complains_of_otherwise_is_no_refusal(tmp_path: Path) -> None:
    assert refusal.reason("strace: Can't stat 'python4': No such file or directory", yama=tmp_path) is None

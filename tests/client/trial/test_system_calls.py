"""What strace counts, as it prints it."""

from __future__ import annotations

import shutil

import pytest

from iolab_client.trial.finding import Missing
from iolab_client.trial.system_calls import counted, parse

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 61.29    0.012345           3      4000           recvfrom
 38.71    0.007799           1      4001        17 sendto
------ ----------- ----------- --------- --------- ------------------
100.00    0.020144           2      8001        17 total
"""


def test_calls_are_read_by_name_with_and_without_errors() -> None:
    assert parse(SUMMARY) == {"recvfrom": 4000, "sendto": 4001}


def test_without_strace_it_is_missing_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Missing, match="apt-get install strace"), counted(1):
        pass

"""Whatever a file of settings holds: it is taken, or refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iolab.configs import load
from iolab.registry import MODELS
from iolab.settings import BadSetting, Settings
from tests.support.compose import CHECKOUT

KEYS = sorted(Settings.__struct_fields__)
NAMED = {
    "a month that is not": "port: 2026-13-45",
    "no digits": "port: 0x_",
    "a tag that lies": "port: !!int abc",
    "a number of 4,301 digits": "port: " + "9" * 4301,
    "three thousand brackets": "cpus: " + "[" * 3000,
    "three thousand brackets, closed": "cpus: " + "[" * 3000 + "]" * 3000,
    "a host of no letters": "host: a..b",
    "half a character": 'host: "\\ud800"',
    "a zero in a host": 'host: "a\\0b"',
    "thirty million seconds": "idle_seconds: 30000000",
    "for ever": "idle_seconds: .inf",
    "not a number": "idle_seconds: .nan",
    "three hundred years": "drain_seconds: 1e10",
    "no time at all": "drain_quiet_seconds: 1e-300",
    "itself": "cpus: &me [*me]",
    "itself below": "work: &me {cpu_us: *me}",
    "a list for a key": "? [1, 2]\n: 3",
    "a line break in a key": '"a\\nb": 1',
    "a megabyte": "host: " + "a" * (1 << 20),
    "many characters": "host: " + "a" * 5000,
    "a terminal's word": 'host: "\\e[2J"',
    "other objects": "port: !!python/object/apply:os.system [true]",
    "bytes": "port: !!binary aGVsbG8=",
    "a set": "cpus: !!set {1, 2}",
    "a huge cpu": "cpus: [99999999999999999999]",
    "base 60": "port: 99:99:99",
}


def outcome(text: str, folder: Path) -> str | None:
    """None if the file is taken, else the line."""
    file = folder / "file.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    return outcome_of(file)


def outcome_of(file: Path) -> str | None:
    """As `outcome`, of a file that is there."""
    try:
        load(MODELS["epoll_loop"], None, file)
    except BadSetting as error:
        return str(error)
    return None


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED.keys())
def test_a_value_that_cannot_be_is_one_line(text: str, tmp_path: Path) -> None:
    line = outcome(text, tmp_path)
    assert line is not None
    assert line.isprintable()
    assert line.startswith(str(tmp_path / "file.yaml"))
    assert "expected" in line
    assert len(line) < 600


scalars = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.text(max_size=20),
    st.sampled_from(
        ["0x_", "!!int abc", "&a [*a]", "{", "[[[", "1e400", "-.inf", ".nan", "~", "\\ud800", "2026-13-45"]
    ),
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=8)), scalars, max_size=4))
def test_made_up_files_are_taken_or_refused_with_one_line(tmp_path: Path, values: dict[str, object]) -> None:
    line = outcome("".join(f"{key}: {value}\n" for key, value in values.items()), tmp_path)
    assert line is None or line.isprintable()


SHIPPED = "".join(file.read_text() for file in sorted((CHECKOUT / "configs").rglob("*.yaml")))


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(SHIPPED)), st.integers(0, 60), st.text(max_size=6))
def test_files_that_were_mangled_are_taken_or_refused_with_one_line(
    tmp_path: Path, begin: int, length: int, put: str
) -> None:
    line = outcome(SHIPPED[max(0, begin - 200) : begin] + put + SHIPPED[begin + length : begin + 200], tmp_path)
    assert line is None or line.isprintable()


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused_with_one_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "bytes.yaml"
    file.write_bytes(data)
    line = outcome_of(file)
    assert line is None or line.isprintable()

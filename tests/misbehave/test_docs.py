"""What docs/misbehave.md says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from iolab.__main__ import misbehave
from iolab.misbehave.grammar import VERBS, parse
from iolab.registry import MISBEHAVE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "misbehave.md").read_text()
COMMANDS = re.findall(r"^iolab misbehave( .*)?$", PAGE, re.MULTILINE)


def test_the_page_has_a_row_for_each_verb_in_the_same_words() -> None:
    rows = re.findall(r"^\| `([a-z-]+[^`]*)` \|", PAGE.partition("| clause |")[2].partition("\n\n")[0], re.MULTILINE)
    assert rows == VERBS.split(", ")
    assert f"[{ {16: 'sixteen'}[len(rows)] } verbs](docs/misbehave.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("arguments", COMMANDS)
def test_each_example_is_good(arguments: str) -> None:
    words = shlex.split(arguments, comments=True)
    given = misbehave.make_context("misbehave", words).params
    assert parse(given["script"], given["message_bytes"])
    assert given["port"] == MISBEHAVE.port


def test_the_service_has_the_ports_of_the_page() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["misbehave"]
    assert service["profiles"] == ["misbehave"]
    assert service["ports"] == [
        f"127.0.0.1:${{MISBEHAVE_HOST_PORT-{MISBEHAVE.port}}}:{MISBEHAVE.port}",
        "127.0.0.1:${MISBEHAVE_ADMIN_HOST_PORT-8021}:9100",
    ]

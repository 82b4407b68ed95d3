"""The wheel in an empty folder: all that is needed travels in it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from iolab.registry import MODELS
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.packaging.conftest import CHECKOUT
from tests.support.installed import SECONDS, Installed

SOURCES = ("services/iolab", "clients/iolab_client", "clients/iolab_pytest")
WHERE = """
import json, iolab, iolab_client
from iolab.checkout import CHECKOUT
from iolab_client.results.environment import commit
print(json.dumps([iolab.__file__, iolab_client.__file__, CHECKOUT, commit()]))
"""


def test_what_an_index_asks_of_them_is_there(distributions: list[Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)]
    subprocess.run(command, check=True, timeout=SECONDS)


def test_it_has_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    files = {
        str(file.relative_to((CHECKOUT / source).parent))
        for source in SOURCES
        for file in (CHECKOUT / source).rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }
    with zipfile.ZipFile(wheel) as packed:
        assert {name for name in packed.namelist() if ".dist-info/" not in name} == files


def test_each_line_that_names_an_extra_names_one_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in packed.namelist() if name.endswith("/METADATA"))
        extras = set(Parser().parsestr(packed.read(name).decode()).get_all("Provides-Extra", []))
    files = [file for source in SOURCES for file in (CHECKOUT / source).rglob("*.py")]
    files += [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")]
    # pip 23.2 does not know an extra by any other spelling than that of the metadata.
    named = {extra for file in files for extra in re.findall(r"\biolab\[([a-z,_-]+)\]", file.read_text())}
    assert {extra for names in named for extra in names.split(",")} <= extras
    assert {model.service for model in MODELS.values() if model.library} | {"asyncio-streams"} <= extras


def test_nothing_of_the_checkout_is_used(installed: Installed) -> None:
    *files, checkout, commit = json.loads(installed.run("python", "-c", WHERE))
    assert all(Path(file).is_relative_to(installed.programs.parent) for file in files)
    assert checkout is None
    assert commit is None


@pytest.mark.parametrize("words", [["serve", "epoll_loop"], ["misbehave"]], ids=" ".join)
def test_one_line_serves(words: list[str], installed: Installed) -> None:
    with installed.begin("iolab", *words, "--port", "0") as server:
        assert server.stdout
        listening = json.loads(server.stdout.readline())
        assert listening["event"] == "listening"
        with connect((listening["host"], listening["port"])) as peer:
            assert peers.exchange(peer, b"word") == b"WORD"
        server.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) == 0

"""The three ways in, as their pages say: with the wheel, and nothing of the checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iolab.registry import MODELS
from tests.packaging.conftest import CHECKOUT
from tests.support.installed import Installed

EXAMPLES = re.compile(r"^```python (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A block with a word after `sh` needs a network, or time.
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (CHECKOUT / "docs" / name).read_text()


@pytest.fixture
def ports(tmp_path: Path) -> str:
    """A folder of settings: the models' usual ports may be somebody's."""
    (tmp_path / "models").mkdir()
    (tmp_path / "defaults.yaml").write_text("{}\n")
    for model in MODELS.values():
        (tmp_path / "models" / f"{model.slug}.yaml").write_text(f"port: {model.port + 10_000}\n")
    return str(tmp_path)


def test_look(installed: Installed, ports: str) -> None:
    said = installed.shell("\n".join(COMMANDS.findall(page("look.md"))), IOLAB_CONFIGS=ports)
    assert said.count("HELLO") == 2
    for waits in ("epoll_wait", "accept4", "iolab_answers_total"):
        assert waits in said
    assert sorted(re.findall(r"\w+", said.rpartition("stopped ")[2])) == ["epoll_loop", "thread_per_connection"]


def test_test_with_it(installed: Installed) -> None:
    files = dict(EXAMPLES.findall(page("pytest.md")))
    assert {"client.py", "conftest.py", "test_answers.py"} <= set(files)
    project = installed.folder / "project"
    project.mkdir()
    for name, text in files.items():
        (project / name).write_text(text)
    tests = sum(text.count("\ndef test_") for text in files.values())
    # By itself, though pytest would look for a project in the folders above.
    options = ("--rootdir", str(project), "-p", "no:cacheprovider", "-p", "no:valkey", "-W", "error", "-q")
    assert f"\n{tests} passed" in installed.run("python", "-m", "pytest", *options, str(project))


def test_compare(installed: Installed, ports: str) -> None:
    script = "\n".join(COMMANDS.findall(page("compare.md"))).replace("500ms", "100ms")
    said = installed.shell(script, IOLAB_CONFIGS=ports)
    # Whatever its verdict is on this machine.
    assert re.search(r"errors +│ none", said)
    assert "yardstick" in said
    (report,) = (installed.folder / "results").glob("*/report.html")
    assert "thread_per_connection" in report.read_text()

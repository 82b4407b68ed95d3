"""docs/pytest.md, as a project of its own that has the wheel."""

from __future__ import annotations

import re

from tests.packaging.conftest import CHECKOUT
from tests.support.installed import Installed

EXAMPLES = re.compile(r"^```python (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_each_example_passes(installed: Installed) -> None:
    files = dict(EXAMPLES.findall((CHECKOUT / "docs" / "pytest.md").read_text()))
    assert {"client.py", "conftest.py", "test_answers.py"} <= set(files)
    project = installed.folder / "project"
    project.mkdir()
    for name, text in files.items():
        (project / name).write_text(text)
    tests = sum(text.count("\ndef test_") for text in files.values())
    # By itself, though pytest would look for a project in the folders above.
    options = ("--rootdir", str(project), "-p", "no:cacheprovider", "-p", "no:valkey", "-W", "error", "-q")
    assert f"\n{tests} passed" in installed.run("python", "-m", "pytest", *options, str(project))

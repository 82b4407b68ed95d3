"""The CI files of the README and action.yml: what they say is what the image and the commands know."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml

from iolab.configs import load
from iolab.misbehave.grammar import parse
from iolab.registry import MODELS, find
from tests.packaging.conftest import CHECKOUT

ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text())
README = (CHECKOUT / "README.md").read_text()
FILES = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]
IMAGE = (CHECKOUT / "services" / "image.sh").read_text()


def services() -> list[dict[str, Any]]:
    return [
        service
        for file in FILES
        if "services" in file
        for service in (file["services"] if isinstance(file["services"], list) else file["services"].values())
    ]


@pytest.mark.parametrize("service", services(), ids=lambda service: str(service.get("alias", service.get("env"))))
def test_each_service_is_told_what_the_image_knows(service: dict[str, Any]) -> None:
    match service:
        case {"command": ["serve", slug, *options]}:
            assert options[::2] == ["--set"] * (len(options) // 2)
            load(find(slug), None, given=options[1::2])
        case {"env": {"IOLAB_MODEL": slug, "IOLAB_SET": given}}:
            load(find(slug), None, given=given.split())
        case {"env": {"IOLAB_SCRIPT": script}}:
            assert parse(script, None)
        case _:
            pytest.fail(f"what is {service}?")
    assert all(f"${{{variable}:-" in IMAGE for variable in service.get("env", {}) if variable != "IOLAB_SET")
    assert all(port.endswith(":8000") for port in service.get("ports", []))


def test_each_docker_run_is_one_that_the_image_serves() -> None:
    lines = re.findall(r"^docker run (.*)$", README, re.MULTILINE)
    given = [words[words.index("iolab") + 1 :] for line in lines for words in [shlex.split(line, comments=True)]]
    assert {words[0] for words in given if words} <= {"serve", "misbehave"}
    assert [] in given


def test_the_action_starts_models_that_there_are() -> None:
    (step,) = ACTION["runs"]["steps"]
    subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
    assert ACTION["inputs"]["models"]["default"] in MODELS
    (used,) = (step for file in FILES for step in file.get("steps", []) if "uses" in step)
    assert all(find(slug) for slug in used["with"]["models"].split())
    # What a workflow says never becomes a part of the script.
    assert "${{" not in step["run"]

"""An experiment in containers: each server has the settings that the claim needs, and nothing of it stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import docker
from iolab_client.__main__ import main
from iolab_client.compare import containers
from iolab_client.experiments import pool_cap


def test_a_claim_is_tried_with_containers_that_have_its_settings(
    engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_cap, "CLIENTS", (8,))
    command = ["experiment", "pool-cap", "--quick", "--place", "containers", "--pause", "nobody", "--json"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output

    said = json.loads(result.stdout)
    assert said["environment"]["place"] == "containers"
    (trial,) = said["trials"]
    assert trial["finding"]["word"] == "HOLDS", trial
    # Four workers, as the experiment has set them, and not as many as there are by default.
    assert {point["side"]: point["values"]["answered"] for point in trial["points"]} == {
        "blocking_pool": 4,
        "thread_per_connection": 8,
    }
    client = docker.from_env()
    try:
        label = f"{containers.PROJECT_LABEL}={containers.PROJECT}"
        assert client.containers.list(all=True, filters={"label": label}) == []
    finally:
        client.close()

"""deploy/stack.yml from docker-compose.yml: the models and the task queue as a stack for Docker Swarm.

`python scripts/stack.py > deploy/stack.yml`, or `make stack`. A key of a service that is not known here is an error, so
that none is lost unseen.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from iolab.registry import MODELS, Model

ROOT = Path(__file__).parent.parent
HEADER = """\
# The models on the nodes of a swarm: docs/machines.md. Generated from docker-compose.yml by `make stack`; do not edit.
#
# Swarm does not know security_opt: no-new-privileges and the seccomp profile of io_uring_ring can be set in the
# daemon.json of each node. It publishes a port on all addresses of a node, and does not know depends_on.
"""
SECRET = "broker-password"
PASSWORD_FILE = f"/run/secrets/{SECRET}"
USER = "10001"
# Readable for its owner only.
MODE = 0o400
# Kept as they are.
SAME = (
    *("command", "entrypoint", "environment", "healthcheck", "init", "logging", "networks", "read_only"),
    *("stop_grace_period", "ulimits", "user", "cap_drop"),
)
# Of the build, of Compose itself, or not known to Swarm; and what is told in other words below.
LEFT_OUT = frozenset({"build", "labels", "depends_on", "security_opt"})
IN_OTHER_WORDS = frozenset({"image", "mem_limit", "pids_limit", "cpus", "ports", "tmpfs", "volumes"})
VARIABLE = re.compile(r"(?<!\$)\$\{\w+:?-((?:[^{}]|\$\{[^{}]*\})*)\}")
SIZES = {"k": 1024, "m": 1024 * 1024}


def plain(value: Any) -> Any:
    """A value of docker-compose.yml with its variables' defaults in their places: Swarm's files know no nested ones."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        while VARIABLE.search(value):
            value = VARIABLE.sub(lambda match: match[1], value)
    return value


def stack(compose: dict[str, Any]) -> dict[str, Any]:
    """The whole stack."""
    services = {}
    configs: dict[str, dict[str, str]] = {}
    for model in MODELS.values():
        files = {"defaults.yaml": "defaults", f"models/{model.slug}.yaml": model.slug}
        mounted = []
        for file, name in files.items():
            # A config can't be changed: another content is another config, and its services are started anew.
            key = f"{name}-{hashlib.sha256((ROOT / 'configs' / file).read_bytes()).hexdigest()[:12]}"
            configs[key] = {"file": f"../configs/{file}"}
            mounted.append({"source": key, "target": f"/etc/iolab/{file}"})
        for name in (model.service, *model.parts):
            services[name] = _service(plain(compose["services"][name]), model, mounted)
    return {
        "version": "3.9",
        "services": services,
        "networks": {
            # Whoever may run a container on a node may put it here: the client.
            "front": {"driver": "overlay", "attachable": True},
            "back": {"driver": "overlay", "internal": True},
        },
        "configs": configs,
        "secrets": {SECRET: {"external": True, "name": f"iolab-{SECRET}"}},
    }


def _service(given: dict[str, Any], model: Model, configs: list[dict[str, str]]) -> dict[str, Any]:
    unknown = given.keys() - {*SAME, *LEFT_OUT, *IN_OTHER_WORDS}
    if unknown:
        raise SystemExit(f"docker-compose.yml: {model.service}: {min(unknown)} is not known to scripts/stack.py")
    made = {"image": f"${{IOLAB_REGISTRY:-}}{given['image']}"} | {key: given[key] for key in SAME if key in given}
    # Turning the dials of a running server is for the playground, which is not here, on a network of one's own machine.
    made.get("environment", {}).pop("IOLAB_HANDS_ON", None)
    mounts = [str(volume) for volume in given.get("volumes", ()) if isinstance(volume, str)]
    if any(isinstance(volume, dict) and volume["target"] == "/etc/iolab" for volume in given["volumes"]):
        made["configs"] = configs
    if any(mount.startswith("broker:") for mount in mounts):
        made["secrets"] = [{"source": SECRET, "target": SECRET, "uid": USER, "gid": USER, "mode": MODE}]
        made["environment"] = {**made.get("environment", {}), "IOLAB_BROKER_PASSWORD_FILE": PASSWORD_FILE}
    if "tmpfs" in given:
        made["volumes"] = [_tmpfs(each) for each in given["tmpfs"]]
    if "ports" in given:
        made["ports"] = [_port(each) for each in given["ports"]]
    limits = {"memory": given["mem_limit"], "pids": int(given["pids_limit"])}
    if "cpus" in given:
        limits["cpus"] = str(given["cpus"])
    made["deploy"] = {
        # The name of a service is its tasks' own addresses: no address of its own, which would need IPVS on each node.
        "endpoint_mode": "dnsrr",
        "resources": {"limits": limits},
        # What it depends on may come later, and a node may be lost.
        "restart_policy": {"condition": "any", "delay": "5s"},
    }
    return made


def _tmpfs(text: str) -> dict[str, Any]:
    target, _, options = text.partition(":")
    size = next(option.removeprefix("size=") for option in options.split(",") if option.startswith("size="))
    return {"type": "tmpfs", "target": target, "tmpfs": {"size": int(size[:-1]) * SIZES[size[-1]]}}


def _port(text: str) -> dict[str, Any]:
    _, published, target = text.split(":")
    return {"target": int(target), "published": int(published), "protocol": "tcp", "mode": "host"}


class _Explicit(yaml.SafeDumper):
    """Says everything where it holds, without anchors: the file is read one service at a time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    """The file."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return HEADER + yaml.dump(stack(compose), Dumper=_Explicit, sort_keys=False, width=1000, default_flow_style=None)


if __name__ == "__main__":
    print(text(), end="")

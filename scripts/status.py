"""The end of `make up`: which models run, where to reach them, and why one does not.

Exits 1 unless every model is healthy or has itself declared that this machine cannot run it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

SETTLE_SECONDS = 60.0


def compose(*arguments: str) -> str:
    command = [*os.environ["IOLAB_COMPOSE"].split(), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def containers() -> list[dict[str, Any]]:
    """Each model's container as Compose sees it."""
    output = compose("ps", "--all", "--format", "json").strip()
    # Compose 2.21 and later print an object a line, 2.20 one list.
    objects = output if output.startswith("[") else f"[{','.join(output.splitlines())}]"
    found: list[dict[str, Any]] = json.loads(objects)
    return sorted(found, key=lambda container: str(container["Service"]))


def settled() -> list[dict[str, Any]]:
    """The containers once none is starting any more: `up --wait` gives up on all when the first one fails."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(found["Health"] == "starting" for found in containers()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return containers()


def last_words(service: str) -> str:
    lines = compose("logs", "--no-log-prefix", "--no-color", "--tail", "1", service).splitlines()
    return lines[-1] if lines else "its log is empty; the message of the engine is above"


def declared_unavailable(line: str) -> bool:
    """Whether a server's last line says that this machine cannot run its model: no failure of ours."""
    try:
        return bool(json.loads(line).get("event") == "unavailable")
    except (ValueError, AttributeError):
        return False


def address(container: dict[str, Any]) -> tuple[str, int] | None:
    for publisher in container["Publishers"] or []:
        if publisher["PublishedPort"]:
            return publisher["URL"], publisher["PublishedPort"]
    return None


def main() -> int:
    failed = 0
    notes = []
    example = None
    print(f"\n{'model':<24}{'state':<14}address")
    found = settled()
    for container in found:
        service = container["Service"]
        reached = address(container)
        state = container["Health"] or container["State"]
        if state != "healthy":
            if container["State"] != "running":
                state = f"{container['State']} ({container['ExitCode']})"
            words = last_words(service)
            if declared_unavailable(words):
                state = "unavailable"
            else:
                failed += 1
            notes.append(f"{service} is {state}: {words}")
        elif reached and (example is None or service == "epoll-loop"):
            example = reached
        print(f"{service:<24}{state:<14}{f'{reached[0]}:{reached[1]}' if reached else '-'}")
    print()
    for note in notes:
        print(note)
    if example:
        host, port = example
        print(f"try it:   printf 'hello\\n' | nc -N {host} {port}     or: telnet {host} {port}")
    if "--private-compose" in sys.argv:
        print("plain `docker compose ps|logs|down|up` works in your shell after:")
        print('          export DOCKER_CONFIG="$PWD/.tools/docker"')
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())

"""The end of `make up`: which models run, where to reach and to see them, and why one does not.

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
# Whoever was paused or stopped until now may still be called unhealthy until the next check.
RECOVER_SECONDS = 10.0
NOT_STARTED = (
    "the engine says why above; an address already in use: stop who has it, "
    "or name another port in its file below configs/ and run `make up` again"
)


def compose(*arguments: str) -> str:
    command = [*os.environ["IOLAB_COMPOSE"].split(), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def address(container: dict[str, Any]) -> tuple[str, int] | None:
    for publisher in container["Publishers"] or []:
        if publisher["PublishedPort"]:
            return publisher["URL"], publisher["PublishedPort"]
    return None


def containers() -> list[dict[str, Any]]:
    """Each model's container as Compose sees it."""
    output = compose("ps", "--all", "--format", "json").strip()
    # Compose 2.21 and later print an object a line, 2.20 one list.
    objects = output if output.startswith("[") else f"[{','.join(output.splitlines())}]"
    found: list[dict[str, Any]] = json.loads(objects)
    return sorted(found, key=lambda container: (address(container) or ("", 65536))[1])


def settled() -> list[dict[str, Any]]:
    """The containers once none is starting any more: `up --wait` gives up on all when the first one fails."""
    begun = time.monotonic()
    while True:
        found = containers()
        waited = time.monotonic() - begun
        health = {container["Health"] for container in found if container["State"] == "running"}
        starting = "starting" in health and waited < SETTLE_SECONDS
        recovering = "unhealthy" in health and waited < RECOVER_SECONDS
        if not starting and not recovering:
            return found
        time.sleep(0.5)


def last_words(service: str) -> str:
    lines = compose("logs", "--no-log-prefix", "--no-color", "--tail", "1", service).splitlines()
    return lines[-1] if lines else "its log is empty"


def declared_unavailable(line: str) -> str | None:
    """Why this machine cannot run a model, if that is what its server's last line says: no failure of ours."""
    try:
        said = json.loads(line)
        return str(said["reason"]) if said["event"] == "unavailable" else None
    except (ValueError, TypeError, KeyError):
        return None


def main() -> int:
    failed = 0
    notes = []
    example = page = None
    print(f"\n{'model':<24}{'state':<14}address")
    found = settled()
    for container in found:
        service = container["Service"]
        reached = address(container)
        state = container["State"] if container["State"] != "running" else container["Health"]
        if state == "created":
            state = "not started"
            failed += 1
            notes.append(f"{service} is {state}: {NOT_STARTED}")
        elif state != "healthy":
            if container["State"] == "exited":
                state = f"exited ({container['ExitCode']})"
            words = last_words(service)
            if reason := declared_unavailable(words):
                state, words = "unavailable", reason
            else:
                failed += 1
            notes.append(f"{service} is {state}: {words[:400]}")
        elif service == "playground":
            page = reached
        elif reached and (example is None or service == "epoll-loop"):
            example = reached
        print(f"{service:<24}{state:<14}{f'{reached[0]}:{reached[1]}' if reached else '-'}")
    print()
    for note in notes:
        print(note)
    if example:
        host, port = example
        print(f"try it:   printf 'hello\\n' | nc -N {host} {port}     or: telnet {host} {port}")
    if page:
        host, port = page
        print(f"see it:   http://{host}:{port} in a browser")
    if "--private-compose" in sys.argv:
        print("plain `docker compose ps|logs|down|up` works in your shell after:")
        print('          export DOCKER_CONFIG="$PWD/.tools/docker"')
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())

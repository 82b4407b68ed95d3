"""docs/paths.md: examines what Debian has (`python -m scripts.paths`), or writes the page anew from what was seen then.

`make paths` does the first, with what it needs. What was seen is docs/results/paths.json.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from iolab_client.path.clauses import EACH_WAY, ONCE
from iolab_client.path.ends import Way
from iolab_client.path.examination import examine
from iolab_client.path.harness import Back, Harness, Patience
from iolab_client.path.remedies import REMEDIES
from scripts.between import LOOPBACK, PATHS, Missing, free_port

ROOT = Path(__file__).parent.parent
DATA = ROOT / "docs" / "results" / "paths.json"
PAGE = ROOT / "docs" / "paths.md"
PATIENCE = Patience()
MIB = 1 << 20

PAGE_TEXT = """\
# What a path does to the connections that go through it

A proxy, a tunnel or a port forward makes two connections of one. Bytes get through nearly all of them. What gets lost
is how a connection ends, who may still speak when the other side has finished, and what happens to a reader that is
slow: things that nobody sees until a transfer is cut off, or never ends.

```sh
iolab-client path --front 127.0.0.1:8443 --back 9000
```

is the client in front of the path and the server behind it, at once, so that it knows what went in at one end when it
looks at the other. Start the path first (here: something that listens on port 8443 and leads to 127.0.0.1:9000).
`--back HOST:PORT` listens on another address of this machine: `[::1]:9000`, or that of a bridge, which a proxy in a
container leads to. `--back-namespace /proc/PID/ns/net` listens in the container of that process, as root.

It prints a matrix, and for what is broken the cause and the remedy where they are known; `--json` has the same for
programs, `--junit FILE` for CI. Exit code 0: every clause is kept; 1: one is broken; 2: a bad option, nobody at the
front, or a front that leads elsewhere. `--accept reset` is for what is known and lived with: that clause
is examined and shown, and neither the exit code nor JUnit calls it a failure. No clause judges speed: the deadline is a
time in which nothing moves at all.

## The clauses

Each makes a connection of its own and is about one thing; those of the first table are examined both ways.

{clauses}

`back_pressure` tells how many bytes the path itself holds: what was taken of the speaker, less what the kernels of both
ends still have. Nobody is the better for holding much: it is what is lost when the path ends, and what waits in front
of a message that is urgent. Most of it is in the kernel, which sizes its buffers as it goes: it differs from one
examination to the next, docker-proxy's by tens of megabytes.

## What Debian has

Examined on {system} by `make paths`, which writes this page; the [data]({data}) has each
verdict. → is broken from client to server, ← from server to client, ⇄ both ways, ✗ where there are no ways; a cell
with nothing in it is kept.

{matrix}

What was seen where a clause is broken, and what helps:

{broken}

## How each was started

FRONT and BACK are the ports.

{started}"""


def main() -> None:
    """Examine, unless told to `render` only; then write the page."""
    if sys.argv[1:] != ["render"]:
        DATA.write_text(json.dumps(examined(), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(json.loads(DATA.read_text())))


def examined() -> dict[str, Any]:
    """Every path's clauses, as the command's --json has them, with the path's version and how it was started."""
    paths = []
    for name, start in PATHS.items():
        print(f"iolab: examining {name}", file=sys.stderr)
        try:
            with free_port() as port, start(port) as between:
                host, back_port = between.back or (LOOPBACK, port)
                with closing(Back(host, back_port, between.namespace)) as back:
                    clauses = [one.as_json() for one in examine(Harness(between.front, back, PATIENCE))]
        except Missing as missing:
            sys.exit(f"iolab: {name}: {missing}")
        paths.append({"name": name, "version": between.version, "how": between.how, "clauses": clauses})
    debian = Path("/etc/debian_version").read_text().strip()
    return {"system": f"Debian {debian}, Linux {'.'.join(os.uname().release.split('.')[:2])}", "paths": paths}


def page(data: dict[str, Any]) -> str:
    """The page."""
    paths = data["paths"]
    return PAGE_TEXT.format(
        clauses="\n\n".join(f"| clause | |\n|---|---|\n{_meanings(group)}" for group in (EACH_WAY, ONCE)),
        system=data["system"],
        data=DATA.relative_to(PAGE.parent),
        matrix=_matrix(paths),
        broken=_broken(paths),
        started="\n".join(f"**{one['name']}** ({one['version']})\n{_block(one['how'])}" for one in paths),
    )


def _meanings(clauses: tuple[Callable[..., object], ...]) -> str:
    return "\n".join(f"| `{clause.__name__}` | {inspect.getdoc(clause)} |" for clause in clauses)


def _matrix(paths: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(one["clause"] for one in paths[0]["clauses"])
    lines = ["| clause | " + " | ".join(f"{one['name']}<br>{one['version']}" for one in paths) + " |"]
    lines.append("|---" * (len(paths) + 1) + "|")
    for name in names:
        cells = (_cell([one for one in path["clauses"] if one["clause"] == name]) for path in paths)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    held = (_held(path["clauses"]) for path in paths)
    return "\n".join([*lines, "| held, MiB: → / ← | " + " | ".join(held) + " |"])


def _cell(ways: list[dict[str, Any]]) -> str:
    broken = {one["way"] for one in ways if not one["kept"]}
    if not broken:
        return ""
    if broken == {None}:
        return "**✗**"
    if broken == {Way.CLIENT_TO_SERVER.value}:
        return "**→**"
    return "**←**" if broken == {Way.SERVER_TO_CLIENT.value} else "**⇄**"


def _held(clauses: list[dict[str, Any]]) -> str:
    counts = (one["held_bytes"] for one in clauses if one["clause"] == "back_pressure")
    return " / ".join("?" if count is None else f"{count / MIB:.1f}" if count else "0" for count in counts)


def _broken(paths: list[dict[str, Any]]) -> str:
    parts = []
    for name in dict.fromkeys(one["clause"] for one in paths[0]["clauses"]):
        lines = []
        for path in paths:
            seen = [one["seen"] for one in path["clauses"] if one["clause"] == name and not one["kept"]]
            lines += [f"- {path['name']}: {'; '.join(seen)}"] * bool(seen)
        if lines:
            parts.append("\n".join([f"`{name}`: {REMEDIES.get(name, 'not known')}", "", *lines]))
    return "\n\n".join(parts)


def _block(how: str) -> str:
    return f"\n```\n{how.rstrip()}\n```\n" if how else "\nThe client connects to the server itself.\n"


if __name__ == "__main__":
    main()

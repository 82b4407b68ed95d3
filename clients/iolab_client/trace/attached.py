"""A fresh server in its container, recorded by a tracer in a container of its own.

The tracer is of the same user, in the PID namespace of the server and of its parts, and has no capability: where yama
does not restrict ptrace, that is enough.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from docker.models.containers import Container
from requests.exceptions import RequestException

from iolab.registry import Model
from iolab_client.compare.containers import Containers, unavailable
from iolab_client.compare.places import PlaceFailed
from iolab_client.servers.printed import LOOK_SECONDS, last_words
from iolab_client.trace import refusal
from iolab_client.trace.asking import Visit
from iolab_client.trace.calls import Strace, parse
from iolab_client.trace.lanes import timeline
from iolab_client.trace.recording import (
    AFTER_SECONDS,
    STRACE,
    CannotTrace,
    Recording,
    Script,
    have_asked,
    write_configs,
)
from iolab_client.trace.threads import Traced

TRACER = "tracer"
# strace asks whose a connection is in its own network namespace, which is not the server's: in vain, and slowly.
OPTIONS = ["-y" if option == "-yy" else option for option in STRACE[1:]]
ATTACH_SECONDS = 30.0
DETACH_SECONDS = 60.0
# As services/tracer.sh tells who is there, and strace that it has him.
THREAD = re.compile(r"thread (\d+) (\d+) (.*)")
ATTACHED = re.compile(r"strace: Process (\d+) attached")
BUILD = "`docker compose --profile trace build` builds what is missing"


def record_container(model: Model, script: Script, configs: Path | None) -> Recording:
    """Start the model in a container, with a tracer for it and each of its parts; ask it; remove them.

    Raises CannotTrace.
    """
    if reason := unavailable():
        raise CannotTrace(f"no containers: {reason}; trace processes, without --containers")
    with tempfile.TemporaryDirectory(prefix="iolab-trace-") as name:
        folder = Path(name)
        # The containers mount it, and their user is another one.
        folder.chmod(0o755)
        texts, visits = _asked(model, script, write_configs(model, script, configs, folder / "configs"))
    records = [Traced(strace=parse(text.splitlines(), known), part=part) for part, (text, known) in texts.items()]
    return Recording(
        timeline=timeline(model.slug, script.wait_ms, visits, records),
        texts={f"{model.slug}-{part}" if part else model.slug: text for part, (text, _) in texts.items()},
    )


def _asked(model: Model, script: Script, configs: Path) -> tuple[dict[str, tuple[str, Strace]], list[Visit]]:
    """What each tracer has written, by the part that it was for, and who was there when it began."""
    try:
        with (
            Containers([model], (), (), pause=(), configs=configs, tools=(TRACER,)) as containers,
            containers.start(model) as started,
        ):
            parts = {"": model.service, **{part: part for part in model.parts}}
            with contextlib.ExitStack() as stack:
                tracers = {part: stack.enter_context(_tracer(containers, service)) for part, service in parts.items()}
                visits = have_asked(model, started.target.address, script)
                return {part: _text(tracer) for part, tracer in tracers.items()}, visits
    except PlaceFailed as error:
        if "No such image" in str(error):
            raise CannotTrace(f"{str(error).partition(';')[0]}; {BUILD}") from None
        raise CannotTrace(str(error)) from None


@contextlib.contextmanager
def _tracer(containers: Containers, service: str) -> Iterator[Container]:
    """A tracer that is attached to everything in that service's container. Raises CannotTrace."""
    server = containers.of_service(service)
    with containers.one_off(TRACER, OPTIONS, PidMode=f"container:{server.id}") as tracer:
        end = time.monotonic() + ATTACH_SECONDS
        while time.monotonic() < end:
            tracer.reload()
            printed = _printed(tracer, stderr=True)
            wanted = {int(process) for process, _, _ in THREAD.findall(printed)}
            if wanted and wanted <= {int(process) for process in ATTACHED.findall(printed)}:
                break
            if tracer.status == "exited":
                reason = refusal.reason(printed, attached=True)
                raise CannotTrace(reason or f"the tracer of {service}: {last_words(printed) or 'it ended'}")
            time.sleep(LOOK_SECONDS)
        else:
            raise CannotTrace(f"the tracer of {service} was not attached within {ATTACH_SECONDS:g} s")
        time.sleep(AFTER_SECONDS)
        yield tracer


def _text(tracer: Container) -> tuple[str, Strace]:
    """Have the tracer let go; what it has written, and who was there when it began."""
    try:
        tracer.kill(signal="SIGTERM")
        tracer.wait(timeout=DETACH_SECONDS)
    except RequestException as error:
        raise CannotTrace(f"the tracer did not let go within {DETACH_SECONDS:g} s: {error}") from None
    known = Strace()
    for process, thread, name in THREAD.findall(_printed(tracer, stderr=True)):
        known.processes[int(thread)] = int(process)
        known.names[int(thread)] = name
    return _printed(tracer), known


def _printed(tracer: Container, *, stderr: bool = False) -> str:
    text: bytes = tracer.logs(stdout=not stderr, stderr=stderr)
    return text.decode(errors="replace")

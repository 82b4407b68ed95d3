"""docs/contract.md, "Surroundings": what a parent hands down is put right, or refused with one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import yaml

from iolab.registry import Model
from iolab.server.stop import SIGNALS
from iolab.server.surroundings import CELERY_OPTIONS, least_descriptors
from iolab.settings import Settings
from iolab.task_queue import address, own_broker
from iolab_client.contract import peers
from iolab_client.servers.address import connect
from tests.support.missing import skip
from tests.support.models import forks, only, without_children
from tests.support.process import environment
from tests.support.waiting import DEADLINE_SECONDS, eventually

IOLAB = (sys.executable, "-m", "iolab")
# A parent that does something to itself and then becomes the command.
PARENT = """
import os, resource, signal, sys
{fault}
os.execvp(sys.argv[1], sys.argv[1:])
"""
FAULTS = {
    "every signal ignored": """
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
""",
    "every signal blocked": "signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())",
    "no standard output": "os.close(1)",
    "no standard error": "os.close(2)",
    "no standard stream": "os.closerange(0, 3)",
    "more descriptors than select(2) can watch": """
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
for descriptor in range(3, 1100):
    os.dup2(0, descriptor)
""",
    "a umask that keeps everybody out": "os.umask(0o777)",
}
# Root may read and write everything, whatever the umask is, but for this.
LIKE_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
STRANGE_ENVIRONMENT = {
    "HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
}
# Of Python's own only those that `python -m` does not import itself before it comes to us.
SHADOWED = (
    *("asyncio", "concurrent", "ctypes", "http", "json", "logging", "queue", "resource", "select", "selectors"),
    *("signal", "socket", "socketserver", "ssl", "struct", "tempfile", "threading", "traceback", "wsgiref"),
    *("celery", "click", "gevent", "kombu", "msgspec", "prometheus_client", "redis", "tornado", "twisted", "yaml"),
)


class Process:
    """`iolab serve` in a session of its own, in a folder of its own."""

    def __init__(
        self,
        model: Model,
        folder: Path,
        fault: str = "",
        *,
        settings: Mapping[str, Any] | None = None,
        config: Path | None = None,
        changes: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        if config is None:
            config = folder / "config.yaml"
            config.write_text(yaml.safe_dump({"backlog": 128, **(settings or {})}))
        parent = [sys.executable, "-I", "-S", "-c", PARENT.format(fault=fault)]
        command = [*prefix, *parent, *IOLAB, "serve", model.slug, "--port", "0", "--config", str(config)]
        with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(folder, changes),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    @property
    def found(self) -> dict[str, Any]:
        """Its run file: where the log is closed, nothing else tells its ports."""

        def look() -> list[Path]:
            assert self.process.poll() is None, self.printed
            return list((self.folder / "run").glob("*.json"))

        (file,) = eventually(look, "it is announced")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def ask(self) -> bytes:
        """What a client is answered."""
        with connect(("127.0.0.1", self.found["port"])) as client:
            return peers.ask(client, b"word")

    def healthy(self) -> bool:
        url = f"http://127.0.0.1:{self.found['admin_port']}/healthz"
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
            return bool(answer.status == 200)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def session(self) -> list[psutil.Process]:
        """Who is left of its session."""
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
        return left

    def end(self) -> None:
        for process in self.session():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait()


class Start:
    """Starts servers of one model, and leaves none."""

    def __init__(self, model: Model, folder: Path, broker_url: str | None) -> None:
        self.model = model
        self.folder = folder
        self._broker_url = broker_url
        self._started: list[Process] = []

    def __call__(self, fault: str = "", **options: Any) -> Process:
        """One with the fault. One that needs a broker uses the tests' own, unless `settings` are given."""
        if self._broker_url and "config" not in options:
            options.setdefault("settings", {"broker_url": self._broker_url})
        process = Process(self.model, self.folder, fault, **options)
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.end()


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    """A broker with a worker, for all who need one."""
    if reason := address.unavailable(Settings()):
        skip(reason)
    with own_broker.own() as url:
        yield url


@pytest.fixture
def start(model: Model, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    start = Start(model, tmp_path, request.getfixturevalue("broker_url") if model.parts else None)
    yield start
    start.end()


def serves_and_stops(server: Process) -> None:
    assert server.ask() == b"WORD", server.printed
    assert server.healthy()
    assert server.stop() == 0, server.printed
    # It has come to its end, and was not just ended; where its output is closed, nothing tells.
    assert ('"listening"' in server.printed) == ('"stopped"' in server.printed)
    assert (server.folder / "stderr").read_text() == ""
    assert server.session() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_it_serves_and_stops_whatever_its_parent_has_done(start: Start, fault: str) -> None:
    prefix = LIKE_ANYBODY if "umask" in fault and os.geteuid() == 0 else ()
    # Where streams are closed, the broker and the worker are to be its own, which inherit what it has.
    options: dict[str, Any] = {"settings": {}} if fault == "no standard stream" else {}
    serves_and_stops(start(FAULTS[fault], prefix=prefix, **options))


def test_it_serves_and_stops_in_a_strange_environment(start: Start) -> None:
    serves_and_stops(start(changes=STRANGE_ENVIRONMENT))


@only("task_queue")
def test_the_options_of_another_application_are_no_options_of_this_one(start: Start) -> None:
    options = dict.fromkeys(CELERY_OPTIONS, "nowhere")
    options |= {f"CELERY_{name}": "nowhere" for name in ("LOADER", "CONFIG_MODULE", "RESULT_BACKEND")}
    options |= {f"CELERY_{name}": "redis://127.0.0.1:1/0" for name in ("BROKER_URL", "BROKER_READ_URL")}
    options |= {"CELERY_CUSTOM_WORKER_POOL": "nowhere", "C_BENCH_EVERY": "nowhere", "KOMBU_LOG_DEBUG": "1"}
    # Its own broker and worker, which are given the same.
    serves_and_stops(start(settings={}, changes=options))


def test_nothing_is_imported_from_the_current_directory(start: Start) -> None:
    for name in SHADOWED:
        (start.folder / f"{name}.py").write_text("raise SystemExit(f'{__file__} is not what was meant')\n")
    serves_and_stops(start(settings={}))


@forks
def test_a_child_that_was_killed_is_replaced_also_where_its_parent_has_ignored_the_end_of_children(
    start: Start,
) -> None:
    server = start(FAULTS["every signal ignored"], settings={"processes": 1})
    assert server.ask() == b"WORD"
    (child,) = psutil.Process(server.process.pid).children()
    child.kill()
    eventually(
        lambda: [other for other in psutil.Process(server.process.pid).children() if other.pid != child.pid],
        "the child is replaced",
    )
    serves_and_stops(server)


@pytest.mark.parametrize("allowed", [8, 15])
def test_with_too_few_descriptors_it_says_so_before_it_listens(start: Start, allowed: int) -> None:
    refused(start, allowed, {})


def test_the_least_descriptors_are_enough_and_one_less_is_refused(start: Start) -> None:
    settings = {"processes": 3} if start.model.forks else {}
    least = least_descriptors(start.model, msgspec.convert(settings, Settings))
    refused(start, least - 1, settings)
    serves_and_stops(start(limited(least), settings=settings))


def limited(descriptors: int) -> str:
    return f"resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))"


def refused(start: Start, allowed: int, settings: Mapping[str, Any]) -> None:
    server = start(limited(allowed), settings=settings)
    assert server.wait() == 1
    least = least_descriptors(start.model, msgspec.convert(settings, Settings))
    assert server.printed == (
        f"iolab: {allowed} descriptors are allowed, and {start.model.slug} needs at least {least};"
        " raise it: ulimit -n 1024\n"
    )


@without_children
def test_where_no_thread_can_start_it_says_so_before_it_listens(start: Start) -> None:
    # Each thread would reserve that much for its stack: more than there are addresses.
    server = start("resource.setrlimit(resource.RLIMIT_STACK, (1 << 50, resource.RLIM_INFINITY))")
    assert server.wait() == 1
    (line,) = server.printed.splitlines()
    assert line.startswith("iolab: cannot start thread ")
    assert line.endswith("raise the limit of threads (pids_limit) or of memory (ulimit -v)")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    return fifo


def writer(fifo: Path) -> int:
    """The writing end, once there is a reader."""

    def open_it() -> int:
        with contextlib.suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        return 0

    return eventually(open_it, "the config is read")


@pytest.mark.parametrize("number", sorted(SIGNALS))
def test_a_stop_while_the_config_is_read_ends_it_at_once(start: Start, fifo: Path, number: signal.Signals) -> None:
    server = start(config=fifo)
    writing = writer(fifo)
    try:
        assert server.stop(number) == 0
    finally:
        os.close(writing)
    assert server.printed == ""


def test_a_stop_after_the_config_was_read_is_not_lost(start: Start, fifo: Path) -> None:
    server = start(config=fifo)
    writing = writer(fifo)
    os.write(writing, b"backlog: 128\n")
    os.close(writing)
    assert server.stop() == 0
    assert (server.folder / "stderr").read_text() == ""


def test_the_config_may_be_one_of_the_inherited_descriptors(start: Start) -> None:
    settings = start.folder / "settings.yaml"
    settings.write_text("backlog: 77\n")
    server = start(f"os.dup2(os.open({str(settings)!r}, os.O_RDONLY), 63)", config=Path("/dev/fd/63"))
    assert server.found["model"] == start.model.slug
    # Its run file is there before its first line.
    (line, *_) = eventually(lambda: (server.folder / "stdout").read_text().splitlines(), "the log says something")
    listening = json.loads(line)
    assert listening["settings"]["backlog"] == 77
    assert server.stop() == 0

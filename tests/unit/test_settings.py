"""Settings: what holds, and the one line for what cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iolab import configs
from iolab.registry import MODELS
from iolab.settings import BadSetting, Settings, WorkDial

EPOLL = MODELS["epoll_loop"]
SELECT = MODELS["select_loop"]

BAD = {
    "unknown key": ("prot: 8004", "prot: got 8004", "expected one of admin_port"),
    "another model's key": ("workers: 3", "workers: got 3", "expected one of"),
    "wrong type": ("backlog: many", "backlog: got many", "expected an integer"),
    "a truth for a number": ("port: true", "port: got true", "expected an integer"),
    "port 0": ("port: 0", "port: got 0", "expected an integer from 1 to"),
    "port 70000": ("port: 70000", "port: got 70000", "expected an integer from 1 to 65535"),
    "negative backlog": ("backlog: -1", "backlog: got -1", "expected an integer from 1 to"),
    "buffer 0": ("buffer_size: 0", "buffer_size: got 0", "expected an integer from 1 to"),
    "buffer 1.5": ("buffer_size: 1.5", "buffer_size: got 1.5", "expected an integer"),
    "no number of seconds": ("idle_seconds: soon", "idle_seconds: got soon", "expected a number from 0 to 2592000"),
    "a choice there is not": ("log_level: loud", "log_level: got loud", "expected one of debug, info"),
    "wrong type below work": ("work: {cpu_us: x}", "work.cpu_us: got x", "expected an integer"),
    "unknown key below work": ("work: {cpu: 3}", "work.cpu: got 3", "expected one of cpu_us, wait_ms"),
    "a processor there is not": ("cpus: [4095]", "cpus: got [4095]", "expected processors out of"),
    "an address there is not": ("host: nowhere.invalid", "host: got nowhere.invalid", "expected an address"),
    "quiet longer than the drain": ("drain_quiet_seconds: 9", "drain_quiet_seconds: got 9", "expected less than"),
    "a key twice": ("port: 8004\nport: 8005", "port: stands 2 times", "expected once"),
    "a list": ("- port", "holds a list", "expected lines of `key: value`"),
    "a word": ("port", "holds a str", "expected lines of `key: value`"),
    "an empty file": ("", "is empty", "expected lines of `key: value`"),
    "comments only": ("# port: 8004", "is empty", "expected lines of `key: value`"),
    "no YAML": ("port: [", "is not YAML", "expected lines of `key: value`"),
}


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `iolab serve` for a model that must refuse to start."""
    return subprocess.run(
        [sys.executable, "-m", "iolab", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(("text", "found", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_stops_the_server_with_one_line_that_names_file_key_value_and_expectation(
    text: str, found: str, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "epoll_loop.yaml"
    file.write_text(text)
    run = serve("epoll_loop", "--config", str(file))
    assert run.returncode == 2
    assert run.stdout == "", "it listened"
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith(f"iolab: {file}")
    assert found in run.stderr
    assert expected in run.stderr


def test_more_connections_than_select_can_watch_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "select_loop.yaml"
    file.write_text("max_connections: 2000")
    with pytest.raises(BadSetting, match="max_connections: got 2000, expected at most 960"):
        configs.load(SELECT, None, file)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("broker_url: amqp://somewhere", "broker_url: got amqp://somewhere, expected"),
        # It would be shown in the log and in /metrics.
        ("broker_url: redis://:secret@somewhere:6379/0", "broker_url: got redis://:secret@somewhere:6379/0, expected"),
        ("broker_seconds: 3", "broker_seconds: got 3, expected more than visibility_timeout (5)"),
        ("work: {wait_ms: 6000}", "visibility_timeout: got 5, expected more than the 6 s that one answer's work takes"),
    ],
)
def test_a_task_queue_that_cannot_work_is_refused(text: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadSetting) as failure:
        configs.load(MODELS["task_queue"], None, file)
    assert found in str(failure.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    run = serve("epoll_loop", "--config", str(tmp_path / "none.yaml"))
    assert run.returncode == 2
    reason = "cannot be read (No such file or directory); expected a YAML file of settings"
    assert run.stderr == f"iolab: {tmp_path / 'none.yaml'}: {reason}\n"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSetting, match="expected a YAML file of settings"):
        configs.load(EPOLL, None, tmp_path / "file.yaml")


def test_an_unknown_model_is_told_which_there_are() -> None:
    run = serve("epoll_lop")
    assert run.returncode == 2
    assert all(slug in run.stderr for slug in MODELS)


def folder_of(tmp_path: Path, defaults: str = "backlog: 7", **models: str) -> Path:
    """A configs folder: each model with its own port and what is said of it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "defaults.yaml").write_text(defaults)
    for slug, model in MODELS.items():
        (tmp_path / "models" / f"{slug}.yaml").write_text(models.get(slug, f"port: {model.port}"))
    return tmp_path


def test_a_models_file_overrides_the_defaults_key_by_key(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "backlog: 7\nbuffer_size: 9\nwork: {cpu_us: 1, wait_ms: 2}",
        epoll_loop="backlog: 8\nwork: {wait_ms: 3}",
    )
    values = configs.load(EPOLL, folder)
    assert (values.port, values.backlog, values.buffer_size) == (EPOLL.port, 8, 9)
    assert (values.work.cpu_us, values.work.wait_ms) == (1, 3)
    assert configs.load(SELECT, folder).backlog == 7


@pytest.mark.parametrize("key", ["port: 1", "loop: uvloop", "workers: 2"])
def test_what_belongs_to_one_model_has_no_place_among_the_defaults(key: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"defaults\.yaml: .* no such key"):
        configs.load(EPOLL, folder_of(tmp_path, key))


def test_a_fault_in_the_defaults_is_found_in_that_file(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"defaults\.yaml: backlog: got 0"):
        configs.load(EPOLL, folder_of(tmp_path, "backlog: 0"))


def test_two_models_on_one_port_are_found_and_both_files_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, epoll_loop="port: 8003")
    run = subprocess.run(
        [sys.executable, "-m", "iolab", "check-config", "--configs", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "epoll_loop.yaml: port: got 8003" in run.stderr
    assert "select_loop.yaml" in run.stderr


def test_the_ports_of_the_files_become_lines_of_an_environment_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, epoll_loop="port: 9104")
    run = subprocess.run(
        [sys.executable, "-m", "iolab", "check-config", "--dotenv", "--configs", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = dict(line.split("=") for line in run.stdout.splitlines())
    assert lines == {f"{slug.upper()}_PORT": str(model.port) for slug, model in MODELS.items()} | {
        "EPOLL_LOOP_PORT": "9104",
        "PLAYGROUND_PORT": "8080",
    }


PLAYGROUND_BAD = {
    "a key there is not": ("prot: 1", "prot: got 1, expected one of away_seconds|prot: got 1, expected one of host"),
    "an address of the world": ("host: 0.0.0.0", "host: got 0.0.0.0, expected one of 127.0.0.1, ::1"),
    "no port": ("port: 0", "port: got 0, expected an integer from 1 to 65535"),
    "too many pages": ("pages: 1001", "pages: got 1001, expected an integer from 1 to 1000"),
    "no time at all": ("look_seconds: 0", "look_seconds: got 0, expected a number from 0.1 to 60"),
    "no number": ("away_seconds: .nan", "away_seconds: got .nan, expected a number from 1 to 3600"),
    "a list": ("- port", "holds a list; expected lines of `key: value`"),
    "nothing": ("", "is empty; expected lines of `key: value`, such as `port: 8080`"),
    "a model's port": ("port: 8004", "port: got 8004, which .*playground.yaml has too"),
}


@pytest.mark.parametrize(("text", "complaint"), PLAYGROUND_BAD.values(), ids=PLAYGROUND_BAD.keys())
def test_a_bad_file_of_the_playground_is_one_line_too(text: str, complaint: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "playground.yaml").write_text(text)
    with pytest.raises(BadSetting, match=complaint) as told:
        configs.load_all(folder)
    assert "\n" not in str(told.value)


def test_a_port_that_compose_does_not_publish_names_both_files_and_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "epoll_loop.yaml"
    file.write_text("port: 9104")
    run = serve("epoll_loop", "--config", str(file), IOLAB_PUBLISHED_PORT="8004")
    assert run.returncode == 2
    assert run.stderr == (
        f"iolab: {file}: port: got 9104, but docker-compose.yml publishes 8004; expected the same:"
        " run `make up`, or set EPOLL_LOOP_PORT=9104 in .env\n"
    )


def test_a_drain_that_compose_would_kill_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "epoll_loop.yaml"
    file.write_text("drain_seconds: 10")
    run = serve("epoll_loop", "--config", str(file), IOLAB_STOP_GRACE_SECONDS="10")
    assert run.returncode == 2
    assert "drain_seconds: got 10" in run.stderr
    assert "STOP_GRACE_SECONDS" in run.stderr


def test_a_pool_is_as_large_as_the_standard_librarys_unless_it_is_told() -> None:
    assert Settings().pool_size == min(32, (os.cpu_count() or 1) + 4)
    assert Settings(workers=3).pool_size == 3


def test_the_command_line_overrides_what_it_names_only() -> None:
    values = configs.override(Settings(port=8004, backlog=9), port=0, host=None)
    assert (values.port, values.backlog, values.host) == (0, 9, "127.0.0.1")


def test_what_the_command_line_sets_comes_before_the_files(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "defaults.yaml").write_text("backlog: 5\nwork: {cpu_us: 1, wait_ms: 2}\n")
    (tmp_path / "models" / "epoll_loop.yaml").write_text("port: 8004\nbacklog: 6\n")
    values = configs.load(EPOLL, tmp_path, given=("backlog=7", "work.wait_ms=3", "cpus=[0]"))
    assert (values.port, values.backlog, values.work.cpu_us, values.work.wait_ms, values.cpus) == (8004, 7, 1, 3, (0,))
    assert configs.load(EPOLL, None, given=('work={"wait_ms": 4}', "work.cpu_us=5")).work == WorkDial(
        cpu_us=5, wait_ms=4
    )


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("backlog", "--set: got backlog, expected KEY=VALUE, such as backlog=16"),
        ("=7", "--set: got =7, expected KEY=VALUE, such as backlog=16"),
        ("backlog=-7", "--set: backlog: got -7, expected an integer from 1 to 65535"),
        ("workers=3", "--set: workers: got 3, but no such key is known here; expected one of"),
        ("work.wait=3", "--set: work.wait: got 3, expected one of cpu_us, wait_ms"),
        ("backlog.more=3", "--set: backlog: got"),
        ("backlog=[", "--set backlog, line 1: is not YAML"),
        ("backlog=", "--set: backlog: got"),
    ],
)
def test_what_it_cannot_set_is_refused_in_one_line(given: str, complaint: str) -> None:
    with pytest.raises(BadSetting) as refused:
        configs.load(EPOLL, None, given=(given,))
    assert str(refused.value).startswith(complaint)


def test_the_environment_may_set_several() -> None:
    refused = serve("epoll_loop", IOLAB_SET="buffer_size=4096 backlog=-7")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("iolab: --set: backlog: got -7, expected an integer")

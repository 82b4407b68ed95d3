"""Run files: what is in them is acted upon, and so none counts that somebody else could have put there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from iolab.kernel import identity
from iolab.run import run_files
from iolab.run.run_files import Running
from tests.support.launcher import SECONDS, Launcher
from tests.support.missing import skip_for_kernel

# Nobody's number.
STRANGER = 54321
AS_IF_BY_UP = {"IOLAB_STARTED_BY": "up"}


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process keeps and looks for run files."""
    folder = tmp_path / "run" / "files"
    folder.parent.mkdir(mode=0o700)
    monkeypatch.setenv("IOLAB_RUN_DIR", str(folder))
    return folder


def announced() -> Running:
    """This process as the one server that is found while its file is there."""
    with run_files.announced("epoll_loop", "127.0.0.1", 8004, 9104, 5.0):
        (found,) = run_files.running()
    return found


def write(folder: Path, server: Running, name: str = "forged") -> Path:
    """A file about that server."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_bytes(msgspec.json.encode(server))
    return file


def as_root() -> None:
    """What only root can set up is not seen where somebody else runs the tests."""
    if os.geteuid() != 0:
        skip_for_kernel("only root may give a folder, or a process, to another user")


# Files of servers


def test_a_server_is_found_while_it_runs(run_dir: Path) -> None:
    found = announced()
    assert (found.model, found.pid, found.port, found.admin_port, found.by_up) == (
        "epoll_loop",
        os.getpid(),
        8004,
        9104,
        False,
    )
    assert run_files.running() == []
    assert list(run_dir.iterdir()) == []


def test_nobody_else_can_read_or_write_what_is_kept(run_dir: Path) -> None:
    with run_files.announced("epoll_loop", "127.0.0.1", 8004, 9104, 5.0):
        (file,) = run_dir.iterdir()
        assert (run_dir.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing_behind(run_dir: Path) -> None:
    me = identity.own_identity()
    in_its_place = run_dir / f"epoll_loop-{me.pid}-{me.start_ticks}.json"
    run_dir.mkdir(mode=0o700)
    in_its_place.mkdir()
    with run_files.announced("epoll_loop", "127.0.0.1", 8004, 9104, 5.0):
        assert list(run_dir.iterdir()) == [in_its_place]


@pytest.mark.parametrize(
    "change", [{"start_ticks": 1}, {"pid": 4_194_305}, {"boot": "another"}], ids=["number again", "ended", "boot"]
)
def test_the_file_of_a_server_that_has_certainly_ended_is_removed(run_dir: Path, change: dict[str, object]) -> None:
    found = announced()
    file = write(run_dir, msgspec.structs.replace(found, process=msgspec.structs.replace(found.process, **change)))
    assert run_files.running() == []
    assert not file.exists()


def test_a_server_that_cannot_be_seen_from_here_is_not_found_and_keeps_its_file(run_dir: Path) -> None:
    """One in another pid namespace, such as a container that shares the folder."""
    found = announced()
    elsewhere = msgspec.structs.replace(found.process, pid_namespace=1, pid=4_194_305)
    file = write(run_dir, msgspec.structs.replace(found, process=elsewhere))
    assert run_files.running() == []
    assert file.exists()


def test_a_server_is_found_after_the_clock_was_set(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_files.announced("epoll_loop", "127.0.0.1", 8004, 9104, 5.0):
        # By which a start time in seconds since 1970 is reckoned: /proc/stat moves it with the clock.
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0)
        assert [server.pid for server in run_files.running()] == [os.getpid()]
        assert len(list(run_dir.iterdir())) == 1


def test_no_link_and_no_pipe_is_read(run_dir: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "elsewhere", announced())
    (run_dir / "link.json").symlink_to(file)
    os.mkfifo(run_dir / "pipe.json")
    (run_dir / "nonsense.json").write_text("{")
    assert run_files.running() == []


def test_a_link_in_the_place_of_its_file_overwrites_nothing(run_dir: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    own = identity.own_identity()
    name = f"epoll_loop-{own.pid}-{own.start_ticks}"
    run_dir.mkdir(mode=0o700)
    for ending in ("part", "json"):
        (run_dir / f"{name}.{ending}").symlink_to(victim)
    assert announced().process == own
    assert victim.read_text() == "precious"


def test_a_link_in_the_place_of_a_log_overwrites_nothing(launcher: Launcher, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    launcher.run_files.mkdir(mode=0o700, parents=True)
    log = launcher.run_files / "epoll_loop.log"
    log.symlink_to(victim)
    launcher.up()
    assert victim.read_text() == "precious"
    assert '"listening"' in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


# Who is signalled


@pytest.fixture
def bystander() -> Iterator[Callable[..., Running]]:
    """Starts a process that is no server, and tells of it as a file does that says it was one."""
    started = []

    def start(user: int | None = None, variables: dict[str, str] | None = None) -> Running:
        sleeper = subprocess.Popen(["sleep", "1000"], env=variables or {}, user=user)
        started.append(sleeper)
        ticks = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[identity.START_TICKS]
        process = msgspec.structs.replace(identity.own_identity(), pid=sleeper.pid, start_ticks=int(ticks))
        return Running(
            model="epoll_loop", process=process, host="", port=1, admin_port=2, drain_seconds=0.1, by_up=True
        )

    yield start
    for sleeper in started:
        sleeper.kill()
        assert sleeper.wait(SECONDS) == -signal.SIGKILL, "it was signalled by somebody else before"


def test_a_process_that_up_has_not_started_is_not_signalled(
    launcher: Launcher, bystander: Callable[..., Running]
) -> None:
    write(launcher.run_files, bystander())
    code, said, errors = launcher.run("down")
    assert (code, errors) == (0, "")
    assert said.startswith("nothing was running")
    assert launcher.run("up", "--detach", "epoll_loop")[0] == 0


def test_a_later_process_with_a_servers_number_is_not_signalled(
    launcher: Launcher, bystander: Callable[..., Running]
) -> None:
    server = bystander(variables=AS_IF_BY_UP)
    earlier = msgspec.structs.replace(server.process, start_ticks=server.process.start_ticks - 1)
    write(launcher.run_files, msgspec.structs.replace(server, process=earlier))
    assert launcher.run("down")[1].startswith("nothing was running")
    assert not identity.send_signal(earlier, signal.SIGTERM, only_with=b"IOLAB_STARTED_BY=up")


def test_another_users_process_is_not_signalled(launcher: Launcher, bystander: Callable[..., Running]) -> None:
    as_root()
    write(launcher.run_files, bystander(user=STRANGER, variables=AS_IF_BY_UP))
    assert launcher.run("down")[1].startswith("nothing was running")


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_a_number_that_is_no_processs_is_not_signalled(pid: int) -> None:
    nobody = msgspec.structs.replace(identity.own_identity(), pid=pid)
    assert not identity.lives(nobody)
    assert not identity.send_signal(nobody, signal.SIGTERM, only_with=b"")


# Folders


def belongs_to_another(folder: Path) -> str:
    as_root()
    folder.mkdir(mode=0o700)
    os.chown(folder, STRANGER, STRANGER)
    return f"{folder} is not trusted: it belongs to user {STRANGER}; set IOLAB_RUN_DIR to a folder of your own"


def is_open_to_others(folder: Path) -> str:
    folder.mkdir()
    folder.chmod(0o755)
    return f"{folder} is not trusted: others may enter it (mode 0755); chmod 700 {folder}"


def is_a_link(folder: Path) -> str:
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)
    return f"{folder}: it is a symbolic link; set IOLAB_RUN_DIR to a folder of your own"


def is_a_link_to_nothing(folder: Path) -> str:
    folder.symlink_to(folder.with_name("nothing"))
    return f"{folder}: it is a symbolic link; set IOLAB_RUN_DIR to a folder of your own"


def cannot_be_made(folder: Path) -> str:
    folder.parent.rmdir()
    folder.parent.write_text("")
    return f"{folder}: Not a directory; set IOLAB_RUN_DIR to a folder of your own"


def is_a_file(folder: Path) -> str:
    folder.write_text("")
    return f"{folder}: Not a directory; set IOLAB_RUN_DIR to a folder of your own"


Spoil = Callable[[Path], str]
every_bad_folder = pytest.mark.parametrize(
    "spoil", [belongs_to_another, is_open_to_others, is_a_link, is_a_link_to_nothing, is_a_file, cannot_be_made]
)


@pytest.fixture
def spoilt(tmp_path: Path, run_dir: Path, spoil: Spoil) -> tuple[Launcher, str]:
    """The commands with a folder of run files that can't be used, and the line that tells why."""
    return Launcher(tmp_path), spoil(run_dir)


@every_bad_folder
def test_up_and_down_refuse_a_folder_that_is_not_to_be_trusted(spoilt: tuple[Launcher, str]) -> None:
    launcher, reason = spoilt
    assert launcher.run("down") == (1, "", f"iolab: {reason}\n")
    assert launcher.run("up", "--detach", "epoll_loop") == (1, "", f"iolab: {reason}\n")


@every_bad_folder
def test_a_server_runs_without_its_file_and_says_so(spoilt: tuple[Launcher, str]) -> None:
    launcher, reason = spoilt
    with launcher.begin("serve", "epoll_loop") as command:
        assert command.stdout
        first, second = (json.loads(command.stdout.readline()) for _ in range(2))
        assert launcher.answers("epoll_loop")
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=SECONDS)
    assert (first["event"], first["level"], first["reason"]) == ("no_run_file", "warning", reason)
    assert second["event"] == "listening"
    assert command.returncode == 0


@every_bad_folder
def test_who_only_reads_is_told_once_and_goes_on(
    spoilt: tuple[Launcher, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, reason = spoilt
    assert run_files.running() == run_files.running() == []
    assert capsys.readouterr().err == f"iolab: {reason}\n"


# Places


def test_a_session_that_ends_or_begins_hides_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IOLAB_RUN_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    own = identity.own_identity()

    def found() -> bool:
        return own in [server.process for server in run_files.running()]

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    with run_files.announced("epoll_loop", "127.0.0.1", 8004, 9104, 5.0):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
        assert run_files.folder() == session / "iolab"
        assert found()
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert found()


def test_another_users_session_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_root()
    monkeypatch.delenv("IOLAB_RUN_DIR", raising=False)
    os.chown(tmp_path, STRANGER, STRANGER)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert tmp_path / "iolab" not in run_files.places()

"""Where a model is looked for, and in which order."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from iolab import registry
from iolab.run import run_files
from iolab_client.servers import targets
from iolab_client.servers.targets import Target, Wanted, resolve, resolve_admin
from tests.client.fakes import admin_serving, docker_engine

MODEL = registry.find("epoll_loop")


def one(wanted: str) -> Target:
    (target,) = resolve([Wanted().convert(wanted, None, None)])
    return target


@pytest.mark.parametrize("name", ["epoll_loop", "epoll-loop"])
def test_a_model_is_named_in_either_spelling(name: str) -> None:
    assert one(name).model is MODEL


def test_an_address_needs_no_model() -> None:
    assert one("localhost:7") == Target(model=None, address=("localhost", 7))
    assert one("[::1]:7").address == ("::1", 7)
    assert one("[::1]:7").shown_address == "[::1]:7"


@pytest.mark.parametrize("wrong", ["nothing", "host:port", "host:0", "host:70000", ":80"])
def test_anything_else_is_a_usage_error(wrong: str) -> None:
    with pytest.raises(click.BadParameter):
        one(wrong)


def test_without_names_every_model_is_meant() -> None:
    assert [target.name for target in resolve([])] == list(registry.MODELS)


def test_the_last_resort_is_the_port_of_the_yaml_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own" / "models").mkdir(parents=True)
    (tmp_path / "own" / "defaults.yaml").write_text("backlog: 5\n")
    (tmp_path / "own" / "models" / "epoll_loop.yaml").write_text("port: 4321\n")
    monkeypatch.setenv("IOLAB_CONFIGS", str(tmp_path / "own"))
    target = one("epoll_loop")
    assert (target.address, target.admin) == (("127.0.0.1", 4321), None)
    assert "Docker does not answer (Connection refused)" in target.no_admin


def test_in_the_compose_client_a_model_is_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOLAB_IN_COMPOSE", "1")
    with run_files.announced("epoll_loop", "127.0.0.1", 7777, 7778, 5):
        target = one("epoll_loop")
    assert (target.address, target.admin) == (("epoll-loop", 8004), ("epoll-loop", 9100))


def test_a_process_of_this_machine_comes_before_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_engine("epoll-loop", {"front": "127.0.0.1"}) as engine, admin_serving() as admin:
        monkeypatch.setenv("DOCKER_HOST", engine)
        monkeypatch.setattr(targets, "ADMIN_PORT", admin[1])
        with run_files.announced("epoll_loop", "0.0.0.0", 7777, 7778, 5):
            target = one("epoll_loop")
        assert (target.address, target.admin) == (("127.0.0.1", 7777), ("127.0.0.1", 7778))
        assert one("epoll_loop").address == ("127.0.0.1", 8004)


def test_a_container_is_reached_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"gone": "", "front": "127.0.0.1"}
    with docker_engine("epoll-loop", networks) as engine, admin_serving() as admin:
        monkeypatch.setenv("DOCKER_HOST", engine)
        monkeypatch.setattr(targets, "ADMIN_PORT", admin[1])
        target = one("epoll_loop")
    assert (target.address, target.admin) == (("127.0.0.1", 8004), admin)


def test_a_container_out_of_reach_is_talked_to_at_its_published_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with admin_serving() as (_, closed):
        pass
    published = ("0.0.0.0", 5555)
    with docker_engine("epoll-loop", {"front": "127.0.0.1"}, published) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine)
        monkeypatch.setattr(targets, "ADMIN_PORT", closed)
        target = one("epoll_loop")
    assert (target.address, target.admin) == (("127.0.0.1", 5555), None)
    assert "cannot be reached" in target.no_admin


def test_a_model_without_container_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_engine("epoll-loop", {"front": "127.0.0.1"}) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine)
        target = one("epoll_pool")
    assert (target.address, target.admin) == (("127.0.0.1", 8005), None)
    assert "make up" in target.no_admin


def test_the_address_of_a_known_process_is_that_process() -> None:
    with run_files.announced("epoll_loop", "127.0.0.1", 7777, 7778, 5):
        assert one("127.0.0.1:7777").model is MODEL


def test_for_the_admin_pages_an_unknown_address_is_the_admin_ports() -> None:
    assert resolve_admin(("localhost", 9100)).admin == ("localhost", 9100)

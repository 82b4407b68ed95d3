"""The lessons: those that there are can be done, and one that cannot is told in a line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from iolab.settings import BadSetting, PlaygroundSettings
from iolab_client.playground.documents import Documents
from iolab_client.playground.lessons import load_lessons

ROOT = Path(__file__).parents[3]
GOOD = """
title: A title
question: What happens?
choices: [{text: this, right: true}, {text: that}]
steps: [{tell: Say hello., say: {model: epoll_loop}}]
explain: [Because.]
"""


def test_there_are_seven_and_the_first_is_the_pool() -> None:
    lessons = load_lessons(ROOT / "configs")
    assert next(iter(lessons)) == "pool-cap"
    assert {"pool-cap", "busy-poll", "slow-answer", "idle-crowd", "slow-reader", "epoll-is-synchronous"} < set(lessons)


def test_a_lesson_asks_for_no_more_than_a_page_may_do() -> None:
    most = PlaygroundSettings()
    for lesson in load_lessons(ROOT / "configs").values():
        for step in lesson.steps:
            if step.dial:
                assert step.dial.wait_ms <= most.most_wait_ms
            if step.crowd and step.crowd.count != "workers":
                assert step.crowd.count <= most.connections
            if step.load and step.load.connections != "workers":
                assert step.load.connections <= most.load_connections
                assert step.load.seconds <= most.load_seconds


def test_a_lesson_shows_something_names_its_claim_and_each_model_has_a_page() -> None:
    claims = {file.stem.replace("_", "-") for file in (ROOT / "clients/iolab_client/experiments").glob("*.py")}
    for name, lesson in load_lessons(ROOT / "configs").items():
        assert any(step.named for step in lesson.steps), name
        assert not lesson.claim or lesson.claim in claims, name
        for slug in lesson.models():
            assert Documents(ROOT / "docs").has(f"models/{slug}.md")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"title": 3}, "title: got 3, expected text of 1 to 100 characters"),
        ({"titel": "x"}, "titel: got x, expected one of title, question"),
        ({"question": None}, "question: got null"),
        ({"choices": [{"text": "one", "right": True}]}, "choices: got"),
        ({"choices": [{"text": "one"}, {"text": "two"}]}, "choices: expected one with `right: true`"),
        ({"steps": []}, "steps: got"),
        ({"steps": [{"tell": "x", "say": {"model": "nobody"}}]}, "model: got nobody, expected one of blocking_pool"),
        ({"steps": [{"tell": "x", "say": {}}]}, "model: is missing"),
        ({"steps": [{"tell": "x", "shout": {}}]}, "shout: got {}, expected one of tell"),
        ({"steps": [{"tell": "x", "crowd": {"model": "epoll_loop", "count": 1001}}]}, "count: got 1001, expected"),
        ({"steps": [{"tell": "x", "wait_seconds": 99}]}, "wait_seconds: got 99, expected a number from 0 to 30"),
        (
            {"steps": [{"tell": "x", "end": True, "say": {"model": "epoll_loop"}}]},
            r"steps\[0\]: does several things; expected one",
        ),
    ],
)
def test_a_lesson_that_cannot_be_done_is_one_line(change: dict[str, object], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "1-good.yaml").write_text(GOOD)
    assert list(load_lessons(tmp_path)) == ["good"]
    (tmp_path / "lessons" / "2-bad.yaml").write_text(yaml.safe_dump(yaml.safe_load(GOOD) | change))
    with pytest.raises(BadSetting, match=complaint) as told:
        load_lessons(tmp_path)
    assert "2-bad.yaml: " in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("file", "text", "code", "words"),
    [
        ("lessons/1-bad.yaml", "title: x", 2, "lessons/1-bad.yaml: question: is missing; expected text of 1 to 2000"),
        ("playground.yaml", "pages: 0", 2, "playground.yaml: pages: got 0, expected an integer from 1 to 1000"),
        (
            "playground.yaml",
            "port: {taken}",
            1,
            "address already in use; stop what listens there, or name another port",
        ),
    ],
)
def test_the_command_ends_with_one_line_where_it_cannot_serve(
    tmp_path: Path, file: str, text: str, code: int, words: str
) -> None:
    (tmp_path / "lessons").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / file).write_text(text.format(taken=taken.getsockname()[1]))
        run = subprocess.run(
            [sys.executable, "-P", "-m", "iolab_client", "playground"],
            env=os.environ | {"IOLAB_CONFIGS": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == code
    assert words in run.stderr
    assert run.stderr.count("\n") == 1


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert load_lessons(None) == {}
    assert load_lessons(tmp_path) == {}


@pytest.mark.parametrize(
    "path", ["../secret.md", "/etc/passwd", "link.md", "models", "", "a\0.md", "page.html", "../docs2/a.md"]
)
def test_no_document_is_outside_its_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "docs"
    (folder / "models").mkdir(parents=True)
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "a.md").write_text("secret")
    (tmp_path / "secret.md").write_text("secret")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "page.html").write_text("<script>")
    (folder / "good.md").write_text("good")
    assert Documents(folder).has("good.md")
    assert not Documents(folder).has(path)

"""The pages in a real browser: light and dark, wide and narrow, printed, and for who does not see or has no mouse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iolab_client.report.page import render, render_versus
from iolab_client.report.versus import versus
from iolab_client.results.measurement import Errors
from iolab_client.results.verdicts import judge_one
from tests.client.report.everything import PLOTS, everything
from tests.client.runs import comparison, latency
from tests.support.browser import Opened, chromium

# What is printed on A4 with the browser's margins, in CSS pixels.
PAPER = 718
TEXTS = """drawing => [...drawing.querySelectorAll("text")].map(text => {
    const box = text.getBoundingClientRect();
    return [text.textContent, box.left, box.top, box.right, box.bottom];
}).filter(([, left, , right]) => right > left)"""

# What a screen reader calls an element.
NAME = "one => one.ariaLabel ?? document.getElementById(one.getAttribute('aria-labelledby')).textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(everything()).html)
    return file


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose axes have no room for all their numbers."""
    file = tmp_path_factory.mktemp("crowded") / "report.html"
    subjects = ["yardstick", "epoll_loop", "thread_per_connection"]
    connections, rates = (1, 2, 3, 1000, 1024, 1100), (10_000.0, 11_800.0, 100_000.0)
    run = comparison(subjects, rounds=2, connections=connections, rates=rates)
    # As many that the axis of percentiles ends with a long number: 99.99.
    for one in run.measurements:
        one.latency = latency(300.0, count=5_100)
    file.write_text(render(run).html)
    return file


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of whose subjects errs."""
    subjects = ["yardstick", "epoll_loop", "thread_per_connection"]
    first, second = (comparison(subjects, connections=(64,), rates=(), seed=seed) for seed in (0, 1))
    for one in second.measurements:
        if one.subject == "epoll_loop":
            one.errors = Errors(reset=1)
            one.verdict = judge_one(one)
    second.environment.kernel = "6.13.0-amd64"
    file = tmp_path_factory.mktemp("two") / "page.html"
    file.write_text(render_versus(versus(first, second), "results/first", "results/second"))
    return file


def test_it_shows_every_plot_asks_for_nothing_and_has_no_complaint(browser: Any, file: Path) -> None:
    opened = Opened(browser, file.as_uri())
    page = opened.page
    for name in PLOTS:
        drawing = page.locator(f"#plot-{name} svg")
        box = drawing.bounding_box()
        assert box, name
        assert box["width"] > 600
        assert box["height"] > 150
        assert drawing.locator("path").count() > 20
    lines = page.locator("#plot-throughput [id*='line-epoll_loop'] path")
    assert lines.first.evaluate("path => path.getTotalLength()") > 100
    assert page.title().startswith("iolab")
    assert [url for url in opened.asked if not url.startswith("data:")] == [file.as_uri()]
    assert opened.complaints == []
    page.close()


def test_light_and_dark_differ_in_the_page_and_in_the_drawings(browser: Any, file: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        opened = Opened(browser, file.as_uri(), color_scheme=scheme)
        page = opened.page
        stroke = page.locator("#plot-throughput [id*='line-epoll_loop'] path").first.evaluate(
            "path => getComputedStyle(path).stroke"
        )
        label = page.locator("#plot-throughput text", has_text="answers/s").evaluate("t => getComputedStyle(t).fill")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        picture = page.locator("#plot-heat image").first.evaluate("image => getComputedStyle(image).filter")
        seen[scheme] = (stroke, label, background, picture)
        assert opened.complaints == []
        page.close()
    assert all(one != other for one, other in zip(seen["light"], seen["dark"], strict=True)), seen


@pytest.mark.parametrize("width", [360, 1280])
def test_a_page_is_never_wider_than_the_screen(browser: Any, file: Path, two: Path, width: int) -> None:
    for shown in (file, two):
        page = Opened(browser, shown.as_uri(), viewport={"width": width, "height": 800}).page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


@pytest.mark.parametrize(("width", "medium"), [(1200, "screen"), (360, "screen"), (PAPER, "print")])
def test_who_does_not_scroll_sees_verdict_and_p99(browser: Any, file: Path, width: int, medium: str) -> None:
    page = Opened(browser, file.as_uri(), viewport={"width": width, "height": 800}).page
    page.emulate_media(media=medium)
    seen = page.evaluate(
        """() => [...document.querySelectorAll("table.essential")].map(table => {
            const right = Math.min(innerWidth, table.parentElement.getBoundingClientRect().right);
            return [...table.querySelectorAll("thead th")]
                .filter(th => th.getBoundingClientRect().right <= right).map(th => th.textContent);
        })"""
    )
    assert len(seen) == 4
    for headings in seen:
        assert {"subject", "verdict", "answers/s", "p99"} <= {*headings}
        # On paper and on a screen of the usual size nothing is out of sight.
        assert len(headings) == 8 or width == 360
    page.close()


def test_two_runs_are_whole_on_paper(browser: Any, two: Path) -> None:
    page = Opened(browser, two.as_uri(), viewport={"width": PAPER, "height": 800}).page
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    right = "table => table.getBoundingClientRect().right"
    assert all(table.evaluate(right) <= PAPER for table in page.locator("table").all())
    page.close()


def test_no_text_of_a_drawing_covers_another(browser: Any, file: Path, crowded: Path) -> None:
    for shown in (file, crowded):
        page = Opened(browser, shown.as_uri(), viewport={"width": 1200, "height": 800}).page
        for name in PLOTS:
            texts = page.locator(f"#plot-{name} svg").evaluate(TEXTS)
            assert len(texts) > 5
            covering = [
                (one[0], other[0])
                for one, other in itertools.combinations(texts, 2)
                if min(one[3], other[3]) - max(one[1], other[1]) > 1
                and min(one[4], other[4]) - max(one[2], other[2]) > 2
            ]
            assert covering == [], name
            box = page.locator(f"#plot-{name} svg").bounding_box()
            left, right = box["x"] - 1, box["x"] + box["width"] + 1
            # The hostile name is longer than any.
            assert [one[0] for one in texts if len(one[0]) < 40 and not left <= one[1] <= one[3] <= right] == [], name
        page.close()


def test_who_has_no_mouse_reaches_and_scrolls_what_is_wider_than_the_screen(browser: Any, file: Path) -> None:
    page = Opened(browser, file.as_uri(), viewport={"width": 360, "height": 800}).page
    areas = page.locator(".scroll:visible")
    assert areas.count() == len(PLOTS) + 4
    for area in areas.all():
        assert area.evaluate(NAME)
        # Tab stops at it.
        assert area.evaluate("area => area.tabIndex") == 0
        area.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("area => area.scrollLeft > 0", arg=area.element_handle())
    # What is folded opens with the keyboard, too.
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open] table").count() == 1
    page.close()


def test_each_table_has_a_caption_and_headings_of_rows_and_columns(browser: Any, file: Path, two: Path) -> None:
    for shown in (file, two):
        page = Opened(browser, shown.as_uri()).page
        found = page.evaluate(
            """() => [...document.querySelectorAll("table")].map(table => [
                (table.caption?.textContent ?? "").length > 0,
                [...table.tHead.rows[0].cells].every(cell => cell.matches("th[scope=col]")),
                [...table.tBodies[0].rows].every(row => row.cells[0].matches("th[scope=row]")),
            ])"""
        )
        assert len(found) >= 2
        assert all(all(each) for each in found)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, file: Path, two: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for shown in (file, two):
        page = Opened(browser, shown.as_uri(), viewport={"width": 800, "height": 800}, color_scheme=scheme).page
        # What is folded is looked at, too.
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        results = Axe().run(page)
        found = {one["id"]: [node["target"] for node in one["nodes"]] for one in results.response["violations"]}
        assert found == {}
        assert len(results.response["passes"]) > 10
        page.close()

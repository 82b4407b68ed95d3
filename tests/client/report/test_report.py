"""The report: what it draws and says, in a real browser too; and two runs beside each other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from iolab_client.__main__ import main
from iolab_client.report import palette
from iolab_client.report.folder import write_folder
from iolab_client.report.page import Rendered, render
from iolab_client.report.versus import Change, versus
from iolab_client.results import bundle
from iolab_client.results.measurement import Errors, Generator, Run
from iolab_client.results.verdicts import judge_one
from tests.client.runs import SPEEDS, comparison, copy, environment, measurement, run_of
from tests.support.missing import skip

HOSTILE = "<script>document.title='taken'</script>$x_1$"
PLOTS = ("throughput", "cost", "share", "percentiles", "percentiles-open", "offered", "memory")


@pytest.fixture(scope="module")
def run() -> Run:
    """All models; one starves, one errs, one name and one sample are hostile."""
    made = comparison(rounds=2, connections=(1, 64), rates=(2000.0, 8000.0))
    made.measurements.append(measurement(subject=HOSTILE))
    for one in made.measurements:
        if one.subject == "blocking_pool":
            one.answered_connections = 1 if one.plan.connections == 1 else 6
        if one.subject == "busy_poll":
            one.errors = Errors(wrong=1, samples=[f"byte 7 is {HOSTILE}"])
        one.verdict = judge_one(one)
    made.left_out = {"other": HOSTILE}
    made.checked = {"epoll_loop": {"half_close": "ok"}, "busy_poll": {"half_close": f"FAIL: {HOSTILE}"}}
    return made


@pytest.fixture(scope="module")
def rendered(run: Run) -> Rendered:
    return render(run)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_same_run_makes_the_same_bytes(run: Run, rendered: Rendered) -> None:
    assert render(copy(run)) == rendered


def test_every_plot_has_every_subject_in_its_own_colour(rendered: Rendered) -> None:
    looks = palette.looks(SPEEDS)
    for name in PLOTS:
        figure = rendered.html.split(f'id="plot-{name}"')[1].split("</figure>")[0]
        for subject in SPEEDS:
            if name == "share" and subject == "yardstick":
                continue
            assert f">{subject}</text>" in figure, f"{subject} in {name}"
            assert f"var(--{looks[subject].colour})" in figure
    assert set(rendered.plots) == set(PLOTS)


def test_no_two_models_look_alike_and_none_depends_on_who_else_is_there() -> None:
    looks = palette.looks(SPEEDS)
    assert len(set(looks.values())) == len(SPEEDS) == 14
    assert palette.looks(["10.0.0.1:80", "task_queue"])["task_queue"] == looks["task_queue"]
    assert palette.looks(["10.0.0.1:80"])["10.0.0.1:80"] not in looks.values()


def test_the_plots_as_files_have_light_colours_and_need_no_page(rendered: Rendered) -> None:
    for name, svg in rendered.plots.items():
        assert svg.startswith('<?xml version="1.0"'), name
        assert "var(--" not in svg
        assert "#a1b" not in svg
        assert palette.LIGHT[0] in svg
        # Dark ink on a dark page would not be seen.
        assert svg.index(palette.PAPER) < svg.index("<path")


def test_what_is_not_valid_is_marked_and_has_no_place(rendered: Rendered) -> None:
    rows = re.findall(r"<tr class=\"doubtful\">(.*?)</tr>", rendered.html, re.DOTALL)
    starved = [row for row in rows if "blocking_pool" in row and "STARVED" in row]
    assert len(starved) == 3
    assert all("<td>\N{EN DASH}</td>" in row for row in starved)
    assert "58 of 64 connections never got an answer" in rendered.html


def test_text_from_outside_is_text(run: Run, rendered: Rendered) -> None:
    assert "<script" not in rendered.html
    assert rendered.html.count("&lt;script&gt;") >= 5
    assert not any("<script" in svg for svg in rendered.plots.values())
    # No mathematics is made of its dollars.
    assert "$x_1$</text>" in rendered.plots["cost"]


def test_a_plot_without_data_is_left_out_with_the_reason() -> None:
    html = render(run_of([measurement(cost=None)])).html
    assert "<svg" in html
    for reason in ("two connection counts", "two rates", "the yardstick under the same load", "the admin port"):
        assert reason in html
    assert html.count("Not drawn:") == 5


@pytest.mark.parametrize("memory", [0, -400])
def test_a_server_that_did_not_grow_is_drawn_without_a_complaint_of_the_plots(memory: int) -> None:
    assert "memory" in render(run_of([measurement(memory=memory)])).plots


def test_an_axis_has_the_numbers_that_were_asked_for_or_round_ones_where_these_would_cover_each_other() -> None:
    def numbers(rates: tuple[float, ...]) -> list[str]:
        run = comparison(["epoll_loop"], rounds=2, connections=(64,), rates=rates)
        return re.findall(r">([\d,]+)</text>", render(run).plots["offered"])

    assert {"2,000", "7,000", "19,000"} <= set(numbers((2_000.0, 7_000.0, 19_000.0)))
    near = set(numbers((9_000.0, 19_000.0, 19_500.0, 20_500.0, 60_000.0)))
    assert {"10,000", "20,000", "50,000"} <= near
    assert "19,500" not in near


def test_an_interrupted_run_says_so(run: Run) -> None:
    assert "interrupted" in render(run_of(run.measurements[:4], ended="")).html
    assert "interrupted" not in render(run_of(run.measurements[:4])).html


def test_a_share_of_a_yardstick_that_was_held_back_is_called_an_upper_bound() -> None:
    busy = Generator(processes=1, cpus=(1,), cpu_seconds=9.9, busy=0.99)
    html = render(run_of([measurement(subject="yardstick", cost=5.0, generator=busy), measurement()])).html
    assert "the share by rate is an upper bound" in html


def test_report_makes_the_same_report_again(run: Run, tmp_path: Path) -> None:
    write_folder(run, tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    (tmp_path / "report.html").unlink()
    (tmp_path / "plots" / "cost.svg").write_text("spoilt")
    result = invoke("report", tmp_path)
    assert result.exit_code == 0, result.output
    assert "STARVED: in 2 of 2 rounds: 58 of 64 connections" in result.stdout
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files


def test_report_prints_the_summary_as_json(run: Run, tmp_path: Path) -> None:
    bundle.save(run, tmp_path)
    result = invoke("report", tmp_path, "--json", "--html", tmp_path / "page.html")
    assert len(json.loads(result.stdout)["cells"]) == 14 * 4 + 1
    assert (tmp_path / "page.html").read_text() == render(run).html
    assert not (tmp_path / "report.html").exists()


def test_report_of_no_bundle_is_a_usage_error_in_one_line(tmp_path: Path) -> None:
    result = invoke("report", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path}/results.json: no such file or directory; expected")
    assert len(result.stderr.splitlines()) == 1


def pair() -> tuple[Run, Run]:
    """A run and the same with epoll_loop half again as costly, on another kernel."""
    subjects = ["yardstick", "epoll_loop", "select_loop"]
    first = comparison(subjects, connections=(64,), rates=())
    second = comparison(subjects, connections=(64,), rates=(), seed=1)
    dear = comparison(subjects, connections=(64,), rates=(), slower=1.5)
    second.measurements = [one for one in second.measurements if one.subject != "epoll_loop"]
    second.measurements += [one for one in dear.measurements if one.subject == "epoll_loop"]
    second.measurements.append(measurement(subject="busy_poll"))
    second.environment = environment(kernel="6.13.0-amd64", load_average=1.0)
    return first, second


def changes(first: Run, second: Run, subject: str) -> dict[str, Change]:
    return {c.name: c for pair in versus(first, second).pairs if pair.subject == subject for c in pair.changes}


def test_two_runs_tell_what_changed_and_what_did_not() -> None:
    first, second = pair()
    epoll = changes(first, second, "epoll_loop")
    assert {name: change.word for name, change in epoll.items()} == {"rate": "worse", "p99": "worse", "cost": "worse"}
    assert epoll["cost"].effect
    assert epoll["cost"].effect.ratio == pytest.approx(1.5, rel=0.03)
    assert {change.word for change in changes(first, second, "select_loop").values()} == {"not told apart"}
    assert {change.word for change in changes(second, first, "epoll_loop").values()} == {"better"}


def test_two_runs_tell_what_else_is_different() -> None:
    found = versus(*pair())
    assert found.differences == [("kernel", "6.12.0-amd64", "6.13.0-amd64")]
    assert ([subject for subject, _ in found.only_second], found.only_first) == (["busy_poll"], [])


def test_what_is_not_valid_in_one_of_two_runs_is_not_judged() -> None:
    first, second = pair()
    for one in second.measurements:
        one.errors = Errors(reset=1)
        one.verdict = judge_one(one)
    assert {change.word for change in changes(first, second, "epoll_loop").values()} == {"not judged"}
    assert versus(first, second).pairs[0].doubt.startswith("ERRORS in the second: in 5 of 5 rounds: 1 errors (1 reset)")


def test_report_of_two_folders_prints_a_table_json_or_a_page(tmp_path: Path) -> None:
    first, second = pair()
    second.models = {"epoll_loop": {"note": HOSTILE}}
    bundle.save(first, tmp_path / "a")
    bundle.save(second, tmp_path / "b")
    shown = invoke("report", tmp_path / "a", tmp_path / "b").stdout
    assert re.search(r"epoll_loop .*cost.* 1\.\d{3} .*worse", shown)
    assert "different: kernel: 6.12.0-amd64 / 6.13.0-amd64" in shown
    assert "only in the second: busy_poll, 64 connections, 64 B" in shown
    page = tmp_path / "page.html"
    printed = invoke("report", tmp_path / "a", tmp_path / "b", "--json", "--html", page)
    assert json.loads(printed.stdout) == json.loads(msgspec.json.encode(versus(first, second)))
    assert "<script" not in page.read_text()
    assert "not told apart" in page.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright."""

    chromium = shutil.which("chromium")
    if not chromium:
        skip("there is no chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip("playwright is not installed: pip install 'iolab[test]'")
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which root and most containers do not have; the page is our own.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(rendered.html)
    return file


def opened(browser: Any, file: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what it asked for, and what it complained about."""
    page = browser.new_page(**options)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri(), wait_until="load")
    return page, asked, complaints


def test_a_browser_shows_every_chart_asks_for_nothing_and_has_no_complaint(browser: Any, file: Path) -> None:
    page, asked, complaints = opened(browser, file)
    try:
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
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        assert complaints == []
    finally:
        page.close()


def test_light_and_dark_differ_in_the_page_and_in_the_drawings(browser: Any, file: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page, _, complaints = opened(browser, file, color_scheme=scheme)
        stroke = page.locator("#plot-throughput [id*='line-epoll_loop'] path").first.evaluate(
            "path => getComputedStyle(path).stroke"
        )
        label = page.locator("#plot-throughput text", has_text="answers/s").evaluate("t => getComputedStyle(t).fill")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen[scheme] = (stroke, label, background)
        assert complaints == []
        page.close()
    assert all(one != other for one, other in zip(seen["light"], seen["dark"], strict=True)), seen


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_never_wider_than_the_screen(browser: Any, file: Path, width: int) -> None:
    page, _, _ = opened(browser, file, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()

"""The report: what it draws and says; and two runs beside each other."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from iolab_client.__main__ import main
from iolab_client.report import palette
from iolab_client.report.folder import write_folder
from iolab_client.report.page import Rendered, render
from iolab_client.report.versus import Change, versus
from iolab_client.results import bundle
from iolab_client.results.measurement import Errors, Generator, Plan, Run
from iolab_client.results.verdicts import judge_one
from tests.client.report.everything import HOSTILE, PLOTS, everything
from tests.client.runs import SPEEDS, comparison, copy, environment, latency, measurement, run_of


@pytest.fixture(scope="module")
def run() -> Run:
    return everything()


@pytest.fixture(scope="module")
def rendered(run: Run) -> Rendered:
    return render(run)


@pytest.fixture(scope="module")
def few() -> Run:
    """Of a few models."""
    return comparison(["yardstick", "epoll_loop", "busy_poll"], rounds=2, connections=(1, 64), rates=(2000.0,))


@pytest.fixture(scope="module")
def rendered_few(few: Run) -> Rendered:
    return render(few)


def figure_of(rendered: Rendered, name: str) -> str:
    """A plot on the page, with its words."""
    return rendered.html.split(f'id="plot-{name}"')[1].split("</figure>")[0]


def rows_of(html: str, subject: str) -> list[str]:
    """The rows of all tables that are about a subject."""
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    return [row for row in rows if f"{subject}</th>" in row.replace("<wbr>", "")]


def picture(data: str) -> npt.NDArray[np.uint8]:
    """An image in a drawing: rows from the top, red, green, blue, alpha."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_same_run_makes_the_same_bytes(few: Run, rendered_few: Rendered) -> None:
    assert render(copy(few)) == rendered_few


def test_a_style_of_the_readers_makes_no_difference(few: Run, rendered_few: Rendered) -> None:
    with matplotlib.rc_context({"text.usetex": True, "figure.dpi": 30, "axes.labelsize": 30}):
        assert render(few) == rendered_few


def test_what_a_notebook_draws_with_is_not_asked_for(few: Run, tmp_path: Path) -> None:
    bundle.save(few, tmp_path)
    environment = os.environ | {"MPLBACKEND": "module://of.some.notebook"}
    command = [sys.executable, "-P", "-m", "iolab_client", "report", str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    assert (tmp_path / "report.html").exists()


def test_every_plot_has_every_subject_in_its_own_colour(rendered: Rendered) -> None:
    looks = palette.looks(SPEEDS)
    for name in PLOTS:
        figure = figure_of(rendered, name)
        for subject in SPEEDS:
            if name == "share" and subject == "yardstick":
                continue
            assert f">{subject}</text>" in figure, f"{subject} in {name}"
            assert name.startswith("heat") or f"var(--{looks[subject].colour})" in figure
    assert set(rendered.plots) == set(PLOTS)


def test_every_drawing_has_a_title_and_says_what_it_shows(rendered: Rendered) -> None:
    for name, svg in rendered.plots.items():
        head, title, description = re.findall(r"<svg[^>]*>|<title[^>]*>[^<]+</title>|<desc[^>]*>[^<]+</desc>", svg)
        ids = [re.findall(r'id="([^"]+)"', each)[0] for each in (title, description)]
        assert f'aria-labelledby="{" ".join(ids)}"' in head
        assert f">{title.split('>')[1].split('<')[0]}</h3>" in figure_of(rendered, name)
    assert re.search(r"<desc[^>]*>With 64 connections, answers a second: .*epoll_loop \d", rendered.plots["throughput"])


def test_an_open_loop_of_shares_shows_every_subject_at_its_own_rate() -> None:
    subjects = ["epoll_loop", "select_loop", "busy_poll", "yardstick"]
    measurements = [
        measurement(subject=subject, rate=rate, plan=Plan(rate=rate), mean=200.0, round=number)
        for number in (1, 2)
        for place, subject in enumerate(subjects)
        for rate in (1_000.0 + place, 3_000.0 + place, 5_000.0 + place)
    ]
    silent = measurement(subject="task_queue", rate=0.0, plan=Plan(rate=3_000.0), mean=200.0, latency=latency(1, 0))
    rendered = render(run_of([*measurements, msgspec.structs.replace(silent, over_time=None)]))
    for name in ("percentiles-open", "heat-open"):
        figure = figure_of(rendered, name)
        for place, subject in enumerate(subjects):
            assert f">{subject}, {3_000 + place:,}/s</text>" in figure
        assert "Not in it: task_queue;" in figure


def test_a_heat_map_has_a_picture_of_each_round_and_nothing_where_nobody_was_answered(few: Run) -> None:
    drawn = figure_of(render(few), "heat")
    pictures = [picture(data) for data in re.findall(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", drawn)]
    assert len(pictures) == 3 * 2
    for shades in pictures:
        seen = (shades[..., 3] > 0).any(axis=0)
        assert seen.tolist() == [True] * 4 + [False] + [True] * 3
        # What had waited comes after that, and took longer than all else.
        assert (shades[..., 3] > 0).any(axis=1).argmax() == (shades[:, 5, 3] > 0).argmax()


def test_a_share_that_is_larger_by_rate_than_by_cost_is_on_the_plot() -> None:
    yardstick = measurement(subject="yardstick", rate=10_000.0, cost=10.0)
    svg = render(run_of([yardstick, measurement(rate=90_000.0, cost=10.0)])).plots["share"]
    width = float(re.findall(r'viewBox="0 0 ([\d.]+) ', svg)[0])
    # Of all that is written the number of the row comes last.
    assert float(re.findall(r'<text[^>]* x="([\d.]+)"[^>]*>1</text>', svg)[-1]) < width


def test_a_run_without_latencies_over_time_says_so() -> None:
    html = render(run_of([measurement(over_time=None)])).html
    assert "Not drawn: The run has no latencies over time: an earlier version made it." in html


def test_a_percentile_that_unanswered_requests_could_raise_is_marked(few: Run) -> None:
    run = copy(few)
    for one in run.measurements:
        if one.subject == "epoll_loop" and one.plan.rate:
            one.latency = msgspec.structs.replace(one.latency, censored=9, censored_from=one.latency.p99 - 1)
    html = render(run).html
    (row,) = [row for row in rows_of(html, "epoll_loop") if "\N{GREATER-THAN OR EQUAL TO}" in row and "VALID" in row]
    assert row.count("\N{GREATER-THAN OR EQUAL TO}") == 1
    assert "\N{GREATER-THAN OR EQUAL TO}" not in render(few).html


def test_the_plots_as_files_have_light_colours_and_need_no_page(rendered: Rendered) -> None:
    for name, svg in rendered.plots.items():
        assert svg.startswith('<?xml version="1.0"'), name
        assert "var(--" not in svg
        assert "#a1b" not in svg
        assert name.startswith("heat") or palette.LIGHT[0] in svg
        # Dark ink on a dark page would not be seen.
        assert svg.index(palette.PAPER) < svg.index("<path")


def test_what_is_not_valid_is_marked_and_has_no_place(rendered: Rendered) -> None:
    starved = [row for row in rows_of(rendered.html, "blocking_pool") if "STARVED" in row]
    assert len(starved) == 3
    assert all('class="doubtful"' in row for row in starved)
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


def test_report_makes_the_same_report_again(few: Run, tmp_path: Path) -> None:
    run = copy(few)
    for one in run.measurements:
        if one.subject == "busy_poll" and one.plan.connections == 64:
            one.answered_connections = 6
            one.verdict = judge_one(one)
    write_folder(run, tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    (tmp_path / "report.html").unlink()
    (tmp_path / "plots" / "cost.svg").write_text("spoilt")
    result = invoke("report", tmp_path)
    assert result.exit_code == 0, result.output
    assert "STARVED: in 2 of 2 rounds: 58 of 64 connections" in result.stdout
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files


def test_report_prints_the_summary_as_json(few: Run, tmp_path: Path) -> None:
    bundle.save(few, tmp_path)
    result = invoke("report", tmp_path, "--json", "--html", tmp_path / "page.html")
    assert len(json.loads(result.stdout)["cells"]) == 3 * 3
    assert (tmp_path / "page.html").read_text() == render(few).html
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

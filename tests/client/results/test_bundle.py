"""A run as a folder: written, read again, and read by HdrHistogram's own tools."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from iolab_client.report.folder import write_folder
from iolab_client.results import bundle
from iolab_client.results.measurement import Plan, Run, Size
from iolab_client.results.recorded import Recorded
from iolab_client.results.summary import Case, Summary, summarise
from tests.client.runs import comparison, latency, measurement, run_of

SCHEMA = Path(__file__).parents[3] / "docs" / "results.schema.json"


@pytest.fixture(scope="module")
def run() -> Run:
    return comparison(["yardstick", "epoll_loop"], rounds=2, connections=(1, 64), rates=(2000.0,))


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "run"
    write_folder(run, folder)
    return folder


def test_what_was_written_is_read(run: Run, folder: Path) -> None:
    assert bundle.read(folder) == run


def test_results_json_has_the_summary_beside_the_run(run: Run, folder: Path) -> None:
    results = json.loads((folder / "results.json").read_bytes())
    assert msgspec.convert(results["summary"], Summary) == summarise(run)
    assert results["schema"] == 1


def test_a_bundle_has_all_its_files(folder: Path) -> None:
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {"results.json", "results.csv", "report.html", "plots/throughput.svg", "plots/cost.svg"} <= names
    assert "histograms/epoll_loop-c64-s64-round1.hgrm" in names
    assert "histograms/epoll_loop-c64-s64-r2000-round1-from-send.hgrm" in names
    assert {"histograms/c1-s64.hlog", "histograms/c64-s64.hlog", "histograms/c64-s64-r2000.hlog"} <= names
    assert not [name for name in names if ".new" in name]


def test_saving_leaves_the_old_file_or_the_new_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.save(run, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    longer = run_of([*run.measurements, measurement()])

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            bundle.save(longer, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    bundle.save(longer, tmp_path)
    assert bundle.read(tmp_path) == longer


def test_the_csv_has_a_row_for_each_measurement(run: Run, folder: Path) -> None:
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.measurements)
    for row, one in zip(rows, run.measurements, strict=True):
        assert (row["subject"], int(row["round"]), row["verdict"]) == (one.subject, one.round, one.verdict.word)
        assert float(row["rate"]) == one.rate
        assert float(row["p99_9_us"]) == one.latency.p99_9
        assert row["offered_rate"] == ("" if one.plan.rate is None else str(one.plan.rate))


def test_an_hlog_is_read_by_hdrhistogram_with_its_tags(run: Run, folder: Path) -> None:
    file = str(folder / "histograms" / "c64-s64.hlog")
    reader = HistogramLogReader(file, HdrHistogram(1, 3_600_000_000_000, 3))
    found = []
    while (histogram := reader.get_next_interval_histogram()) is not None:
        found.append((histogram.get_tag(), histogram.get_total_count(), histogram.get_value_at_percentile(99) / 1000))
    reader.input_file.close()
    due = [one for one in run.measurements if one.plan == Plan(connections=64)]
    assert sorted(found) == sorted((one.subject, one.latency.count, one.latency.p99) for one in due)


def test_an_hgrm_says_what_the_histogram_says(run: Run, folder: Path) -> None:
    one = next(one for one in run.measurements if one.subject == "epoll_loop" and one.plan.connections == 64)
    text = (folder / "histograms" / "epoll_loop-c64-s64-round0.hgrm").read_text()
    histogram = HdrHistogram.decode(one.latency.histogram)
    rows = [[float(field) for field in line.split()] for line in text.splitlines() if re.match(r" *\d", line)]
    assert len(rows) > 30
    for value, quantile, until, *_ in rows:
        assert value == pytest.approx(histogram.get_value_at_percentile(100 * until / one.latency.count) / 1000)
        assert until >= quantile * one.latency.count
    assert rows[-1][1:] == [1.0, one.latency.count]
    footer = dict(re.findall(r"(Mean|StdDeviation|Max|TotalCount) += +([\d.]+)", text))
    assert float(footer["Mean"]) == pytest.approx(histogram.get_mean_value() / 1000, rel=1e-3)
    assert float(footer["StdDeviation"]) == pytest.approx(histogram.get_stddev() / 1000, rel=1e-3)
    assert float(footer["Max"]) == pytest.approx(one.latency.max, abs=0.001)


def test_latencies_of_several_rounds_are_one_distribution() -> None:
    first, second = latency(100.0, 1000), latency(900.0, 1000)
    both = HdrHistogram.decode(first.histogram)
    both.decode_and_add(second.histogram)
    merged = Recorded([first.histogram, second.histogram])
    assert merged.count == 2000
    for quantile in (0.1, 0.5, 0.9, 0.999, 1.0):
        assert merged.at(quantile) == both.get_value_at_percentile(quantile * 100) / 1000


def test_a_subjects_name_is_no_path(tmp_path: Path) -> None:
    run = run_of([measurement(subject="../../etc/x:1"), measurement(subject="../../etc/x:1")])
    names = [name for name, _ in bundle.histograms(run)]
    assert names == [
        ".._.._etc_x_1-c64-s64-round0.hgrm",
        ".._.._etc_x_1-c64-s64-round0-2.hgrm",
        "c64-s64.hlog",
    ]


def test_a_loads_name_tells_what_is_not_usual() -> None:
    sizes = (Size(size=64, share=0.9), Size(size=1024, share=0.1))
    case = Case(connections=8, pipeline=4, sizes=sizes, rate=1500.0, churn=10, idle=1000)
    assert bundle.case_name(case) == "c8-s64x0.9+1024x0.1-p4-r1500-churn10-idle1000"


def test_a_run_without_measurements_is_a_bundle_too(tmp_path: Path) -> None:
    run = run_of([], ended="")
    write_folder(run, tmp_path / "empty")
    assert bundle.read(tmp_path / "empty") == run
    assert "Nothing was measured" in (tmp_path / "empty" / "report.html").read_text()


def test_a_folder_that_is_no_bundle_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(bundle.BadBundle) as raised:
        bundle.read(tmp_path)
    assert raised.value.message == (
        f"{tmp_path}/results.json: no such file or directory; expected a folder that `iolab-client compare` wrote"
    )
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: b"{" + data, "expected JSON: "),
        (lambda data: data[: len(data) // 2], "expected JSON: "),
        (lambda data: data.replace(b'"schema": 1', b'"schema": 2'), "schema is 2, expected 1"),
        (lambda data: data.replace(b'"schema": 1,', b""), "the whole: object missing required field `schema`"),
        (
            lambda data: data.replace(b'"seconds": 10.0', b'"seconds": "x"', 1),
            "measurements[0].seconds: expected `float`",
        ),
        (
            lambda data: data.replace(b'"VALID"', b'"FINE"', 1),
            "measurements[0].verdict.word: invalid enum value 'FINE'",
        ),
        (lambda data: b"[]", "the whole: expected `object`, got `array`"),
    ],
)
def test_what_is_wrong_in_a_bundle_is_named(folder: Path, tmp_path: Path, change: object, said: str) -> None:
    assert callable(change)
    (tmp_path / "results.json").write_bytes(change((folder / "results.json").read_bytes()))
    with pytest.raises(bundle.BadBundle) as raised:
        bundle.read(tmp_path)
    assert said in raised.value.message
    assert raised.value.message.startswith(f"{tmp_path}/results.json: ")
    assert "\n" not in raised.value.message


def test_the_documented_schema_is_the_one_that_is_written() -> None:
    assert SCHEMA.read_text() == bundle.schema(), "docs/results.schema.json is old: print bundle.schema() into it"


def test_the_schema_describes_the_fields() -> None:
    definitions = json.loads(bundle.schema())["$defs"]
    assert definitions["Measurement"]["properties"]["in_flight"]["description"] == (
        "The mean number of requests in flight over the measured time."
    )
    assert "Empty until the run is over" in definitions["Results"]["properties"]["ended"]["description"]

"""A run's whole folder: its data, and the plots and the page that are made of it."""

from __future__ import annotations

from pathlib import Path

from iolab_client.results import bundle
from iolab_client.results.measurement import Run

REPORT = "report.html"


def write_folder(run: Run, folder: Path) -> None:
    """Write everything: results.json, results.csv, histograms, plots and report.html. Raises OSError."""
    # matplotlib takes a second to import, and most commands need none of it.
    from iolab_client.report.page import render

    bundle.save(run, folder)
    bundle.put(folder / "results.csv", bundle.table(run).encode())
    for name, text in bundle.histograms(run):
        bundle.put(folder / "histograms" / name, text.encode())
    rendered = render(run)
    for name, svg in rendered.plots.items():
        bundle.put(folder / "plots" / f"{name}.svg", svg.encode())
    bundle.put(folder / REPORT, rendered.html.encode())

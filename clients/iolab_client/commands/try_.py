"""`try`: say something to every model and see what comes back."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass

import click
from rich.table import Table

from iolab.registry import Model
from iolab_client.contract import payload, peers
from iolab_client.contract.expect import option as expect_option
from iolab_client.results import units
from iolab_client.servers.address import Address, connect
from iolab_client.servers.explain import explain
from iolab_client.servers.targets import Target, Wanted, resolve
from iolab_client.terminal import screen

DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model said. `error` is why there is no answer, or what is wrong with it."""

    model: str
    address: str
    answer: str | None
    milliseconds: float
    error: str | None


@click.command("try")
@click.argument("text")
@click.argument("wanted", metavar="[MODEL|HOST:PORT]...", nargs=-1, type=Wanted())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@expect_option
@click.option(
    "--deadline",
    "deadline_seconds",
    type=units.Duration(),
    default=f"{DEADLINE_SECONDS:g}s",
    show_default=True,
    help="How long to wait for an answer.",
)
def command(
    text: str, wanted: tuple[Model | Address, ...], as_json: bool, expect: str, deadline_seconds: float
) -> None:
    """Send TEXT to each model (to all if none is named), half-close, and show the answers.

    Exits 1 if one does not answer, or not with what is expected: TEXT in upper case.
    """
    oracle = payload.Oracle(expect)
    answers = [ask(target, os.fsencode(text), deadline_seconds, oracle) for target in resolve(wanted)]
    if as_json:
        screen.print_json([asdict(answer) for answer in answers])
    else:
        screen.print_table(table(answers))
    if any(answer.error for answer in answers):
        raise SystemExit(1)


def ask(target: Target, data: bytes, deadline_seconds: float, oracle: payload.Oracle) -> Answer:
    """One exchange with one model; the time is from before connect(2) to the server's FIN."""
    started = time.perf_counter()
    got = error = None
    try:
        with connect(target.address, deadline_seconds=deadline_seconds) as peer:
            got = peers.exchange(peer, data, deadline_seconds=deadline_seconds)
        error = oracle.difference(got, data)
    except OSError as failure:
        error = explain(failure)
    return Answer(
        model=target.name,
        address=target.shown_address,
        answer=None if got is None else got.decode(errors="backslashreplace"),
        milliseconds=round((time.perf_counter() - started) * 1000, 1),
        error=error,
    )


def table(answers: list[Answer]) -> Table:
    """The answers, or in their place the reasons why there are none."""
    shown = Table("model", "address", "answer")
    shown.add_column("time (ms)", justify="right")
    for answer in answers:
        text = screen.plain(answer.answer or "")
        if answer.error:
            text = screen.plain(f"{answer.answer or ''} ({answer.error})".lstrip(), "red")
        shown.add_row(answer.model, answer.address, text, f"{answer.milliseconds:.1f}")
    return shown

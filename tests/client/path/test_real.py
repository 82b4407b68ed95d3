"""socat and nginx as they are: what is known of them is found, and their remedies help."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest

from iolab_client.path.examination import EXAMINED, Judgement, judge
from iolab_client.path.harness import Back, Harness, Patience
from scripts.between import LOOPBACK, Missing, Starter, free_port, nginx, socat
from tests.support.missing import skip

HALF_CLOSE = {"half_close, client to server", "half_close, server to client"}
RESET = {"reset, client to server", "reset, server to client"}


def examine(start: Starter, late_seconds: float) -> dict[str, Judgement]:
    """What a path comes to; half_close waits so long for what is cut later."""
    with free_port() as port:
        try:
            with start(port) as between, closing(Back(LOOPBACK, port)) as back:
                return {
                    one.name: judge(
                        one,
                        Harness(
                            between.front,
                            back,
                            Patience(
                                deadline_seconds=100,
                                idle_seconds=0.1,
                                late_seconds=late_seconds if one.clause == "half_close" else 0.1,
                                quiet_seconds=0.1,
                            ),
                        ),
                    )
                    for one in EXAMINED
                }
        except Missing as missing:
            skip(str(missing))


# Where it is cut, that is seen at once, however long is waited for it.
@pytest.mark.parametrize(
    ("start", "late_seconds", "broken"),
    [
        (socat, 30.0, HALF_CLOSE | RESET),
        (partial(socat, wait="3600"), 1.0, RESET),
        (nginx, 30.0, HALF_CLOSE | RESET),
        (partial(nginx, option="proxy_half_close on;"), 0.1, RESET),
    ],
    ids=["socat", "socat -t 3600", "nginx", "nginx, proxy_half_close on"],
)
def test_what_is_known_of_it_is_found_and_its_remedy_helps(
    start: Starter, late_seconds: float, broken: set[str]
) -> None:
    judged = examine(start, late_seconds)
    assert {name for name, one in judged.items() if not one.kept} == broken
    for name in broken & HALF_CLOSE:
        assert "nginx stream: proxy_half_close on; socat: -t 3600" in (judged[name].remedy or "")
    assert (judged["back_pressure, server to client"].held_bytes or 0) > 0

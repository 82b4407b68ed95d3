"""A run with all that a report has to cope with."""

from __future__ import annotations

from iolab_client.results.measurement import Errors, Run
from iolab_client.results.verdicts import judge_one
from tests.client.runs import comparison, measurement

HOSTILE = "<script>document.title='taken'</script>$x_1$"
PLOTS = (
    "throughput", "cost", "share", "percentiles", "percentiles-open", "heat", "heat-open", "offered", "memory",
)  # fmt: skip


def everything() -> Run:
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

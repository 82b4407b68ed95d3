"""The check: every clause's verdict on one server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from iolab_client.contract.clauses import CLAUSES
from iolab_client.contract.payload import UPPER_CASE, Oracle
from iolab_client.contract.subject import Broken, Subject, Unseen, examine
from iolab_client.servers.explain import explain
from iolab_client.servers.targets import Target

DEADLINE_SECONDS = 20.0
# A check mostly waits, so several run at once; more would make a busy machine miss deadlines.
CHECKS_AT_ONCE = 6
OK = "ok"
FAIL = "FAIL: "
UNSEEN = "not from outside"


# The result of each clause, by its name: OK, FAIL with the reason, or UNSEEN with the reason.
Verdicts = dict[str, str]


@contextmanager
def checkers() -> Iterator[ThreadPoolExecutor]:
    """Threads that check several servers at once. After an interrupt only the checks that have begun are finished."""
    pool = ThreadPoolExecutor(CHECKS_AT_ONCE)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def check(
    target: Target,
    deadline_seconds: float,
    tell: Callable[[str], None] = lambda clause: None,
    oracle: Oracle = UPPER_CASE,
) -> Verdicts:
    """Every clause's verdict on one server. `tell` is called with the name of each clause as it begins."""
    try:
        subject = examine(target, deadline_seconds, oracle)
    except OSError as error:
        return {clause.__name__: f"{FAIL}{explain(error)}" for clause in CLAUSES}
    verdicts = {}
    for clause in CLAUSES:
        tell(clause.__name__)
        verdicts[clause.__name__] = judge(clause, subject)
    return verdicts


def judge(clause: Callable[[Subject], None], subject: Subject) -> str:
    """One clause's verdict."""
    try:
        clause(subject)
    except Broken as broken:
        return f"{FAIL}{broken}"
    except Unseen as unseen:
        return f"{UNSEEN}: {unseen}"
    except OSError as error:
        return f"{FAIL}{explain(error)}"
    return OK

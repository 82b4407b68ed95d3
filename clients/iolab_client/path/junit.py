"""An examination as JUnit XML, which CI systems show: a test case for each clause and way."""

from __future__ import annotations

from collections.abc import Sequence, Set
from xml.etree import ElementTree

from iolab_client.path.examination import Judgement


def render(judgements: Sequence[Judgement], name: str, accepted: Set[str] = frozenset()) -> str:
    """The document; `name` is the suite's. A broken clause that is `accepted` counts as skipped. Times are seconds."""
    broken = [one.of.clause in accepted for one in judgements if not one.kept]
    counts = {
        "tests": str(len(judgements)),
        "failures": str(broken.count(False)),
        "errors": "0",
        "skipped": str(broken.count(True)),
    }
    seconds = f"{sum(one.seconds for one in judgements):.3f}"
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts, "time": seconds})
    for one in judgements:
        case = ElementTree.SubElement(
            suite, "testcase", classname="iolab.path", name=one.of.name, time=f"{one.seconds:.3f}"
        )
        if not one.kept:
            word = "skipped" if one.of.clause in accepted else "failure"
            failure = ElementTree.SubElement(case, word, message=one.seen or "")
            failure.text = one.remedy
        elif one.seen:
            ElementTree.SubElement(case, "system-out").text = one.seen
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"

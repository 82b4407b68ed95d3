"""An examination as JUnit XML, which CI systems show: a test case for each clause and way."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from iolab_client.path.examination import Judgement


def render(judgements: Sequence[Judgement], name: str) -> str:
    """The document; `name` is the suite's. Times are seconds."""
    broken = [one for one in judgements if not one.kept]
    counts = {"tests": str(len(judgements)), "failures": str(len(broken)), "errors": "0"}
    seconds = f"{sum(one.seconds for one in judgements):.3f}"
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts, "skipped": "0", "time": seconds})
    for one in judgements:
        case = ElementTree.SubElement(
            suite, "testcase", classname="iolab.path", name=one.of.name, time=f"{one.seconds:.3f}"
        )
        if not one.kept:
            failure = ElementTree.SubElement(case, "failure", message=one.seen or "")
            failure.text = one.remedy
        elif one.seen:
            ElementTree.SubElement(case, "system-out").text = one.seen
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"

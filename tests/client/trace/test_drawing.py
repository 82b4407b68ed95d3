"""The picture: well-formed, the same for the same record, and with words for who does not see it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from iolab_client.trace import telling
from iolab_client.trace.drawing import blocks, draw
from iolab_client.trace.lanes import Stretch, Timeline
from iolab_client.trace.meaning import Kind
from tests.client.trace.test_lanes import VISITS, of
from tests.client.trace.texts import HAND_OVER, LOOP

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def words(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in parsed(svg).iter(f"{SVG}text")]


def bars(svg: str, name: str) -> list[tuple[float, float]]:
    """Where those of that class begin, and how wide they are; those of the legend come first."""
    found = [one for one in parsed(svg).iter(f"{SVG}rect") if one.get("class") == name]
    return [(float(one.get("x", 0)), float(one.get("width", 0))) for one in found]


def test_a_picture_names_each_client_each_thread_and_each_wait() -> None:
    shown = words(draw([of(LOOP)]))
    for text in ("client 1", "client 2", "epoll_loop", "clock_nanosleep", "51 ms"):
        assert text in shown
    assert any("stop in rt_sigtimedwait" in text for text in shown)


def test_a_signal_is_drawn_with_its_name() -> None:
    took = "100 1700000001.020000 --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid=1, si_uid=0} ---\n"
    assert "SIGUSR1" in words(draw([of(took + LOOP)]))


def test_every_picture_says_that_the_tracer_slows_the_calls() -> None:
    for timelines in ([of(LOOP)], [of(LOOP), of(HAND_OVER)], [of("")]):
        assert "ptrace slows every call" in " ".join(words(draw(timelines)))


def test_who_does_not_see_it_is_told_the_same() -> None:
    root = parsed(draw([of(LOOP)]))
    assert root.get("role") == "img"
    named = {one.get("id"): one.text or "" for one in root if one.tag in (f"{SVG}title", f"{SVG}desc")}
    assert root.get("aria-labelledby") == "title desc"
    assert "2 clients ask, and each answer takes 50 ms" in named["title"]
    assert "Client 2's message 1 is sent at 10 ms, is read after 41 ms, and answered after 91 ms." in named["desc"]
    assert "Thread epoll_loop: 100 ms in clock_nanosleep" in named["desc"]


def test_what_is_answered_one_after_the_other_is_drawn_so() -> None:
    svg = draw([of(LOOP)])
    (first, first_width), (second, _) = (bars(svg, f"k{client} a")[-1] for client in (0, 1))
    assert second >= first + first_width


def test_the_same_record_gives_the_same_bytes() -> None:
    assert draw([of(LOOP)]) == draw([of(LOOP)])


def test_several_models_have_one_scale() -> None:
    short, long = of(LOOP, VISITS[:1]), of(LOOP)
    alone, together = draw([long]), draw([short, long])
    assert bars(alone, "k1 a") == bars(together, "k1 a")[:1] + bars(together, "k1 a")[1:]
    assert bars(draw([short], span=long.end), "k0 a") == bars(alone, "k0 a")


def test_a_fine_drawing_has_every_call_with_its_times_and_its_text() -> None:
    fine = [one for one in parsed(draw([of(LOOP)], fine=True)).iter() if one.get("data-text", "").startswith("accept4")]
    assert len(fine) == 5
    assert all(float(one.get("data-a", "")) <= float(one.get("data-b", "")) for one in fine)
    assert "data-" not in draw([of(LOOP)])


@pytest.mark.parametrize("text", ["<&>\"'", "\x00\x1b[2J", "\ud800"])
def test_no_text_of_a_call_breaks_the_picture(text: str) -> None:
    stretch = Stretch(kind=Kind.SOCKETS, start=0, end=50, call="recvfrom", text=f"recvfrom({text})", client=1)
    one = of(LOOP)
    one.lanes = [type(one.lanes[0])(key="1", name=f"a{text}", process="", stretches=(stretch,))]
    parsed(draw([one], fine=True))


def test_what_is_too_short_to_be_seen_is_drawn_together() -> None:
    def stretch(kind: Kind, start: float, end: float, call: str = "futex") -> Stretch:
        return Stretch(kind=kind, start=start, end=end, call=call)

    short = [stretch(Kind.OTHERS if tenth % 2 else Kind.RUNS, tenth / 10, (tenth + 1) / 10) for tenth in range(100)]
    wait = stretch(Kind.SOCKETS, 10, 40, "epoll_wait")
    shown = list(blocks([*short, wait], 1.0))
    assert [(one.kind, one.start, one.end) for one in shown] == [(Kind.RUNS, 0, 10), (Kind.SOCKETS, 10, 40)]
    assert len(list(blocks([*short, wait], 0.0))) == 101


def test_threads_that_are_not_drawn_are_named_once_with_their_number() -> None:
    one: Timeline = of(LOOP)
    assert telling.quiet([*one.quiet, *one.quiet]) == (
        "wait all the time, and are not drawn: stop (2 of them) in rt_sigtimedwait"
    )

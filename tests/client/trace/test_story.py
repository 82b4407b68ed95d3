"""One message's life: in order, each call with what it is to the message, and nothing that comes after its answer."""

from __future__ import annotations

from iolab_client.trace.story import Step, lines, story, told
from tests.client.trace.test_lanes import VISITS, of
from tests.client.trace.texts import LOOP


def life(text: str) -> list[Step]:
    one = of(text)
    return story(one, told(one))


def test_the_message_that_is_told_of_is_the_second_clients_who_may_have_to_wait() -> None:
    assert (told(of(LOOP)).client, told(of(LOOP)).number) == (2, 1)
    assert told(of(LOOP, VISITS[:1])).client == 1


def test_a_life_begins_with_the_question_ends_with_the_answer_and_is_in_order() -> None:
    steps = life(LOOP)
    assert (steps[0].who, steps[0].comment) == ("client 2", "sends 'client 2, message 1'")
    assert (steps[-1].who, steps[-1].comment) == ("client 2", "has its answer, after 91.4 ms")
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def test_sleeping_in_somebody_elses_answer_is_told_from_sleeping_in_ones_own() -> None:
    slept = [step.comment for step in life(LOOP) if step.call.startswith("clock_nanosleep")]
    assert slept == [
        "sleeps 50.0 ms in somebody else's answer: our message has to wait for this thread",
        "the answer's own 50 ms: this thread sleeps in it, and does nothing else",
    ]


def test_each_move_of_the_message_is_a_step_whose_call_names_descriptors_by_number_only() -> None:
    moves = {
        step.call.partition("(")[0]: step
        for step in life(LOOP)
        if not step.comment.startswith("copies the answer to client 1")
    }
    assert "takes the client out of the listener's queue" in moves["accept4"].comment
    assert moves["recvfrom"].call == 'recvfrom(6, "client 2, message 1\\n", 65536, 0, NULL, NULL) = 20'
    assert moves["sendto"].comment == "copies the answer to the message into the kernel's buffer; TCP does the rest"


def test_what_is_asked_again_and_again_is_told_once() -> None:
    accept, read = LOOP.splitlines()[8], LOOP.splitlines()[11]
    asks = [
        f"100 1700000001.0{number:05d} accept4(3, 0x7ffd, [16], 0) = -1 EAGAIN (Try again) <0.000010>"
        for number in range(1000, 1500, 10)
    ]
    one = of("\n".join([accept, read, *asks]), VISITS[:1])
    told_once = [step for step in story(one, one.passages[0]) if step.call == "50 calls: accept4"]
    assert [step.comment for step in told_once] == ["nobody else waits to be accepted (EAGAIN)"]


def test_a_ring_that_tells_of_nobody_has_its_calls_in_the_story() -> None:
    text = """\
1 1700000001.000300 io_uring_enter(5<anon_inode:[io_uring]>, 2, 1, IORING_ENTER_GETEVENTS, NULL, 0) = 2 <0.000100>
1 1700000001.000500 io_uring_enter(5<anon_inode:[io_uring]>, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) = 1 <0.050000>
"""
    one = of(text, VISITS[:1])
    assert [step.comment for step in story(one, one.passages[0])][1:3] == [
        "hands in 2 of what it wants done, and takes what the kernel has done: accepted, read, sent",
        "hands in 1 of what it wants done, and sleeps 50.0 ms until the kernel has done something",
    ]


def test_as_text_a_step_is_a_line_with_its_comment_behind_a_hash() -> None:
    text = lines([Step(at=1.5, who="epoll_loop", call="x" * 100, comment="why")], width=20)
    assert text == ["    1.50 ms  epoll_loop       xxxxxxxxxxxxxxxxx...  # why"]

"""Calls as lanes: what each thread did at any time, whose bytes it moved, and who woke whom."""

from __future__ import annotations

from iolab_client.trace.asking import Question, Visit
from iolab_client.trace.calls import parse
from iolab_client.trace.lanes import Timeline, timeline
from iolab_client.trace.meaning import Kind
from iolab_client.trace.threads import Traced
from tests.client.trace.texts import HAND_OVER, LOOP

ORIGIN = 1700000001.0


def visit(client: int, port: int, sent: float, answered: float) -> Visit:
    question = Question(text=f"client {client}, message 1\n", sent=ORIGIN + sent, answered=ORIGIN + answered)
    return Visit(client=client, port=port, came=ORIGIN + sent - 0.0002, questions=[question])


VISITS = [visit(1, 40001, 0.0002, 0.0512), visit(2, 40002, 0.0102, 0.1016)]


def of(text: str, visits: list[Visit] = VISITS) -> Timeline:
    return timeline("epoll_loop", 50, visits, [Traced(strace=parse(text.splitlines()))])


def test_a_lane_has_no_gap_and_its_kinds_are_those_of_the_calls() -> None:
    (lane,) = of(LOOP).lanes
    assert lane.name == "epoll_loop"
    assert lane.stretches[0].start == -4.0
    for one, following in zip(lane.stretches, lane.stretches[1:], strict=False):
        assert one.end == following.start
    shown = [(one.kind, one.call, one.client) for one in lane.stretches if one.call]
    assert shown == [
        (Kind.SOCKETS, "epoll_wait", 0),
        (Kind.MOVES, "accept4", 1),
        (Kind.RUNS, "accept4", 0),
        (Kind.SOCKETS, "epoll_wait", 0),
        (Kind.MOVES, "recvfrom", 1),
        (Kind.CLOCK, "clock_nanosleep", 0),
        (Kind.MOVES, "sendto", 1),
        (Kind.MOVES, "accept4", 2),
        (Kind.MOVES, "recvfrom", 2),
        (Kind.CLOCK, "clock_nanosleep", 0),
        (Kind.MOVES, "sendto", 2),
        (Kind.SOCKETS, "epoll_wait", 0),
    ]


def test_a_long_call_is_cut_in_its_arguments_and_keeps_its_result() -> None:
    many = "{events=EPOLLIN, data={u32=9, u64=140067473457161}}, " * 20
    text = f"100 1700000001.000500 epoll_wait(4, [{many}], 64, -1) = 20 <0.000010>\n"
    (lane,) = of(text, [VISITS[0]]).lanes
    (shown,) = [one.text for one in lane.stretches if one.call]
    assert len(shown) < 200
    assert shown.endswith("...) = 20")


def test_a_message_that_waits_to_be_read_is_told_from_one_that_is_being_answered() -> None:
    first, second = of(LOOP).passages
    assert (first.sent, first.read, first.replied, first.answered) == (0.2, 0.92, 51.1, 51.2)
    assert second.read is not None
    assert round(second.read - second.sent, 2) == 41.12
    assert first.reader == first.replier == second.reader == "100"


def test_a_thread_that_waits_all_the_time_is_named_and_not_drawn() -> None:
    (quiet,) = of(LOOP).quiet
    assert (quiet.name, quiet.call) == ("stop", "rt_sigtimedwait")


def test_calls_are_counted_from_the_first_question_to_the_last_answer() -> None:
    found = of(LOOP)
    assert found.calls == {"accept4": 3, "epoll_wait": 2, "recvfrom": 2, "clock_nanosleep": 2, "sendto": 2}
    assert found.failed == {"accept4": 1}


def test_without_names_of_descriptors_the_peers_are_known_by_their_accept() -> None:
    bare = LOOP.replace("<TCP:[127.0.0.1:8004->127.0.0.1:40001]>", "").replace(
        "<TCP:[127.0.0.1:8004->127.0.0.1:40002]>", "<socket:[7]>"
    )
    assert [(one.read, one.replied) for one in of(bare).passages] == [
        (one.read, one.replied) for one in of(LOOP).passages
    ]


def test_a_descriptor_that_is_closed_is_forgotten() -> None:
    text = """\
1 1700000001.000000 accept4(3, {sa_family=AF_INET, sin_port=htons(40001)}, [16], 0) = 5 <0.000010>
1 1700000001.000100 recvfrom(5, "a", 65536, 0, NULL, NULL) = 1 <0.000010>
1 1700000001.000200 close(5) = 0 <0.000010>
1 1700000001.000300 read(5, "b", 1) = 1 <0.000010>
"""
    (lane,) = of(text, [VISITS[0]]).lanes
    assert [one.client for one in lane.stretches if one.call] == [1, 1, 1, 0]


def test_an_io_uring_that_tells_of_nobody_leaves_the_messages_way_unknown() -> None:
    text = "1 1700000001.000000 io_uring_enter(5, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) = 1 <0.050000>\n"
    assert [(one.read, one.reader) for one in of(text).passages] == [(None, ""), (None, "")]


def test_a_call_that_waited_for_its_bytes_waits_and_then_moves_them() -> None:
    text = LOOP.splitlines()[8] + '\n100 1700000001.010000 recvfrom(5, "a", 65536, 0, NULL, NULL) = 1 <0.030000>\n'
    (lane,) = of(text, [VISITS[0]]).lanes
    received = [(one.kind, round(one.end - one.start)) for one in lane.stretches if one.call == "recvfrom"]
    assert received == [(Kind.SOCKETS, 30), (Kind.MOVES, 0)]


def test_a_wait_that_had_not_returned_when_the_tracer_let_go_goes_on() -> None:
    lines = LOOP.splitlines()
    found = of("\n".join([*lines[:-6], "100 1700000001.101600 epoll_wait(4,  <detached ...>"]))
    (lane,) = found.lanes
    assert (lane.stretches[-1].call, lane.stretches[-1].end) == ("epoll_wait", found.end)
    assert [quiet.name for quiet in found.quiet] == ["stop"]


def test_what_the_tracer_found_waiting_waits_though_its_arguments_are_not_known() -> None:
    text = "7 1700000000.5 restart_syscall(<... resuming interrupted recvfrom ...> <unfinished ...>\n"
    assert [(quiet.name, quiet.call) for quiet in of(text + LOOP).quiet] == [
        ("thread 7", "recvfrom"),
        ("stop", "rt_sigtimedwait"),
    ]


def test_a_record_without_a_call_draws_the_clients_alone() -> None:
    found = of("")
    assert (found.lanes, found.calls, found.answers) == ([], {}, 2)


def test_a_signal_is_in_the_lane_of_the_thread_that_took_it() -> None:
    took = "100 1700000001.020000 --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid=1, si_uid=0} ---\n"
    (lane,) = of(took + LOOP).lanes
    assert lane.signals == ((20.0, "SIGUSR1"),)


def test_a_futex_and_an_eventfd_tell_who_wakes_whom() -> None:
    origin = Visit(client=1, port=1, came=1700000000.0005)
    origin.questions = [Question(text="", sent=1700000000.001, answered=1700000000.2)]
    wakes = of(HAND_OVER, [origin]).wakes
    assert [(one.sender, one.receiver, one.through) for one in wakes] == [
        ("200", "201", "futex"),
        ("201", "202", "eventfd"),
    ]
    assert [one.sent for one in wakes] == [99.5, 99.7]
    assert all(one.woken >= one.sent for one in wakes)


def test_nobody_wakes_himself() -> None:
    text = """\
1 1700000000.000000 futex(0x7f10, FUTEX_WAIT_PRIVATE, 0, NULL) = 0 <0.050000>
1 1700000000.050050 futex(0x7f10, FUTEX_WAKE_PRIVATE, 1) = 1 <0.000010>
"""
    assert of(text, [Visit(client=1, port=1, came=1700000000.0, questions=VISITS[0].questions)]).wakes == []


def test_each_message_of_a_client_is_read_by_a_call_of_its_own() -> None:
    first, last = visit(1, 40001, 0.0002, 0.0512), visit(1, 40001, 0.2, 0.3)
    both = Visit(client=1, port=40001, came=first.came, questions=[*first.questions, *last.questions])
    again = """\
100 1700000001.210000 recvfrom(5<TCP:[127.0.0.1:8004->127.0.0.1:40001]>, "a", 65536, 0, NULL, NULL) = 1 <0.000020>
100 1700000001.290000 sendto(5<TCP:[127.0.0.1:8004->127.0.0.1:40001]>, "A", 1, 0, NULL, 0) = 1 <0.000020>
"""
    lines = [line for line in LOOP.splitlines() if ":40002" not in line]
    one, two = of("\n".join([*lines[:-6], again]), [both]).passages
    assert (one.read, one.replied) == (0.92, 51.1)
    assert (two.read, two.replied) == (210.02, 290.0)


def test_both_ends_of_a_connection_tell_who_wakes_whom_across_processes() -> None:
    text = """\
1 1700000000.000000 recvfrom(4<UNIX-STREAM:[11->22]>,  <unfinished ...>
2 1700000000.050000 sendto(5<UNIX-STREAM:[22->11,"/run/socket"]>, "x", 1, 0, NULL, 0) = 1 <0.000010>
1 1700000000.050100 <... recvfrom resumed>"x", 65536, 0, NULL, NULL) = 1 <0.050090>
"""
    (wake,) = of(text, [Visit(client=1, port=1, came=1700000000.0, questions=VISITS[0].questions)]).wakes
    assert (wake.sender, wake.receiver, wake.through) == ("2", "1", "connection")


def test_threads_of_two_tracers_are_told_apart() -> None:
    records = [Traced(strace=parse(LOOP.splitlines())), Traced(strace=parse(LOOP.splitlines()), part="worker")]
    found = timeline("task_queue", 50, VISITS, records)
    assert [lane.key for lane in found.lanes] == ["100", "worker100"]
    assert len({lane.process for lane in found.lanes}) == 2

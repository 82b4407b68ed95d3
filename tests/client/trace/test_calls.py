"""strace's text as calls: halves that belong together, signals, restarts, families, ends, and files that end early."""

from __future__ import annotations

import pytest

from iolab_client.trace.calls import Call, Strace, parse
from tests.client.trace.texts import LOOP


def calls(text: str) -> list[Call]:
    return parse(text.splitlines()).calls


def only(text: str) -> Call:
    (call,) = calls(text)
    return call


def test_a_call_has_its_name_arguments_result_and_time() -> None:
    call = only('7 1700000000.500000 recvfrom(5, "hi\\n", 65536, 0, NULL, NULL) = 3 <0.000250>')
    assert (call.thread, call.name, call.result, call.number) == (7, "recvfrom", "3", 3)
    assert call.arguments == '5, "hi\\n", 65536, 0, NULL, NULL'
    assert (call.start, round(call.seconds, 6)) == (1700000000.5, 0.00025)


def test_a_string_that_looks_like_the_end_of_a_call_is_no_end() -> None:
    call = only('7 1.0 write(1, "close(3) = 0 <0.1>", 18) = 18 <0.000010>')
    assert call.arguments == '1, "close(3) = 0 <0.1>", 18'
    assert call.result == "18"


def test_a_result_may_have_words_brackets_and_a_descriptor() -> None:
    text = """\
7 1.0 openat(AT_FDCWD, "x", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000010>
7 2.0 accept4(3, NULL, NULL, 0) = 5<TCP:[127.0.0.1:1->127.0.0.1:2]> <0.000010>
7 3.0 getpid()        = 7 <0.000010>
"""
    failed, accepted, aligned = calls(text)
    assert (failed.failed, failed.number) == (True, -1)
    assert (accepted.number, round(accepted.seconds, 6)) == (5, 0.00001)
    assert (aligned.name, aligned.result) == ("getpid", "7")


def test_the_halves_of_a_call_are_one_whoever_came_between() -> None:
    text = """\
7 10.000000 recvfrom(5,  <unfinished ...>
8 10.000100 getpid() = 7 <0.000010>
7 10.250000 <... recvfrom resumed>"hi", 65536, 0, NULL, NULL) = 2 <0.249000>
"""
    first, second = calls(text)
    assert (first.name, first.arguments, first.number) == ("recvfrom", '5, "hi", 65536, 0, NULL, NULL', 2)
    assert first.seconds == pytest.approx(0.249, abs=1e-6)
    assert second.name == "getpid"


def test_a_call_that_no_line_ends_lasts_to_the_end_of_the_record() -> None:
    waiting, _ = calls("7 10.0 epoll_wait(4,  <unfinished ...>\n8 12.5 getpid() = 8 <0.000010>")
    assert (waiting.name, waiting.result, waiting.end) == ("epoll_wait", "?", 12.5)


def test_a_call_ends_with_its_thread() -> None:
    text = """\
7 10.0 epoll_wait(4,  <unfinished ...>
8 10.1 exit_group(0) = ?
7 11.0 <... epoll_wait resumed> <unfinished ...>) = ?
7 11.1 +++ exited with 0 +++
8 11.2 +++ killed by SIGKILL +++
"""
    found = parse(text.splitlines())
    waiting, leaving = found.calls
    assert (waiting.arguments, waiting.result, waiting.end) == ("4,", "?", 11.0)
    assert (leaving.name, leaving.result) == ("exit_group", "?")
    assert found.ends == {7: 11.1, 8: 11.2}


def test_a_thread_that_is_killed_in_a_call_ends_it() -> None:
    text = """\
7 10.0 futex(0x1, FUTEX_WAIT, 0, NULL <unfinished ...>
7 10.4 +++ killed by SIGKILL +++
8 99.0 getpid() = 8 <0.000010>
"""
    call, _ = calls(text)
    assert (call.name, call.result, call.end) == ("futex", "?", 10.4)


def test_a_call_that_a_signal_interrupts_is_followed_by_its_restart() -> None:
    text = """\
7 10.0 futex(0x1, FUTEX_WAIT, 0, {tv_sec=5, tv_nsec=0}) = ? ERESTART_RESTARTBLOCK (Interrupted by signal) <1.000000>
7 11.0 --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid=7, si_uid=0} ---
7 11.1 rt_sigreturn({mask=[]}) = 202 <0.000010>
7 11.2 restart_syscall(<... resuming interrupted futex ...>) = -1 ETIMEDOUT (Connection timed out) <3.800000>
7 15.1 --- stopped by SIGSTOP ---
"""
    found = parse(text.splitlines())
    assert [call.name for call in found.calls] == ["futex", "rt_sigreturn", "futex"]
    assert [(signal.name, signal.moment) for signal in found.signals] == [("SIGUSR1", 11.0), ("SIGSTOP", 15.1)]
    assert found.calls[2].seconds == pytest.approx(3.8)


def test_what_an_attached_tracer_finds_waiting_goes_on_under_its_own_name() -> None:
    text = """\
7 10.0 restart_syscall(<... resuming interrupted poll ...> <unfinished ...>
8 10.1 getpid() = 7 <0.000010>
7 12.0 <... restart_syscall resumed>) = 1 <2.000000>
8 12.1 epoll_wait(4,  <detached ...>
"""
    found = calls(text)
    assert [(call.name, round(call.seconds, 3)) for call in found] == [
        ("poll", 2.0),
        ("getpid", 0.0),
        ("epoll_wait", 0.0),
    ]


def test_names_and_processes_that_were_known_before_hold_until_a_thread_says_else() -> None:
    known = Strace(names={7: "stop", 8: "epoll_loop"}, processes={7: 8, 8: 8})
    text = """\
7 10.0 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 9 <0.000010>
9 10.1 write(3</proc/8/task/9/comm>, "client", 6) = 6 <0.000010>
"""
    found = parse(text.splitlines(), known)
    assert found.processes == {7: 8, 8: 8, 9: 8}
    assert found.names == {7: "stop", 8: "epoll_loop", 9: "client"}


def test_a_call_that_its_threads_end_came_before_is_none() -> None:
    text = """\
7 10.0 ???( <unfinished ...>
8 10.1 exit_group(0) = ?
7 10.2 <... ??? resumed>) = ?
7 10.3 +++ exited with 0 +++
"""
    assert [call.name for call in calls(text)] == ["exit_group"]


def test_a_second_half_without_a_first_is_a_call_of_no_known_begin() -> None:
    call = only("7 12.0 <... epoll_wait resumed>[], 64, -1) = 0 <2.000000>")
    assert (call.name, call.number) == ("epoll_wait", 0)


def test_threads_belong_to_their_process_and_children_are_processes() -> None:
    text = """\
1 1.0 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88 <unfinished ...>
2 1.1 getpid() = 1 <0.000010>
1 1.2 <... clone3 resumed>) = 2 <0.200000>
2 1.3 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x1) = 3 <0.000010>
3 1.4 getpid() = 3 <0.000010>
3 1.5 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 4 <0.000010>
3 1.6 vfork() = 5 <0.000010>
4 1.7 getpid() = 3 <0.000010>
5 1.8 getpid() = 5 <0.000010>
"""
    found = parse(text.splitlines())
    assert found.processes == {1: 1, 2: 1, 3: 3, 4: 3, 5: 5}


def test_a_thread_has_the_name_that_it_gave_itself_last() -> None:
    text = """\
1 1.0 execve("/usr/bin/python3", ["python3"], 0x7f /* 9 vars */) = 0 <0.000500>
1 1.1 write(3</proc/1/task/1/comm>, "supervisor", 10) = 10 <0.000010>
1 1.2 fork() = 2 <0.000010>
2 1.3 getpid() = 2 <0.000010>
1 1.4 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 3 <0.000010>
3 1.5 prctl(PR_SET_NAME, "bio_close_file") = 0 <0.000010>
1 1.6 fork() = 4 <0.000010>
4 1.7 execve("/usr/bin/valkey-server", ["valkey-server"], 0x7f /* 9 vars */) = 0 <0.000010>
4 1.8 execve("/no/such", ["such"], 0x7f /* 9 vars */) = -1 ENOENT (No such file or directory) <0.000010>
5 1.9 write(3</proc/1/task/5/comm>, "a\\303\\244\\n\\"", 5) = 5 <0.000010>
"""
    names = parse(text.splitlines()).names
    assert names == {1: "supervisor", 2: "supervisor", 3: "bio_close_file", 4: "valkey-server", 5: 'aä\n"'}


@pytest.mark.parametrize("text", ["", "\n", "strace: Process 9 attached\n", "\0\0\0", "7 1.0", "7 x getpid() = 7"])
def test_a_record_without_a_call_has_none(text: str) -> None:
    assert parse(text.splitlines()) == Strace()


@pytest.mark.parametrize("cut", range(0, len(LOOP), 97))
def test_a_record_may_end_anywhere(cut: int) -> None:
    found = parse(LOOP[:cut].splitlines())
    assert all(call.end >= call.start for call in found.calls)
    assert {call.thread for call in found.calls} <= {100, 101}


def test_a_whole_record() -> None:
    found = parse(LOOP.splitlines())
    assert found.names == {100: "epoll_loop", 101: "stop"}
    assert found.processes == {100: 100, 101: 100}
    assert [call.name for call in found.calls if call.seconds > 0.04] == [
        "rt_sigtimedwait", "epoll_wait", "clock_nanosleep", "clock_nanosleep", "epoll_wait"
    ]  # fmt: skip
    assert found.ends == {101: pytest.approx(1700000001.5002), 100: pytest.approx(1700000001.5004)}

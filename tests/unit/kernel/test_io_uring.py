"""The binding of io_uring, and who is said to refuse it."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest

from iolab.kernel import io_uring, io_uring_probe
from iolab.settings import Settings
from tests.support.missing import skip


@pytest.fixture
def ring() -> Iterator[io_uring.Ring]:
    if reason := io_uring_probe.unavailable(Settings()):
        skip(reason)
    with closing(io_uring.Ring(2, 16, 8)) as ring:
        yield ring


def done(ring: io_uring.Ring, count: int) -> list[tuple[int, int, int]]:
    completions: list[tuple[int, int, int]] = []
    while len(completions) < count:
        completions += ring.wait(10)
    return completions


def test_nothing_is_done_within_the_timeout(ring: io_uring.Ring) -> None:
    assert list(ring.wait(0)) == []
    assert list(ring.wait(0.01)) == []


def test_more_submissions_than_the_ring_holds_are_all_done_round_after_round(ring: io_uring.Ring) -> None:
    moment = io_uring.timespec(0)
    count = ring.ENTRIES + 1000
    for _ in range(4):
        for number in range(count):
            ring.submit(io_uring.timeout(moment, number))
        completions = done(ring, count)
        assert sorted(operation for operation, _, _ in completions) == list(range(count))
        assert {result for _, result, _ in completions} == {-errno.ETIME}


@pytest.mark.parametrize("takes", [0, 1])
def test_a_kernel_that_takes_less_than_all_is_given_the_rest_before_anyone_goes_on(
    ring: io_uring.Ring, monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    """Without memory for requests it takes some, or fails with EAGAIN if it took none."""
    enter, short_of_memory = io_uring._syscall, [True, True]

    def enter_in_need(number: int, descriptor: int, count: int, *others: int) -> int:
        if not (count and short_of_memory):
            return int(enter(number, descriptor, count, *others))
        short_of_memory.pop()
        ctypes.set_errno(errno.EAGAIN)
        return int(enter(number, descriptor, takes, 0, 0, 0, 0)) if takes else -1

    monkeypatch.setattr(io_uring, "_syscall", enter_in_need)
    left, right = socket.socketpair()
    with left, right:
        data = bytearray(b"abcd")
        for number in range(4):
            send = io_uring.send(left.fileno(), number)
            io_uring.set_address_and_size(send, io_uring.ADDRESS_AT, address_of(data) + number, 1)
            ring.submit(send)
        handed = ring.handed
        ring.wait(0)
        assert (ring.handed, short_of_memory) == (handed + 1, [])
        # Whoever submitted that may use the memory for something else now.
        data[:] = b"----"
        ring.wait(0)
        right.setblocking(False)
        assert right.recv(10) == b"abcd"


def address_of(data: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def test_what_is_sent_arrives_in_buffers_that_are_used_again(ring: io_uring.Ring) -> None:
    left, right = socket.socketpair()
    with left, right:
        receive, send = io_uring.receive(left.fileno(), 1), io_uring.send(right.fileno(), 2)
        for number in range(9):
            data = b"number %d" % number
            io_uring.point(send, data, 7)
            ring.submit(receive)
            ring.submit(send)
            results = {operation: (result, flags) for operation, result, flags in done(ring, 2)}
            assert results[2][0] == 1
            assert results[1][0] == 1
            assert results[1][1] & io_uring.HAS_BUFFER
            assert ring.take(results[1][1], 1) == b"%d" % number


def test_a_receive_without_a_free_buffer_says_so(ring: io_uring.Ring) -> None:
    left, right = socket.socketpair()
    with left, right:
        right.sendall(b"x" * 48)
        for number in range(3):
            ring.submit(io_uring.receive(left.fileno(), number))
        assert sorted(result for _, result, _ in done(ring, 3)) == [-errno.ENOBUFS, 16, 16]


def test_one_receive_goes_on_into_small_buffers_until_there_is_none(ring: io_uring.Ring) -> None:
    left, right = socket.socketpair()
    with left, right:
        ring.submit(io_uring.receive_many(left.fileno(), 1))
        for number in range(ring.SMALL_BUFFERS + 3):
            right.sendall(b"%d" % number)
            ((operation, result, flags),) = done(ring, 1)
            assert (operation, flags & io_uring.HAS_MORE) == (1, io_uring.HAS_MORE)
            assert ring.take_small(flags, result) == b"%d" % number
        right.sendall(bytes(8 * ring.SMALL_BUFFERS + 1))
        *received, (_, result, flags) = done(ring, ring.SMALL_BUFFERS + 1)
        assert {(result, flags & io_uring.HAS_MORE) for _, result, flags in received} == {(8, io_uring.HAS_MORE)}
        assert (result, flags) == (-errno.ENOBUFS, 0)


def test_what_is_withdrawn_is_not_done(ring: io_uring.Ring) -> None:
    moment = io_uring.timespec(0)
    first, second = (io_uring.timeout(moment, number) for number in range(2))
    ring.submit(first)
    ring.submit(second)
    ring.withdraw(first)
    assert [operation for operation, _, _ in done(ring, 1)] == [1]
    assert list(ring.wait(0)) == []


def test_what_is_cancelled_completes_as_such_and_the_cancellation_is_not_heard_of(ring: io_uring.Ring) -> None:
    left, right = socket.socketpair()
    with left, right:
        ring.submit(io_uring.receive(left.fileno(), 5))
        ring.submit(io_uring.cancel(5))
        assert [(operation, result) for operation, result, _ in done(ring, 1)] == [(5, -errno.ECANCELED)]
        assert list(ring.wait(0)) == []


@pytest.mark.parametrize(
    ("number", "release", "disabled", "filtered", "cause"),
    [
        (errno.ENOSYS, "5.15.0-91-generic", 0, True, "the kernel is Linux 5.15.0-91-generic"),
        (errno.EPERM, "6.8.0", 2, True, "kernel.io_uring_disabled is 2"),
        (errno.EPERM, "6.8.0", 1, False, "kernel.io_uring_disabled is 1"),
        (errno.EPERM, "6.8.0", 0, True, "a seccomp profile denies it"),
        (errno.ENOSYS, "6.8.0", 0, True, "a seccomp profile denies it"),
        (errno.ENOSYS, "6.8.0", 2, True, "a seccomp profile denies it"),
        (errno.ENOSYS, "6.8.0", 0, False, "built without CONFIG_IO_URING"),
        (errno.EACCES, "6.8.0", 0, False, "a security module"),
        (errno.ENOMEM, "6.8.0", 0, True, "Cannot allocate memory"),
    ],
)
def test_the_cause_is_the_kernels_age_then_its_settings_then_a_filter(
    monkeypatch: pytest.MonkeyPatch, number: int, release: str, disabled: int, filtered: bool, cause: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(
        io_uring_probe, "_sysctl", lambda name: {"io_uring_disabled": disabled, "io_uring_group": -1}[name]
    )
    monkeypatch.setattr(io_uring_probe, "_filtered", lambda: filtered)

    assert cause in io_uring_probe.cause(number)

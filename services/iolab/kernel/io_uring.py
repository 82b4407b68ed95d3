"""io_uring(7) by its three system calls: the kernel takes submissions from one ring and puts completions into another.

Both are mapped into this process. A submission is made once, and copied with its whole batch; completions are read
in bulk.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

# Flags of a completion: linux/io_uring.h.
HAS_BUFFER = 1
HAS_MORE = 2

# The operation number of submissions whose completions are ignored.
UNHEARD = 2**64 - 1

# These system call numbers are the same on every architecture.
_SETUP, _ENTER, _REGISTER = 425, 426, 427
# An error does not stop the rest of a batch; only this thread submits; completions are made when it waits for them,
# not in the middle of its other calls.
_SUBMIT_ALL, _SINGLE_ISSUER, _DEFER_TASKRUN = 1 << 7, 1 << 12, 1 << 13
_GETEVENTS, _EXT_ARG = 1, 8
_REGISTER_PBUF_RING = 22
_SQES_OFFSET = 0x10000000

_POLL_ADD, _TIMEOUT, _ACCEPT, _ASYNC_CANCEL, _SEND, _RECV = 6, 11, 13, 14, 26, 27
_BUFFER_SELECT, _SKIP_SUCCESS = 1 << 5, 1 << 6
_POLL_FIRST, _RECV_MULTISHOT = 1, 2
_POLLIN = 1
# How long to wait when the kernel has no memory for requests.
_RETRY_SECONDS = 0.001
_CANCEL_ALL = 1

# struct io_uring_sqe, io_uring_cqe, io_uring_buf.
_SUBMISSION = struct.Struct("=BBHiQQIIQHHiQQ")
_COMPLETION = struct.Struct("=QiI")
_BUFFER = struct.Struct("=QIHxx")
# Where the tail is in the first entry of a ring of buffers.
_BUFFERS_TAIL_AT = 14

# What `point` does, without a Python call: in struct io_uring_sqe the size follows the address.
set_address_and_size = struct.Struct("=QI").pack_into
ADDRESS_AT = 16
# In CPython the content of a bytes object follows its header, and a zero ends it.
HEAD_BYTES = bytes.__basicsize__ - 1

# ctypes releases the GIL during the call.
_syscall = ctypes.CDLL(None, use_errno=True)["syscall"]
_syscall.argtypes = [ctypes.c_long] * 7
_syscall.restype = ctypes.c_long

# The numbers of the buffer groups.
LARGE, SMALL = range(2)

Submission = bytes | bytearray
Completion = tuple[int, int, int]


class Buffers:
    """Buffers that a ring's receives share: the kernel takes one when there is something to receive.

    There are `count`, a power of two, each of `size` bytes. A receive names them by the number `group`.
    """

    def __init__(self, descriptor: int, group: int, count: int, size: int) -> None:
        # Not a power of two: buffers at the same offset of every page would evict each other from the cache.
        self._stride = size + 64
        self._buffers = mmap.mmap(-1, count * self._stride)
        self._offers = memoryview(mmap.mmap(-1, count * _BUFFER.size))
        self._offers_tail = self._offers[_BUFFERS_TAIL_AT:][:2].cast("H")
        address = _address_of(self._buffers)
        self._offer = [_BUFFER.pack(address + number * self._stride, size, number) for number in range(count)]
        self._offered = 0
        # The buffers to offer with the next wait; at first all.
        self.returned = list(self._offer)
        self.offer_returned()
        # struct io_uring_buf_reg: address, entries, group.
        registration = struct.pack("=QIHH3Q", _address_of(self._offers), count, group, 0, 0, 0, 0)
        _call(_REGISTER, descriptor, _REGISTER_PBUF_RING, _address(registration), 1)

    def offer_returned(self) -> None:
        """Append the returned buffers to the ring of those on offer, which may wrap around."""
        data = b"".join(self.returned)
        begin = self._offered * _BUFFER.size % len(self._offers)
        room = len(self._offers) - begin
        self._offers[begin : begin + len(data)] = data[:room]
        if len(data) > room:
            self._offers[: len(data) - room] = data[room:]
        self._offered += len(self.returned)
        self.returned.clear()
        # Last, because the tail is part of the first entry, just written perhaps; the kernel reads it only when called.
        self._offers_tail[0] = self._offered & 0xFFFF

    def take(self, flags: int, size: int) -> bytes:
        """The `size` bytes of a receive, by its completion's flags. The buffer is offered with the next `wait`."""
        number = flags >> 16
        self.returned.append(self._offer[number])
        begin = number * self._stride
        return self._buffers[begin : begin + size]


class Ring:
    """The two rings, and the buffers that receives share: `buffers`, a power of two, of `buffer_size` bytes.

    With a `small_size` there are small buffers too, for multishot receives. Only the thread that makes a ring may use
    it. Raises OSError if the system refuses.
    """

    # Submissions that fit between two waits; more of them take another system call.
    ENTRIES = 4096
    SMALL_BUFFERS = 128

    def __init__(self, buffers: int, buffer_size: int, small_size: int = 0) -> None:
        parameters = bytearray(120)
        struct.pack_into("=III", parameters, 0, 0, 0, _SUBMIT_ALL | _SINGLE_ISSUER | _DEFER_TASKRUN)
        self._descriptor = _call(_SETUP, self.ENTRIES, _address_of(parameters))
        # struct io_uring_params: ring sizes, then the offsets of head, tail, mask, entries, flags, dropped and array
        # for submissions, of head, tail, mask, entries, overflow and completions for completions.
        submissions, completions = struct.unpack_from("=II", parameters)
        head, tail, _, _, _, _, array = struct.unpack_from("=7I", parameters, 40)
        done_head, done_tail, _, _, _, done = struct.unpack_from("=6I", parameters, 80)
        size = max(array + 4 * submissions, done + _COMPLETION.size * completions)
        rings = memoryview(mmap.mmap(self._descriptor, size))
        self._head, self._tail = rings[head:][:4].cast("I"), rings[tail:][:4].cast("I")
        self._done_head, self._done_tail = rings[done_head:][:4].cast("I"), rings[done_tail:][:4].cast("I")
        self._done = rings[done:][: _COMPLETION.size * completions]
        self._submissions = memoryview(mmap.mmap(self._descriptor, _SUBMISSION.size * submissions, offset=_SQES_OFFSET))
        # Entry n of the submission ring always refers to submission n.
        rings[array:][: 4 * submissions] = struct.pack(f"={submissions}I", *range(submissions))
        self._queue: list[Submission] = []
        # Hands a submission, or two in one piece, over with the next `wait`. What it points to must live until then;
        # what the kernel sends must live until its completion.
        self.submit: Callable[[Submission], None] = self._queue.append
        self._timeout = bytearray(16)
        self._wait_argument = struct.pack("=QIIQ", 0, 0, 0, _address_of(self._timeout))
        # How many times submissions were handed over.
        self.handed = 0
        self.small_size = small_size
        self._groups = [Buffers(self._descriptor, LARGE, buffers, buffer_size)]
        if small_size:
            self._groups.append(Buffers(self._descriptor, SMALL, self.SMALL_BUFFERS, small_size))
        # Bound once, to save a look-up for each message; see Buffers.
        self.take, self.take_small = self._groups[0].take, self._groups[-1].take

    def withdraw(self, submission: Submission) -> None:
        """Take back a submission made since the last `wait`. Raises ValueError if there is none."""
        self._queue.remove(submission)

    def wait(self, timeout: float | None = None) -> Iterator[Completion]:
        """Hand over what was submitted, then wait for a completion, at most `timeout` seconds.

        Returns the completions: operation number, result (-errno for an error) and flags.
        """
        # Half as many, because a piece may be two submissions.
        while len(self._queue) > self.ENTRIES // 2:
            self._put(self._queue[: self.ENTRIES // 2])
            del self._queue[: self.ENTRIES // 2]
            self._enter(0, 0, 0)
        if self._queue:
            self._put(self._queue)
            self._queue.clear()
        self.handed += 1
        for buffers in self._groups:
            if buffers.returned:
                buffers.offer_returned()
        if timeout is None:
            self._enter(_GETEVENTS, 0, 0)
        else:
            struct.pack_into("=qq", self._timeout, 0, int(timeout), int(timeout % 1 * 1e9))
            self._enter(_GETEVENTS | _EXT_ARG, _address(self._wait_argument), len(self._wait_argument))
        return self._completions()

    def _put(self, batch: list[Submission]) -> None:
        """Append submissions to their ring, which may wrap around."""
        tail, size = self._tail[0], _SUBMISSION.size
        data = b"".join(batch)
        begin = tail % self.ENTRIES * size
        room = len(self._submissions) - begin
        self._submissions[begin : begin + len(data)] = data[:room]
        if len(data) > room:
            self._submissions[: len(data) - room] = data[room:]
        self._tail[0] = (tail + len(data) // size) & 0xFFFFFFFF

    def _enter(self, flags: int, argument: int, size: int) -> None:
        """Make the kernel take all that was put into the ring; with _GETEVENTS, wait for a completion.

        It takes less while it has no memory for requests (EAGAIN, or a number below `count`), and then does not wait.
        What it has not taken still points to answers, which count as sent once `handed` has increased: so this returns
        only when it has taken all.
        """
        while True:
            count = (self._tail[0] - self._head[0]) & 0xFFFFFFFF
            taken = _syscall(_ENTER, self._descriptor, count, flags & _GETEVENTS, flags, argument, size)
            if taken == count:
                return
            error = ctypes.get_errno() if taken < 0 else errno.EAGAIN
            # There was nothing to take: the timeout is over, or the kernel wants its completions read first.
            if not count and error in (errno.ETIME, errno.EINTR, errno.EAGAIN, errno.EBUSY):
                return
            if error not in (errno.EINTR, errno.EAGAIN):
                raise OSError(error, os.strerror(error))
            time.sleep(_RETRY_SECONDS)

    def _completions(self) -> Iterator[Completion]:
        head, tail, size = self._done_head[0], self._done_tail[0], _COMPLETION.size
        count = (tail - head) & 0xFFFFFFFF
        begin = head * size % len(self._done)
        data = bytes(self._done[begin : begin + count * size])
        if len(data) < count * size:
            data += self._done[: count * size - len(data)]
        self._done_head[0] = tail
        return _COMPLETION.iter_unpack(data)

    def close(self) -> None:
        """Close the ring; what is in flight is cancelled."""
        os.close(self._descriptor)


# Submissions. `operation` is the number that their completions carry.


def accept(listener: int, operation: int) -> bytes:
    """Accept one client, once there is one."""
    return _submission(_ACCEPT, listener, operation, own_flags=socket.SOCK_CLOEXEC)


def poll(descriptor: int, operation: int) -> bytes:
    """Complete once, when the descriptor is readable."""
    return _submission(_POLL_ADD, descriptor, operation, own_flags=_POLLIN)


def receive(descriptor: int, operation: int) -> bytes:
    """Receive into one of the ring's buffers, which is taken only when there is something to receive."""
    return _submission(_RECV, descriptor, operation, flags=_BUFFER_SELECT, priority=_POLL_FIRST)


def receive_many(descriptor: int, operation: int) -> bytes:
    """Receive repeatedly into small buffers (multishot): a completion for each, until one has no HAS_MORE."""
    priority = _POLL_FIRST | _RECV_MULTISHOT
    return _submission(_RECV, descriptor, operation, flags=_BUFFER_SELECT, priority=priority, group=SMALL)


def send(descriptor: int, operation: int) -> bytearray:
    """Send what `point` sets, once the socket has room, and as much as it then takes."""
    return bytearray(_submission(_SEND, descriptor, operation, own_flags=socket.MSG_NOSIGNAL))


def send_now(descriptor: int, operation: int) -> bytearray:
    """Send what `point` sets when this is handed over; complete only if the socket had no room for all of it.

    The completion has -EAGAIN, or the number of bytes sent; if all were sent, there is none.
    """
    own_flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT | socket.MSG_WAITALL
    return bytearray(_submission(_SEND, descriptor, operation, flags=_SKIP_SUCCESS, own_flags=own_flags))


def point(submission: bytearray, data: bytes, begin: int = 0) -> None:
    """Make a send submission send `data` from byte `begin` on; `data` must live until the completion."""
    set_address_and_size(submission, ADDRESS_AT, id(data) + HEAD_BYTES + begin, len(data) - begin)


def timespec(seconds: float) -> bytes:
    """A duration in the kernel's format, for `timeout`."""
    return struct.pack("=qq", int(seconds), int(seconds % 1 * 1e9))


def timeout(duration: bytes, operation: int) -> bytes:
    """Complete after a `timespec`, which must live until this is handed over."""
    return _submission(_TIMEOUT, -1, operation, address=_address(duration), size=1)


def cancel(operation: int) -> bytes:
    """Make the kernel cancel an operation, which completes with -ECANCELED unless it is done already."""
    return _submission(_ASYNC_CANCEL, -1, UNHEARD, flags=_SKIP_SUCCESS, address=operation)


def cancel_all(operation: int) -> bytes:
    """As `cancel`, for all operations with the same number."""
    return _submission(_ASYNC_CANCEL, -1, UNHEARD, flags=_SKIP_SUCCESS, address=operation, own_flags=_CANCEL_ALL)


def _submission(
    code: int,
    descriptor: int,
    operation: int,
    *,
    flags: int = 0,
    priority: int = 0,
    address: int = 0,
    size: int = 0,
    own_flags: int = 0,
    group: int = 0,
) -> bytes:
    return _SUBMISSION.pack(
        code, flags, priority, descriptor, 0, address, size, own_flags, operation, group, 0, 0, 0, 0
    )


def _address(data: bytes) -> int:
    return id(data) + HEAD_BYTES


def _address_of(memory: bytearray | mmap.mmap | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _call(number: int, *arguments: int) -> int:
    result = int(_syscall(number, *arguments, *[0] * (6 - len(arguments))))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result

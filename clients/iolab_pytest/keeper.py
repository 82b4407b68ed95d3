"""Runs a command for no longer than another process lives: python -m iolab_pytest.keeper PID COMMAND...

PID is the parent's. Once that has ended, however it ended, or has closed our standard input, the command is sent
SIGTERM, and SIGKILL when it has not ended GRACE_SECONDS later. Should this process be killed, the kernel kills the
command (parent.py). A process between the two, because the kernel's own means, PR_SET_PDEATHSIG, is about the thread
that has started a child, and a test session may start one in any thread.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from iolab.kernel.parent import told_of_parents_end

GRACE_SECONDS = 10.0
STDIN = 0


def main(parent: int, command: list[str]) -> int:
    """Run the command; return its exit code, as a shell has it."""
    session = os.pidfd_open(parent)
    if os.getppid() != parent:
        # It ended before it could be watched, and the number may be another process's by now.
        return 0
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=told_of_parents_end(signal.SIGKILL)
    )
    poll = select.poll()
    for descriptor in (STDIN, session, os.pidfd_open(program.pid)):
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    program.terminate()
    try:
        return program.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        return program.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]) & 0xFF)

"""What strace wrote, cut to what a test is about: no test that reads it starts anything."""

from __future__ import annotations

from pathlib import Path

RECORDS = Path(__file__).parent / "records"

# A loop that serves two clients, one after the other, and a thread beside it. Its second client has to wait.
LOOP = (RECORDS / "loop.strace").read_text()

# Three threads: one hands a client to the second through a futex, which tells the third through an eventfd.
HAND_OVER = (RECORDS / "hand_over.strace").read_text()

"""Programs as a shell runs them, and what somebody may write on their command lines."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import strategies as st

# Whatever execve(2) can hand over: no zero, and of the surrogates those that stand for a byte.
WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0"), max_size=12),
    st.sampled_from(
        [
            *("nan", "inf", "-1", "0", "0-", "5-2", "--", "1:2:3", "0x50", "1e3", "1e400", "65536"),
            *("9" * 400, "9" * 5000, "\n", "é", "\udcff", "\x1b[2J"),
        ]
    ),
)


def run(words: list[str], redirection: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module with a shell's redirection, and a few variables beside our own."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False
    )


def is_one_line(text: str) -> bool:
    """Whether it is the line that says what is wrong, and nothing else."""
    return text.startswith(("Error: ", "iolab")) and text.endswith("\n") and text[:-1].isprintable()

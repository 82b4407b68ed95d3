"""Nothing is imported from the current directory: a select.py or json.py in it is not Python's own.

`python -m` looks there first. What starts interpreters itself gives them the option -P.
"""

from __future__ import annotations

import os
import sys


def leave_out_current_directory() -> None:
    """Do what -P would have done, in a program that was started by `python -m`, before it imports anything else."""
    try:
        current = os.getcwd()
    except FileNotFoundError:
        # It was removed, and Python could not put it in front either.
        return
    if not sys.flags.safe_path and sys.path[0] == current:
        del sys.path[0]

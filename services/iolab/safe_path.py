"""Import nothing from the current directory: it may hold a select.py or json.py that is not Python's own.

`python -m` looks there first. Code that starts an interpreter gives it the option -P.
"""

from __future__ import annotations

import os
import sys


def leave_out_current_directory() -> None:
    """Do what -P does, in a program started by `python -m`; to be called before it imports anything else."""
    try:
        current = os.getcwd()
    except FileNotFoundError:
        # The directory was removed, so Python could not put it on the path.
        return
    if not sys.flags.safe_path and sys.path[0] == current:
        del sys.path[0]

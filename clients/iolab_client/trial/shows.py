"""What of an experiment is drawn and tabled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shows:
    """`across` says what the dial is; empty: it stands still, and there are bars instead of lines.

    `values` are the columns of the table, each with its unit, and `draws` the one that is drawn.
    """

    across: str
    values: Mapping[str, str]
    draws: str
    logarithmic: bool = True

    @property
    def up(self) -> str:
        """The unit of what is drawn."""
        return self.values[self.draws]

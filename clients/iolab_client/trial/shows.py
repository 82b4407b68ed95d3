"""What of an experiment is drawn and tabled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shows:
    """`across` is what the dial is; `values` the columns of the table, each with its unit; `draws` the one drawn.

    `baseline`: with only one place of the dial there are bars; with `across` empty, too.
    """

    across: str
    values: Mapping[str, str]
    draws: str
    logarithmic: bool = True

    @property
    def up(self) -> str:
        """The unit of what is drawn."""
        return self.values[self.draws]

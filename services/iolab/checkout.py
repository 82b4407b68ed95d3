"""The checkout that this runs from, if it does: an installed package has none of what is beside its folder there."""

from __future__ import annotations

from pathlib import Path


def _checkout() -> Path | None:
    root = Path(__file__).parents[2]
    # Not pyproject.toml: a project that keeps its libraries in a folder of its own has one of these, too.
    return root if (root / "services" / "Dockerfile").exists() else None


CHECKOUT = _checkout()

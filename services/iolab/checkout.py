"""The checkout that this runs from, if there is one: an installed package has none of a checkout's other files."""

from __future__ import annotations

from pathlib import Path


def _checkout() -> Path | None:
    root = Path(__file__).parents[2]
    # Not pyproject.toml: a project that installs its libraries into a subfolder has that, too.
    return root if (root / "services" / "Dockerfile").exists() else None


CHECKOUT = _checkout()

"""What comes with the package, so that a fresh clone can watch, evaluate and refresh, and where the user's own goes."""

from __future__ import annotations

from pathlib import Path

from streamkd.config import SHIPPED

_ASSETS = Path(__file__).resolve().parent / "assets"
SHIPPED_STUDENT = _ASSETS / "student"  # a model bundle
SHIPPED_TEACHER = _ASSETS / "teacher"  # a teacher bundle
SHIPPED_ANCHOR = _ASSETS / "anchor"  # clips with human labels
TRAINED = Path("models")  # where bundles of the user's own trainings go that were given no place


def asset(name: str, shipped: Path) -> Path:
    """Where it is what a configuration names: `shipped` for the word of that name, else a path."""
    return shipped if name == SHIPPED else Path(name).expanduser().resolve()


__all__ = ["SHIPPED_ANCHOR", "SHIPPED_STUDENT", "SHIPPED_TEACHER", "TRAINED", "asset"]

"""Where refreshed bundles lie, what they are called, what is thrown away. Which one serves is the store's to say."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from streamkd.bundle import Bundle, read_bundle
from streamkd.errors import BundleError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_LONGEST_FAMILY = 70  # a version has 100 characters at most
_WORK = ".refresh"  # beside the versions: moving a finished bundle over is a rename


def refresh_id(at: datetime, token: str) -> str:
    """A refresh's id: sorts by time, e.g. "20261121-120301-3f9c2a"."""
    return f"{at:%Y%m%d-%H%M%S}-{token}"


def candidate_version(parent: str, refresh: str) -> str:
    """The version that a refresh makes; names the first ancestor, so that names don't grow.

    "lite0-1" and "lite0-1-r20261121-120301-3f9c2a" both give "lite0-1-r<refresh>".
    """
    base, _, old = parent.rpartition("-r")
    family = base if base and old.count("-") == 2 and old.replace("-", "").isalnum() else parent
    return f"{family[:_LONGEST_FAMILY]}-r{refresh}"


def work_folder(models_dir: Path, refresh: str) -> Path:
    """Where a refresh keeps its footage and everything it has made so far."""
    return models_dir / _WORK / refresh


def publish(candidate: Path, models_dir: Path) -> Bundle:
    """Check a finished bundle and move it to its place among the versions; may be repeated.

    Raises:
        BundleError: The bundle is damaged, or another one of this name is there.
    """
    if not candidate.exists():  # moved before an interruption
        return read_bundle(models_dir / candidate.name)
    version = read_bundle(candidate).spec.version
    target = models_dir / version
    if target.exists():
        raise BundleError(f"There is a model bundle {target} already.", hint="Remove it, then refresh again.")
    models_dir.mkdir(parents=True, exist_ok=True)
    candidate.replace(target)
    return read_bundle(target)


def prune_work(models_dir: Path, quota_bytes: int, *, keep: str | None = None) -> list[str]:
    """Delete the oldest refreshes' footage and left-overs until what remains is below the quota.

    Args:
        models_dir: The registry's folder.
        quota_bytes: Of all work folders together.
        keep: A refresh that is running; never deleted.

    Returns:
        Ids of what was deleted, oldest first.
    """
    root = models_dir / _WORK
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    sizes = {folder: _size(folder) for folder in folders}
    total = sum(sizes.values())
    gone: list[str] = []
    for folder in folders:
        if total <= quota_bytes:
            break
        if folder.name == keep:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]
        gone.append(folder.name)
    return gone


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


__all__ = ["candidate_version", "prune_work", "publish", "refresh_id", "work_folder"]

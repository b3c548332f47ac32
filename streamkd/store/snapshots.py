"""Snapshots on disk: `<media folder>/<yyyy-mm-dd>/<event id>.jpg`, whole or not there at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SUFFIX = ".jpg"
_PARTIAL = ".part"


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file below the media folder. `event_id` is None for what a crash left half written."""

    relative: str
    event_id: str | None
    size: int
    modified_s: float  # Unix time


def snapshot_name(event_id: str, start_utc: datetime) -> str:
    """The path below the media folder.

    Raises:
        ValueError: The id can't be a file name.
    """
    if not _SAFE_ID.fullmatch(event_id):
        raise ValueError(f"event id {event_id!r} can't be a file name")
    return f"{start_utc.astimezone(UTC):%Y-%m-%d}/{event_id}{_SUFFIX}"


def write_snapshot(media_dir: Path, name: str, jpeg: bytes) -> None:
    """Write a snapshot so that a reader, or a crash, sees the whole picture or none.

    Raises:
        OSError: The disk is full, or the folder can't be written.
    """
    target = media_dir / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(_PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(jpeg)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def list_snapshots(media_dir: Path) -> Iterator[SnapshotFile]:
    """Every file that this module may have written; anything else in the folder is left alone."""
    for day in sorted(media_dir.iterdir()) if media_dir.is_dir() else ():
        if not _DAY.fullmatch(day.name) or not day.is_dir():
            continue
        for entry in os.scandir(day):
            stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
            if suffix not in {_SUFFIX, _PARTIAL} or not entry.is_file(follow_symlinks=False):
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue
            event_id = stem if suffix == _SUFFIX else None
            yield SnapshotFile(f"{day.name}/{entry.name}", event_id, found.st_size, found.st_mtime)


def delete_snapshot(media_dir: Path, name: str) -> int:
    """Delete one file, and its day's folder with the last one; returns the bytes freed."""
    path = media_dir / name
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    if not any(path.parent.iterdir()):
        try:
            path.parent.rmdir()
        except OSError:  # somebody has just put a file there
            return size
    return size


__all__ = ["SnapshotFile", "delete_snapshot", "list_snapshots", "snapshot_name", "write_snapshot"]

"""Pictures and clips of events on disk: `<media folder>/<yyyy-mm-dd>/<event id>.jpg` and `.mp4`, whole or not there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SNAPSHOT = ".jpg"
_CLIP = ".mp4"
_PARTIAL = ".part"


@dataclass(frozen=True, slots=True)
class MediaFile:
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
    return _name(event_id, start_utc, _SNAPSHOT)


def clip_name(event_id: str, start_utc: datetime) -> str:
    """The path below the media folder.

    Raises:
        ValueError: The id can't be a file name.
    """
    return _name(event_id, start_utc, _CLIP)


def _name(event_id: str, start_utc: datetime, suffix: str) -> str:
    if not _SAFE_ID.fullmatch(event_id):
        raise ValueError(f"event id {event_id!r} can't be a file name")
    return f"{start_utc.astimezone(UTC):%Y-%m-%d}/{event_id}{suffix}"


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


def write_chunk(media_dir: Path, name: str, offset: int, data: bytes, total: int) -> bool:
    """Write a piece of a file that comes in pieces, in order; sent again, a piece does no harm.

    Args:
        media_dir: The media folder.
        name: The file's path below it.
        offset: Where the piece belongs.
        data: The piece.
        total: Bytes of the whole file.

    Returns:
        Whether the file is whole and in its place now.

    Raises:
        OSError: The disk is full, the folder can't be written, or what came before this piece is not there (any more).
    """
    target = media_dir / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}{_PARTIAL}")
    with partial.open("r+b" if partial.exists() else "wb") as file:
        if file.seek(0, os.SEEK_END) < offset:
            raise OSError(errno.ESPIPE, "an earlier piece is missing")
        file.seek(offset)
        file.truncate()
        file.write(data)
        if offset + len(data) < total:
            return False
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return True


def list_media(media_dir: Path) -> Iterator[MediaFile]:
    """Every file that this module may have written; anything else in the folder is left alone."""
    for day in sorted(media_dir.iterdir()) if media_dir.is_dir() else ():
        if not _DAY.fullmatch(day.name) or not day.is_dir():
            continue
        for entry in os.scandir(day):
            stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
            if suffix not in {_SNAPSHOT, _CLIP, _PARTIAL} or not entry.is_file(follow_symlinks=False):
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue
            event_id = None if suffix == _PARTIAL else stem
            yield MediaFile(f"{day.name}/{entry.name}", event_id, found.st_size, found.st_mtime)


def delete_media(media_dir: Path, name: str) -> int:
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


__all__ = [
    "MediaFile",
    "clip_name",
    "delete_media",
    "list_media",
    "snapshot_name",
    "write_chunk",
    "write_snapshot",
]

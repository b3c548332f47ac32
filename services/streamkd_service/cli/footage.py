"""The labelled clips that a command is given: listed, decoded into the cache; what can't be used is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamkd.errors import InputError
from streamkd_service.cli.screen import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.bundle import StudentSpec
    from streamkd.evaluate.dataset import ClipRecord, FrameCache

_TEACHER_RATE_HZ, _TEACHER_SIZE = 5.0, 192


@dataclass(frozen=True, slots=True)
class TeacherClips:
    """What a teacher is trained on.

    Attributes:
        records: Clips that can be decoded.
        folds: The fold of each, by source.
        classes: The background first.
        frames: Where their frames are.
    """

    records: tuple[ClipRecord, ...]
    folds: tuple[int, ...]
    classes: tuple[str, ...]
    frames: FrameCache


def teacher_clips(data: Path, exclude: Sequence[Path] | None, background: str, cache: Path | None) -> TeacherClips:
    """Labelled clips for a teacher.

    Raises:
        InputError: There is no such folder, no clip in it, or a list in it can't be read.
        TrainingError: There is one class only, or no background.
    """
    from streamkd.distill.develop import split_classes
    from streamkd.evaluate.dataset import make_folds, read_dataset, read_folds, readable

    frames = _frames(cache)
    name_missing(data)
    found = read_dataset(data, exclude=hashes(exclude))
    records = readable(found, frames, _TEACHER_RATE_HZ, _TEACHER_SIZE, warn)
    classes = split_classes(records, background)
    folds = read_folds(data, records) or make_folds(records, min(5, len({one.source for one in records})), 0)
    return TeacherClips(records, folds, classes, frames)


def student_clips(data: Path, spec: StudentSpec, cache: Path | None) -> tuple[tuple[ClipRecord, ...], FrameCache]:
    """Labelled clips as a student looks at them.

    Raises:
        InputError: There is no such folder, no clip in it that can be decoded, or its list can't be read.
    """
    from streamkd.evaluate.dataset import read_dataset, readable

    frames = _frames(cache)
    name_missing(data)
    found = read_dataset(data)
    records = readable(found, frames, spec.rate_hz, spec.view_size, warn, keep_aspect=spec.keeps_aspect)
    if not records:
        raise InputError(f"None of {len(found)} clips in {data} can be decoded.", hint="The lines above say why.")
    return records, frames


def name_missing(data: Path) -> None:
    """Files that the list names and that are not there."""
    from streamkd.evaluate.dataset import missing_files

    for file in missing_files(data):
        warn(f"Skipping {file}: there is no such file.")


def hashes(listings: Sequence[Path] | None) -> frozenset[str]:
    """SHA-256 of the clips that must not be used.

    Raises:
        InputError: A list can't be read.
    """
    from streamkd.evaluate.dataset import read_hashes

    return frozenset().union(*(read_hashes(path) for path in listings or []))


def _frames(cache: Path | None) -> FrameCache:
    from streamkd.evaluate.dataset import FrameCache, default_cache

    return FrameCache((cache or default_cache()) / "frames")


__all__ = ["TeacherClips", "hashes", "name_missing", "student_clips", "teacher_clips"]

"""Which clips a distillation run trains on, validates and tests with; and what happens when the disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamkd.bundle import file_sha256
from streamkd.distill.teach import check_split
from streamkd.errors import TrainingError
from streamkd.evaluate.dataset import VIDEO_SUFFIXES, ClipRecord, make_folds, read_folds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Parts:
    """Labelled clips, 3:1:1 by source; `inner` are the folds of the training clips."""

    train: tuple[ClipRecord, ...]
    validation: tuple[ClipRecord, ...]
    test: tuple[ClipRecord, ...]
    inner: tuple[int, ...]


def split_by_source(records: tuple[ClipRecord, ...], data: Path, seed: int) -> Parts:
    """Split by `folds.csv` or by source: the last fold to test, the one before to validate, the rest to train.

    Raises:
        TrainingError: There are too few sources, a class has none to train on, or a clip is in two parts.
    """
    sources = len({one.source for one in records})
    given = read_folds(data, records)
    folds = given or make_folds(records, min(5, sources), seed)
    names = sorted(set(folds))
    if len(names) < 4:
        raise TrainingError(
            f"The clips come from {sources} source(s); training, validation and test by source need at least 4.",
            hint="Name each clip's source in clips.csv, or add clips of other scenes.",
        )
    check_split(records, folds)
    by_fold = {fold: tuple(r for r, f in zip(records, folds, strict=True) if f == fold) for fold in names}
    train = tuple(one for fold in names[:-2] for one in by_fold[fold])
    lost = {one.label for one in records} - {one.label for one in train}
    if lost:
        raise TrainingError(
            f"Class {min(lost)!r} has no clips outside the sources that are kept back.",
            hint="Add clips of other sources.",
        )
    inner = _inner_folds(train, tuple(fold for fold in names[:-2] for _ in by_fold[fold]), seed)
    return Parts(train, by_fold[names[-2]], by_fold[names[-1]], inner)


def _inner_folds(train: tuple[ClipRecord, ...], given: tuple[int, ...], seed: int) -> tuple[int, ...]:
    """The given folds, or else as many as leave every class something to train on without any one of them."""
    counts = range(min(5, len({one.source for one in train})), 1, -1)
    labels = {one.label for one in train}
    for folds in (given, *(make_folds(train, count, seed) for count in counts)):
        rests = [{one.label for one, f in zip(train, folds, strict=True) if f != fold} for fold in set(folds)]
        if len(rests) > 1 and all(rest == labels for rest in rests):
            return folds
    return given  # a teacher that needs folds says what is missing


def loose_clips(folder: Path | None, known: frozenset[str] | set[str]) -> tuple[ClipRecord, ...]:
    """Every video below a folder as a clip without a label, but for those that are known already."""
    if folder is None:
        return ()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if not paths:
        raise TrainingError(f"No clips found in {folder}.", hint="Name a folder of videos with --unlabelled.")
    records = [ClipRecord(one, str(one.relative_to(folder)), "", str(one), file_sha256(one)) for one in paths]
    return tuple(one for one in records if one.sha256 not in known)


@contextlib.contextmanager
def disk_full_named(what: str, folder: Path) -> Iterator[None]:
    """A full disk as one clear line; what was half written is removed.

    Raises:
        TrainingError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        for partial in folder.rglob(f"*.{os.getpid()}.partial*"):
            partial.unlink(missing_ok=True)
        raise TrainingError(
            f"The disk is full while caching {what} in {folder}.",
            hint="Make room, or name another folder with --cache; what is complete is kept, so run the same again.",
        ) from error


__all__ = ["Parts", "disk_full_named", "loose_clips", "split_by_source"]

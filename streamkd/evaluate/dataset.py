"""A folder of labelled clips: what is in it, how it splits by source, and its frames, decoded once.

Two layouts are read: a folder with `clips.csv` (`file,label[,source,start,end,...]`), or a folder of folders whose
names are the labels. Clips of one source share the scene, so every split here is by source, never by clip.
"""

from __future__ import annotations

import csv
import os
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamkd.bundle import file_sha256
from streamkd.errors import InputError, UnsupportedMediaError
from streamkd.media.clips import DecodedClip, decode_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamkd.bundle import StudentSpec

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"})


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One labelled clip.

    Attributes:
        path: The video file.
        file: As named in the list, for people.
        label: Its class.
        source: What it was cut from; the clip itself where nothing is known.
        sha256: Of the file's bytes.
        start_s: First second of the file that belongs to it.
        end_s: Where it ends, None for the file's end.
        shortcut: Width, height and frame rate where the list names them: what a cheat could learn from.
    """

    path: Path
    file: str
    label: str
    source: str
    sha256: str
    start_s: float = 0.0
    end_s: float | None = None
    shortcut: tuple[float, ...] = ()


def read_dataset(folder: Path, *, exclude: frozenset[str] = frozenset()) -> tuple[ClipRecord, ...]:
    """The clips of a folder, in a fixed order, without those whose SHA-256 is in `exclude`.

    Raises:
        InputError: There is no such folder, no clip in it, or the list can't be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", hint="Name a folder with clips.csv, or one folder per label.")
    listing = folder / "clips.csv"
    records = _from_csv(listing) if listing.is_file() else _from_folders(folder)
    kept = tuple(record for record in records if record.sha256 not in exclude)
    if not kept:
        raise InputError(
            f"No clips found in {folder}.",
            hint="It needs a clips.csv with columns file,label, or one sub-folder of videos per label.",
        )
    return kept


def read_hashes(listing: Path) -> frozenset[str]:
    """SHA-256 of every file that a `clips.csv` names; for leaving these clips out elsewhere."""
    return frozenset(record.sha256 for record in _from_csv(listing))


def _from_csv(listing: Path) -> list[ClipRecord]:
    records: list[ClipRecord] = []
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"file", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{listing} lacks the column {' and '.join(sorted(missing))}.",
                    hint="Its first line must be: file,label[,source,start,end].",
                )
            for row in reader:
                record = _from_row(listing, reader.line_num, row)
                if record is not None:
                    records.append(record)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{listing} can't be read: {error}.", hint="It must be a CSV file in UTF-8.") from error
    return records


def _from_row(listing: Path, line: int, row: dict[str, str]) -> ClipRecord | None:
    file, label = (row["file"] or "").strip(), (row["label"] or "").strip()
    if not file or not label:
        raise InputError(f"{listing}, line {line}: file or label is empty.", hint="Fill it in or remove the line.")
    path = listing.parent / file
    if not path.is_file():
        return None
    try:
        start_s = float(row.get("start") or 0.0)
        end_s = float(row["end"]) if row.get("end") else None
        shortcut = tuple(float(row[name]) for name in ("width", "height", "fps") if row.get(name))
    except ValueError as error:
        raise InputError(
            f"{listing}, line {line}: {error}.", hint="start, end, width, height, fps are numbers."
        ) from error
    if end_s is not None and not 0 <= start_s < end_s:
        raise InputError(
            f"{listing}, line {line}: {file} would hold no frame: it starts at {start_s:g} s and ends at {end_s:g} s.",
            hint="start and end are seconds from the file's beginning.",
        )
    source = (row.get("source") or "").strip() or file
    return ClipRecord(path, file, label, source, file_sha256(path), start_s, end_s, shortcut)


def _from_folders(folder: Path) -> list[ClipRecord]:
    return [
        ClipRecord(path, str(path.relative_to(folder)), sub.name, str(path.relative_to(folder)), file_sha256(path))
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
        for path in sorted(sub.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    ]


def missing_files(folder: Path) -> tuple[str, ...]:
    """Files that `clips.csv` names and that are not there; empty for a folder of folders, or a list in disorder."""
    listing = folder / "clips.csv"
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            named = [row.get("file") or "" for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()  # reading the clips says why
    return tuple(file for file in named if file and not (folder / file).is_file())


def read_folds(folder: Path, records: Sequence[ClipRecord]) -> tuple[int, ...] | None:
    """The fold of every record from `folds.csv` (`file,fold`), or None where there is no such file or it lacks some.

    Raises:
        InputError: The file is malformed, or splits a source.
    """
    listing = folder / "folds.csv"
    if not listing.is_file():
        return None
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            fold_of = {row["file"]: int(row["fold"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(
            f"{listing} can't be read: {error}.", hint="Its first line is file,fold; folds are integers."
        ) from error
    if any(record.file not in fold_of for record in records):
        return None
    fold_of_source: dict[str, int] = {}
    for record in records:
        if fold_of_source.setdefault(record.source, fold_of[record.file]) != fold_of[record.file]:
            raise InputError(
                f"{listing} puts clips of source {record.source} into several folds; the figures would flatter.",
                hint="Keep each source in one fold, or remove the file: folds are then made by source.",
            )
    return tuple(fold_of[record.file] for record in records)


def make_folds(records: Sequence[ClipRecord], count: int, seed: int) -> tuple[int, ...]:
    """Split by source into `count` folds whose classes are as even as a greedy pass makes them.

    Sources are placed from the largest to the smallest, each into the fold where its classes are missing most.
    """
    totals = Counter(record.label for record in records)
    by_source: dict[str, Counter[str]] = {}
    for record in records:
        by_source.setdefault(record.source, Counter())[record.label] += 1
    order = list(by_source)
    random.Random(seed).shuffle(order)  # noqa: S311 (a split, not a secret)
    order.sort(key=lambda source: -by_source[source].total())
    fold_counts: list[Counter[str]] = [Counter() for _ in range(count)]
    fold_of: dict[str, int] = {}
    for source in order:
        load = [
            sum(
                (counts[label] + n) ** 2 / totals[label] ** 2 - counts[label] ** 2 / totals[label] ** 2
                for label, n in by_source[source].items()
            )
            for counts in fold_counts
        ]
        best = min(range(count), key=lambda index: load[index])
        fold_of[source] = best
        fold_counts[best] += by_source[source]
    return tuple(fold_of[record.source] for record in records)


class FrameCache:
    """Decoded frames on disk, keyed by the file's hash and the way it was sampled.

    Args:
        folder: Where the `.npz` files go; created when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_view(self, record: ClipRecord, spec: StudentSpec) -> DecodedClip:
        """What a student gets of a clip, decoded now or earlier; `[T, H, W, 3]`, see `StudentSpec.view_size`.

        Raises:
            UnsupportedMediaError: The clip can't be decoded.
        """
        return self.load(record, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect)

    def load(self, record: ClipRecord, rate_hz: float, size: int, *, keep_aspect: bool = False) -> DecodedClip:
        """The due frames of a clip, decoded now or earlier.

        Raises:
            UnsupportedMediaError: The clip can't be decoded.
        """
        span = f"{record.start_s:g}-{'end' if record.end_s is None else format(record.end_s, 'g')}"
        shape = "-wide" if keep_aspect else ""
        path = self._folder / f"{record.sha256[:32]}-{rate_hz:g}hz-{size}px{shape}-{span}.npz"
        if path.is_file():
            try:
                with np.load(path) as stored:
                    width, height, fps = stored["geometry"]
                    return DecodedClip(stored["frames"], stored["pts_s"], int(width), int(height), float(fps))
            except (OSError, ValueError, KeyError):
                path.unlink(missing_ok=True)  # a half-written or damaged entry: decode again
        clip = decode_clip(
            record.path, rate_hz, size, keep_aspect=keep_aspect, start_s=record.start_s, end_s=record.end_s
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial.npz")
        np.savez(partial, frames=clip.frames, pts_s=clip.pts_s, geometry=np.array([clip.width, clip.height, clip.fps]))
        partial.replace(path)
        return clip


def default_cache() -> Path:
    """Where decoded frames and features are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamkd"


def readable(
    records: Iterable[ClipRecord],
    cache: FrameCache,
    rate_hz: float,
    size: int,
    warn: Callable[[str], None],
    *,
    keep_aspect: bool = False,
) -> tuple[ClipRecord, ...]:
    """The records that decode; the others are named to `warn` and left out. Fills in `shortcut` where it is missing."""
    good: list[ClipRecord] = []
    for record in records:
        try:
            clip = cache.load(record, rate_hz, size, keep_aspect=keep_aspect)
        except UnsupportedMediaError as error:
            warn(f"Skipping {record.file}: {error}")
            continue
        good.append(record if record.shortcut else replace(record, shortcut=(clip.width, clip.height, clip.fps)))
    return tuple(good)


__all__ = [
    "VIDEO_SUFFIXES",
    "ClipRecord",
    "FrameCache",
    "default_cache",
    "make_folds",
    "missing_files",
    "read_dataset",
    "read_folds",
    "read_hashes",
    "readable",
]

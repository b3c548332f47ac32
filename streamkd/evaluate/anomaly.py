"""Frame-level AUC of the anomaly score on labelled streams.

Causal, every frame counts, no per-clip normalisation and nothing is chosen on the labels: the score of a frame depends
on it and the frames before it in the same file.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.anomaly.motion import MotionScore
from streamkd.errors import InputError
from streamkd.evaluate.metrics import roc_auc
from streamkd.media.greys import iter_grey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

LISTING = "labels.csv"
_COLUMNS = ("file", "frames", "first_anomalous", "last_anomalous")


@dataclass(frozen=True, slots=True)
class LabelledStream:
    """A recording and which of its frames, counted from 0, are anomalous; both ends belong to them."""

    path: Path
    file: str
    frames: int
    first_anomalous: int
    last_anomalous: int


@dataclass(frozen=True, slots=True)
class AnomalyReport:
    """What an evaluation of the anomaly score found.

    Attributes:
        micro_auc: Over all frames of all streams; None with one class only.
        macro_auc: Mean over the streams that have both classes; None without any.
        n: Frames.
        anomalous: Frames among them that are labelled anomalous.
        streams: Recordings.
        streams_with_both: Recordings that count for `macro_auc`.
    """

    micro_auc: float | None
    macro_auc: float | None
    n: int
    anomalous: int
    streams: int
    streams_with_both: int


def read_labels(folder: Path) -> tuple[LabelledStream, ...]:
    """The streams that `labels.csv` of a folder names.

    Raises:
        InputError: There is no such list, or a line or a file of it is wrong.
    """
    listing = folder / LISTING
    if not listing.is_file():
        raise InputError(f"{folder} holds no {LISTING}.", hint=f"It needs one with the columns {','.join(_COLUMNS)}.")
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{listing} lacks the column {' and '.join(missing)}.",
                    hint=f"Its first line must be: {','.join(_COLUMNS)}.",
                )
            streams = tuple(_from_row(listing, reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{listing} can't be read: {error}.", hint="It must be a CSV file in UTF-8.") from error
    if not streams:
        raise InputError(f"{listing} names no file.")
    return streams


def _from_row(listing: Path, line: int, row: dict[str, str]) -> LabelledStream:
    try:
        frames, first, last = (int(row[name] or "") for name in _COLUMNS[1:])
    except (TypeError, ValueError) as error:
        raise InputError(f"{listing}, line {line}: {error}.", hint="Frame numbers are integers from 0.") from error
    path = listing.parent / row["file"]
    if not path.is_file():
        raise InputError(f"{listing}, line {line}: {path} does not exist.", hint="Copy the whole folder.")
    return LabelledStream(path, row["file"], frames, first, last)


def motion_scores(stream: LabelledStream) -> NDArray[np.float64]:
    """The causal motion score `[frames]` of every frame of a stream.

    Raises:
        InputError: It does not have as many frames as its label says.
        UnsupportedMediaError: It can't be decoded.
    """
    motion = MotionScore()
    scores = np.array([motion.add(grey) for grey in iter_grey(stream.path)])
    if len(scores) != stream.frames:
        raise InputError(
            f"{stream.path} has {len(scores)} frames, {LISTING} says {stream.frames}: the labels would not fit.",
            hint="Copy the file again, or correct the list.",
        )
    return scores


def evaluate_anomaly(folder: Path, *, on_stream: Callable[[int, int], None] | None = None) -> AnomalyReport:
    """Score every frame of a folder laid out as `labels.csv` says and compare with the labels.

    Args:
        folder: Holds `labels.csv` with `file,frames,first_anomalous,last_anomalous`.
        on_stream: Told how many of how many recordings are done.

    Raises:
        InputError: The list or a file does not fit.
        UnsupportedMediaError: A file can't be decoded.
    """
    streams = read_labels(folder)
    all_scores, all_labels, per_stream = [], [], []
    for done, stream in enumerate(streams, start=1):
        scores = motion_scores(stream)
        index = np.arange(stream.frames)
        labels = (stream.first_anomalous <= index) & (index <= stream.last_anomalous)
        all_scores.append(scores)
        all_labels.append(labels)
        auc = roc_auc(scores, labels)
        if auc is not None:
            per_stream.append(auc)
        if on_stream is not None:
            on_stream(done, len(streams))
    labels = np.concatenate(all_labels)
    return AnomalyReport(
        micro_auc=roc_auc(np.concatenate(all_scores), labels),
        macro_auc=float(np.mean(per_stream)) if per_stream else None,
        n=len(labels),
        anomalous=int(labels.sum()),
        streams=len(streams),
        streams_with_both=len(per_stream),
    )


__all__ = ["AnomalyReport", "LabelledStream", "evaluate_anomaly", "motion_scores", "read_labels"]

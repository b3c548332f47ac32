"""Results of the benchmark as JSON lines: appended as they come, read back to go on and to write the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.distill.bench.data import BenchData


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the report must know of the clips.

    Attributes:
        files: Their names.
        positive: Which are of the foreground.
        sources: Of each.
        folds: Of each.
        seconds: Length of each.
        teacher: Foreground probability of the teacher, out of fold.
        shortcut_roc_auc: What size and frame rate alone give.
        teacher_name: Which teacher it was.
    """

    files: tuple[str, ...]
    positive: NDArray[np.bool_]
    sources: tuple[str, ...]
    folds: NDArray[np.int64]
    seconds: NDArray[np.float64]
    teacher: NDArray[np.float64]
    shortcut_roc_auc: float | None
    teacher_name: str


@dataclass(frozen=True, slots=True)
class Results:
    """A file of results: facts about the data, and one entry a row, seed and budget."""

    facts: DataFacts | None
    entries: tuple[dict[str, Any], ...]

    def has(self, row: str, seed: int, budget: str) -> bool:
        """Whether it is done already."""
        return any((one["row"], one["seed"], one["budget"]) == (row, seed, budget) for one in self.entries)


def facts_of(
    data: BenchData, teacher: NDArray[np.float64], teacher_name: str, shortcut: float | None, rate_hz: float
) -> dict[str, Any]:
    """The line that describes the data."""
    return {
        "type": "data",
        "files": [record.file for record in data.records],
        "positive": [int(label != 0) for label in data.labels],
        "sources": data.sources,
        "folds": list(data.folds),
        "seconds": [round(length / rate_hz, 2) for length in data.lengths],
        "teacher": np.round(teacher, 5).tolist(),
        "teacher_name": teacher_name,
        "shortcut_roc_auc": shortcut,
    }


def read_results(path: Path) -> Results:
    """What has been measured so far; a line that a kill has cut short is left out.

    Raises:
        InputError: The file can't be read, or its lines are something else.
    """
    if not path.is_file():
        return Results(None, ())
    facts: DataFacts | None = None
    entries: list[dict[str, Any]] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said["type"] == "data":
                facts = _facts(said)
            else:
                entries.append(said)
    except (OSError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no results of this benchmark.", hint="Name another file with --out.") from error
    return Results(facts, tuple(entries))


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add one line; a line cut short by a kill before is ended first.

    Raises:
        InputError: It can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.is_file() else b""
        with path.open("ab") as file:
            if text and not text.endswith(b"\n"):
                file.write(b"\n")
            file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}.", hint="Name another with --out.") from error


def _facts(said: dict[str, Any]) -> DataFacts:
    return DataFacts(
        tuple(said["files"]),
        np.array(said["positive"], dtype=bool),
        tuple(said["sources"]),
        np.array(said["folds"]),
        np.array(said["seconds"]),
        np.array(said["teacher"]),
        said["shortcut_roc_auc"],
        said["teacher_name"],
    )


def scores(entries: Sequence[dict[str, Any]], kind: str, count: int) -> NDArray[np.float64]:
    """`[S, N]` scores of one row's seeds, NaN for clips of folds that were not measured."""
    found = np.full((len(entries), count), np.nan)
    for row, entry in enumerate(entries):
        found[row, entry["clips"]] = entry[kind]
    return found


__all__ = ["DataFacts", "Results", "append", "facts_of", "read_results", "scores"]

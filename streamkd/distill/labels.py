"""What teachers said about clips, as a file between the steps of a refresh. No torch: the gate reads it as well."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LABELS_NAME = "labels.json"


@dataclass(frozen=True, slots=True)
class MemberLabels:
    """One teacher member's answers.

    Attributes:
        name: Of the member.
        group: "train" makes training labels; "judge" never does, it only compares students.
        probs: Per clip the probability of each class.
        weight: Its share in the mean of its group.
    """

    name: str
    group: str
    probs: tuple[tuple[float, ...], ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ClipLabels:
    """The answers of all members of a teacher to N clips.

    Attributes:
        teacher: Name of the teacher bundle.
        classes: What the probabilities are of.
        clips: File names, in the order of the probabilities.
        sha256: Of the clips' bytes; all zeros for a clip that could not be decoded (its probabilities are uniform).
        members: Their answers.
    """

    teacher: str
    classes: tuple[str, ...]
    clips: tuple[str, ...]
    sha256: tuple[str, ...]
    members: tuple[MemberLabels, ...]

    def member_probs(self, group: str) -> NDArray[np.float64]:
        """Probabilities `[M, N, C]` of the M members of a group.

        Raises:
            InputError: No member belongs to this group.
        """
        chosen = [np.asarray(member.probs, dtype=np.float64) for member in self.members if member.group == group]
        if not chosen:
            raise InputError(f"The labels of teacher {self.teacher} have no member in group {group!r}.")
        return np.stack(chosen).reshape(len(chosen), len(self.clips), len(self.classes))

    def probs(self, group: str) -> NDArray[np.float64]:
        """Mean probabilities `[N, C]` over the members of a group, by their weights.

        Raises:
            InputError: No member belongs to this group.
        """
        probs = self.member_probs(group)
        weights = np.array([member.weight for member in self.members if member.group == group])
        return np.asarray(np.average(probs, axis=0, weights=weights if weights.sum() > 0 else None))


def write_labels(folder: Path, labels: ClipLabels) -> None:
    """Write `labels.json` into a folder, complete or not at all.

    Raises:
        UnavailableError: The disk is full, or the folder can't be written.
    """
    partial = folder / f".{LABELS_NAME}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(labels), indent=1), encoding="utf-8")
        partial.replace(folder / LABELS_NAME)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UnavailableError(
            f"Labels can't be written to {folder}: {error.strerror or error}.", hint="Free space there."
        ) from error


def read_labels(folder: Path) -> ClipLabels:
    """Read what `write_labels` wrote.

    Raises:
        InputError: The file is missing or malformed.
    """
    path = folder / LABELS_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return ClipLabels(
            teacher=raw["teacher"],
            classes=tuple(raw["classes"]),
            clips=tuple(raw["clips"]),
            sha256=tuple(raw["sha256"]),
            members=tuple(
                MemberLabels(
                    one["name"], one["group"], tuple(tuple(row) for row in one["probs"]), one.get("weight", 1.0)
                )
                for one in raw["members"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Teacher labels {path} can't be read: {error}.", hint="Run the teach step again.") from error


__all__ = ["LABELS_NAME", "ClipLabels", "MemberLabels", "read_labels", "write_labels"]

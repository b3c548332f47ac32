"""What every teacher is: clips in, class logits and features out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from streamkd.bundle import file_sha256
from streamkd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

Group = Literal["train", "judge"]
REST = "*"  # in a class mapping: every class of the teacher that is not named elsewhere
EPS = 1e-12


@dataclass(frozen=True, slots=True)
class TeacherClip:
    """A clip to label.

    Attributes:
        path: The video file.
        sha256: Of its bytes.
        source: What it was cut from, where that is known: heads that saw this source in training are not asked.
        start_s: First second of the file that belongs to it.
        end_s: Where it ends, None for the file's end.
    """

    path: Path
    sha256: str
    source: str = ""
    start_s: float = 0.0
    end_s: float | None = None

    @classmethod
    def of(cls, path: Path) -> TeacherClip:
        """A whole file.

        Raises:
            InputError: It can't be read.
        """
        try:
            return cls(path, file_sha256(path))
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}.", hint="Name a video file.") from error

    @property
    def key(self) -> str:
        """Of this clip in a cache: its hash, and its span where it is a part of a file."""
        if not self.start_s and self.end_s is None:
            return self.sha256
        return f"{self.sha256}-{self.start_s:g}-{'end' if self.end_s is None else format(self.end_s, 'g')}"


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One voice of a teacher.

    Attributes:
        name: Unique within the teacher.
        group: "train" members make training labels; "judge" members only ever compare students.
        weight: Share in the mean of its group; learnt on held-out clips.
    """

    name: str
    group: Group = "train"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a teacher says about N clips.

    Attributes:
        logits: `[N, C]`, logarithm of the weighted mean probabilities of the "train" members.
        member_logits: Per member `[N, C]`, calibrated.
        uncertainty: `[N]`, entropy of the mean in nats.
        features: By name `[N, ...]`, float32; what was seen, for feature distillation.
        boxes: Per clip `[T, P, 5]` (ymin, xmin, ymax, xmax as shares of the picture, score) where a teacher finds
            people, else None.
    """

    logits: Tensor
    member_logits: dict[str, Tensor]
    uncertainty: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    boxes: tuple[Tensor, ...] | None = None


class Teacher(Protocol):
    """Slow, looks at a whole clip at once, past and future, and says what it shows."""

    @property
    def name(self) -> str:
        """For people and lineages."""

    @property
    def version(self) -> str:
        """Hex digest that changes whenever its answers may change; part of the key of cached labels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Order of the logits."""

    @property
    def members(self) -> tuple[MemberInfo, ...]:
        """Its voices."""

    def variant(self, clip: TeacherClip) -> str:
        """Which of its weights answer to this clip; another variant is another answer in the cache."""

    def label(
        self, clips: Sequence[TeacherClip], progress: Callable[[str, float], None] | None = None
    ) -> TeacherOutput:
        """Label clips.

        Raises:
            UnsupportedMediaError: A clip can't be decoded or has no frame.
            DependencyError: Weights or a library are not installed.
        """


def combine(members: Sequence[MemberInfo], logits: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits `[N, C]` of the weighted mean probability of the "train" members (of all, where none is), and its entropy.

    A linear opinion pool (Stone, "The Opinion Pool", Ann. Math. Statist. 1961).
    """
    chosen = [one for one in members if one.group == "train"] or list(members)
    weights = torch.tensor([one.weight for one in chosen])
    weights = weights / weights.sum()
    probs = torch.stack([logits[one.name].softmax(dim=-1) for one in chosen])
    mean = torch.einsum("m,mnc->nc", weights, probs)
    entropy = -(mean * (mean + EPS).log()).sum(dim=-1)
    return (mean + EPS).log(), entropy


def class_matrix(
    theirs: Sequence[str], ours: Sequence[str], mapping: Mapping[str, Sequence[str]], teacher: str
) -> Tensor:
    """`[len(theirs), len(ours)]` of 0 and 1: which of a teacher's classes count as which of ours.

    Without a mapping the names have to be the same, but for case. A class of the teacher that is mapped nowhere is left
    out, and the probabilities of the others then add up to one again.

    Args:
        theirs: The teacher's classes, in the order of its logits.
        ours: The student's.
        mapping: Per class of ours the teacher's; `"*"` stands for all that no other class names.
        teacher: Its name, for the message.

    Raises:
        InputError: A class of ours has none of the teacher's, or the mapping names a class that one of them lacks.
    """
    index = {name.casefold(): i for i, name in enumerate(theirs)}
    known = ", ".join(theirs[:8]) + (f", … ({len(theirs)} in all)" if len(theirs) > 8 else "")
    hint = "Map them in the teacher's file, for instance: classes: {fight: [wrestling], normal: ['*']}."
    wanted = dict(mapping) or {name: [name] for name in ours}
    for name in sorted(set(wanted) - set(ours)):
        raise InputError(
            f"The class mapping of teacher {teacher} has class {name!r}, which is not asked for.", hint=hint
        )
    for name in ours:
        for one in wanted.get(name, ()):
            if one != REST and one.casefold() not in index:
                raise InputError(f"Teacher {teacher} has no class {one!r}; it knows {known}.", hint=hint)
        if not wanted.get(name):
            raise InputError(f"No class of teacher {teacher} is mapped to {name!r}; it knows {known}.", hint=hint)
    taken = {index[one.casefold()] for names in wanted.values() for one in names if one != REST}
    matrix = torch.zeros(len(theirs), len(ours))
    for column, name in enumerate(ours):
        for one in wanted[name]:
            rows = [i for i in range(len(theirs)) if i not in taken] if one == REST else [index[one.casefold()]]
            matrix[rows, column] = 1.0
    if (matrix.sum(dim=1) > 1).any() or (matrix.sum(dim=0) == 0).any():
        raise InputError(f"The class mapping of teacher {teacher} uses a class twice or leaves one empty.", hint=hint)
    return matrix


def map_probs(probs: Tensor, matrix: Tensor) -> Tensor:
    """Probabilities `[N, K]` of a teacher's classes to log-probabilities `[N, C]` of ours."""
    mapped = probs @ matrix
    return ((mapped + EPS) / (mapped + EPS).sum(dim=-1, keepdim=True)).log()


__all__ = [
    "REST",
    "Group",
    "MemberInfo",
    "Teacher",
    "TeacherClip",
    "TeacherOutput",
    "class_matrix",
    "combine",
    "map_probs",
]

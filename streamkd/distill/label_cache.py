"""What teachers said, kept by clip and teacher: a clip is labelled once, however many runs ask for it.

Of each member the logarithms of the largest probabilities are kept with their classes (sparse: a teacher may know
hundreds), what is left is spread evenly over the other classes; features in fp16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamkd.errors import UnavailableError, UnsupportedMediaError
from streamkd.models.teachers.base import TeacherClip, TeacherOutput, combine
from streamkd.models.teachers.cache import TensorCache, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from streamkd.models.teachers.base import Teacher

TOP_K = 16
_FORMAT = "labels 1"
_FP16_LIMIT = 6e4


@dataclass(frozen=True, slots=True)
class CachedLabels:
    """The answers to those clips that could be decoded.

    Attributes:
        clips: They.
        output: What the teacher says about them, in this order.
        unreadable: The others, each with the reason.
        fresh: How many had to be labelled now.
    """

    clips: tuple[TeacherClip, ...]
    output: TeacherOutput
    unreadable: tuple[tuple[TeacherClip, str], ...]
    fresh: int


def sparse_top_k(log_probs: NDArray[np.float32], k: int = TOP_K) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """The K = min(k, C) largest of `[M, C]`, largest first: classes and their log-probabilities, `[M, K]` each."""
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    return order.astype(np.uint16), np.take_along_axis(log_probs, order, axis=1)


def dense(classes: NDArray[np.uint16], values: NDArray[np.float32], n_classes: int) -> NDArray[np.float32]:
    """What `sparse_top_k` left, as log-probabilities `[M, C]` that add up to one; the rest is spread evenly."""
    kept = np.exp(values.astype(np.float64))
    left = np.clip(1.0 - kept.sum(axis=1, keepdims=True), 1e-12, None)
    probs = np.repeat(left / max(n_classes - classes.shape[1], 1), n_classes, axis=1)
    np.put_along_axis(probs, classes.astype(np.int64), kept, axis=1)
    return np.asarray(np.log(probs / probs.sum(axis=1, keepdims=True)), dtype=np.float32)


def cached_labels(
    teacher: Teacher,
    clips: Sequence[TeacherClip],
    cache: TensorCache | None,
    *,
    progress: Callable[[str, float], None],
    warn: Callable[[str], None],
) -> CachedLabels:
    """Label clips, each only if that has not been done before.

    A run that is interrupted goes on where it was; one whose disk is full says so once and goes on without the cache.

    Args:
        teacher: Who labels.
        clips: What.
        cache: Where answers are kept; None keeps none.
        progress: Told what is being done and which share of it is done.
        warn: Told, in one line, that the cache can't be written.
    """
    names = [one.name for one in teacher.members]
    rows: list[_Row] = []
    kept: list[TeacherClip] = []
    unreadable: list[tuple[TeacherClip, str]] = []
    fresh = 0
    for index, clip in enumerate(clips):
        row = _known(cache, teacher, clip)
        if row is None:
            try:
                row = _ask(teacher, clip)
            except UnsupportedMediaError as error:
                unreadable.append((clip, error.message))
            else:
                fresh += 1
                cache = _keep(cache, teacher, clip, row, warn)
        if row is not None:
            kept.append(clip)
            rows.append(row)
        progress("labelling clips", (index + 1) / len(clips))
    return CachedLabels(tuple(kept), _together(teacher, names, rows), tuple(unreadable), fresh)


@dataclass(frozen=True, slots=True)
class _Row:
    members: NDArray[np.float32]  # [M, C] log-probabilities
    features: dict[str, NDArray[np.float16]]


def _ask(teacher: Teacher, clip: TeacherClip) -> _Row:
    said = teacher.label([clip])
    logs = [said.member_logits[one.name].log_softmax(dim=-1)[0].numpy() for one in teacher.members]
    features = {name: value[0].clamp(-_FP16_LIMIT, _FP16_LIMIT).half().numpy() for name, value in said.features.items()}
    return _Row(np.stack(logs).astype(np.float32), features)


def _version(teacher: Teacher, clip: TeacherClip) -> str:
    return digest(_FORMAT, teacher.version, teacher.variant(clip))


def _known(cache: TensorCache | None, teacher: Teacher, clip: TeacherClip) -> _Row | None:
    stored = cache.get(_version(teacher, clip), clip.key) if cache else None
    if stored is None or not {"classes", "log_probs"} <= set(stored) or len(stored["classes"]) != len(teacher.members):
        return None
    members = dense(stored["classes"], stored["log_probs"], len(teacher.classes))
    features = {name.removeprefix("feature "): value for name, value in stored.items() if name.startswith("feature ")}
    return _Row(members, features)


def _keep(
    cache: TensorCache | None, teacher: Teacher, clip: TeacherClip, row: _Row, warn: Callable[[str], None]
) -> TensorCache | None:
    """The cache to go on with: none, after one that can't be written has been named."""
    if cache is None:
        return None
    classes, values = sparse_top_k(row.members)
    stored: dict[str, NDArray[Any]] = {"classes": classes, "log_probs": values}
    stored |= {f"feature {name}": one for name, one in row.features.items()}
    try:
        cache.put(_version(teacher, clip), clip.key, stored)
    except UnavailableError as error:
        warn(f"{error} Going on without it.")
        return None
    return cache


def _together(teacher: Teacher, names: Sequence[str], rows: Sequence[_Row]) -> TeacherOutput:
    if not rows:
        return teacher.label([])
    logs = torch.from_numpy(np.stack([one.members for one in rows], axis=1))  # [M, N, C]
    logits = dict(zip(names, logs, strict=True))
    pooled, entropy = combine(teacher.members, logits)
    features: dict[str, Tensor] = {
        name: torch.from_numpy(np.stack([one.features[name] for one in rows])).float()
        for name in rows[0].features
        if all(name in one.features and one.features[name].shape == rows[0].features[name].shape for one in rows)
    }
    return TeacherOutput(pooled, logits, entropy, features)


__all__ = ["TOP_K", "CachedLabels", "cached_labels", "dense", "sparse_top_k"]

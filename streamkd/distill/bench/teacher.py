"""A teacher for the benchmark, made on the spot from the data's own labels and never asked about what it has seen.

Heads over frozen backbones, larger than the student's or at a higher resolution, on the busiest window, past and future
at once; and one over optical flow. It is cross-fitted twice: for the student that is measured on fold k, a clip of
fold j is labelled by heads that saw neither j nor k. A teacher that had seen fold k would carry its labels into the
student.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from streamkd.distill.signals import TeacherSignals
from streamkd.errors import TrainingError
from streamkd.evaluate.calibrate import fit_temperature
from streamkd.focus import focus_clip
from streamkd.models.backbone import pretrained_backbone
from streamkd.models.clip_features import clip_features, feature_slices
from streamkd.models.teachers.flow import flow_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.models.backbone import Backbone
    from streamkd.types import UInt8Array

FLOW = "flow"
# name: backbone, size of the busiest window (half of the picture's shorter side), parts, inverse penalty
PICTURES = {
    "close0": ("efficientnet-lite0", 192, ("mean", "deviation", "change", "taps"), 1e-3),
    "close1": ("efficientnet-lite1", 192, ("deviation", "change", "taps"), 1e-3),
    "close2": ("efficientnet-lite2", 208, ("mean", "deviation", "change", "taps"), 1e-3),
}
FLOW_PENALTY = 0.03
FRAMES_OF = "close2"  # whose change from frame to frame is the teacher's answer by frame
MAX_FRAMES = 12
HINTS = 48  # principal components of what the teacher sees


@dataclass(frozen=True, slots=True)
class TeacherFeatures:
    """What the teacher's members see of N clips; no label is in it.

    Attributes:
        clips: Member to `[N, F]`.
        frames: Per clip `[T, 1280]` fp16, how the last features changed since the frame before.
    """

    clips: dict[str, Tensor]
    frames: tuple[Tensor, ...]


def member_features(
    name: str, records: Sequence[ClipRecord], frames: FrameCache, progress: Callable[[str, float], None]
) -> Tensor:
    """What one member sees of N clips: `[N, F]`; about 0.1 s a clip on one idle core."""
    rows: list[Tensor] = []
    if name == FLOW:
        for record in records:
            rows.append(flow_features(frames.load(record, 10.0, 192).frames[: 2 * MAX_FRAMES], 10.0))
            progress(f"teacher features {name}", len(rows) / len(records))
        return torch.stack(rows)
    backbone, size, parts, _ = PICTURES[name]
    network = _network(backbone)
    for record in records:
        whole = clip_features(network, _shown(record, frames, size))
        rows.append(torch.cat([whole[part] for part in feature_slices(backbone, parts)]))
        progress(f"teacher features {name}", len(rows) / len(records))
    return torch.stack(rows)


def frame_changes(
    records: Sequence[ClipRecord], frames: FrameCache, progress: Callable[[str, float], None]
) -> tuple[Tensor, ...]:
    """Per clip `[T, 1280]`, how the last features changed since the frame before."""
    backbone, size, _, _ = PICTURES[FRAMES_OF]
    network = _network(backbone)
    found: list[Tensor] = []
    for record in records:
        found.append(_changes(network, _shown(record, frames, size)))
        progress("teacher features by frame", len(found) / len(records))
    return tuple(found)


def _shown(record: ClipRecord, frames: FrameCache, size: int) -> UInt8Array:
    whole = frames.load(record, 5.0, 2 * size, keep_aspect=True).frames[:MAX_FRAMES]
    return np.ascontiguousarray(focus_clip(whole, size))


def _network(backbone: str) -> Backbone:
    network = pretrained_backbone(backbone).eval()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def _changes(network: Any, shown: NDArray[np.uint8]) -> Tensor:
    x = torch.from_numpy(shown).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    pooled = network(x).mean(dim=(2, 3))
    return torch.cat([torch.zeros_like(pooled[:1]), (pooled[1:] - pooled[:-1]).abs()]).half().clone()


class LocalTeacher:
    """Cross-fitted heads over `TeacherFeatures`.

    Args:
        features: Of all N clips.
        labels: `[N]` class indices; -1 where the label is hidden: such clips are labelled, never learnt from.
        folds: `[N]`.
        classes: C.
    """

    def __init__(self, features: TeacherFeatures, labels: Sequence[int], folds: Sequence[int], classes: int) -> None:
        self._features, self._classes = features, classes
        self._labels, self._folds = np.asarray(labels), np.asarray(folds)
        self._memory: dict[tuple[int, ...], Tensor] = {}

    def signals(self, out: int | None) -> TeacherSignals:
        """For the student that is measured on fold `out`: every clip by heads that saw neither its fold nor that one.

        None: for a student that is not measured; what is said about a clip is then out of fold.
        """
        members = torch.zeros(1 + len(PICTURES), len(self._folds), self._classes)
        for fold in sorted(set(self._folds.tolist())):
            unseen = tuple(sorted({fold} if out is None else {fold, out}))
            inside = torch.from_numpy(self._folds == fold)
            members[:, inside] = self._answers(unseen)[:, inside]
        mean = members.softmax(dim=-1).mean(dim=0)
        return TeacherSignals(
            logits=(mean + 1e-6).log(),
            members=members,
            features=self._hints(out),
            modalities={FLOW: self._features.clips[FLOW]},
            frame_features=self._features.frames,
        )

    def _answers(self, unseen: tuple[int, ...]) -> Tensor:
        """Logits `[K, N, C]` of heads that saw no clip of these folds, calibrated on folds among the rest."""
        if unseen not in self._memory:
            seen = ~np.isin(self._folds, unseen) & (self._labels >= 0)
            if set(self._labels[seen].tolist()) != set(range(self._classes)):
                raise TrainingError(f"Without folds {unseen}, a class has no labelled clips.", hint="Use fewer folds.")
            self._memory[unseen] = torch.stack([self._member(name, seen) for name in (*PICTURES, FLOW)])
        return self._memory[unseen]

    def _member(self, name: str, seen: NDArray[np.bool_]) -> Tensor:
        x, penalty = self._features.clips[name], FLOW_PENALTY if name == FLOW else PICTURES[name][3]
        inner = np.zeros((len(self._folds), self._classes))
        held = np.zeros(len(self._folds), dtype=bool)
        for fold in sorted(set(self._folds[seen].tolist())):
            rest, out = seen & (self._folds != fold), seen & (self._folds == fold)
            if set(self._labels[rest].tolist()) == set(range(self._classes)):
                inner[out] = fit_logistic(x, rest, self._labels, penalty)[out]
                held |= out
        scale = (
            fit_temperature([row[None] for row in inner[held]], self._labels[held].tolist(), 0) if held.any() else 1.0
        )
        return torch.from_numpy(fit_logistic(x, seen, self._labels, penalty) / scale).float()

    def _hints(self, out: int | None) -> Tensor:
        """`[N, HINTS]` principal components of all members together, found on the clips outside of fold `out`."""
        whole = torch.cat([self._features.clips[name] for name in (*PICTURES, FLOW)], dim=1)
        seen = torch.from_numpy(self._folds != out) if out is not None else torch.ones(len(whole), dtype=torch.bool)
        standard = _standardise(whole, seen)
        _, _, basis = torch.linalg.svd(standard[seen], full_matrices=False)
        hints: Tensor = standard @ basis[:HINTS].T
        return hints


def fit_logistic(x: Tensor, seen: NDArray[np.bool_], labels: NDArray[np.int64], penalty: float) -> NDArray[np.float64]:
    """Logits `[N, C]` for all rows of `x [N, F]` of a logistic regression fitted on the rows `seen`."""
    whole = _standardise(x, torch.from_numpy(seen))
    # A penalised fit lies in the span of what it is fitted on, and there are far fewer clips than features.
    _, _, basis = torch.linalg.svd(whole[torch.from_numpy(seen)], full_matrices=False)
    standard = (whole @ basis.T).double().numpy()
    model: Any = LogisticRegression(C=penalty, max_iter=2000).fit(standard[seen], labels[seen])
    margin = np.asarray(model.decision_function(standard), dtype=np.float64)
    return np.stack([-margin, margin], axis=1) / 2 if margin.ndim == 1 else margin


def _standardise(x: Tensor, seen: Tensor) -> Tensor:
    return ((x - x[seen].mean(dim=0)) / (x[seen].std(dim=0) + 1e-3)).clamp(-8, 8)


__all__ = [
    "FLOW",
    "PICTURES",
    "LocalTeacher",
    "TeacherFeatures",
    "fit_logistic",
    "frame_changes",
    "member_features",
]

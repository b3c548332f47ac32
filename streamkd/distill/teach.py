"""Training the heads of a teacher from labelled clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from streamkd.errors import TrainingError
from streamkd.evaluate.calibrate import fit_temperature
from streamkd.evaluate.metrics import roc_auc
from streamkd.models.clip_features import feature_slices
from streamkd.models.teachers import (
    STANDARD_LIMIT,
    FeatureKey,
    Head,
    Teacher,
    TeacherMember,
    TeacherSpec,
    feature_key,
    save_teacher,
    softmax_numpy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamkd.evaluate.dataset import ClipRecord, FrameCache

DEFAULT_MEMBERS = (
    TeacherMember(name="lite0-192", group="train", backbone="efficientnet-lite0", size=192, rate_hz=5.0),
    TeacherMember(
        name="lite1-192",
        group="train",
        backbone="efficientnet-lite1",
        size=192,
        rate_hz=5.0,
        parts=("deviation", "change", "taps"),
        inverse_penalty=1e-2,
    ),
    TeacherMember(
        name="lite2-208",
        group="judge",
        backbone="efficientnet-lite2",
        size=208,
        rate_hz=5.0,
        parts=("mean", "deviation", "change"),
    ),
)


def train_teacher(
    records: Sequence[ClipRecord],
    folds: Sequence[int],
    frames: FrameCache,
    out: Path,
    *,
    name: str,
    classes: tuple[str, ...],
    background: str,
    progress: Callable[[str, float], None],
    members: Sequence[TeacherMember] = DEFAULT_MEMBERS,
) -> TeacherSpec:
    """Fit every member on all clips, calibrate it on its out-of-fold scores, and write the bundle.

    Args:
        records: Labelled clips.
        folds: Per clip, by source.
        frames: Decoded frames.
        out: Folder of the bundle.
        name: Of the teacher.
        classes: Order of the logits.
        background: The class that is no action.
        progress: Told which share of the features is done.
        members: What to train.

    Returns:
        The spec, with out-of-fold figures.

    Raises:
        TrainingError: There are fewer than two folds.
    """
    if len(set(folds)) < 2:
        raise TrainingError("A teacher needs clips of at least two sources.", hint="Name the source of each clip.")
    labels = np.array([classes.index(record.label) for record in records])
    features = _all_features(records, frames, members, progress)
    heads: dict[str, Head] = {}
    done: list[TeacherMember] = []
    held_out: dict[str, NDArray[np.float64]] = {}
    fold = np.asarray(folds)
    for member in members:
        x = features[feature_key(member)]
        x = torch.cat([x[:, part] for part in feature_slices(member.backbone, member.parts)], dim=1)
        logits = np.zeros((len(labels), len(classes)))
        for k in sorted(set(folds)):
            rest = fold != k
            if set(labels[rest].tolist()) != set(labels.tolist()):
                raise TrainingError(f"Without fold {k}, a class has no clips.", hint="Add sources or use fewer folds.")
            head = fit_head(x[torch.from_numpy(rest)], labels[rest], len(classes), member.inverse_penalty)
            logits[~rest] = head(x[torch.from_numpy(~rest)]).numpy()
        temperature = fit_temperature([row[None] for row in logits], labels.tolist(), 0)
        held_out[member.name] = softmax_numpy(torch.from_numpy(logits / temperature))
        heads[member.name] = fit_head(x, labels, len(classes), member.inverse_penalty)
        area = _area(held_out[member.name], labels, classes, background)
        done.append(member.model_copy(update={"temperature": temperature, "oof_roc_auc": area}))
    together = np.mean([held_out[m.name] for m in done if m.group == "train"], axis=0)
    spec = TeacherSpec(
        name=name,
        classes=classes,
        background=background,
        members=tuple(done),
        data_sha256=tuple(sorted({record.sha256 for record in records})),
        oof_roc_auc=_area(together, labels, classes, background),
    )
    save_teacher(out, spec, heads)
    return spec


def fit_head(features: Tensor, labels: NDArray[np.int64], n_classes: int, inverse_penalty: float) -> Head:
    """Standardise, then logistic regression with an L2 penalty: `[N, F]` and `[N]` to a head."""
    mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-3
    standard = ((features - mean) / deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT).double().numpy()
    model: Any = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(standard, labels)
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if n_classes == 2:  # scikit-learn keeps one row for two classes
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return Head(mean, deviation, weight, bias)


def _all_features(
    records: Sequence[ClipRecord],
    frames: FrameCache,
    members: Sequence[TeacherMember],
    progress: Callable[[str, float], None],
) -> dict[FeatureKey, Tensor]:
    keys = list(dict.fromkeys(feature_key(member) for member in members))
    blank = Teacher(TeacherSpec(name="features", classes=("a", "b"), members=tuple(members)), {})
    found: dict[FeatureKey, Tensor] = {}
    for index, key in enumerate(keys):
        rows: list[Tensor] = []
        for record in records:
            rows.append(blank.frame_features(frames.load(record, key.rate_hz, key.size).frames, key))
            progress(f"features {key.backbone}@{key.size}", (index + len(rows) / len(records)) / len(keys))
        found[key] = torch.stack(rows)
    return found


def _area(
    probs: NDArray[np.float64], labels: NDArray[np.int64], classes: tuple[str, ...], background: str
) -> float | None:
    areas = [roc_auc(probs[:, i], labels == i) for i, name in enumerate(classes) if name != background]
    known = [area for area in areas if area is not None]
    return round(float(np.mean(known)), 4) if known else None


__all__ = ["DEFAULT_MEMBERS", "fit_head", "train_teacher"]

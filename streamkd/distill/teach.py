"""Training a teacher from labelled clips: features once, heads per fold, weights from what was held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamkd.distill.heads import fit_head
from streamkd.distill.mixture import held_out_mixture, simplex_weights
from streamkd.errors import InputError, TrainingError
from streamkd.evaluate.calibrate import fit_temperature
from streamkd.evaluate.dataset import ClipRecord
from streamkd.evaluate.metrics import roc_auc
from streamkd.models.teachers import Extractor, Heads, TeacherClip, TeacherMember, TeacherSpec, save_teacher
from streamkd.models.teachers.ensemble import member_features, source_key, view_logits
from streamkd.models.teachers.spec import check_members, feature_key, feature_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamkd.evaluate.dataset import FrameCache
    from streamkd.models.teachers import FeatureKey
    from streamkd.models.teachers.cache import TensorCache
    from streamkd.models.teachers.heads import Head
    from streamkd.types import UInt8Array

WEIGHT_PRIOR = 60.0  # clips' worth of belief that the members count alike: 245 clips say little about six weights

PRESETS = {
    one.name: one
    for one in (
        TeacherMember(name="lite0-192", backbone="efficientnet-lite0", size=192),
        TeacherMember(
            name="lite1-192",
            backbone="efficientnet-lite1",
            size=192,
            parts=("deviation", "change", "taps"),
            inverse_penalty=1e-2,
        ),
        TeacherMember(
            name="lite2-208",
            group="judge",
            backbone="efficientnet-lite2",
            size=208,
            parts=("mean", "deviation", "change"),
        ),
        TeacherMember(name="close", backbone="efficientnet-lite0", size=192, short_side=384, views=("plain", "mirror")),
        TeacherMember(
            name="close-judge",
            group="judge",
            backbone="efficientnet-lite2",
            size=208,
            short_side=416,
            parts=("deviation", "change", "taps"),
        ),
        TeacherMember(
            name="lite1-256",
            backbone="efficientnet-lite1",
            size=256,
            rate_hz=10.0,
            max_frames=24,
            parts=("deviation", "change", "taps"),
            inverse_penalty=1e-2,
        ),
        TeacherMember(
            name="temporal",
            features="frames",
            head="temporal",
            backbone="efficientnet-lite0",
            size=192,
            parts=("taps",),  # with the pictures themselves it learns the places: 0.65 in place of 0.78
            views=("plain", "mirror", "backward"),
        ),
        TeacherMember(
            name="flow",
            features="flow",
            head="forest",
            size=112,
        ),
        TeacherMember(name="motion", features="motion", head="hidden", size=128, short_side=256),
        TeacherMember(name="audio", features="audio", inverse_penalty=1e-2),
    )
}
# At five frames a second, because that is what a harvest keeps. The shipped teacher has a pose member besides.
DEFAULT_MEMBERS = (PRESETS["flow"], PRESETS["motion"], PRESETS["close"], PRESETS["close-judge"])


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Clips with labels and folds, checked.

    Attributes:
        records: The clips.
        labels: `[N]` class indices.
        folds: `[N]`, by source.
        classes: Order of the logits.
        background: The class that is no action.
    """

    records: tuple[ClipRecord, ...]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    classes: tuple[str, ...]
    background: str


@dataclass(frozen=True, slots=True)
class FittedMember:
    """One member after training: its heads, and what it said about clips that these had not seen."""

    member: TeacherMember
    final: Head | None
    by_fold: dict[int, Head]
    held_out: NDArray[np.float64]  # [N, C], calibrated


def labelled_set(
    records: Sequence[ClipRecord], folds: Sequence[int], classes: tuple[str, ...], background: str
) -> LabelledSet:
    """Check labels and folds.

    Raises:
        InputError: A clip has a label that is not asked for.
        TrainingError: There are fewer than two folds or classes, a source or the same file is in two folds, or a class
            is in one fold only.
    """
    unknown = next((one for one in records if one.label not in classes), None)
    if unknown is not None:
        raise InputError(
            f"{unknown.file} has the label {unknown.label!r}; the classes are {', '.join(classes)}.",
            hint="Correct the label, or leave the clip out.",
        )
    if len({one.label for one in records}) < 2:
        raise TrainingError("All clips have one label; a teacher needs two classes.", hint="Add clips of another one.")
    if len(set(folds)) < 2:
        raise TrainingError("A teacher needs clips of at least two sources.", hint="Name the source of each clip.")
    check_split(records, folds)
    labels, fold = np.array([classes.index(one.label) for one in records]), np.asarray(folds)
    for k in sorted(set(folds)):
        if set(labels[fold != k].tolist()) != set(labels.tolist()):
            raise TrainingError(f"Without fold {k}, a class has no clips.", hint="Add sources or use fewer folds.")
    return LabelledSet(tuple(records), labels, fold, classes, background)


def check_split(records: Sequence[ClipRecord], parts: Sequence[int]) -> None:
    """Refuse a split that puts a source, or the same file under two names, into several parts.

    Raises:
        TrainingError: It does; the message names which.
    """
    by_source: dict[str, set[int]] = defaultdict(set)
    by_file: dict[tuple[str, float, float | None], dict[int, str]] = defaultdict(dict)
    for one, part in zip(records, parts, strict=True):
        by_source[one.source].add(part)
        by_file[one.sha256, one.start_s, one.end_s].setdefault(part, one.file)
    for source, seen in by_source.items():
        if len(seen) > 1:
            raise TrainingError(
                f"Source {source!r} is in parts {', '.join(map(str, sorted(seen)))} of the split, which would flatter.",
                hint="Keep each source in one part.",
            )
    for files in by_file.values():
        if len(files) > 1:
            raise TrainingError(
                f"The same clip is in several parts of the split, as {' and '.join(files.values())}.",
                hint="Remove one, or give both the same source.",
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
    cache: TensorCache | None = None,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    extractor: Extractor | None = None,
) -> TeacherSpec:
    """Fit every member with and without each fold, calibrate and weigh them on what was held out, write a bundle.

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
        cache: Where features are kept between runs.
        seed: Of what is random.
        threads: CPU threads of networks in files.
        device: Where models of `transformers` run.
        extractor: Where features come from, in place of one made from the arguments above.

    Returns:
        The spec, with out-of-fold figures.

    Raises:
        InputError: A label is unknown, or members don't fit each other.
        TrainingError: See `labelled_set`.
    """
    data = labelled_set(records, folds, classes, background)
    extract = extractor or Extractor(frame_reader(frames), classes=classes, cache=cache, threads=threads, device=device)
    check_trainable(members, classes, extract)
    features = all_features(records, extract, feature_keys(tuple(members)), progress)
    fitted: list[FittedMember] = []
    for index, member in enumerate(members):
        fitted.append(fit_member(member, member_features(member, members, features), data, seed=seed))
        progress("heads", (index + 1) / len(members))
    weighed, together = weigh(fitted, data)
    spec = TeacherSpec(
        name=name,
        classes=classes,
        background=background,
        members=weighed,
        oof_roc_auc=mean_area(together, data),
        **_origin(records, folds),
    )
    return save_teacher(out, spec, gather_heads(fitted))


def _origin(records: Sequence[ClipRecord], folds: Sequence[int]) -> dict[str, Any]:
    """What a teacher's spec says of the clips that it was trained on."""
    return {
        "data_sha256": tuple(sorted({one.sha256 for one in records})),
        "clip_folds": {one.sha256: int(k) for one, k in zip(records, folds, strict=True)},
        "source_folds": {source_key(one.source): int(k) for one, k in zip(records, folds, strict=True)},
    }


def check_trainable(members: Sequence[TeacherMember], classes: tuple[str, ...], extract: Extractor) -> None:
    """Refuse members that don't fit each other, or whose models know other classes.

    Raises:
        InputError: They don't.
    """
    try:
        check_members(tuple(members))
    except ValueError as error:
        raise InputError(f"These members can't be trained together: {error}.") from error
    for member in members:
        if member.head == "own" and not extract.own_classes(feature_key(member)):
            raise InputError(
                f"The classes of {member.model} are not {', '.join(classes)}.",
                hint="Map them in its file, for instance: classes: {fight: [wrestling], normal: ['*']}.",
            )


def fit_member(member: TeacherMember, features: Tensor, data: LabelledSet, *, seed: int = 0) -> FittedMember:
    """Heads of one member: one on all clips, and one without each fold that answers to that fold.

    Args:
        member: What to fit.
        features: `[N, V, ...]`.
        data: Labels and folds.
        seed: Of what is random.
    """
    n_classes = len(data.classes)
    logits = torch.zeros(len(data.labels), n_classes)
    by_fold: dict[int, Head] = {}
    for k in sorted(set(data.folds.tolist())):
        rest = torch.from_numpy(data.folds != k)
        if member.head != "own":
            by_fold[k] = fit_head(member, features[rest], data.labels[rest.numpy()], n_classes, seed=seed)
        logits[~rest] = view_logits(member, by_fold.get(k), features[~rest], n_classes)
    raw = logits.double().numpy()
    temperature = fit_temperature([row[None] for row in raw], data.labels.tolist(), 0)
    held_out = np.asarray((logits.double() / temperature).softmax(dim=-1).numpy())
    done = member.model_copy(update={"temperature": temperature, "oof_roc_auc": mean_area(held_out, data)})
    final = None if member.head == "own" else fit_head(member, features, data.labels, n_classes, seed=seed)
    return FittedMember(done, final, by_fold, held_out)


def weigh(fitted: Sequence[FittedMember], data: LabelledSet) -> tuple[tuple[TeacherMember, ...], NDArray[np.float64]]:
    """Weights of the "train" members, and what they say together `[N, C]` with weights from the other folds."""
    training = [one for one in fitted if one.member.group == "train"]
    if not training:
        raise InputError("A teacher needs a member of group train.", hint="Only judges were asked for.")
    probs = np.stack([one.held_out for one in training])
    weights = simplex_weights(probs, data.labels, prior=WEIGHT_PRIOR)
    by_name = {one.member.name: round(float(w), 4) for one, w in zip(training, weights, strict=True)}
    members = tuple(one.member.model_copy(update={"weight": by_name.get(one.member.name, 1.0)}) for one in fitted)
    return members, held_out_mixture(probs, data.labels, data.folds.tolist(), prior=WEIGHT_PRIOR)


def gather_heads(fitted: Sequence[FittedMember]) -> Heads:
    """The heads of all members, as a bundle keeps them."""
    folds = sorted({k for one in fitted for k in one.by_fold})
    final = {one.member.name: one.final for one in fitted if one.final is not None}
    return Heads(final, {k: {one.member.name: one.by_fold[k] for one in fitted if k in one.by_fold} for k in folds})


def all_features(
    records: Sequence[ClipRecord],
    extract: Extractor,
    keys: Sequence[FeatureKey],
    progress: Callable[[str, float], None],
) -> dict[FeatureKey, Tensor]:
    """By key `[N, V, ...]` of all clips."""
    rows: dict[FeatureKey, list[Tensor]] = {key: [] for key in keys}
    for key in keys:
        for index, record in enumerate(records):
            rows[key].append(extract(teacher_clip(record), key))
            progress(f"features {key.text}", (index + 1) / len(records))
    return {key: torch.stack(several) for key, several in rows.items()}


def teacher_clip(record: ClipRecord) -> TeacherClip:
    """A labelled clip as teachers take it, without its label."""
    return TeacherClip(record.path, record.sha256, record.source, record.start_s, record.end_s)


def frame_reader(frames: FrameCache) -> Callable[[TeacherClip, float, int], UInt8Array]:
    """Frames from the cache of decoded clips."""

    def read(clip: TeacherClip, rate_hz: float, size: int) -> UInt8Array:
        record = ClipRecord(clip.path, clip.path.name, "", clip.source, clip.sha256, clip.start_s, clip.end_s)
        return frames.load(record, rate_hz, size).frames

    return read


def mean_area(probs: NDArray[np.float64], data: LabelledSet) -> float | None:
    """ROC AUC, the mean over the foreground classes."""
    areas = [roc_auc(probs[:, i], data.labels == i) for i, name in enumerate(data.classes) if name != data.background]
    known = [area for area in areas if area is not None]
    return round(float(np.mean(known)), 4) if known else None


__all__ = [
    "DEFAULT_MEMBERS",
    "PRESETS",
    "FittedMember",
    "LabelledSet",
    "all_features",
    "check_split",
    "check_trainable",
    "fit_member",
    "frame_reader",
    "gather_heads",
    "labelled_set",
    "mean_area",
    "teacher_clip",
    "train_teacher",
    "weigh",
]

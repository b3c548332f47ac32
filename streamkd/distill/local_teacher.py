"""A teacher made on the spot from the clips' own labels, and never asked about what it has seen.

Its members are those of `streamkd teachers train`, at ten frames a second. It is
cross-fitted twice: for the student that is measured on fold k, a clip of fold j is labelled by heads that saw neither
j nor k, with temperatures that were learnt without both. A teacher that had seen fold k would carry its labels into the
student.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import streamkd
from streamkd.distill.heads import fit_hidden
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.teach import all_features, fit_member, frame_reader, labelled_set
from streamkd.errors import TrainingError
from streamkd.models.backbone import HEAD_CHANNELS
from streamkd.models.teachers import Extractor, TeacherMember
from streamkd.models.teachers.cache import TensorCache
from streamkd.models.teachers.declared import read_declaration
from streamkd.models.teachers.ensemble import member_features, view_logits
from streamkd.models.teachers.spec import feature_key, feature_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.models.teachers.heads import HiddenHead

RATE_HZ, FRAMES = 10.0, 24
FLOW, POSE = "flow", "pose"
MOTION = TeacherMember(
    name="motion", features="motion", head="hidden", size=128, short_side=256, rate_hz=RATE_HZ, max_frames=FRAMES
)
MEMBERS = (
    TeacherMember(name=FLOW, features="flow", head="forest", size=112, rate_hz=RATE_HZ, max_frames=FRAMES),
    MOTION,
    TeacherMember(
        name="close",
        backbone="efficientnet-lite0",
        size=192,
        short_side=384,
        rate_hz=RATE_HZ,
        max_frames=FRAMES,
        views=("plain", "mirror"),
    ),
    TeacherMember(name=POSE, features="pose", head="forest", size=320, model="pose.yaml", views=("plain", "mirror")),
)
# Not a member: what changes from frame to frame is what attention transfer compares the student with.
BY_FRAME = TeacherMember(
    name="by-frame", features="frames", head="temporal", backbone="efficientnet-lite0", size=192, short_side=384
)
DESCRIPTION = (
    "the mean of trees over optical flow, small networks over the flow of the busiest window, trees over people's key "
    "points, and a linear head over a frozen EfficientNet-Lite0 on the busiest window; ten frames a second; "
    "cross-fitted twice"
)
OF_MOTION = "small networks over the flow of the busiest window, ten frames a second, fitted on the same clips"
HINTS = 48  # principal components of what the teacher sees
MODALITY = 64  # and of a single modality


@dataclass(frozen=True, slots=True)
class TeacherFeatures:
    """What the teacher's members see of N clips; no label is in it.

    Attributes:
        clips: Member to `[N, V, F]`, for V views.
        frames: Per clip `[T, 1280]` fp16, how the last features changed since the frame before; may be missing.
    """

    clips: dict[str, Tensor]
    frames: tuple[Tensor, ...]

    @property
    def seen(self) -> Tensor:
        """All members side by side, the plain view: `[N, F]`."""
        return torch.cat([one[:, 0] for one in self.clips.values()], dim=1)


def teacher_features(
    records: Sequence[ClipRecord],
    frames: FrameCache,
    cache: Path,
    progress: Callable[[str, float], None],
    *,
    motion_alone: bool = False,
) -> TeacherFeatures:
    """What the members see, from the cache where it has been computed before; a few seconds a clip on one core.

    Args:
        records: The clips.
        frames: Decoded frames.
        cache: Folder of features.
        progress: Told what is being done and which share of it is done.
        motion_alone: Only the member that a student can begin with: about half a second a clip.
    """
    root = cache / "bench"
    members = (MOTION,) if motion_alone else MEMBERS
    if not motion_alone:
        _declare_pose(root / "pose.yaml")
    extract = Extractor(frame_reader(frames), root=root, cache=TensorCache(cache / "teacher"))

    def told(what: str, share: float) -> None:
        progress(f"teacher {what}", share)

    found = all_features(records, extract, feature_keys(members if motion_alone else (*members, BY_FRAME)), told)
    by_frame = () if motion_alone else found[feature_key(BY_FRAME)]
    clips = {one.name: member_features(one, members, found) for one in members}
    return TeacherFeatures(clips, tuple(frame_changes(one[0]) for one in by_frame))


def _declare_pose(path: Path) -> None:
    """The shipped pose network's declaration, for footage of which more frames are kept than of a harvest."""
    shipped = Path(streamkd.__file__).parent / "assets" / "teacher" / "models" / "pose.yaml"
    said = read_declaration(shipped).model_dump(mode="json") | {"rate_hz": RATE_HZ, "frames": FRAMES}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")


def frame_changes(features: Tensor) -> Tensor:
    """Of `frame_features [T, D]`, NaN where the clip has ended: how the pooled ones changed, `[T', 1280]` fp16."""
    pooled = features[torch.isfinite(features).all(dim=1), :HEAD_CHANNELS]
    return torch.cat([torch.zeros_like(pooled[:1]), (pooled[1:] - pooled[:-1]).abs()]).half()


class LocalTeacher:
    """Cross-fitted heads over `TeacherFeatures`.

    Args:
        features: Of all N clips.
        records: The clips; only those of `visible` are learnt from.
        visible: Clips whose labels are shown.
        folds: `[N]`.
        classes: Background first.
        folder: Where answers are kept, so that a run that goes on does not fit again; None keeps them in memory.
    """

    def __init__(
        self,
        features: TeacherFeatures,
        records: Sequence[ClipRecord],
        visible: Sequence[int],
        folds: Sequence[int],
        classes: tuple[str, ...],
        folder: Path | None = None,
    ) -> None:
        self._features, self._records, self._classes = features, records, classes
        self._folds, self._visible = np.asarray(folds), np.isin(np.arange(len(folds)), visible)
        self._folder = folder
        self._memory: dict[tuple[int, ...], Tensor] = {}
        self._motion: dict[tuple[int, ...], HiddenHead] = {}

    def signals(self, *out: int) -> TeacherSignals:
        """For the student that is measured on these folds: every clip by heads that saw neither its fold nor those.

        Without folds, for a student that is not measured: what is said about a clip is out of fold.
        """
        count = len(self._folds)
        members = torch.zeros(len(self._features.clips), count, len(self._classes))
        for fold in sorted(set(self._folds.tolist())):
            inside = torch.from_numpy(self._folds == fold)
            members[:, inside] = self._answers(tuple(sorted({fold, *out})))[:, inside]
        modalities = {name: self._features.clips[name][:, 0] for name in (FLOW, POSE) if name in self._features.clips}
        return TeacherSignals(
            logits=(members.softmax(dim=-1).mean(dim=0) + 1e-6).log(),
            members=members,
            features=self._components(self._features.seen, HINTS, out),
            modalities={name: self._components(value, MODALITY, out) for name, value in modalities.items()},
            frame_features=self._features.frames or None,
            motion=self.motion(*out) if MOTION.name in self._features.clips else None,
        )

    def motion(self, *out: int) -> HiddenHead:
        """What the member over motion has learnt from the clips outside of these folds.

        Raises:
            TrainingError: They don't show every class.
        """
        if out not in self._motion:
            rows = self._rows(out)
            labels = np.array([self._classes.index(self._records[i].label) for i in rows])
            if len(set(labels.tolist())) < len(self._classes):
                raise TrainingError("Too few clips show some class.", hint="Add clips of it from other sources.")
            seen = self._features.clips[MOTION.name][rows]
            self._motion[out] = fit_hidden(seen[:, 0], labels, len(self._classes), seed=0)
        return self._motion[out]

    def _answers(self, unseen: tuple[int, ...]) -> Tensor:
        """Logits `[K, N, C]` of heads that saw no clip of these folds."""
        if unseen not in self._memory:
            self._memory[unseen] = self._stored(unseen)
        return self._memory[unseen]

    def _stored(self, unseen: tuple[int, ...]) -> Tensor:
        if self._folder is None:
            return self._fit(unseen)
        key = hashlib.sha256(repr((MEMBERS, self._folds.tolist(), self._visible.tolist(), unseen)).encode())
        path = self._folder / f"teacher-{key.hexdigest()[:16]}.safetensors"
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({"logits": self._fit(unseen)}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
        return load_file(path)["logits"]

    def _fit(self, unseen: tuple[int, ...]) -> Tensor:
        """Heads and temperatures from the other folds' visible clips.

        Raises:
            TrainingError: They are too few.
        """
        rows = self._rows(unseen)
        records = [self._records[i] for i in rows]
        data = labelled_set(records, self._folds[rows].tolist(), self._classes, self._classes[0])
        at = torch.tensor(rows)
        named = [one for one in MEMBERS if one.name in self._features.clips]
        said: list[Tensor] = []
        for one in named:
            seen = self._features.clips[one.name]
            fitted = fit_member(one, seen[at], data)
            said.append(view_logits(one, fitted.final, seen, len(self._classes)) / fitted.member.temperature)
        return torch.stack(said)

    def _rows(self, unseen: tuple[int, ...]) -> list[int]:
        """The visible clips outside of these folds."""
        return np.flatnonzero(self._visible & ~np.isin(self._folds, unseen)).tolist()

    def _components(self, whole: Tensor, count: int, out: tuple[int, ...]) -> Tensor:
        """`[N, count]` principal components of `[N, F]`, found on the clips outside of these folds."""
        seen = torch.from_numpy(~np.isin(self._folds, out))
        standard = _standardise(whole, seen)
        _, _, basis = torch.linalg.svd(standard[seen], full_matrices=False)
        components: Tensor = standard @ basis[:count].T
        return components


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
    "DESCRIPTION",
    "FLOW",
    "MEMBERS",
    "OF_MOTION",
    "LocalTeacher",
    "TeacherFeatures",
    "fit_logistic",
    "frame_changes",
    "teacher_features",
]

"""From a folder of labelled clips to a shipped bundle: split, train, calibrate, quantise, measure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from streamkd.bundle import read_bundle
from streamkd.distill.bundles import BundleParts, free_for_bundle, lineage, write_bundle
from streamkd.distill.checkpoint import Checkpoint
from streamkd.distill.features import FeatureSet, cache_features
from streamkd.distill.inherit import inherit_motion
from streamkd.distill.local_teacher import DESCRIPTION, OF_MOTION, LocalTeacher, teacher_features
from streamkd.distill.objectives.response import soft_cross_entropy
from streamkd.distill.recipe import plain
from streamkd.distill.request import TrainRequest
from streamkd.distill.run import train_head
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.train import FitConfig, fit, hard_targets, raw_features, set_standardiser
from streamkd.engine.gaze import gaze_clip
from streamkd.engine.openvino import OpenVinoEngine
from streamkd.errors import InputError, TrainingError
from streamkd.evaluate.actions import shortcut_auc
from streamkd.evaluate.advice import lacks
from streamkd.evaluate.calibrate import choose_thresholds, fit_temperature, softmax
from streamkd.evaluate.dataset import FrameCache, make_folds, read_dataset, read_folds, readable
from streamkd.evaluate.metrics import action_metrics, bootstrap_by_source
from streamkd.evaluate.score import clip_score, score_clips
from streamkd.models.backbone import pretrained_backbone
from streamkd.models.student import BACKBONE, Student, student_spec
from streamkd.shipped import TRAINED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamkd.bundle import Bundle, StudentSpec
    from streamkd.evaluate.dataset import ClipRecord
    from streamkd.types import FloatArray, UInt8Array


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Streaming int8 logits of clips that the student at hand was not trained on."""

    indices: tuple[int, ...]
    logits: tuple[FloatArray, ...]  # [T, C] each


class Development:
    """One run of `streamkd train`.

    Args:
        request: What to do.
        progress: Told what is being done and which share of it is done.
        warn: Told, in a line each, about clips that are left out and what the clips are too few for.

    Raises:
        InputError: The clips can't be read, or the bundle's version or folder can't be used.
        TrainingError: Too few classes, sources or clips of a class.
    """

    def __init__(
        self, request: TrainRequest, progress: Callable[[str, float], None], warn: Callable[[str], None]
    ) -> None:
        self._request = request
        self._progress = progress
        self._frames = FrameCache(request.cache / "frames")
        spec = student_spec("unnamed", ("a", "b"))
        found = read_dataset(request.data, exclude=request.exclude)
        self.records = readable(found, self._frames, spec.rate_hz, spec.view_size, warn, keep_aspect=spec.keeps_aspect)
        self.classes = split_classes(self.records, request.background)
        self.labels = tuple(self.classes.index(record.label) for record in self.records)
        self.folds = self._split()
        # A continued run must be the same run: what was done for other clips or settings does not count.
        said: list[object] = [
            sorted(r.sha256 for r in self.records),
            self.folds,
            asdict(request.fit),
            asdict(request.fine_tune),
            request.seed,
            request.variants,
            request.describes,
        ]
        self._key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
        self._work = request.cache / "runs" / self._key
        self._spec = self._named(request.version or f"lite0-{spec.rate_hz:g}hz-{self._key}")
        self._out = free_for_bundle(request.out or TRAINED / self._spec.version)
        for line in lacks(self.records, request.background):
            warn(line)
        self._raw = FeatureSet((), ())
        self._teacher: LocalTeacher | None = None

    def run(self) -> Bundle:
        """Train, measure, and write the bundle.

        Raises:
            TrainingError: The loss is not a number any more.
        """
        request = self._request
        student = self._new_student()
        features = cache_features(
            student,
            self.records,
            self._frames,
            variants=request.variants,
            seed=request.seed,
            folder=request.cache / "features",
            progress=self._progress,
        )
        # The trunk starts the same in every fold, so what the head sees of a clip at first is computed once.
        self._raw = raw_features(student, features, self._progress)
        self._teacher = self._new_teacher()
        rounds = self._rounds(self.folds)
        if request.out_of_fold:
            calibration = measured = _join([self._held_out(features, out, f"fold {out[0]}") for out in rounds])
        else:
            names = rounds[0]
            together = self._held_out(features, names, "held out")
            calibration, measured = self._part(together, names[-2]), self._part(together, names[-1])
        spec = self._calibrated(self._spec, calibration)
        metrics = self._metrics(spec, measured)
        student = self._fit(features, (), "final")
        parts_of_bundle = BundleParts(
            spec,
            lineage(
                parent=None,
                teachers=self._taught_by,
                recipe=request.describes,
                seed=request.seed,
                data_sha256=[record.sha256 for record in self.records],
            ),
            metrics,
        )
        self._progress("quantising", 0.0)
        bundle = write_bundle(self._out, student, parts_of_bundle, self._seen(range(len(self.records))))
        self._progress("quantising", 1.0)
        return bundle

    @property
    def _motion_alone(self) -> bool:
        """Whether the teacher's reading of motion is all that is wanted of it."""
        recipe = self._request.recipe
        return self._request.inherit if recipe is None else recipe.inherits and not recipe.asks

    @property
    def _taught_by(self) -> tuple[str, ...]:
        return () if self._teacher is None else (OF_MOTION if self._motion_alone else DESCRIPTION,)

    def _new_teacher(self) -> LocalTeacher | None:
        request = self._request
        if not (request.inherit if request.recipe is None else request.recipe.taught):
            return None
        seen = teacher_features(
            self.records, self._frames, request.cache, self._progress, motion_alone=self._motion_alone
        )
        everyone = range(len(self.records))
        return LocalTeacher(seen, self.records, everyone, self.folds, self.classes, self._work)

    def _split(self) -> tuple[int, ...]:
        request = self._request
        given = read_folds(request.data, self.records) if request.folds is None else None
        sources = len({record.source for record in self.records})
        count = min(request.folds or 5, sources)
        folds = given or make_folds(self.records, max(count, 1), request.seed)
        needed = 2 if request.out_of_fold else 3
        if len(set(folds)) < needed:
            raise TrainingError(
                f"The clips come from {sources} source(s); splitting by source needs at least {needed}.",
                hint="Name each clip's source in clips.csv, or add clips of other scenes.",
            )
        for out in self._rounds(folds):
            inside = {label for label, fold in zip(self.labels, folds, strict=True) if fold not in out}
            if len(inside) < len(self.classes):
                lost = ", ".join(name for index, name in enumerate(self.classes) if index not in inside)
                raise TrainingError(
                    f"Too few sources show {lost}: without those held out to measure on, none is left to train on.",
                    hint="Add clips of that class from other places, or use other folds.",
                )
        return tuple(folds)

    def _rounds(self, folds: Sequence[int]) -> list[list[int]]:
        """The folds that are held out together, once per student that is trained to be measured."""
        names = sorted(set(folds))
        return [[name] for name in names] if self._request.out_of_fold else [names[-2:]]

    def _named(self, version: str) -> StudentSpec:
        try:
            return student_spec(version, self.classes, background=self._request.background)
        except ValidationError as error:
            raise InputError(
                f"A model can't have the version {version!r} or these classes: {error.errors()[0]['msg']}.",
                hint="A version becomes the name of a folder: letters, digits, '.', '_' and '-', at most 100.",
            ) from None

    def _new_student(self) -> Student:
        torch.manual_seed(self._request.seed)
        student = Student(student_spec("new", self.classes, background=self._request.background))
        student.backbone.load_state_dict(pretrained_backbone(BACKBONE).state_dict())
        return student.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]

    def _fit(self, features: FeatureSet, out: Sequence[int], name: str) -> Student:
        """A student of all clips but those of the folds `out`."""
        indices = [i for i, fold in enumerate(self.folds) if fold not in out]
        raw = self._raw.subset(indices)
        student = self._new_student()
        set_standardiser(student, raw)
        if self._request.recipe is None:
            if self._teacher is not None:
                inherit_motion(student, raw, self._teacher.motion(*out))
            student = self._stage(student, raw, indices, f"{name} head", self._kept(self._request.fit))
        else:
            student = self._distil(student, raw, indices, out, f"{name} head")
        if self._request.fine_tune.epochs:
            behind = features.subset(indices)
            student = self._stage(student, behind, indices, f"{name} trunk", self._kept(self._request.fine_tune))
        return student

    def _kept(self, config: FitConfig) -> FitConfig:
        """The same; a reading of motion that was inherited is not trained any further, but as a recipe says."""
        recipe = self._request.recipe
        if recipe is not None:
            return replace(config, moving_rate=recipe.fit_config().moving_rate)
        return replace(config, moving_rate=0.0) if self._request.inherit else config

    def _stage(
        self, student: Student, inputs: FeatureSet, indices: Sequence[int], stage: str, config: FitConfig
    ) -> Student:
        return fit(
            student,
            inputs,
            hard_targets(tuple(self.labels[i] for i in indices), len(self.classes)),
            soft_cross_entropy,
            config,
            seed=self._request.seed,
            progress=partial(self._stage_progress, stage),
            checkpoint=self._checkpoint(stage),
        )

    def _distil(
        self, student: Student, raw: FeatureSet, indices: Sequence[int], out: Sequence[int], stage: str
    ) -> Student:
        """The head, taught by heads that saw neither a clip's own fold nor those that are measured."""
        assert self._request.recipe is not None
        return train_head(
            raw,
            [self.labels[i] for i in indices],
            self._signals(out).subset(list(indices)),
            self._request.recipe,
            self._request.seed,
            classes=self.classes,
            student=student,
            names=[self.records[i].file for i in indices],
            checkpoint=self._checkpoint(stage),
            progress=partial(self._stage_progress, stage),
        ).student

    def _signals(self, out: Sequence[int]) -> TeacherSignals:
        if self._teacher is None:
            return TeacherSignals()
        return TeacherSignals(motion=self._teacher.motion(*out)) if self._motion_alone else self._teacher.signals(*out)

    def _checkpoint(self, stage: str) -> Checkpoint:
        checkpoint = Checkpoint(self._work / f"{stage.replace(' ', '-')}.pt", f"{self._key} {stage}")
        if not self._request.resume:
            checkpoint.path.unlink(missing_ok=True)
        return checkpoint

    def _stage_progress(self, stage: str, what: str, share: float) -> None:
        self._progress(f"{stage}, {what}", share)

    def _held_out(self, features: FeatureSet, out: Sequence[int], name: str) -> _HeldOut:
        """Train on the other folds, and play the held-out clips through the int8 export."""
        outside = tuple(i for i, fold in enumerate(self.folds) if fold in out)
        folder = self._work / name.replace(" ", "-")
        if not (self._request.resume and folder.is_dir()):
            student = self._fit(features, out, name)
            inside = [i for i in range(len(self.folds)) if i not in outside]
            empty = lineage(
                parent=None, teachers=(), recipe=self._request.describes, seed=self._request.seed, data_sha256=()
            )
            write_bundle(folder, student, BundleParts(student.spec, empty, {}), self._seen(inside))
        bundle = read_bundle(folder)
        probs = score_clips(OpenVinoEngine(bundle), self._views(outside))
        # At temperature 1: logits, up to a constant for each frame.
        return _HeldOut(outside, tuple(np.log(one + np.float32(1e-9)) for one in probs))

    def _views(self, indices: Sequence[int]) -> Iterator[UInt8Array]:
        """One after the other: all of them together may not fit into memory."""
        return (self._frames.load_view(self.records[i], self._spec).frames for i in indices)

    def _seen(self, indices: Sequence[int]) -> list[UInt8Array]:
        return [gaze_clip(views, self._spec) for views in self._views(indices)]

    def _part(self, whole: _HeldOut, fold: int) -> _HeldOut:
        kept = [(i, one) for i, one in zip(whole.indices, whole.logits, strict=True) if self.folds[i] == fold]
        return _HeldOut(tuple(i for i, _ in kept), tuple(one for _, one in kept))

    def _calibrated(self, spec: StudentSpec, held_out: _HeldOut) -> StudentSpec:
        labels = [self.labels[i] for i in held_out.indices]
        temperature = round(fit_temperature(held_out.logits, labels, spec.warmup_frames), 4)
        probs = [softmax(one / temperature) for one in held_out.logits]
        thresholds = choose_thresholds(spec, probs, labels)
        return spec.model_copy(update={"temperature": temperature, "thresholds": thresholds})

    def _metrics(self, spec: StudentSpec, held_out: _HeldOut) -> dict[str, Any]:
        labels = np.array([self.labels[i] for i in held_out.indices])
        folds = np.array([self.folds[i] for i in held_out.indices])
        records = [self.records[i] for i in held_out.indices]
        scores = np.stack([clip_score(softmax(one / spec.temperature), spec.warmup_frames) for one in held_out.logits])

        def area(index: NDArray[np.int64]) -> float | None:
            return action_metrics(scores[index], labels[index], spec.classes, spec.background).roc_auc

        bounds = bootstrap_by_source(area, [one.source for one in records], rng=np.random.default_rng(0), rounds=500)
        return {
            "held_out": asdict(action_metrics(scores, labels, spec.classes, spec.background)),
            "held_out_roc_auc_interval": bounds,
            "folds": {
                str(k): asdict(action_metrics(scores[folds == k], labels[folds == k], spec.classes, spec.background))
                for k in sorted(set(folds.tolist()))
            },
            "scored_on": "int8 export, streaming, clips of sources that the student had not seen",
            "split": "cross-validation by source" if self._request.out_of_fold else "3:1:1 by source",
            "shortcut_roc_auc": shortcut_auc(records, spec.background),
            "training_clips": len(self.records),
            "fit": asdict(self._kept(self._request.fit))
            if self._request.recipe is None
            else plain(self._request.recipe),
            "clips": {
                one.file: [round(float(value), 4) for value in row] for one, row in zip(records, scores, strict=True)
            },
        }


def _join(parts: Sequence[_HeldOut]) -> _HeldOut:
    return _HeldOut(
        tuple(i for part in parts for i in part.indices), tuple(one for part in parts for one in part.logits)
    )


def split_classes(records: Sequence[ClipRecord], background: str) -> tuple[str, ...]:
    """Background first, then the others by name.

    Raises:
        TrainingError: There is no clip to learn from, one class only, or no background.
    """
    if not records:
        raise TrainingError("None of the clips can be decoded.", hint="See the warnings above for each clip's reason.")
    labels = sorted({record.label for record in records})
    if len(labels) < 2:
        raise TrainingError(
            f"All clips have the label {labels[0]!r}; a student needs at least two classes.",
            hint=f"Add clips labelled {background!r} that show nothing of interest."
            if background not in labels
            else "Add clips of what shall be found.",
        )
    if background not in labels:
        raise TrainingError(
            f"No clip has the label {background!r}; the labels are {', '.join(labels)}.",
            hint="Add such clips, or name the class that shall open no event with --background.",
        )
    return (background, *(label for label in labels if label != background))


def train_student(request: TrainRequest, progress: Callable[[str, float], None], warn: Callable[[str], None]) -> Bundle:
    """Everything `streamkd train` does; see `TrainRequest`.

    Raises:
        InputError: The folder holds no clips or its list can't be read.
        TrainingError: Too few classes or sources, or the loss is not a number any more.
        DependencyError: Weights or nncf are not installed.
    """
    return Development(request, progress, warn).run()


__all__ = ["Development", "split_classes", "train_student"]

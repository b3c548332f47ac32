"""`streamkd distil`: a recipe run on a folder of clips, from split to report. What it writes lies in one folder.

recipe.json  checkpoint.pt  metrics.json  report.html  student/ (the bundle)  tensorboard/ (if asked for)
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from streamkd.bundle import Bundle, StudentSpec, read_bundle, write_manifest
from streamkd.distill.bundles import BundleParts, lineage, write_bundle
from streamkd.distill.checkpoint import Checkpoint
from streamkd.distill.develop import split_classes
from streamkd.distill.features import AUGMENT_VERSION, FeatureSet, cache_features, plain_frames
from streamkd.distill.parts import disk_full_named, loose_clips, split_by_source
from streamkd.distill.recipe import Recipe, plain
from streamkd.distill.report import RunReport, write_report
from streamkd.distill.run import EpochLog, HeadRun, head_logits, run_fingerprint, train_head
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.teacher_signals import TrainingPart, gather_signals
from streamkd.distill.tracking import open_trackers
from streamkd.distill.train import raw_features, set_standardiser
from streamkd.engine.openvino import OpenVinoEngine
from streamkd.evaluate.advice import lacks
from streamkd.evaluate.calibrate import choose_thresholds, fit_temperature, scored_frames, softmax
from streamkd.evaluate.dataset import ClipRecord, FrameCache, read_dataset, readable
from streamkd.evaluate.metrics import ActionMetrics, action_metrics, bootstrap_by_source
from streamkd.evaluate.score import clip_score, score_clips
from streamkd.models.backbone import pretrained_backbone
from streamkd.models.student import BACKBONE, Student, student_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.types import FloatArray, UInt8Array

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class DistilRequest:
    """What `streamkd distil` was asked to do.

    Attributes:
        recipe: What to train with.
        data: Folder of labelled clips.
        out: Folder of the results.
        cache: Where decoded frames, features and labels are kept.
        unlabelled: Folder of clips without labels, or None.
        exclude: SHA-256 of files that must not be used.
        background: The class that opens no event.
        resume: Continue an interrupted run.
    """

    recipe: Recipe
    data: Path
    out: Path
    cache: Path
    unlabelled: Path | None = None
    exclude: frozenset[str] = frozenset()
    background: str = "normal"
    resume: bool = False


@dataclass(frozen=True, slots=True)
class DistilResult:
    """What came of it: the student's bundle, and figures on clips of sources that were kept back."""

    bundle: Bundle
    figures: dict[str, ActionMetrics]
    report: Path


class Experiment:
    """One run.

    Args:
        request: What to do.
        progress: Told what is being done and which share of it is done.
        warn: Told, in one line, what a user should know.
    """

    def __init__(
        self, request: DistilRequest, progress: Callable[[str, float], None], warn: Callable[[str], None]
    ) -> None:
        self._request, self._progress = request, progress
        self._warnings: list[str] = []
        self._tell = warn
        self._frames = FrameCache(request.cache / "frames")
        with disk_full_named("frames", request.cache):
            found = self._readable(read_dataset(request.data, exclude=request.exclude))
            loose = loose_clips(request.unlabelled, request.exclude | {one.sha256 for one in found})
            self._extra = self._readable(loose)
        self.classes = split_classes(found, request.background)
        for line in lacks(found, request.background):
            self._warn(line)
        parts = split_by_source(found, request.data, request.recipe.seed)
        self.train, self.validation, self.test, self._inner = parts.train, parts.validation, parts.test, parts.inner
        self._learnt = (*self.train, *self._extra)
        self._labels = [*(self.classes.index(one.label) for one in self.train), *[UNLABELLED] * len(self._extra)]

    def run(self) -> DistilResult:
        """Train, export, measure, report.

        Raises:
            TrainingError: Too little data, a loss that is no number, or a full disk.
            InputError: The teacher doesn't fit.
        """
        request, recipe = self._request, self._request.recipe
        request.out.mkdir(parents=True, exist_ok=True)
        _write_json(request.out / "recipe.json", plain(recipe))
        start = self._new_student()
        with disk_full_named("features", request.cache):
            features, held_back = self._features(start)
            everyone = (*self._learnt, *self.validation, *self.test)
            signals = self._signals(everyone) if recipe.taught else TeacherSignals()
        run = self._train(start, features, held_back, signals.subset(list(range(len(self._learnt)))))
        bundle, answers = self._export(run)
        return self._measure(run, bundle, answers, signals)

    def _readable(self, records: Sequence[ClipRecord]) -> tuple[ClipRecord, ...]:
        spec = student_spec("unnamed", ("a", "b"))
        return readable(records, self._frames, spec.rate_hz, spec.view_size, self._tell, keep_aspect=spec.keeps_aspect)

    def _warn(self, line: str) -> None:
        self._warnings.append(line)
        self._tell(line)

    def _new_student(self) -> Student:
        torch.manual_seed(self._request.recipe.seed)
        student = Student(student_spec("new", self.classes, background=self._request.background))
        student.backbone.load_state_dict(pretrained_backbone(BACKBONE).state_dict())
        return student.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]

    def _features(self, student: Student) -> tuple[FeatureSet, FeatureSet]:
        """What is trained on, and what is watched: of the head, or before the trunk if that is trained as well."""
        options = self._request.recipe.train
        cached = [
            cache_features(
                student,
                records,
                self._frames,
                variants=variants,
                seed=self._request.recipe.seed,
                folder=self._request.cache / "features",
                progress=self._progress,
            )
            for records, variants in ((self._learnt, options.variants), (self.validation, 0))
        ]
        raw = self._raw(student, cached[0], self._learnt)
        set_standardiser(student, raw)
        if options.head_only:
            return raw, self._raw(student, cached[1], self.validation)
        return cached[0], cached[1]

    def _raw(self, student: Student, features: FeatureSet, records: Sequence[ClipRecord]) -> FeatureSet:
        """What the head sees, kept between runs: it takes longer than the training."""
        digest = hashlib.sha256(f"{AUGMENT_VERSION} {self._request.recipe.seed} {student.spec.focus}".encode())
        for one in records:
            digest.update(f"{one.sha256} {one.start_s} {one.end_s}".encode())
        for parameter in student.backbone.parameters():
            digest.update(parameter.detach().half().numpy().tobytes())
        path = self._request.cache / "raw" / f"{digest.hexdigest()[:32]}-v{len(features.variants)}.safetensors"
        found = _read_raw(path, len(records), len(features.variants))
        if found is None:
            found = raw_features(student, features, self._progress)
            versions = enumerate((found.plain, *found.variants))
            tensors = {f"{v} {i}": one.contiguous() for v, version in versions for i, one in enumerate(version)}
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
            partial.write_bytes(save(tensors))
            partial.replace(path)
        return found

    def _signals(self, everyone: Sequence[ClipRecord]) -> TeacherSignals:
        part = TrainingPart(self.train, self._inner, self.classes, self._request.background)
        return gather_signals(
            self._request.recipe.teacher,
            part,
            everyone,
            self._frames,
            self._request.cache,
            self._request.out,
            progress=self._progress,
            warn=self._warn,
        )

    def _train(self, start: Student, features: FeatureSet, held_back: FeatureSet, teacher: TeacherSignals) -> HeadRun:
        request, recipe = self._request, self._request.recipe
        name = run_fingerprint(recipe, recipe.seed, [one.sha256 for one in self._learnt])
        checkpoint = Checkpoint(request.out / "checkpoint.pt", name)
        if not request.resume:
            checkpoint.path.unlink(missing_ok=True)
        trackers = open_trackers(recipe.tracking, request.out, recipe.name, plain(recipe))

        def log(entry: EpochLog) -> None:
            values = {"loss/all": entry.loss, **{f"loss/{k}": v for k, v in entry.parts.items()}}
            for tracker in trackers:
                tracker.log(entry.epoch, values | {f"validation/{k}": v for k, v in entry.watched.items()})

        try:
            return train_head(
                features,
                self._labels,
                teacher,
                recipe,
                recipe.seed,
                classes=self.classes,
                student=start,
                names=[one.file for one in self._learnt],
                checkpoint=checkpoint,
                watch=lambda student: self._watch(student, held_back),
                log=log,
                progress=self._progress,
            )
        finally:
            for tracker in trackers:
                tracker.close()

    def _watch(self, student: Student, held_back: FeatureSet) -> dict[str, float]:
        logits = [one.numpy() for one in head_logits(student, held_back)]
        warm = student.spec.warmup_frames
        probs = np.stack([softmax(one[scored_frames(warm, len(one))]).mean(axis=0) for one in logits])
        labels = np.array([self.classes.index(one.label) for one in self.validation])
        figures = action_metrics(probs, labels, self.classes, self._request.background)
        return {"accuracy": figures.accuracy, "ROC AUC": figures.roc_auc or 0.0, "ECE": figures.ece}

    def _export(self, run: HeadRun) -> tuple[Bundle, dict[str, tuple[FloatArray, ...]]]:
        """The bundle, calibrated on the validation clips, and what its int8 network says about the kept-back ones."""
        request, recipe = self._request, self._request.recipe
        version = f"{recipe.name}-{run_fingerprint(recipe, recipe.seed, [one.sha256 for one in self._learnt])[:8]}"
        spec = student_spec(version, self.classes, background=request.background)
        made = lineage(
            parent=None,
            teachers=(recipe.teacher.source,) if recipe.taught else (),
            recipe=f"{recipe.name} ({recipe.fingerprint()})",
            seed=recipe.seed,
            data_sha256=[one.sha256 for one in self._learnt],
        )
        self._progress("quantising", 0.0)
        with disk_full_named("the bundle", request.out):
            bundle = write_bundle(
                request.out / "student", run.student, BundleParts(spec, made, {}), self._seen(self.train)
            )
        engine = OpenVinoEngine(bundle)
        answers = {
            name: tuple(np.log(one + np.float32(1e-9)) for one in score_clips(engine, self._views(records)))
            for name, records in (("validation", self.validation), ("test", self.test))
        }
        labels = [self.classes.index(one.label) for one in self.validation]
        temperature = round(fit_temperature(answers["validation"], labels, spec.warmup_frames), 4)
        probs = [softmax(one / temperature) for one in answers["validation"]]
        thresholds = choose_thresholds(spec, probs, labels)
        spec = spec.model_copy(update={"temperature": temperature, "thresholds": thresholds})
        self._progress("quantising", 1.0)
        return replace(bundle, spec=spec), answers

    def _measure(
        self, run: HeadRun, bundle: Bundle, answers: Mapping[str, tuple[FloatArray, ...]], signals: TeacherSignals
    ) -> DistilResult:
        spec, request = bundle.spec, self._request
        labels = np.array([self.classes.index(one.label) for one in self.test])
        student = np.stack([clip_score(softmax(one / spec.temperature), spec.warmup_frames) for one in answers["test"]])
        said = None if signals.logits is None else signals.logits[-len(self.test) :]
        teacher = None if said is None else said.double().softmax(dim=-1).numpy()
        scores = {"student, int8": student} | ({} if teacher is None else {"teacher": teacher})
        figures = {
            name: action_metrics(probs, labels, self.classes, request.background) for name, probs in scores.items()
        }
        metrics = {
            "held_out": asdict(figures["student, int8"]),
            "held_out_roc_auc_interval": self._interval(student, labels),
            "teacher": None if teacher is None else asdict(figures["teacher"]),
            "scored_on": "int8 export, streaming, clips of sources that the student had not seen",
            "split": "3:1:1 by source",
            "clips": {one.file: [round(float(v), 4) for v in row] for one, row in zip(self.test, student, strict=True)},
        }
        bundle = _rewrite(bundle, spec, metrics)
        _write_json(request.out / "metrics.json", metrics)
        path = request.out / "report.html"
        write_report(path, self._report(run, labels, student, teacher, figures))
        return DistilResult(bundle, figures, path)

    def _report(
        self,
        run: HeadRun,
        labels: NDArray[np.int64],
        student: NDArray[np.float64],
        teacher: NDArray[np.float64] | None,
        figures: dict[str, ActionMetrics],
    ) -> RunReport:
        recipe = self._request.recipe
        counts = f"{len(self.train)} + {len(self._extra)} without labels, {len(self.validation)}, {len(self.test)}"
        return RunReport(
            title=f"Distillation: {recipe.name}",
            summary={
                "objectives": ", ".join(entry.name for entry in recipe.objectives),
                "teacher": recipe.teacher.source,
                "clips to train on, validate and test": counts,
                "seed": str(recipe.seed),
                "95 % interval of the student's ROC AUC, by source": str(self._interval(student, labels)),
            },
            recipe=plain(recipe),
            history=run.history,
            classes=self.classes,
            background=self._request.background,
            labels=labels,
            student=student,
            teacher=teacher,
            figures=figures,
            warnings=tuple(self._warnings),
        )

    def _interval(self, probs: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float] | None:
        def area(index: NDArray[np.int64]) -> float | None:
            return action_metrics(probs[index], labels[index], self.classes, self._request.background).roc_auc

        sources = [one.source for one in self.test]
        bounds = bootstrap_by_source(area, sources, rng=np.random.default_rng(0), rounds=500)
        return None if bounds is None else (round(bounds[0], 4), round(bounds[1], 4))

    def _views(self, records: Sequence[ClipRecord]) -> Iterator[UInt8Array]:
        """Clips as cameras give them, one after the other; the engine looks where something moves."""
        spec = student_spec("unnamed", self.classes, background=self._request.background)
        return (self._frames.load_view(one, spec).frames for one in records)

    def _seen(self, records: Sequence[ClipRecord]) -> list[UInt8Array]:
        spec = student_spec("unnamed", self.classes, background=self._request.background)
        return [plain_frames(self._frames, one, spec) for one in records]


def run_recipe(
    request: DistilRequest, progress: Callable[[str, float], None], warn: Callable[[str], None]
) -> DistilResult:
    """Everything `streamkd distil` does; see `DistilRequest` and `Experiment.run`."""
    return Experiment(request, progress, warn).run()


def _rewrite(bundle: Bundle, spec: StudentSpec, metrics: dict[str, Any]) -> Bundle:
    """The bundle with its calibration and figures, which are only known once it has been played."""
    _write_json(bundle.path / "spec.json", spec.model_dump(mode="json"))
    _write_json(bundle.path / "metrics.json", metrics)
    write_manifest(bundle.path)
    return read_bundle(bundle.path)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _read_raw(path: Path, clips: int, variants: int) -> FeatureSet | None:
    if not path.is_file():
        return None
    try:
        stored = load_file(path)
        versions = [tuple(stored[f"{v} {i}"] for i in range(clips)) for v in range(1 + variants)]
    except (OSError, KeyError, SafetensorError):
        path.unlink(missing_ok=True)
        return None
    return FeatureSet(versions[0], tuple(versions[1:]))


__all__ = ["DistilRequest", "DistilResult", "Experiment", "run_recipe"]

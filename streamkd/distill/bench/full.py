"""Full training for the few rows that earn it: the head first, then everything behind the cut, with checkpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamkd.distill.bench.data import SEED, JoinedSource, LongStream, new_student
from streamkd.distill.bench.measure import FoldAnswers, ask_head, read_motion_apart, summarise
from streamkd.distill.checkpoint import Checkpoint
from streamkd.distill.features import FeatureSet, cache_features, plain_frames
from streamkd.distill.quantise import Int8Trunk
from streamkd.distill.run import run_fingerprint, train_head
from streamkd.distill.train import raw_features, set_standardiser
from streamkd.evaluate.dataset import FrameCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamkd.distill.bench.data import BenchData
    from streamkd.distill.bench.measure import Bench
    from streamkd.distill.bench.rows import Row
    from streamkd.models.student import Student
    from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class FullBudget:
    """Passes over the clips, the same for every row."""

    head_epochs: int = 40
    trunk_epochs: int = 16
    lr_trunk: float = 5e-5
    lr_head: float = 2e-4


class FullTraining:
    """Rows with the trunk trained too; the float trunk's features of all clips are kept in memory.

    Args:
        bench: Data, teachers, folds.
        cache: Of frames, features and checkpoints.
        budget: The same for every row.
        progress: Told what is being done and which share of it is done.
    """

    def __init__(self, bench: Bench, cache: Path, budget: FullBudget, progress: Callable[[str, float], None]) -> None:
        self._bench, self._cache, self._budget, self._progress = bench, cache, budget, progress
        data = bench.data
        self._frames = FrameCache(cache / "frames")
        self._start = new_student(data.classes)
        self._front = cache_features(
            self._start,
            data.records,
            self._frames,
            variants=len(data.raw.variants),
            seed=SEED,
            folder=cache / "features",
            progress=progress,
        )

    def run(self, row: Row, seed: int) -> dict[str, Any]:
        """Train and measure one row with one seed, every fold."""
        began = time.monotonic()
        answers: dict[int, FoldAnswers] = {}
        for number, fold in enumerate(self._bench.budget.folds):
            answers[fold] = self._ask(self._train(row, seed, fold), fold)
            self._progress(row.name, (number + 1) / len(self._bench.budget.folds))
        figures = summarise(self._bench.data, answers)
        return {
            "row": row.name,
            "family": row.family,
            "seed": seed,
            **figures,
            "took_s": round(time.monotonic() - began),
        }

    def _train(self, row: Row, seed: int, fold: int) -> Student:
        data, budget = self._bench.data, self._budget
        inside = [i for i, one in enumerate(data.folds) if one != fold]
        labels = [data.labels[i] for i in inside]
        names = [data.records[i].file for i in inside]
        signals = self._bench.signals(row.labelled, fold).subset(inside) if row.teacher else None
        torch.manual_seed(seed)
        student = new_student(data.classes)
        set_standardiser(student, data.raw.subset(inside))
        if row.start == "apart":
            read_motion_apart(student, data.raw.subset(inside), labels)
        stages: tuple[tuple[str, FeatureSet, int, dict[str, Any]], ...] = (
            ("head", data.raw.subset(inside), budget.head_epochs, {}),
            (
                "trunk",
                self._front.subset(inside),
                budget.trunk_epochs,
                {"head_only": False, "lr_trunk": budget.lr_trunk, "lr_head": budget.lr_head, "ema": 0.97},
            ),
        )
        hashes = [data.records[i].sha256 for i in inside]
        for stage, features, epochs, options in stages:
            recipe = row.recipe(epochs, len(data.raw.variants))
            recipe = recipe.going_on(**options) if options else recipe
            run = run_fingerprint(recipe, seed, hashes)
            path = self._cache / "bench" / "full" / f"{run}-{stage}.pt"

            def told(what: str, share: float, stage: str = stage) -> None:
                self._progress(f"{row.name} seed {seed} fold {fold} {stage}, {what}", share)

            student = train_head(
                features,
                labels,
                signals,
                recipe,
                seed,
                classes=data.classes,
                student=student,
                names=names,
                checkpoint=Checkpoint(path, run),
                progress=told,
            ).student
        return student

    def _ask(self, student: Student, fold: int) -> FoldAnswers:
        """Quantise the student on the other folds' clips, and play its own fold through the int8 network."""
        data = self._bench.data
        plain = [plain_frames(self._frames, r, student.spec) for r in data.records]
        trunk = Int8Trunk(student, [one for one, k in zip(plain, data.folds, strict=True) if k != fold])
        outside = [i for i, one in enumerate(data.folds) if one == fold]
        long = data.long[fold]
        return ask_head(
            student,
            outside,
            raw_features(student, FeatureSet(self._front.subset(outside).plain, ()), lambda *_: None),
            FeatureSet(tuple(trunk.raw([plain[i] for i in outside])), ()),
            LongStream(long.clips, trunk.raw([_joined(plain, long.clips)])[0]),
            _joined_again(trunk, plain, data, fold),
        )


def _joined(plain: list[UInt8Array], clips: tuple[int, ...]) -> UInt8Array:
    return np.concatenate([plain[i] for i in clips])


def _joined_again(trunk: Int8Trunk, plain: list[UInt8Array], data: BenchData, fold: int) -> tuple[JoinedSource, ...]:
    streams = trunk.raw([_joined(plain, one.plan.clips) for one in data.joined[fold]])
    return tuple(JoinedSource(one.plan, raw, one.start) for one, raw in zip(data.joined[fold], streams, strict=True))


__all__ = ["FullBudget", "FullTraining"]

"""Everything the benchmark's rows share, computed once: what heads see of clips and joined streams, float and int8.

The trunk is the same in every row, so a row is a head; and what the head is shown by the int8 trunk of the export is
cached too, so that every figure is that of the exported model at no cost. Each fold has an int8 trunk of its own,
calibrated on the other folds' clips; a clip is only ever played through the trunk of its own fold. In joined streams
the state is never reset; the gaze is aimed anew at each clip, because clips of different shapes can't be one picture.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamkd.distill.develop import split_classes
from streamkd.distill.features import AUGMENT_VERSION, FeatureSet, cache_features, plain_frames
from streamkd.distill.local_teacher import TeacherFeatures, teacher_features
from streamkd.distill.quantise import Int8Trunk, int8_features
from streamkd.distill.train import raw_features
from streamkd.errors import InputError
from streamkd.evaluate.dataset import FrameCache, make_folds, read_dataset, read_folds, readable
from streamkd.evaluate.joined import Junction, junctions, long_order
from streamkd.models.backbone import pretrained_backbone
from streamkd.models.student import BACKBONE, Student, student_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.evaluate.dataset import ClipRecord
    from streamkd.types import UInt8Array

VARIANTS = 3
LEAST_FOLDS = 4  # one is measured, one is labelled, and of two the teacher learns how far to trust itself
SEED = 0  # of augmentation and of the joined streams; rows have seeds of their own


@dataclass(frozen=True, slots=True)
class LongStream:
    """Clips of one fold played one after the other for ten minutes, without a reset.

    Attributes:
        clips: Which clip, in order of play.
        raw: `[T, F]` of the whole stream, from the int8 trunk.
    """

    clips: tuple[int, ...]
    raw: Tensor


@dataclass(frozen=True, slots=True)
class JoinedSource:
    """One junction (`streamkd.evaluate.joined`) of clips of one source, and what the head sees of it."""

    plan: Junction
    raw: Tensor
    start: int  # first frame after the junction


@dataclass(frozen=True, slots=True)
class BenchData:
    """All of it, for N clips.

    Attributes:
        records: The clips.
        labels: Class index of each.
        folds: Of each, by source.
        classes: Background first.
        lengths: Frames of each, as the live path samples them.
        raw: What the head sees of each, float trunk; in augmented copies too.
        int8: The same from the int8 trunk of its fold.
        long: Per fold.
        joined: Per fold.
        teacher: What the benchmark's teacher sees.
    """

    records: tuple[ClipRecord, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]
    classes: tuple[str, ...]
    lengths: tuple[int, ...]
    raw: FeatureSet
    int8: FeatureSet
    long: dict[int, LongStream]
    joined: dict[int, tuple[JoinedSource, ...]]
    teacher: TeacherFeatures

    @property
    def sources(self) -> list[str]:
        return [record.source for record in self.records]


def new_student(classes: Sequence[str]) -> Student:
    """A student with its ImageNet trunk and a fresh head."""
    torch.manual_seed(0)
    student = Student(student_spec("bench", tuple(classes), background=classes[0]))
    student.backbone.load_state_dict(pretrained_backbone(BACKBONE).state_dict())
    return student.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def load_bench_data(
    data: Path,
    cache: Path,
    progress: Callable[[str, float], None],
    warn: Callable[[str], None],
    *,
    background: str = "normal",
    variants: int = VARIANTS,
    measured: int | None = None,
    at_most: int | None = None,
    long_s: float = 600.0,
    samples: int = 300,
    accept: Callable[[Sequence[ClipRecord]], None] = lambda _: None,
) -> BenchData:
    """Read a folder of labelled clips and compute, or find in the cache, what the rows need.

    Args:
        data: A folder with `clips.csv`, or one folder a label.
        cache: Where everything is kept.
        progress: Told what is being done and which share of it is done.
        warn: Told about clips that are left out.
        background: The class that opens no event.
        variants: Augmented copies of each clip.
        measured: How many folds will be; what the int8 trunk shows is made for these alone.
        at_most: Clips, spread over sources and labels; None: all of them.
        long_s: Length of the long streams.
        samples: Frames that each int8 trunk is calibrated on.
        accept: Sees the clips before anything is computed for them; what it raises ends the call.

    Raises:
        InputError: There are fewer than four folds by source: the teacher could not be cross-fitted twice.
    """
    frames = FrameCache(cache / "frames")
    clips = _read(data, frames, warn, background, at_most)
    accept(clips.records)
    student = new_student(clips.classes)
    plain = [plain_frames(frames, r, student.spec) for r in clips.records]
    settings = (AUGMENT_VERSION, variants, SEED, clips.folds, long_s, samples)
    store = _Store(cache / "bench" / _key(student_spec("bench", ("a", "b")).model_dump_json(), *settings, clips.hashes))
    raw = store.features("raw", variants, lambda: _float(student, clips.records, frames, variants, cache, progress))
    maker = _FoldMaker(student, clips, frames, plain, variants, samples, progress)
    by_fold: dict[int, FeatureSet] = {}
    long: dict[int, LongStream] = {}
    joined: dict[int, tuple[JoinedSource, ...]] = {}
    for fold in sorted(set(clips.folds))[:measured]:
        by_fold[fold] = store.features(f"int8-{fold}", variants, partial(maker.features, fold))
        long[fold] = _as_long(store.tensors(f"long-{fold}", partial(maker.long, fold, long_s)))
        joined[fold] = _as_joined(store.tensors(f"joined-{fold}", partial(maker.joined, fold)), plain)
    return BenchData(
        clips.records,
        clips.labels,
        clips.folds,
        clips.classes,
        tuple(len(one) for one in plain),
        raw,
        _in_order(by_fold, clips.folds, variants),
        long,
        joined,
        teacher_features(clips.records, frames, cache, progress),
    )


@dataclass(frozen=True, slots=True)
class _Clips:
    """The clips that can be read, with labels and folds."""

    records: tuple[ClipRecord, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def hashes(self) -> list[str]:
        return [record.sha256 for record in self.records]


def _read(data: Path, frames: FrameCache, warn: Callable[[str], None], background: str, at_most: int | None) -> _Clips:
    spec = student_spec("bench", ("a", "b"))
    found = thin(read_dataset(data), at_most)
    records = readable(found, frames, spec.rate_hz, spec.view_size, warn, keep_aspect=spec.keeps_aspect)
    classes = split_classes(records, background)
    folds = tuple(read_folds(data, records) or make_folds(records, min(5, len({r.source for r in records})), 0))
    if len(set(folds)) < LEAST_FOLDS:
        raise InputError(
            f"The benchmark needs clips of at least {LEAST_FOLDS} sources.", hint="Name each clip's source."
        )
    return _Clips(records, tuple(classes.index(one.label) for one in records), folds, classes)


def thin(records: Sequence[ClipRecord], at_most: int | None) -> tuple[ClipRecord, ...]:
    """Some of the clips, in their order: labels take turns, and each takes one clip of each source, then a second one.

    Without the turns a label that comes first would take everything where there are more sources than places.
    """
    if at_most is None:
        return tuple(records)
    taken: Counter[tuple[str, str]] = Counter()
    by_label: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, record in enumerate(records):
        by_label[record.label].append((taken[record.source, record.label], i))
        taken[record.source, record.label] += 1
    turns = ((turn, i) for found in by_label.values() for turn, (_, i) in enumerate(sorted(found)))
    return tuple(records[i] for i in sorted(i for _, i in sorted(turns)[:at_most]))


class _FoldMaker:
    """Plays one fold's clips through the int8 trunk that was calibrated on the others."""

    def __init__(
        self,
        student: Student,
        clips: _Clips,
        frames: FrameCache,
        plain: Sequence[UInt8Array],
        variants: int,
        samples: int,
        progress: Callable[[str, float], None],
    ) -> None:
        self._student, self._clips, self._frames, self._plain = student, clips, frames, plain
        self._variants, self._samples, self._progress = variants, samples, progress
        self._trunk: tuple[int, Int8Trunk] | None = None

    def features(self, fold: int) -> FeatureSet:
        chosen = [self._clips.records[i] for i in self._inside(fold)]

        def progress(what: str, share: float) -> None:
            self._progress(f"{what} of fold {fold}", share)

        return int8_features(
            self._of(fold),
            self._student,
            chosen,
            self._frames,
            variants=self._variants,
            seed=SEED,
            progress=progress,
        )

    def long(self, fold: int, at_least_s: float) -> dict[str, Tensor]:
        inside = self._inside(fold)
        lengths = [len(self._plain[i]) for i in inside]
        order = long_order(
            lengths, self._student.spec.rate_hz, np.random.default_rng([SEED, fold]), at_least_s=at_least_s
        )
        stream = np.concatenate([self._plain[inside[i]] for i in order])
        return {"raw": self._of(fold).raw([stream])[0], "clips": torch.tensor([inside[i] for i in order])}

    def joined(self, fold: int) -> dict[str, Tensor]:
        inside = self._inside(fold)
        plan = junctions(
            [self._clips.labels[i] != 0 for i in inside],
            [self._clips.records[i].source for i in inside],
            np.random.default_rng([SEED, fold]),
        )
        streams = [np.concatenate([self._plain[inside[i]] for i in one.clips]) for one in plan]
        found: dict[str, Tensor] = {}
        for number, (one, raw) in enumerate(zip(plan, self._of(fold).raw(streams), strict=True)):
            found[f"raw{number}"] = raw
            found[f"clips{number}"] = torch.tensor([inside[i] for i in one.clips])
            found[f"positive{number}"] = torch.tensor([int(one.positive)])
        return found

    def _inside(self, fold: int) -> list[int]:
        return [i for i, one in enumerate(self._clips.folds) if one == fold]

    def _of(self, fold: int) -> Int8Trunk:
        if self._trunk is None or self._trunk[0] != fold:
            self._progress(f"int8 trunk of fold {fold}", 0.0)
            others = [self._plain[i] for i, one in enumerate(self._clips.folds) if one != fold]
            self._trunk = (fold, Int8Trunk(self._student, others, samples=self._samples))
            self._progress(f"int8 trunk of fold {fold}", 1.0)
        return self._trunk[1]


def _float(
    student: Student,
    records: Sequence[ClipRecord],
    frames: FrameCache,
    variants: int,
    cache: Path,
    progress: Callable[[str, float], None],
) -> FeatureSet:
    front = cache_features(
        student, records, frames, variants=variants, seed=SEED, folder=cache / "features", progress=progress
    )
    return raw_features(student, front, progress)


@dataclass(frozen=True, slots=True)
class _Store:
    """Named groups of tensors in a folder, each made once."""

    folder: Path

    def tensors(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            made = {key: value.contiguous().clone() for key, value in make().items()}
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            save_file(made, partial)
            partial.replace(path)
        return load_file(path)

    def features(self, name: str, variants: int, make: Callable[[], FeatureSet]) -> FeatureSet:
        def pack() -> dict[str, Tensor]:
            made = make()
            versions = (made.plain, *made.variants)
            return {f"{v}.{i}": one for v, version in enumerate(versions) for i, one in enumerate(version)}

        stored = self.tensors(name, pack)
        count = len(stored) // (1 + variants)
        versions = [tuple(stored[f"{v}.{i}"] for i in range(count)) for v in range(1 + variants)]
        return FeatureSet(versions[0], tuple(versions[1:]))


def _in_order(by_fold: dict[int, FeatureSet], folds: Sequence[int], variants: int) -> FeatureSet:
    """Every clip from its own fold's set, in the order of the records; without frames where that was not made."""
    place: dict[int, int] = dict.fromkeys(folds, 0)
    rows: list[list[Tensor]] = []
    for fold in folds:
        made = by_fold.get(fold)
        versions = () if made is None else (made.plain, *made.variants)
        rows.append([one[place[fold]] for one in versions] or [torch.zeros(0, 1)] * (1 + variants))
        place[fold] += 1
    return FeatureSet(tuple(row[0] for row in rows), tuple(tuple(row[1 + v] for row in rows) for v in range(variants)))


def _key(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()[:12]


def _as_long(stored: dict[str, Tensor]) -> LongStream:
    return LongStream(tuple(stored["clips"].tolist()), stored["raw"])


def _as_joined(stored: dict[str, Tensor], plain: Sequence[UInt8Array]) -> tuple[JoinedSource, ...]:
    found: list[JoinedSource] = []
    for number in range(len(stored) // 3):
        clips = tuple(stored[f"clips{number}"].tolist())
        plan = Junction(clips, bool(stored[f"positive{number}"].item()))
        found.append(JoinedSource(plan, stored[f"raw{number}"], len(plain[clips[0]])))
    return tuple(found)


__all__ = ["BenchData", "JoinedSource", "LongStream", "load_bench_data", "new_student", "thin"]

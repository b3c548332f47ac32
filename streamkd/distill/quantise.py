"""The student's int8 trunk as a source of features, and heads that are fitted on what it gives.

Post-training quantisation rounds the trunk, and the head reads differences of what was rounded. The head stays in float
(streamkd/distill/export.py), so it can be fitted on exactly what the int8 trunk will show it: int8 is not simulated, it
is what the training runs on (the idea of Jacob et al., CVPR 2018, with the real kernels in place of simulated ones).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamkd.distill.export import int8_model
from streamkd.distill.features import FeatureSet, augment, dense_frames, draw_variant, plain_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from streamkd.distill.recipe import Recipe
    from streamkd.evaluate.dataset import ClipRecord, FrameCache
    from streamkd.models.student import Student
    from streamkd.types import UInt8Array

BATCH = 8
REFIT_RATE = 3e-4


class Int8Trunk:
    """What the head of an int8 student sees, frame by frame, with the state carried on.

    Args:
        student: Its trunk is quantised; its head does not matter.
        clips: `[T, S, S, 3]` uint8 to calibrate on, at the student's rate.
        samples: Frames to calibrate on.
        seed: Which clips are taken.

    The trunk's rounding depends on trunk, clips and seed alone: exported later with any head and the same clips and
    seed, it is the same trunk.
    """

    def __init__(self, student: Student, clips: Sequence[UInt8Array], *, samples: int = 300, seed: int = 0) -> None:
        import openvino as ov  # noqa: PLC0415 (slow to import, needed here only)

        self._spec = student.spec
        model: Any = int8_model(student, student.spec, clips, samples=samples, seed=seed, with_raw=True)
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        self._request: Any = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def raw(self, clips: Sequence[UInt8Array]) -> list[Tensor]:
        """`[T, F]` fp16 of every clip `[T, S, S, 3]`, each from zero state."""
        found: list[Tensor] = []
        for start in range(0, len(clips), BATCH):
            found += self._together(clips[start : start + BATCH])
        return found

    def _together(self, clips: Sequence[UInt8Array]) -> list[Tensor]:
        states = {one.name: np.zeros((len(clips), *one.shape), np.float32) for one in self._spec.state}
        rows: list[list[np.ndarray]] = [[] for _ in clips]
        for t in range(max(len(clip) for clip in clips)):
            live = [i for i, clip in enumerate(clips) if t < len(clip)]
            frames = np.stack([clips[i][t] for i in live]).transpose(0, 3, 1, 2).astype(np.float32)
            self._request.infer({"frame": frames, **{name: value[live] for name, value in states.items()}})
            seen = self._request.get_tensor("raw").data
            for row, i in enumerate(live):
                rows[i].append(seen[row].astype(np.float16))
            for name, value in states.items():
                value[live] = self._request.get_tensor(f"next_{name}").data
        return [torch.from_numpy(np.stack(one)) for one in rows]


def refit_recipe(recipe: Recipe) -> Recipe:
    """The same objectives at a lower rate, for going on with a fitted head on what the int8 trunk shows it."""
    return recipe.going_on(lr_head=REFIT_RATE)


def int8_features(
    trunk: Int8Trunk,
    student: Student,
    records: Sequence[ClipRecord],
    frames: FrameCache,
    *,
    variants: int,
    seed: int,
    progress: Callable[[str, float], None],
) -> FeatureSet:
    """What the int8 trunk shows the head of every clip: plain, and in the same augmented copies as `cache_features`."""
    spec = student.spec
    plain: list[Tensor] = []
    augmented: list[list[Tensor]] = [[] for _ in range(variants)]
    for index, record in enumerate(records):
        copies = [plain_frames(frames, record, spec)]
        copies += augmented_frames(student, record, frames, variants=variants, seed=seed)
        first, *others = trunk.raw(copies)
        plain.append(first)
        for version, one in zip(augmented, others, strict=True):
            version.append(one)
        progress("int8 features", (index + 1) / len(records))
    return FeatureSet(tuple(plain), tuple(tuple(version) for version in augmented))


def augmented_frames(
    student: Student, record: ClipRecord, frames: FrameCache, *, variants: int, seed: int
) -> list[UInt8Array]:
    """The augmented copies that `cache_features` makes with this seed, as pictures `[T, S, S, 3]`."""
    spec = student.spec
    if not variants:
        return []
    dense = dense_frames(frames, record, spec)
    rng = np.random.default_rng([seed, int(record.sha256[:12], 16)])
    made = [augment(dense, draw_variant(rng), spec.input_size, rng) for _ in range(variants)]
    return [one.round().to(torch.uint8).permute(0, 2, 3, 1).numpy() for one in made]


__all__ = ["Int8Trunk", "augmented_frames", "int8_features", "refit_recipe"]

"""Scoring clips with an exported student, streaming frame by frame like the live path. No torch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from streamkd.engine.gaze import Gaze
from streamkd.engine.students import relive
from streamkd.evaluate.calibrate import scored_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streamkd.engine.base import InferenceEngine
    from streamkd.types import FloatArray, UInt8Array


def score_clip(engine: InferenceEngine, frames_rgb: UInt8Array) -> FloatArray:
    """Probabilities for every frame of one clip, from zero state.

    Args:
        engine: Any engine.
        frames_rgb: `[T, H, W, 3]` uint8 at the student's rate, as `StudentSpec.view_size` asks for them.

    Returns:
        `[T, C]` float32, calibrated.
    """
    return score_clips(engine, [frames_rgb])[0]


def score_clips(engine: InferenceEngine, clips: Iterable[UInt8Array], *, batch: int = 8) -> list[FloatArray]:
    """The same for several clips, `batch` of them at a time as if they were cameras; no more are asked for at once."""
    results: list[FloatArray] = []
    rest = iter(clips)
    while some := list(itertools.islice(rest, batch)):
        results += _score_together(engine, some)
    return results


def _score_together(engine: InferenceEngine, clips: Sequence[UInt8Array]) -> list[FloatArray]:
    states = [engine.init_state() for _ in clips]
    gazes = [Gaze(engine.spec) for _ in clips]
    probs: list[list[FloatArray]] = [[] for _ in clips]
    for t in range(max(len(clip) for clip in clips)):
        live = [i for i, clip in enumerate(clips) if t < len(clip)]
        glances = [gazes[i].look(clips[i][t]) for i in live]
        for i, glance in zip(live, glances, strict=True):
            if glance.moved:
                states[i] = relive(engine, glance.again)
        output, after = engine.step(np.stack([glance.rgb for glance in glances]), [states[i] for i in live])
        for row, i in enumerate(live):
            probs[i].append(output.action[row])
            states[i] = after[row]
    return [np.stack(rows).astype(np.float32) for rows in probs]


def clip_score(probs: NDArray[np.floating], warmup_frames: int) -> NDArray[np.float64]:
    """One row per class for a clip: the mean over the frames after warm-up (`[T, C]` to `[C]`)."""
    return np.asarray(probs[scored_frames(warmup_frames, len(probs))].mean(axis=0), dtype=np.float64)


__all__ = ["clip_score", "score_clip", "score_clips"]

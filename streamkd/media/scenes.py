"""Scenes in which nothing happens, made from real clips, and what happens in between: for tests and benchmarks.

A still scene is a clip's background, the median of each pixel over time, with what a camera adds to it: noise of every
pixel and flicker of the whole picture, both measured from the residuals where nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from streamkd.errors import InputError
from streamkd.media.convert import one_thread
from streamkd.media.prepare import Coded, encode, make_encoder, mux_again, resampled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from streamkd.types import FloatArray, UInt8Array

_QUIET_SHARE = 0.5  # the quieter half of the pixels: noise, and no motion
_PATTERNS = 16  # noise pictures that are made once and then shifted and mirrored


@dataclass(frozen=True, slots=True)
class StillScene:
    """A clip without what moved in it.

    Attributes:
        background: `[H, W, 3]` float32, 0..255.
        noise: Standard deviation of a pixel over time, grey levels.
        flicker: Standard deviation of the whole picture's brightness over time, grey levels.
    """

    background: FloatArray
    noise: float
    flicker: float

    def pictures(self, count: int, rng: np.random.Generator) -> Iterator[UInt8Array]:
        """Pictures `[H, W, 3]` uint8 of the scene, each with noise of its own."""
        height, width = self.background.shape[:2]
        patterns = rng.normal(0.0, self.noise, (_PATTERNS, height, width, 1)).astype(np.float32)
        for _ in range(count):
            grain = np.roll(patterns[rng.integers(_PATTERNS)], (rng.integers(height), rng.integers(width)), (0, 1))
            light = np.float32(rng.normal(0.0, self.flicker))
            yield np.clip(np.round(self.background + grain + light), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a recording.

    Attributes:
        clip: What is shown; of a still stretch, where it comes from.
        still_s: Length of a still stretch; None: the clip itself.
    """

    clip: Path
    still_s: float | None = None


def measure_scene(path: Path, width: int, height: int, fps: int = 15) -> StillScene:
    """The still scene of a clip.

    Raises:
        InputError: It is no video, or has fewer than five frames.
    """
    scaler = VideoReformatter()
    frames = [_rgb(frame, width, height, scaler) for frame in resampled(path, fps)]
    if len(frames) < 5:
        raise InputError(f"{path} is too short for a background.", hint="Name a clip of at least a second.")
    stack = np.stack(frames)  # [T, H, W, 3]
    background = np.median(stack, axis=0).astype(np.float32)
    residuals = (stack.astype(np.float32) - background).mean(-1)  # [T, H, W]
    flicker = float(np.median(residuals, axis=(1, 2)).std())
    per_pixel = residuals.std(axis=0)
    quiet = per_pixel <= np.quantile(per_pixel, _QUIET_SHARE)
    return StillScene(background, float(np.sqrt((per_pixel[quiet] ** 2).mean())), flicker)


def write_scenes(
    parts: Sequence[Part],
    out: Path,
    *,
    width: int = 640,
    height: int = 480,
    fps: int = 15,
    gop: int = 30,
    crf: float | None = None,
    min_duration_s: float = 0.0,
    seed: int = 0,
) -> None:
    """Write a recording of still scenes and clips, coded as `join_clips` does.

    Args:
        parts: In order.
        out: The MP4 file, overwritten.
        width: Of every picture.
        height: Of every picture.
        fps: Frame rate.
        gop: Frames from keyframe to keyframe.
        crf: See `join_clips`.
        min_duration_s: Everything is repeated, as coded, until the recording is as long; then the parts' length should
            be a multiple of the GOP's.
        seed: Of the noise.

    Raises:
        InputError: A clip is not a video.
    """
    rng = np.random.default_rng(seed)
    scaler = VideoReformatter()
    scenes: dict[Path, StillScene] = {}
    coded: list[Coded] = []
    with av.open(str(out), mode="w", format="mp4") as container:
        stream = make_encoder(container, width, height, fps, gop, crf)
        for part in parts:
            for frame in _frames(part, scenes, width, height, fps, rng):
                coded += encode(stream, scaler, frame, len(coded))
        mux_again(container, stream, coded, min_duration_s)


def _frames(
    part: Part, scenes: dict[Path, StillScene], width: int, height: int, fps: int, rng: np.random.Generator
) -> Iterator[av.VideoFrame]:
    if part.still_s is None:
        yield from resampled(part.clip, fps)
        return
    if part.clip not in scenes:
        scenes[part.clip] = measure_scene(part.clip, width, height, fps)
    for picture in scenes[part.clip].pictures(round(part.still_s * fps), rng):
        yield av.VideoFrame.from_ndarray(picture, format="rgb24")


def _rgb(frame: av.VideoFrame, width: int, height: int, scaler: VideoReformatter) -> UInt8Array:
    small = scaler.reformat(frame, width=width, height=height, format="rgb24", interpolation="BICUBIC", **one_thread())
    return cast("UInt8Array", small.to_ndarray())


__all__ = ["Part", "StillScene", "measure_scene", "write_scenes"]

"""Collecting footage from the live path: a few short clips per camera, bounded in memory, disk and processor time.

Of each camera, half of the clips are those on which the student was least sure, half are a random sample of the rest.
The live path only puts frames into a queue; a thread of the lowest priority does the rest, and where it can't follow,
the harvest loses frames, never the live path.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import queue
import shutil
import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streamkd.bundle import file_sha256
from streamkd.media.writer import CLIP_SUFFIX, jpeg_of, write_jpeg_clip
from streamkd.refresh.moments import frame_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from streamkd.types import Frame, FrameResult

_QUEUE_FRAMES = 64
_CUT_LEVELS = 30.0  # mean grey-level change between two due frames that no moving object makes
_LEAST_SHARE = 0.8  # of a clip's frames, where a cut or gap ends it early
_GAP_PERIODS = 2.5
_LEAST_NICE = 19


@dataclass(frozen=True, slots=True)
class HarvestPlan:
    """How much is collected, and how.

    Attributes:
        clip_s: Length of a clip.
        per_camera: Clips kept of each camera.
        rate_hz: Analysed frames a second.
        max_bytes: Of all clips together; none is added beyond.
        max_width_px: Pictures are shrunk to this: at 16:9 their height is 432, more than the shipped teacher looks at.
        jpeg_quality: High enough that a teacher sees no blocks.
        pictures_hz: Most pictures made a second over all cameras: with more cameras, fewer windows are looked at.
        seed: Of the random sample.
    """

    clip_s: float = 2.0
    per_camera: int = 12
    rate_hz: float = 5.0
    max_bytes: int = 512 * 2**20
    max_width_px: int = 768
    jpeg_quality: int = 90
    pictures_hz: float = 60.0
    seed: int = 0

    @property
    def frames(self) -> int:
        return max(2, round(self.clip_s * self.rate_hz))


@dataclass(frozen=True, slots=True)
class HarvestedClip:
    """One clip that was kept.

    Attributes:
        path: The file.
        camera_id: Where it comes from.
        segment: Of the camera's stream.
        start_pts_s: Of its first frame.
        frames: How many.
        sha256: Of the file's bytes.
        uncertainty: Of the student, 0..1: entropy of its mean answer relative to the largest possible.
        scores: The student's mean answer.
        model_version: Which student that was.
        signature: Per frame `streamkd.refresh.moments.frame_signature`.
    """

    path: Path
    camera_id: str
    segment: int
    start_pts_s: float
    frames: int
    sha256: str
    uncertainty: float
    scores: dict[str, float]
    model_version: str
    signature: tuple[bytes, ...] = field(repr=False)


class Selection:
    """Which of a camera's clips are kept: the most uncertain ones, and a uniform sample of the others. Pure.

    Args:
        size: Clips kept; the odd one is an uncertain one.
    """

    def __init__(self, size: int) -> None:
        self._n_random = size // 2
        self._n_uncertain = size - self._n_random
        self._uncertain: list[tuple[float, float, int]] = []  # least uncertain first
        self._random: list[tuple[float, int]] = []  # largest key first (negated): k smallest keys are a uniform sample

    def offer(self, clip: int, uncertainty: float, key: float) -> int | None:
        """Consider a clip; returns the one that has to go (maybe this one), or None while there is room.

        Args:
            clip: Its number.
            uncertainty: Of the student.
            key: Uniformly random, its ticket in the sample.
        """
        heapq.heappush(self._uncertain, (uncertainty, key, clip))
        if len(self._uncertain) <= self._n_uncertain:
            return None
        _, key, clip = heapq.heappop(self._uncertain)
        heapq.heappush(self._random, (-key, clip))
        if len(self._random) <= self._n_random:
            return None
        return heapq.heappop(self._random)[1]


@dataclass(slots=True)
class _Window:
    """A clip in the making; holds no full-size frame."""

    camera_id: str
    segment: int
    start_pts_s: float
    skipped: bool  # drawn not to be looked at; only counts frames
    last_pts_s: float
    pictures: list[bytes] = field(default_factory=list)
    signature: list[bytes] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    length: int = 0
    model_version: str = ""


class Harvester:
    """Takes frames and results from the live path until `finish`.

    Args:
        plan: How much.
        out_dir: Where the clips go; what an interrupted harvest left there is deleted.
    """

    def __init__(self, plan: HarvestPlan, out_dir: Path) -> None:
        self._plan = plan
        self._out_dir = out_dir
        self._queue: queue.Queue[tuple[Frame, FrameResult] | None] = queue.Queue(_QUEUE_FRAMES)
        self._cameras: set[str] = set()
        self._windows: dict[str, _Window] = {}
        self._selections: dict[str, Selection] = {}
        self._kept: dict[int, HarvestedClip] = {}
        self._bytes = 0
        self._count = 0
        self._rng = np.random.default_rng([plan.seed, zlib.crc32(str(out_dir.name).encode())])
        self.lost = 0  # frames that the thread had no time for
        shutil.rmtree(out_dir, ignore_errors=True)
        out_dir.mkdir(parents=True)
        self._thread = threading.Thread(target=self._run, name="harvest", daemon=True)
        self._thread.start()

    def offer(self, frames: Sequence[Frame], results: Sequence[FrameResult]) -> None:
        """Show a batch of the live path; never waits.

        Args:
            frames: What was analysed.
            results: The answers to the same frames, in any order.
        """
        by_frame = {(frame.camera_id, frame.segment, frame.pts_s): frame for frame in frames}
        for result in results:
            frame = by_frame.get((result.camera_id, result.segment, result.pts_s))
            if frame is None:
                continue
            try:
                self._queue.put_nowait((frame, result))
            except queue.Full:
                self.lost += 1

    def finish(self, timeout_s: float = 10.0) -> list[HarvestedClip]:
        """End the harvest and return what was kept, camera by camera in order of time."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        return sorted(self._kept.values(), key=lambda clip: (clip.camera_id, clip.segment, clip.start_pts_s))

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # On Linux this is the thread's own priority, not the process's.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_NICE)
        while (item := self._queue.get()) is not None:
            self._see(*item)

    def _see(self, frame: Frame, result: FrameResult) -> None:
        if result.warming:  # the student's doubt means nothing yet
            self._windows.pop(frame.camera_id, None)
            return
        self._cameras.add(frame.camera_id)
        signature = frame_signature(frame.grey)
        window = self._windows.get(frame.camera_id)
        if window is not None and self._ends(window, frame, signature, result):
            self._close(window)
            window = None
        if window is None:
            window = _Window(frame.camera_id, frame.segment, frame.pts_s, self._skip(), frame.pts_s)
            self._windows[frame.camera_id] = window
        window.last_pts_s, window.model_version = frame.pts_s, result.model_version
        window.length += 1
        window.signature.append(signature)
        if not window.skipped:
            window.pictures.append(self._picture(frame))
            window.scores.append(result.scores)
        if window.length == self._plan.frames:
            self._close(window)

    def _ends(self, window: _Window, frame: Frame, signature: bytes, result: FrameResult) -> bool:
        """A gap, a cut, another model or another picture size: what follows is no part of this clip."""
        gap = frame.segment != window.segment
        gap = gap or frame.pts_s - window.last_pts_s > _GAP_PERIODS / self._plan.rate_hz
        return gap or result.model_version != window.model_version or is_cut(window.signature[-1], signature)

    def _skip(self) -> bool:
        wanted_hz = self._plan.rate_hz * len(self._cameras)
        return bool(self._rng.random() >= self._plan.pictures_hz / wanted_hz)

    def _picture(self, frame: Frame) -> bytes:
        if frame.picture is None:
            return jpeg_of(frame.rgb, quality=self._plan.jpeg_quality)
        return frame.picture.jpeg(max_width_px=self._plan.max_width_px, quality=self._plan.jpeg_quality)

    def _close(self, window: _Window) -> None:
        camera_id = window.camera_id
        self._windows.pop(camera_id, None)
        if window.skipped or window.length < _LEAST_SHARE * self._plan.frames:
            return
        number, self._count = self._count, self._count + 1
        scores = mean_scores(window.scores)
        uncertainty = relative_entropy(scores.values())
        selection = self._selections.setdefault(camera_id, Selection(self._plan.per_camera))
        leaves = selection.offer(number, uncertainty, float(self._rng.random()))
        if leaves is not None and leaves in self._kept:
            gone = self._kept.pop(leaves)
            self._bytes -= gone.path.stat().st_size
            gone.path.unlink()
        size = sum(map(len, window.pictures))
        if leaves == number or self._bytes + size > self._plan.max_bytes:
            return
        path = self._out_dir / f"{camera_id}-{number:05d}{CLIP_SUFFIX}"
        write_jpeg_clip(path, window.pictures, self._plan.rate_hz)
        self._bytes += path.stat().st_size
        self._kept[number] = HarvestedClip(
            path=path,
            camera_id=camera_id,
            segment=window.segment,
            start_pts_s=window.start_pts_s,
            frames=window.length,
            sha256=file_sha256(path),
            uncertainty=uncertainty,
            scores=scores,
            model_version=window.model_version,
            signature=tuple(window.signature),
        )


def is_cut(before: bytes, after: bytes) -> bool:
    """Whether the whole picture changed between two frames with these signatures (another scene, lights out)."""
    a, b = (np.frombuffer(one, dtype=np.uint8).astype(np.int16) for one in (before, after))
    return bool(np.abs(a - b).mean() > _CUT_LEVELS)


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean probability per class."""
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def relative_entropy(probs: Iterable[float]) -> float:
    """Entropy relative to that of a uniform answer, 0..1."""
    p = np.clip(np.array(list(probs)), 1e-12, 1.0)
    return float(-(p * np.log(p)).sum() / np.log(max(2, len(p))))


__all__ = ["HarvestPlan", "HarvestedClip", "Harvester", "Selection", "is_cut", "mean_scores", "relative_entropy"]

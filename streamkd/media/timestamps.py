"""PTS repair: what cameras say about time, made strictly increasing; where it can't be, a new segment begins."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_INTERVAL_S = 0.04  # of a camera that has not shown its own yet
MAX_GAP_S = 1.0
GAP_INTERVALS = 5.0  # a slow camera's gap is measured in its own intervals
BACK_TOLERANCE_S = 0.5  # repeats and jitter up to here are flattened; further back is a jump
STEP_S = 1e-3  # by which a repeated PTS is moved on
# RTP counts 90 kHz in 32 bits (RFC 6184), MPEG-TS in 33 bits (ISO/IEC 13818-1).
WRAPS_S = (2**32 / 90_000, 2**33 / 90_000)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a frame belongs: PTS in seconds, 0 at the first frame of its segment."""

    segment: int
    pts_s: float


class TimestampRepair:
    """Repairs the PTS of one camera, frame by frame, over all of its connections.

    Within a segment the result is strictly increasing and follows the camera's own differences. Repeats and small steps
    back are moved on by a millisecond; a missing PTS is taken to be one usual interval after the last; a wrapped
    counter goes on. A jump back, or a gap of more than `max_gap_s` and more than five usual intervals, begins a new
    segment.

    Args:
        max_gap_s: Longest gap that the student's state may cross.
        interval_s: Usual time between frames, until the camera has shown it.
        first_segment: Number of the first segment.
    """

    def __init__(
        self, *, max_gap_s: float = MAX_GAP_S, interval_s: float = DEFAULT_INTERVAL_S, first_segment: int = 0
    ) -> None:
        self._max_gap_s = max_gap_s
        self._interval_s = interval_s
        self._segment = first_segment
        self._begin = True
        self._used = False
        self._floating = False  # the segment's frames had no PTS so far
        self._origin_s = 0.0  # raw time of the segment's zero
        self._raw_s = 0.0  # the last frame's raw time, estimated where it was missing
        self._last_s = 0.0  # the last frame's repaired PTS

    @property
    def interval_s(self) -> float:
        """Usual time between frames."""
        return self._interval_s

    def restart(self, *, interval_s: float | None = None) -> None:
        """The next frame begins a new segment: reconnected, other resolution, stale frames left out."""
        self._begin = True
        if interval_s is not None and interval_s > 0:
            self._interval_s = interval_s

    def repair(self, raw_s: float | None) -> Stamp:
        """The place of the next frame, given the PTS it carries in seconds (None: it carries none)."""
        if self._begin:
            self._floating = raw_s is None
            return self._new_segment(0.0 if raw_s is None else raw_s)
        expected_s = self._last_s + self._interval_s
        if raw_s is None:
            raw_s = self._origin_s + expected_s
        elif self._floating:
            # So far no frame had a time. RTSP's first frame often has none, and the second says 1 / fps.
            self._floating = False
            if not 0 < raw_s - self._raw_s <= self._gap_s():
                self._origin_s, self._raw_s = raw_s - expected_s, raw_s - self._interval_s
        step_s = raw_s - self._raw_s
        if step_s < -BACK_TOLERANCE_S:
            wrap_s = next((w for w in WRAPS_S if 0 < step_s + w <= self._gap_s()), None)
            if wrap_s is None:
                return self._new_segment(raw_s)
            self._origin_s -= wrap_s
            step_s += wrap_s
        elif step_s > self._gap_s():
            return self._new_segment(raw_s)
        if step_s > 0:
            # A slow average: single doubled or halved intervals do not move the limit. The highest time seen stays the
            # reference, or a camera that keeps stepping back would drift for ever.
            self._interval_s += 0.1 * (step_s - self._interval_s)
            self._raw_s = raw_s
        pts_s = max(raw_s - self._origin_s, self._last_s + STEP_S)
        self._last_s = pts_s
        return Stamp(self._segment, pts_s)

    def _gap_s(self) -> float:
        return max(self._max_gap_s, GAP_INTERVALS * self._interval_s)

    def _new_segment(self, raw_s: float) -> Stamp:
        if self._used:
            self._segment += 1
        self._used, self._begin = True, False
        self._origin_s = self._raw_s = raw_s
        self._last_s = 0.0
        return Stamp(self._segment, 0.0)


__all__ = ["BACK_TOLERANCE_S", "DEFAULT_INTERVAL_S", "STEP_S", "WRAPS_S", "Stamp", "TimestampRepair"]

"""Events that operators confirmed or rejected, as evidence with human labels of the site itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamkd.media.clips import decode_clip
from streamkd.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from streamkd.bundle import StudentSpec
    from streamkd.config import EventsConfig
    from streamkd.store.records import JudgedClip
    from streamkd.types import UInt8Array

MOST_EVENTS = 60  # the newest ones: each is decoded and scored twice
LONGEST_S = 30.0
_SLACK_S = 1.0  # of a clip that is shorter than planned


@dataclass(frozen=True, slots=True)
class VerdictClip:
    """One judged event for the gate.

    Attributes:
        path: The event's clip.
        label: What it shows; None: nothing, the event was rejected.
        unit: Camera and hour: events of one hour are one piece of evidence.
        event_s: How long the event lasted.
        lead_s: What the clip shows before it, at least.
        tail_s: What the clip shows after it.
    """

    path: Path
    label: str | None
    unit: str
    event_s: float
    lead_s: float
    tail_s: float


def verdict_clips(judged: Iterable[JudgedClip], events: EventsConfig) -> list[VerdictClip]:
    """The clips that an operator has spoken about, as the gate takes them; very long events are left out."""
    return [
        VerdictClip(
            path=clip.path,
            label=clip.label if clip.verdict is Verdict.CONFIRMED else None,
            unit=f"{clip.camera_id} {clip.start_utc:%Y-%m-%dT%H}",
            event_s=clip.duration_s,
            lead_s=events.pre_roll_s,
            tail_s=events.post_roll_s,
        )
        for clip in judged
        if clip.duration_s <= LONGEST_S
    ]


def event_frames(clip: VerdictClip, spec: StudentSpec) -> UInt8Array | None:
    """The frames of the event itself, `[T, H, W, 3]` uint8, after as many as the student needs to warm up.

    A clip begins with the keyframe before its lead, so its end tells where the event is. One that was cut short does
    not: None.

    Raises:
        UnsupportedMediaError: The clip can't be decoded.
    """
    decoded = decode_clip(clip.path, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect)
    period_s = 1.0 / spec.rate_hz
    length_s = float(decoded.pts_s[-1]) + period_s
    if length_s < clip.lead_s + clip.event_s + clip.tail_s - _SLACK_S:
        return None
    ends_s = length_s - clip.tail_s
    begins_s = ends_s - max(clip.event_s, period_s) - spec.warmup_frames * period_s
    frames = decoded.frames[(decoded.pts_s >= begins_s) & (decoded.pts_s < ends_s)]
    return frames if len(frames) > spec.warmup_frames else None


__all__ = ["LONGEST_S", "MOST_EVENTS", "VerdictClip", "event_frames", "verdict_clips"]

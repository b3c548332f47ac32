"""What flows through streamkd: small frozen dataclasses, shared by every part."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]


class CameraState(StrEnum):
    """What is known about a camera; only `ONLINE` may be read as "analysed and nothing else is wrong"."""

    DISABLED = "disabled"
    CONNECTING = "connecting"  # first attempt, or again after a failure
    WARMING = "warming"  # frames arrive, the student's state is not warm yet: no events
    ONLINE = "online"
    STALLED = "stalled"  # connected, but no frame for longer than the camera's own rate allows
    FROZEN = "frozen"  # frames arrive, all the same picture
    BLACK = "black"  # frames arrive, (nearly) no light in them
    COVERED = "covered"  # frames arrive, no detail in them
    BACKING_OFF = "backing_off"  # failed; waiting for the next attempt


class FailureReason(StrEnum):
    """Why a connection failed or ended; a metric label, so the set is closed."""

    UNREACHABLE = "unreachable"  # name, route, refused
    AUTH = "auth"
    NOT_FOUND = "not_found"
    NO_VIDEO = "no_video"
    UNSUPPORTED = "unsupported"  # not a video, unknown codec
    TIMEOUT = "timeout"
    ENDED = "ended"  # the server closed the stream, or the file ended
    CORRUPT = "corrupt"
    ERROR = "error"


class DropReason(StrEnum):
    """Why a received frame was not analysed although it was due; a metric label, so the set is closed."""

    SUPERSEDED = "superseded"  # a newer frame took its slot in the mailbox
    STALE = "stale"  # older than the limit when its turn came
    CORRUPT = "corrupt"  # after loss, until the next keyframe


class EventKind(StrEnum):
    ACTION = "action"
    ANOMALY = "anomaly"


class Verdict(StrEnum):
    """What a person said about an event."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class Picture(Protocol):
    """A decoded frame at full size that can become a JPEG later, if anyone asks."""

    width: int
    height: int

    def jpeg(self, *, max_width_px: int = 1280, quality: int = 80) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One due frame of one camera, converted once for everything that looks at it.

    Attributes:
        camera_id: The camera (or the recording) it comes from.
        segment: Rises by one at every gap, reconnect or change of resolution; state never crosses segments.
        pts_s: Presentation time in seconds, repaired: strictly increasing within a segment, 0 at its first frame.
        received_s: Monotonic clock when the frame's packet had arrived, less what a live camera's frame was late by.
        rgb: `[H, W, 3]` uint8, what `StudentSpec.view_size` asks for: the student's input, or what its gaze looks at.
        grey: `[240, 360]` uint8, the size of the motion baseline.
        picture: The full-size frame, for snapshots.
        source_pts_s: The time that the source itself gave the frame; None if it gave none.
        caught_up: It was skipped when it came, as part of a still scene, and is analysed now because the scene woke up.
        same_as_s: PTS of an earlier frame of the segment from which this one, of a still scene, differs by noise only.
    """

    camera_id: str
    segment: int
    pts_s: float
    received_s: float
    rgb: UInt8Array
    grey: UInt8Array
    picture: Picture | None = None
    source_pts_s: float | None = None
    caught_up: bool = False
    same_as_s: float | None = None


@dataclass(frozen=True, slots=True)
class EventUpdate:
    """The present state of one event, idempotent: the highest `revision` of an `id` wins.

    `id` is a uuid5 of camera, worker epoch, segment, kind, label and start: a repeated delivery is the same event.
    """

    id: str
    revision: int
    camera_id: str
    kind: EventKind
    label: str
    start_utc: datetime
    end_utc: datetime | None  # None while it is open
    start_pts_s: float
    end_pts_s: float | None
    score: float  # highest smoothed score so far, 0..1
    model_version: str
    epoch: str = ""  # incarnation of the worker that saw it
    snapshot_jpeg: bytes | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        return self.end_utc is None


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What the live path says about one analysed frame."""

    camera_id: str
    segment: int
    pts_s: float
    warming: bool
    scores: dict[str, float]  # probability per class, raw (before smoothing)
    action: str  # the foreground class with the highest smoothed score
    action_score: float  # its smoothed score, 0..1
    forecast: tuple[dict[str, float], ...]  # probability per class at each horizon of the student
    anomaly_score: float | None  # None while the camera's own baseline is warming
    model_version: str
    updates: tuple[EventUpdate, ...] = ()
    action_opens_at: float | None = None  # the smoothed score at which `action` opens an event; None: it opens none
    anomaly_certified: bool = False  # whether the anomaly threshold has its finite-sample guarantee
    repeated: bool = False  # what the student said last, because the picture is still the one that it saw


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """A camera as its worker sees it now."""

    camera_id: str
    state: CameraState
    reason: FailureReason | None = None
    detail: str = ""  # one redacted line for people
    since_utc: datetime | None = None
    fps_received: float = 0.0
    fps_analysed: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    frame_age_s: float | None = None
    latency_ms: float | None = None  # packet received → result, last frame
    action: str = ""
    action_score: float = 0.0
    action_opens_at: float | None = None
    anomaly_score: float | None = None
    anomaly_certified: bool = False
    model_version: str = ""
    next_attempt_in_s: float | None = None


__all__ = [
    "CameraState",
    "CameraStatus",
    "DropReason",
    "EventKind",
    "EventUpdate",
    "FailureReason",
    "FloatArray",
    "Frame",
    "FrameResult",
    "Picture",
    "UInt8Array",
    "Verdict",
]

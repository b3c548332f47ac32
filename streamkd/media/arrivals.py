"""What a source says: of itself, of what comes compressed, of decoded frames; and its counts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

    _Packet = av.Packet[av.VideoStream]


class SourceKind(StrEnum):
    RTSP = "rtsp"
    HTTP = "http"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source is, as far as it says so before its first frame."""

    kind: SourceKind
    shown: str  # its address without secrets
    transport: str  # "tcp" or "udp" for RTSP, else ""
    format: str
    codec: str
    width: int
    height: int
    fps: float  # 0 if unknown
    duration_s: float | None  # of a recording that says so
    paced: bool  # it comes faster than it happened (a file, HLS segments), so whoever plays it live has to wait
    timed: bool  # its PTS are times; else they are those of arrival


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One decoded frame.

    Attributes:
        frame: The picture; stays valid after the source is closed.
        raw_pts_s: The PTS it carries in seconds, unrepaired; None if it carries none.
        arrived_s: Monotonic clock when its packet had arrived.
        waited_s: How long reading waited for the packet that completed it; about 0 for what had been lying ready.
        decode_ms: Time the decoder took.
    """

    frame: av.VideoFrame
    raw_pts_s: float | None
    arrived_s: float
    waited_s: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """One compressed picture as it came, not decoded yet.

    Attributes:
        packet: Of the container's video track; empty at the end of a recording: the decoder gives its rest.
        pts_s: Its PTS in seconds, unrepaired; None if it carries none, or none that means anything.
        size: Bytes.
        entry: Decoding can begin here, and nothing before it is needed for what comes after.
        arrived_s: Monotonic clock when it had arrived.
        waited_s: How long reading waited for it; about 0 for what had been lying ready.
    """

    packet: _Packet
    pts_s: float | None
    size: int
    entry: bool
    arrived_s: float
    waited_s: float


@dataclass(slots=True)
class SourceStats:
    """Counts of one connection, or of several."""

    packets: int = 0
    frames: int = 0  # decoded, those that were not given on included
    corrupt: int = 0  # decoded or not, but not given on: loss, until the next keyframe
    missing_pts: int = 0
    keyframe_at: deque[int] = field(default_factory=lambda: deque(maxlen=16))  # index of the frame


__all__ = ["Arrival", "DecodedFrame", "SourceInfo", "SourceKind", "SourceStats"]

"""Clips that are sent to be analysed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from streamkd.types import EventKind
from streamkd_service.api.schemas.base import described, example_of


class ClipFrameOut(BaseModel):
    """What the student says about one analysed frame."""

    model_config = described(pts_s=0.2, scores={"fight": 0.91, "normal": 0.09}, anomaly_score=None)

    pts_s: float = Field(description="seconds from the clip's start")
    scores: dict[str, float] = Field(description="probability of each class, before smoothing")
    anomaly_score: float | None = Field(description="null while there is too little history")


class ClipEventOut(BaseModel):
    """An event in an uploaded clip; it is not stored."""

    model_config = described(kind="action", label="fight", start_pts_s=0.6, end_pts_s=2.0, score=0.93)

    kind: EventKind
    label: str
    start_pts_s: float
    end_pts_s: float | None = Field(description="null: still open when the clip ends")
    score: float


class ClipOut(BaseModel):
    """What the live path would have said about an uploaded clip."""

    model_config = described(
        filename="clip.mp4",
        model_version="lite0-5hz-5",
        duration_s=2.0,
        frames=[example_of(ClipFrameOut)],
        events=[example_of(ClipEventOut)],
    )

    filename: str
    model_version: str
    duration_s: float
    frames: list[ClipFrameOut]
    events: list[ClipEventOut]


__all__ = ["ClipEventOut", "ClipFrameOut", "ClipOut"]

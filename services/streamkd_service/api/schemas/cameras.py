"""Cameras: their settings, and how they are."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from streamkd.config import MASK, CameraConfig
from streamkd.store.records import CameraOrigin
from streamkd.types import CameraState, FailureReason
from streamkd_service.api.schemas.base import Label, Name, described, described_input, example_of

_URL_CHARACTERS = 2048
_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
_AS_READ = "an address as it was read, mask included, changes nothing"
_MAY_BE_NULL = frozenset({"labels", "clip_url"})
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def checked_url(url: SecretStr) -> SecretStr:
    """A camera's address on the network; a file of this machine is for the YAML only.

    Raises:
        ValueError: Without the address in it, which may hold a password.
    """
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        usable = parts.scheme.lower() in _SCHEMES and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or len(text) > _URL_CHARACTERS or _CONTROL.search(text):
        raise ValueError("give an address like rtsp://user:password@host/path (rtsp, rtsps, http or https)")
    return url


def _whole_url(url: SecretStr) -> SecretStr:
    if MASK in url.get_secret_value():
        raise ValueError(f"the address holds the mask {MASK} instead of a secret; send the whole address")
    return checked_url(url)


class CameraIn(CameraConfig):
    """A new camera."""

    model_config = described_input(
        id="gate",
        url="rtsp://viewer:password@192.0.2.10/stream2",
        clip_url="rtsp://viewer:password@192.0.2.10/stream1",
        name="Main gate",
        group="outdoor",
        labels=["fight"],
        sensitivity=0.5,
        cooldown_s=10,
    )

    url: SecretStr = Field(description="rtsp://, rtsps:// or http(s)://; may carry user:password, never shown again")
    clip_url: SecretStr | None = Field(
        default=None,
        description="another stream of the same camera, from which event clips are cut, not decoded; null: from `url`",
    )
    name: Name = Field(default="", description="shown to people; the id if empty")
    group: Name = Field(default="default", description="cameras of one group are judged together by the gate")
    labels: tuple[Label, ...] | None = Field(
        default=None, max_length=100, description="action classes that open events; null: all"
    )
    cooldown_s: float = Field(
        default=10.0, ge=0, le=86_400, description="pause after an event before the same label opens again"
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: SecretStr) -> SecretStr:  # takes the place of the parent's
        return _whole_url(value)

    @field_validator("clip_url")
    @classmethod
    def _on_the_network(cls, value: SecretStr | None) -> SecretStr | None:  # the same
        return None if value is None else _whole_url(value)

    def config(self) -> CameraConfig:
        return CameraConfig.model_validate(self.model_dump())


class CameraPatchIn(BaseModel):
    """Fields that are left out stay as they are."""

    model_config = described_input(enabled=True, labels=["fight"], sensitivity=0.7, cooldown_s=30)

    name: Name | None = None
    url: SecretStr | None = Field(default=None, description=_AS_READ)
    clip_url: SecretStr | None = Field(default=None, description=f"null: clips are cut from `url`; {_AS_READ}")
    enabled: bool | None = None
    labels: tuple[Label, ...] | None = Field(default=None, max_length=100, description="null: all classes")
    anomalies: bool | None = None
    sensitivity: float | None = Field(default=None, ge=0, le=1)
    cooldown_s: float | None = Field(default=None, ge=0, le=86_400)
    group: Name | None = None
    transport: Literal["tcp", "udp"] | None = None
    open_timeout_s: float | None = Field(default=None, gt=0, le=60)
    read_timeout_s: float | None = Field(default=None, gt=0, le=60)
    decode: Literal["all", "keyframes"] | None = None
    gpu_decoding: Literal["off", "auto"] | None = None
    skip_loop_filter: Literal["none", "nonkey", "all"] | None = None
    skip_still: bool | None = None
    priority: int | None = Field(default=None, ge=-100, le=100)

    @field_validator("url", "clip_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else checked_url(value)

    @model_validator(mode="after")
    def _no_null(self) -> Self:
        nulls = sorted(name for name in self.model_fields_set - _MAY_BE_NULL if getattr(self, name) is None)
        if nulls:
            raise ValueError(f"{', '.join(nulls)}: null is no value; leave the field out to keep what is there")
        return self


class CameraStatusOut(BaseModel):
    """A camera as its worker sees it now; only `online` may be read as "analysed and nothing else is wrong"."""

    model_config = described(
        camera_id="gate",
        state="online",
        reason=None,
        detail="",
        since_utc="2026-01-01T12:00:00Z",
        fps_received=15.0,
        fps_analysed=5.0,
        width=1280,
        height=720,
        codec="h264",
        frame_age_s=0.08,
        latency_ms=21.4,
        action="fight",
        action_score=0.07,
        action_opens_at=0.68,
        anomaly_score=0.31,
        anomaly_certified=False,
        model_version="lite0-5hz-5",
        next_attempt_in_s=None,
    )

    camera_id: str
    state: CameraState
    reason: FailureReason | None = Field(default=None, description="why the last connection failed or ended")
    detail: str = Field(default="", description="one line for people")
    since_utc: datetime | None = Field(default=None, description="when this state began")
    fps_received: float = 0.0
    fps_analysed: float = 0.0
    width: int = Field(default=0, description="pixels")
    height: int = Field(default=0, description="pixels")
    codec: str = ""
    frame_age_s: float | None = Field(default=None, description="age of the newest analysed frame")
    latency_ms: float | None = Field(default=None, description="from the packet's arrival to the result, last frame")
    action: str = Field(default="", description="the class with the highest smoothed score")
    action_score: float = Field(default=0.0, description="its smoothed score, 0 to 1")
    action_opens_at: float | None = Field(
        default=None, description="the smoothed score at which it opens an event on this camera; null: it opens none"
    )
    anomaly_score: float | None = Field(default=None, description="null while the camera's own history is too short")
    anomaly_certified: bool = Field(
        default=False, description="whether its threshold rests on enough history for the false-alarm budget"
    )
    model_version: str = ""
    next_attempt_in_s: float | None = Field(default=None, description="while backing off: until the next attempt")


class CameraOut(BaseModel):
    """A camera: its settings, who owns it, and how it is."""

    model_config = described(
        id="gate",
        url="rtsp://***@192.0.2.10/stream2",
        clip_url="rtsp://***@192.0.2.10/stream1",
        name="Main gate",
        enabled=True,
        group="outdoor",
        labels=["fight"],
        anomalies=True,
        sensitivity=0.5,
        cooldown_s=10.0,
        transport="tcp",
        open_timeout_s=5.0,
        read_timeout_s=5.0,
        decode="all",
        gpu_decoding="off",
        skip_loop_filter="none",
        skip_still=True,
        priority=0,
        origin="api",
        worker_id="worker-0",
        status=example_of(CameraStatusOut),
    )

    id: str
    url: str = Field(description="user, password and query are masked")
    clip_url: str | None = Field(description="masked in the same way; null: event clips are cut from `url`")
    name: str
    enabled: bool
    group: str
    labels: list[str] | None = Field(description="null: all classes")
    anomalies: bool
    sensitivity: float
    cooldown_s: float
    transport: Literal["tcp", "udp"]
    open_timeout_s: float
    read_timeout_s: float
    decode: Literal["all", "keyframes"]
    gpu_decoding: Literal["off", "auto"]
    skip_loop_filter: Literal["none", "nonkey", "all"]
    skip_still: bool = Field(description="a still scene's frames are decoded when it wakes up, if at all")
    priority: int = Field(description="who keeps its rate longest when the machine can't do it all")
    origin: CameraOrigin = Field(description="`config`: owned by the YAML and read-only here")
    worker_id: str | None = None
    status: CameraStatusOut | None = None


__all__ = ["CameraIn", "CameraOut", "CameraPatchIn", "CameraStatusOut", "checked_url"]

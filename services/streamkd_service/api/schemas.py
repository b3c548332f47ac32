"""What comes in and goes out over HTTP, with an example each; the OpenAPI document is made of these."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from streamkd.config import MASK, CameraConfig
from streamkd.store.records import CameraOrigin, RefreshStatus, RefreshStep
from streamkd.types import CameraState, EventKind, FailureReason, Verdict

_URL_CHARACTERS = 2048
_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
_CONTROL = re.compile(r"[\x00-\x20\x7f]")

Name = Annotated[str, StringConstraints(max_length=100)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Note = Annotated[str, StringConstraints(max_length=1000)]


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


def _input(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]}, extra="forbid")


def _shown(model: type[BaseModel]) -> dict[str, Any]:
    """The example of another model."""
    extra: Any = model.model_config["json_schema_extra"]
    example: dict[str, Any] = extra["examples"][0]
    return example


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


class CameraIn(CameraConfig):
    """A new camera."""

    model_config = _input(
        id="gate",
        url="rtsp://viewer:password@192.0.2.10/stream1",
        name="Main gate",
        group="outdoor",
        labels=["fight"],
        sensitivity=0.5,
        cooldown_s=10,
    )

    url: SecretStr = Field(description="rtsp://, rtsps:// or http(s)://; may carry user:password, never shown again")
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
        if MASK in value.get_secret_value():
            raise ValueError(f"the address holds the mask {MASK} instead of a secret; send the whole address")
        return checked_url(value)

    def config(self) -> CameraConfig:
        return CameraConfig.model_validate(self.model_dump())


class CameraPatchIn(BaseModel):
    """Fields that are left out stay as they are."""

    model_config = _input(enabled=True, labels=["fight"], sensitivity=0.7, cooldown_s=30)

    name: Name | None = None
    url: SecretStr | None = Field(default=None, description="an address as it was read, mask included, changes nothing")
    enabled: bool | None = None
    labels: tuple[Label, ...] | None = Field(default=None, max_length=100, description="null: all classes")
    anomalies: bool | None = None
    sensitivity: float | None = Field(default=None, ge=0, le=1)
    cooldown_s: float | None = Field(default=None, ge=0, le=86_400)
    group: Name | None = None

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else checked_url(value)

    @model_validator(mode="after")
    def _no_null(self) -> Self:
        nulls = sorted(name for name in self.model_fields_set - {"labels"} if getattr(self, name) is None)
        if nulls:
            raise ValueError(f"{', '.join(nulls)}: null is no value; leave the field out to keep what is there")
        return self


class CameraStatusOut(BaseModel):
    """A camera as its worker sees it now; only `online` may be read as "analysed and nothing else is wrong"."""

    model_config = _example(
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
        model_version="shipped",
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

    model_config = _example(
        id="gate",
        url="rtsp://***@192.0.2.10/stream1",
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
        origin="api",
        worker_id="worker-0",
        status=_shown(CameraStatusOut),
    )

    id: str
    url: str = Field(description="user, password and query are masked")
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
    origin: CameraOrigin = Field(description="`config`: owned by the YAML and read-only here")
    worker_id: str | None = None
    status: CameraStatusOut | None = None


class EventLinks(BaseModel):
    """Paths of an event and its files; null where there is none."""

    model_config = _example(
        self="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7",
        snapshot="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7/snapshot.jpg",
        clip="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7/clip.mp4",
    )

    self: str
    snapshot: str | None
    clip: str | None = Field(description="there once the event is over and its clip is whole")


class EventOut(BaseModel):
    """An action or anomaly event."""

    model_config = _example(
        id="7c9e6679-7425-50de-944b-e07fc1f90ae7",
        camera_id="gate",
        kind="action",
        label="fight",
        start_utc="2026-01-01T12:00:00Z",
        end_utc="2026-01-01T12:00:07.4Z",
        score=0.93,
        model_version="shipped",
        revision=3,
        verdict=None,
        note="",
        has_snapshot=True,
        interrupted=False,
        has_clip=True,
        links=_shown(EventLinks),
    )

    id: str
    camera_id: str
    kind: EventKind
    label: str
    start_utc: datetime
    end_utc: datetime | None = Field(description="null while the event is open")
    score: float = Field(description="highest smoothed score so far, 0 to 1")
    model_version: str
    revision: int = Field(description="rises with every change; the highest of an id is the present one")
    verdict: Verdict | None = Field(description="what a person said about it")
    note: str
    has_snapshot: bool
    interrupted: bool = Field(description="closed because its worker ended, not because it was over")
    has_clip: bool
    links: EventLinks


class EventPageOut(BaseModel):
    """Events, newest first."""

    model_config = _example(
        events=[_shown(EventOut)],
        next_cursor=None,
    )

    events: list[EventOut]
    next_cursor: str | None = Field(description="`cursor=` of the next page; null on the last")


class EventPatchIn(BaseModel):
    """A person's word on an event; fields that are left out stay as they are."""

    model_config = _input(verdict="rejected", note="Children playing")

    verdict: Verdict | None = Field(default=None, description="null takes an earlier word back")
    note: Note | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("send verdict (confirmed, rejected or null), note, or both")
        return self


class ModelOut(BaseModel):
    """A model that serves, served, or could."""

    model_config = _example(
        version="20260101-120000-3f9a",
        parent="shipped",
        created_utc="2026-01-01T12:00:00Z",
        live=True,
        metrics={"roc_auc": 0.81, "accuracy": 0.74, "ece": 0.06, "n": 189},
    )

    version: str
    parent: str | None = Field(description="the version that it was distilled from")
    created_utc: datetime
    live: bool = Field(description="whether new frames go to it")
    metrics: dict[str, int | float] = Field(description="its figures on unseen sources, or as the gate found them")


class RefreshIn(BaseModel):
    """What a refresh may do differently this once."""

    model_config = _input(harvest_s=60, clips_per_camera=12)

    self_test: Literal["shuffled_labels"] | None = Field(
        default=None, description="a fire drill: trains on shuffled labels, which the gate has to refuse"
    )
    harvest_s: float | None = Field(default=None, gt=0, le=86_400, description="how long footage is collected")
    clips_per_camera: int | None = Field(default=None, ge=2, le=1000, description="clips kept of each camera")


class RefreshOut(BaseModel):
    """One renewal of the student: harvest, teach, distil, gate, swap."""

    model_config = _example(
        id="20260101-120000",
        status="running",
        step="distil",
        progress=0.4,
        started_utc="2026-01-01T12:00:00Z",
        ended_utc=None,
        parent_version="shipped",
        candidate_version=None,
        self_test=None,
        detail="epoch 4 of 8",
        gate=None,
        steps_s={"harvest": 60.2, "teach": 41.0},
    )

    id: str
    status: RefreshStatus
    step: RefreshStep
    progress: float = Field(description="0 to 1 within the step")
    started_utc: datetime
    ended_utc: datetime | None
    parent_version: str
    candidate_version: str | None
    self_test: str | None
    detail: str = Field(description="one line for people")
    gate: dict[str, Any] | None = Field(description="the gate's whole report")
    steps_s: dict[str, float] = Field(description="seconds spent in each finished step")


class WorkerOut(BaseModel):
    """A process of the live path."""

    model_config = _example(
        worker_id="worker-0",
        node="cam-server",
        alive=True,
        cameras=4,
        last_report_age_s=0.2,
        rss_bytes=310_000_000,
        cpu_s=812.5,
        restarts=0,
    )

    worker_id: str
    node: str
    alive: bool
    cameras: int
    last_report_age_s: float | None
    rss_bytes: int
    cpu_s: float
    restarts: int


class SystemOut(BaseModel):
    """The service as a whole."""

    model_config = _example(
        version="0.1.0",
        started_utc="2026-01-01T12:00:00Z",
        uptime_s=3600.0,
        ready=True,
        model_version="shipped",
        workers=[_shown(WorkerOut)],
        cameras_by_state={"online": 3, "backing_off": 1},
        open_events=0,
        store="sqlite",
        refresh_running=None,
    )

    version: str
    started_utc: datetime
    uptime_s: float
    ready: bool = Field(description="whether every worker has the model loaded")
    model_version: str
    workers: list[WorkerOut]
    cameras_by_state: dict[str, int]
    open_events: int
    store: str
    refresh_running: str | None = Field(description="id of the refresh that is running")


class ClipFrameOut(BaseModel):
    """What the student says about one analysed frame."""

    model_config = _example(pts_s=0.2, scores={"fight": 0.91, "normal": 0.09}, anomaly_score=None)

    pts_s: float = Field(description="seconds from the clip's start")
    scores: dict[str, float] = Field(description="probability of each class, before smoothing")
    anomaly_score: float | None = Field(description="null while there is too little history")


class ClipEventOut(BaseModel):
    """An event in an uploaded clip; it is not stored."""

    model_config = _example(kind="action", label="fight", start_pts_s=0.6, end_pts_s=2.0, score=0.93)

    kind: EventKind
    label: str
    start_pts_s: float
    end_pts_s: float | None = Field(description="null: still open when the clip ends")
    score: float


class ClipOut(BaseModel):
    """What the live path would have said about an uploaded clip."""

    model_config = _example(
        filename="clip.mp4",
        model_version="shipped",
        duration_s=2.0,
        frames=[_shown(ClipFrameOut)],
        events=[_shown(ClipEventOut)],
    )

    filename: str
    model_version: str
    duration_s: float
    frames: list[ClipFrameOut]
    events: list[ClipEventOut]


class HealthOut(BaseModel):
    """A short word on the state."""

    model_config = _example(status="ok")

    status: Literal["ok", "ready"]


__all__ = [
    "CameraIn",
    "CameraOut",
    "CameraPatchIn",
    "CameraStatusOut",
    "ClipEventOut",
    "ClipFrameOut",
    "ClipOut",
    "EventLinks",
    "EventOut",
    "EventPageOut",
    "EventPatchIn",
    "HealthOut",
    "ModelOut",
    "RefreshIn",
    "RefreshOut",
    "SystemOut",
    "WorkerOut",
    "checked_url",
]

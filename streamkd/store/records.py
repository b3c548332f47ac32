"""What the store hands out: plain frozen dataclasses, never ORM objects. Owned by the store, read by everyone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from streamkd.config import CameraConfig
from streamkd.types import EventKind, Verdict


class CameraOrigin(StrEnum):
    """Who owns a camera: the YAML's are read-only in the API."""

    CONFIG = "config"
    API = "api"


class RefreshStatus(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"  # promoted, and taken back by the watch after the swap
    REFUSED = "refused"  # the gate said no, "not enough evidence" included
    FAILED = "failed"
    CANCELLED = "cancelled"


class RefreshStep(StrEnum):
    HARVEST = "harvest"
    TEACH = "teach"
    DISTIL = "distil"
    GATE = "gate"
    SWAP = "swap"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class CameraRecord:
    config: CameraConfig
    origin: CameraOrigin


@dataclass(frozen=True, slots=True)
class EventRecord:
    id: str
    camera_id: str
    kind: EventKind
    label: str
    start_utc: datetime
    end_utc: datetime | None
    score: float
    model_version: str
    revision: int  # rises with every change, a person's verdict included
    verdict: Verdict | None
    note: str
    has_snapshot: bool
    interrupted: bool  # closed because its worker died, not because it was over
    has_clip: bool = False


@dataclass(frozen=True, slots=True)
class EventQuery:
    camera_id: str | None = None
    kind: EventKind | None = None
    label: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    min_score: float | None = None
    open: bool | None = None
    limit: int = 50  # 1..500
    cursor: str | None = None  # opaque; newest first


@dataclass(frozen=True, slots=True)
class EventPage:
    events: tuple[EventRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change, as the live stream sends it. `seq` rises by commit and is the SSE id."""

    seq: int
    topic: Literal["event", "camera", "model", "refresh"]
    at_utc: datetime
    data: dict[str, Any]  # JSON-ready, the same shape as the API's answer for the object, secrets masked
    action: Literal["created", "updated", "deleted"] = "updated"  # deleted: data is {"id": …, "deleted": true}


@dataclass(frozen=True, slots=True)
class ModelRecord:
    version: str
    path: str
    parent: str | None
    created_utc: datetime
    live: bool
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefreshRecord:
    id: str
    status: RefreshStatus
    step: RefreshStep
    progress: float  # 0..1 within the step
    started_utc: datetime
    ended_utc: datetime | None
    parent_version: str
    candidate_version: str | None
    self_test: str | None  # "shuffled_labels": a fire drill that the gate has to refuse
    detail: str  # one line for people
    gate: dict[str, Any] | None  # the gate's whole report, JSON-ready
    steps_s: dict[str, float] = field(default_factory=dict)  # seconds spent in each finished step


@dataclass(frozen=True, slots=True)
class JudgedClip:
    """An action event that a person has spoken about, and its clip."""

    camera_id: str
    label: str
    verdict: Verdict
    start_utc: datetime
    duration_s: float
    path: Path


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What one step of retention removed. `more`: call again, there is work left."""

    events: int = 0
    snapshots: int = 0
    clips: int = 0
    orphans: int = 0  # files that no event points to: left by a crash between file and commit
    bytes_freed: int = 0
    more: bool = False


__all__ = [
    "CameraOrigin",
    "CameraRecord",
    "Change",
    "EventPage",
    "EventQuery",
    "EventRecord",
    "JudgedClip",
    "ModelRecord",
    "PruneReport",
    "RefreshRecord",
    "RefreshStatus",
    "RefreshStep",
]

"""The service's inner contracts: what workers tell the Controller, and what the API may ask of it.

The API codes against `ControllerPort` only, so that its tests run on an in-process implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from streamkd.config import CameraConfig, EventsConfig, StudentConfig
from streamkd.store.records import CameraOrigin, Change, EventRecord, ModelRecord, RefreshRecord
from streamkd.types import CameraStatus, EventUpdate, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamkd.config import Config
    from streamkd.refresh.harvest import HarvestedClip
    from streamkd.store.repository import Repository

T = TypeVar("T")

# --- worker ↔ controller -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HistogramTotals:
    """A cumulative histogram: `counts[i]` observations ≤ `bounds[i]`, the last bound is +inf."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True, slots=True)
class CameraTotals:
    """Cumulative since the worker's incarnation began; never reset, never per connection."""

    camera_id: str
    received: int = 0
    decoded: int = 0
    analysed: int = 0
    repeated: int = 0  # of these, those of a still scene that showed nothing new: the last answer again
    stalls: int = 0
    gated: int = 0  # due frames of still scenes that the student did not look at when they came
    caught_up: int = 0  # of these, those that were analysed when the scene woke up
    dropped: dict[str, int] = field(default_factory=dict)  # by DropReason
    reconnects: dict[str, int] = field(default_factory=dict)  # by FailureReason


@dataclass(frozen=True, slots=True)
class WorkerTotals:
    worker_id: str
    epoch: str
    cameras: tuple[CameraTotals, ...]
    decode_ms: HistogramTotals
    inference_ms: HistogramTotals
    end_to_end_ms: HistogramTotals
    batch_size: HistogramTotals
    rss_bytes: int
    cpu_s: float
    slowed_cameras: int = 0  # analysed at a lower rate than the student's, because the machine can't do it all
    pressure: float = 0.0  # p95 latency of the last seconds as a share of the age at which frames are dropped


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """Sent a few times a second by each worker; also its heartbeat. Delivered at least once."""

    worker_id: str
    epoch: str
    sent_at_s: float
    assignment_revision: int  # the one it runs; -1: none yet
    model_version: str  # the version that answers now
    updates: tuple[EventUpdate, ...]
    statuses: tuple[CameraStatus, ...]
    totals: WorkerTotals
    node: str = ""  # name of its machine


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker shall do; complete, not a difference."""

    revision: int
    cameras: tuple[CameraConfig, ...]
    student: StudentConfig
    events: EventsConfig
    model_version: str
    bundle_path: str
    history_dir: str = ""  # where the cameras' anomaly histories are kept; empty: nowhere


@dataclass(frozen=True, slots=True)
class ReportReply:
    """The answer to a report, given after COMMIT: every update in the report is durable now.

    `accepted` is False for a stale epoch: the worker that gets it ends itself.
    `assignment` is None where the worker's revision is the present one.
    """

    accepted: bool
    assignment: Assignment | None


# --- controller → workers and jobs ---------------------------------------------------------------------------------


class WorkersPort(Protocol):
    """What the Controller asks of a worker directly; everything else goes by reports and assignments."""

    async def snapshot(self, worker_id: str, camera_id: str) -> bytes: ...

    async def harvest(
        self, worker_id: str, seconds: float, clip_s: float, per_camera: int, out_dir: Path
    ) -> list[HarvestedClip]: ...


class JobsPort(Protocol):
    """Long work in another process; `entry` is "package.module:function"."""

    async def run_job(
        self,
        entry: str,
        kwargs: dict[str, Any],
        progress: Callable[[str, float], None] | None = None,
        *,
        nice: int = 19,
    ) -> Any: ...

    def progressed(self, job_id: str, detail: str, fraction: float) -> None: ...


class RefreshHost(Protocol):
    """What a refresh, and the watch after it, ask of the Controller."""

    config: Config

    @property
    def jobs(self) -> JobsPort: ...

    @property
    def repository(self) -> Repository: ...

    @property
    def live_model(self) -> ModelRecord: ...

    async def db(self, call: Callable[[], T]) -> T: ...

    def announce(self) -> None: ...

    async def list_cameras(self) -> list[CameraView]: ...

    async def system(self) -> SystemView: ...

    async def harvest(
        self, worker_id: str, seconds: float, clip_s: float, per_camera: int, out_dir: Path
    ) -> list[HarvestedClip]: ...

    async def promote(self, version: str, reason: str) -> ModelRecord: ...

    async def rollback(self) -> ModelRecord: ...


# --- API ↔ controller ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CameraView:
    config: CameraConfig
    origin: CameraOrigin
    status: CameraStatus
    worker_id: str | None


@dataclass(frozen=True, slots=True)
class CameraPatch:
    """Keys of a camera's settings with their new values, as JSON has them; the others stay as they are."""

    changes: Mapping[str, Any] = field(repr=False)  # addresses have their secrets in it


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes after a seq. `reset`: the asked-for seq is older than what is kept; the client must read afresh."""

    reset: bool
    latest_seq: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    self_test: str | None = None  # "shuffled_labels"
    harvest_s: float | None = None
    clips_per_camera: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    worker_id: str
    node: str
    alive: bool
    cameras: int
    last_report_age_s: float | None
    rss_bytes: int
    cpu_s: float
    restarts: int
    slowed_cameras: int = 0  # see `WorkerTotals`


@dataclass(frozen=True, slots=True)
class SystemView:
    version: str
    started_utc: datetime
    uptime_s: float
    ready: bool
    model_version: str
    workers: tuple[WorkerView, ...]
    cameras_by_state: dict[str, int]
    open_events: int
    store: str  # "sqlite" or "postgresql"
    refresh_running: str | None
    overloaded: bool = False  # cameras are analysed at a lower rate, because the machine can't do it all


@dataclass(frozen=True, slots=True)
class ClipAnalysis:
    """What `POST /v1/infer` answers: a time and scores for each analysed frame, and the events."""

    model_version: str
    duration_s: float
    pts_s: tuple[float, ...]
    scores: tuple[dict[str, float], ...]
    anomaly_scores: tuple[float | None, ...]
    events: tuple[EventUpdate, ...]


class ControllerPort(Protocol):
    """Every call may raise `UnavailableError` while the Controller restarts."""

    async def list_cameras(self) -> list[CameraView]: ...

    async def get_camera(self, camera_id: str) -> CameraView: ...

    async def add_camera(self, config: CameraConfig) -> CameraView: ...

    async def patch_camera(self, camera_id: str, patch: CameraPatch) -> CameraView: ...

    async def delete_camera(self, camera_id: str) -> None: ...

    async def snapshot(self, camera_id: str) -> bytes: ...

    async def set_verdict(self, event_id: str, verdict: Verdict | None, note: str | None) -> EventRecord: ...

    async def changes_after(self, seq: int, timeout_s: float, limit: int = 500) -> ChangeBatch:
        """Wait up to `timeout_s` for changes newer than `seq`."""
        ...

    async def start_refresh(self, request: RefreshRequest) -> RefreshRecord: ...

    async def promote(self, version: str) -> ModelRecord: ...

    async def rollback(self) -> ModelRecord: ...

    async def system(self) -> SystemView: ...

    async def totals(self) -> list[WorkerTotals]:
        """The latest totals of every worker incarnation heard of in the last minutes."""
        ...

    async def infer(self, path: Path, filename: str) -> ClipAnalysis: ...

"""A Controller in one process: the real store, no Ray, no cameras. What would be live is set by the test."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from PIL import Image, ImageDraw

from streamkd.config import CameraConfig
from streamkd.errors import NotFoundError, UnavailableError
from streamkd.store import Repository
from streamkd.store.records import (
    CameraOrigin,
    CameraRecord,
    Change,
    EventRecord,
    ModelRecord,
    RefreshRecord,
    RefreshStatus,
    RefreshStep,
)
from streamkd.store.serialize import camera_json
from streamkd.types import CameraState, CameraStatus, EventKind, EventUpdate, Verdict
from streamkd_service.runtime.ports import (
    CameraPatch,
    CameraView,
    ChangeBatch,
    ClipAnalysis,
    HistogramTotals,
    RefreshRequest,
    SystemView,
    WorkerTotals,
    WorkerView,
)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORKER = "worker-0"
_POLL_S = 0.005
_EMPTY = HistogramTotals((float("inf"),), (0,), 0.0)


def jpeg(text: str = "", colour: tuple[int, int, int] = (60, 70, 90)) -> bytes:
    image = Image.new("RGB", (320, 180), colour)
    ImageDraw.Draw(image).text((20, 80), text, fill=(255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


class FakeController:
    """Implements `ControllerPort`. Set `error` to make every call fail, `infer_result` to say what a clip holds."""

    def __init__(self, repository: Repository, media_dir: Path) -> None:
        self.repository = repository
        self.media_dir = media_dir
        self.statuses: dict[str, CameraStatus] = {}
        self.pictures: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.ready = True
        self.workers: tuple[WorkerView, ...] = (WorkerView(WORKER, "here", True, 0, 0.1, 200_000_000, 3.0, 0),)
        self.patches: list[CameraPatch] = []
        self.asked: list[RefreshRequest] = []
        self.uploads: list[tuple[str, int]] = []
        self.upload_paths: list[Path] = []
        self.infer_result: ClipAnalysis | Exception = clip_analysis()
        self._events = 0

    # --- what a test does -------------------------------------------------------------------------------------------

    def add_yaml_camera(self, config: CameraConfig) -> None:
        self.repository.add_camera(config, CameraOrigin.CONFIG)

    def commit_event(self, camera_id: str = "gate", *, seconds: float | None = None, **fields: object) -> EventUpdate:
        """Commit one revision of an event; a new event unless `id` names one."""
        self._events += 1
        start = START + timedelta(seconds=self._events if seconds is None else seconds)
        update = EventUpdate(
            id=str(uuid5(NAMESPACE_URL, f"{camera_id}/{self._events}")),
            revision=1,
            camera_id=camera_id,
            kind=EventKind.ACTION,
            label="fight",
            start_utc=start,
            end_utc=None,
            start_pts_s=1.0,
            end_pts_s=None,
            score=0.9,
            model_version="v1",
        )
        update = replace(update, **fields)  # type: ignore[arg-type]
        self.repository.apply_updates([update], self.media_dir)
        return update

    def commit_status(self, status: CameraStatus) -> None:
        self.statuses[status.camera_id] = status
        record = self._record(status.camera_id)
        shown = camera_json(record.config, record.origin, status, WORKER)
        self.repository.add_changes([("camera", "updated", shown)])

    # --- ControllerPort ---------------------------------------------------------------------------------------------

    async def list_cameras(self) -> list[CameraView]:
        self._fail()
        return [self._view(record) for record in self.repository.list_cameras()]

    async def get_camera(self, camera_id: str) -> CameraView:
        self._fail()
        return self._view(self._record(camera_id))

    async def add_camera(self, config: CameraConfig) -> CameraView:
        self._fail()
        return self._view(self.repository.add_camera(config))

    async def patch_camera(self, camera_id: str, patch: CameraPatch) -> CameraView:
        self._fail()
        self.patches.append(patch)
        config = self._record(camera_id).config.stored() | dict(patch.changes)
        return self._view(self.repository.update_camera(CameraConfig.model_validate(config)))

    async def delete_camera(self, camera_id: str) -> None:
        self._fail()
        self.repository.delete_camera(camera_id)

    async def snapshot(self, camera_id: str) -> bytes:
        self._fail()
        self._record(camera_id)
        if camera_id not in self.pictures:
            raise UnavailableError(f"Camera {camera_id!r} has no picture yet.", hint="Wait until it is online.")
        return self.pictures[camera_id]

    async def set_verdict(self, event_id: str, verdict: Verdict | None, note: str | None) -> EventRecord:
        self._fail()
        return self.repository.set_verdict(event_id, verdict, note)

    async def changes_after(self, seq: int, timeout_s: float, limit: int = 500) -> ChangeBatch:
        ends_s = time.monotonic() + timeout_s
        while True:
            self._fail()
            reset, latest, changes = self.repository.changes_after(seq, limit)
            if reset or changes or time.monotonic() >= ends_s:
                return ChangeBatch(reset, latest, tuple[Change, ...](changes))
            await asyncio.sleep(_POLL_S)

    async def start_refresh(self, request: RefreshRequest) -> RefreshRecord:
        self._fail()
        self.asked.append(request)
        record = RefreshRecord(
            id=f"refresh-{len(self.asked)}",
            status=RefreshStatus.RUNNING,
            step=RefreshStep.HARVEST,
            progress=0.0,
            started_utc=START,
            ended_utc=None,
            parent_version="v1",
            candidate_version=None,
            self_test=request.self_test,
            detail="",
            gate=None,
        )
        return self.repository.create_refresh(record)

    async def promote(self, version: str) -> ModelRecord:
        self._fail()
        return self.repository.activate(version, "promoted")

    async def rollback(self) -> ModelRecord:
        self._fail()
        return self.repository.rollback()

    async def system(self) -> SystemView:
        self._fail()
        states = [view.status.state.value for view in await self.list_cameras()]
        live = self.repository.live_model()
        return SystemView(
            version="0.1.0",
            started_utc=START,
            uptime_s=60.0,
            ready=self.ready,
            model_version=live.version if live else "",
            workers=self.workers,
            cameras_by_state={state: states.count(state) for state in sorted(set(states))},
            open_events=self.repository.count_open(),
            store=self.repository.kind,
            refresh_running=None,
        )

    async def totals(self) -> list[WorkerTotals]:
        self._fail()
        return [WorkerTotals(WORKER, "epoch-1", (), _EMPTY, _EMPTY, _EMPTY, _EMPTY, 200_000_000, 3.0)]

    async def infer(self, path: Path, filename: str) -> ClipAnalysis:
        self._fail()
        self.uploads.append((filename, path.stat().st_size))  # noqa: ASYNC240 - a fake may wait
        self.upload_paths.append(path)
        if isinstance(self.infer_result, Exception):
            raise self.infer_result
        return self.infer_result

    # --- inside -----------------------------------------------------------------------------------------------------

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def _record(self, camera_id: str) -> CameraRecord:
        for record in self.repository.list_cameras():
            if record.config.id == camera_id:
                return record
        raise NotFoundError(f"Camera {camera_id!r} does not exist.", hint="GET /v1/cameras lists the known ones.")

    def _view(self, record: CameraRecord) -> CameraView:
        state = CameraState.CONNECTING if record.config.enabled else CameraState.DISABLED
        status = self.statuses.get(record.config.id, CameraStatus(record.config.id, state))
        return CameraView(record.config, record.origin, status, WORKER)


class RecordedMetrics:
    """Remembers what the API told it."""

    def __init__(self) -> None:
        self.totals: list[WorkerTotals] = []
        self.cameras: list[str] = []
        self.ready: bool | None = None
        self.changes: list[Change] = []
        self.stream_clients = 0

    def render(self) -> tuple[bytes, str]:
        return f"streamkd_workers {len(self.totals)}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"

    def fold(self, totals: Sequence[WorkerTotals]) -> None:
        self.totals = list(totals)

    def set_cameras(self, views: Sequence[CameraView]) -> None:
        self.cameras = [view.config.id for view in views]

    def set_system(self, view: SystemView) -> None:
        self.ready = view.ready

    def count(self, change: Change) -> None:
        self.changes.append(change)

    def set_stream_clients(self, clients: int) -> None:
        self.stream_clients = clients


def clip_analysis() -> ClipAnalysis:
    """A clip of two frames with one event."""
    event = EventUpdate(
        id="x",
        revision=1,
        camera_id="upload",
        kind=EventKind.ACTION,
        label="fight",
        start_utc=START,
        end_utc=None,
        start_pts_s=0.2,
        end_pts_s=0.4,
        score=0.8,
        model_version="v1",
    )
    scores = ({"fight": 0.7, "normal": 0.3}, {"fight": 0.8, "normal": 0.2})
    return ClipAnalysis("v1", 2.0, (0.0, 0.2), scores, (None, 0.4), (event,))


__all__ = ["START", "WORKER", "FakeController", "RecordedMetrics", "clip_analysis", "jpeg"]

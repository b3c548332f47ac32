"""What routes are given: the Controller, the read side of the store, metrics and the live streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Request

from streamkd.config import Config
from streamkd_service.api.stream import ChangeStore, Streams
from streamkd_service.runtime.ports import ControllerPort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamkd.store.records import Change, EventPage, EventQuery, EventRecord, ModelRecord, RefreshRecord
    from streamkd_service.runtime.ports import CameraView, SystemView, WorkerTotals


class ReadRepository(ChangeStore, Protocol):
    """What the API reads by itself; everything that writes goes through the Controller."""

    def list_events(self, query: EventQuery) -> EventPage: ...

    def get_event(self, event_id: str) -> EventRecord: ...

    def snapshot_path(self, event_id: str, media_dir: Path) -> Path: ...

    def clip_path(self, event_id: str, media_dir: Path) -> Path: ...

    def models(self) -> Sequence[ModelRecord]: ...

    def list_refreshes(self, limit: int) -> Sequence[RefreshRecord]: ...

    def get_refresh(self, refresh_id: str) -> RefreshRecord: ...


class Metrics(Protocol):
    """What the API tells the metrics and asks of them."""

    def render(self) -> tuple[bytes, str]: ...

    def fold(self, totals: Sequence[WorkerTotals]) -> None: ...

    def set_cameras(self, views: Sequence[CameraView]) -> None: ...

    def set_system(self, view: SystemView) -> None: ...

    def count(self, change: Change) -> None: ...

    def set_stream_clients(self, clients: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the routes; one object an app."""

    controller: ControllerPort
    repository: ReadRepository
    config: Config
    metrics: Metrics
    streams: Streams


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Given = Annotated[Services, Depends(services)]

__all__ = ["Given", "Metrics", "ReadRepository", "Services", "services"]

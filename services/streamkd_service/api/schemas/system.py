"""The service as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from streamkd_service.api.schemas.base import described
from streamkd_service.runtime.ports import WorkerView

_WORKER = {
    "worker_id": "worker-0",
    "node": "cam-server",
    "alive": True,
    "cameras": 4,
    "last_report_age_s": 0.2,
    "rss_bytes": 310_000_000,
    "cpu_s": 812.5,
    "restarts": 0,
    "slowed_cameras": 0,
}


@dataclass(frozen=True, config=described(**_WORKER))
class WorkerOut(WorkerView):
    """A process of the live path."""

    slowed_cameras: int = Field(description="cameras at a lower rate, because the machine can't do it all")


class SystemOut(BaseModel):
    """The service as a whole."""

    model_config = described(
        version="0.1.0",
        started_utc="2026-01-01T12:00:00Z",
        uptime_s=3600.0,
        ready=True,
        model_version="lite0-5hz-5",
        workers=[_WORKER],
        cameras_by_state={"online": 3, "backing_off": 1},
        open_events=0,
        store="sqlite",
        refresh_running=None,
        overloaded=False,
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
    overloaded: bool = Field(description="whether rates are lowered, because the machine can't do it all")


class HealthOut(BaseModel):
    """A short word on the state."""

    model_config = described(status="ok")

    status: Literal["ok", "ready"]


__all__ = ["HealthOut", "SystemOut", "WorkerOut"]

"""Models and refreshes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from streamkd.store.records import RefreshStatus, RefreshStep
from streamkd_service.api.schemas.base import described, described_input


class ModelOut(BaseModel):
    """A model that serves, served, or could."""

    model_config = described(
        version="20260101-120000-3f9a",
        parent="lite0-5hz-5",
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

    model_config = described_input(harvest_s=60, clips_per_camera=12)

    self_test: Literal["shuffled_labels"] | None = Field(
        default=None, description="a fire drill: trains on shuffled labels, which the gate has to refuse"
    )
    harvest_s: float | None = Field(default=None, gt=0, le=86_400, description="how long footage is collected")
    clips_per_camera: int | None = Field(default=None, ge=2, le=1000, description="clips kept of each camera")


class RefreshOut(BaseModel):
    """One renewal of the student: harvest, teach, distil, gate, swap."""

    model_config = described(
        id="20260101-120000",
        status="running",
        step="distil",
        progress=0.4,
        started_utc="2026-01-01T12:00:00Z",
        ended_utc=None,
        parent_version="lite0-5hz-5",
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


__all__ = ["ModelOut", "RefreshIn", "RefreshOut"]

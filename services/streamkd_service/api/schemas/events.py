"""Events: what was seen, and what a person says about it."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field, model_validator

from streamkd.types import EventKind, Verdict
from streamkd_service.api.schemas.base import Note, described, described_input, example_of


class EventLinks(BaseModel):
    """Paths of an event and its files; null where there is none."""

    model_config = described(
        self="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7",
        snapshot="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7/snapshot.jpg",
        clip="/v1/events/7c9e6679-7425-50de-944b-e07fc1f90ae7/clip.mp4",
    )

    self: str
    snapshot: str | None
    clip: str | None = Field(description="there once the event is over and its clip is whole")


class EventOut(BaseModel):
    """An action or anomaly event."""

    model_config = described(
        id="7c9e6679-7425-50de-944b-e07fc1f90ae7",
        camera_id="gate",
        kind="action",
        label="fight",
        start_utc="2026-01-01T12:00:00Z",
        end_utc="2026-01-01T12:00:07.4Z",
        score=0.93,
        model_version="lite0-5hz-5",
        revision=3,
        verdict=None,
        note="",
        has_snapshot=True,
        interrupted=False,
        has_clip=True,
        links=example_of(EventLinks),
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

    model_config = described(
        events=[example_of(EventOut)],
        next_cursor=None,
    )

    events: list[EventOut]
    next_cursor: str | None = Field(description="`cursor=` of the next page; null on the last")


class EventPatchIn(BaseModel):
    """A person's word on an event; fields that are left out stay as they are."""

    model_config = described_input(verdict="rejected", note="Children playing")

    verdict: Verdict | None = Field(default=None, description="null takes an earlier word back")
    note: Note | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("send verdict (confirmed, rejected or null), note, or both")
        return self


__all__ = ["EventLinks", "EventOut", "EventPageOut", "EventPatchIn"]

"""Events: read from the store, judged through the Controller."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from streamkd.errors import InputError
from streamkd.store.records import EventQuery
from streamkd.store.serialize import event_json
from streamkd.types import EventKind
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problem_response, problems
from streamkd_service.api.schemas import EventOut, EventPageOut, EventPatchIn

if TYPE_CHECKING:
    from streamkd.config import EventsConfig
    from streamkd.store.records import EventRecord

_DELIVERY_S = 15.0  # a clip may take so long from its last picture to its place
router = APIRouter(prefix="/v1/events", tags=["events"])
EventIdPath = Annotated[
    str, Path(description="id of the event", examples=["7c9e6679-7425-50de-944b-e07fc1f90ae7"], max_length=64)
]


@router.get(
    "",
    summary="Find events, newest first",
    response_model=EventPageOut,
    responses=problems(401, 403, 422, 500, 503),
)
async def list_events(
    given: Given,
    camera: Annotated[str | None, Query(description="id of a camera", examples=["gate"])] = None,
    kind: Annotated[EventKind | None, Query(description="action or anomaly")] = None,
    label: Annotated[str | None, Query(description="class of the action", examples=["fight"])] = None,
    after: Annotated[datetime | None, Query(description="began at or after; UTC unless it says otherwise")] = None,
    before: Annotated[datetime | None, Query(description="began before")] = None,
    min_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    open: Annotated[bool | None, Query(description="true: still going on; false: over")] = None,  # noqa: A002
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=500)] = None,
) -> dict[str, Any]:
    query = EventQuery(
        camera_id=camera,
        kind=kind,
        label=label,
        after=_utc(after),
        before=_utc(before),
        min_score=min_score,
        open=open,
        limit=limit,
        cursor=cursor,
    )
    page = await run_in_threadpool(given.repository.list_events, query)
    return {"events": [event_json(event) for event in page.events], "next_cursor": page.next_cursor}


@router.get(
    "/{event_id}", summary="One event", response_model=EventOut, responses=problems(401, 403, 404, 422, 500, 503)
)
async def get_event(event_id: EventIdPath, given: Given) -> dict[str, Any]:
    return event_json(await run_in_threadpool(given.repository.get_event, event_id))


@router.patch(
    "/{event_id}",
    summary="Confirm or reject an event",
    description="A person's word on an event, kept with it; null takes it back.",
    response_model=EventOut,
    responses=problems(401, 403, 404, 422, 500, 503),
)
async def patch_event(event_id: EventIdPath, patch: EventPatchIn, given: Given) -> dict[str, Any]:
    verdict = patch.verdict
    if "verdict" not in patch.model_fields_set:
        verdict = (await run_in_threadpool(given.repository.get_event, event_id)).verdict
    return event_json(await given.controller.set_verdict(event_id, verdict, patch.note))


@router.get(
    "/{event_id}/snapshot.jpg",
    summary="What the camera saw",
    response_class=FileResponse,
    responses={200: {"description": "A JPEG", "content": {"image/jpeg": {}}}, **problems(401, 403, 404, 422, 500, 503)},
)
async def event_snapshot(event_id: EventIdPath, given: Given) -> FileResponse:
    path = await run_in_threadpool(given.repository.snapshot_path, event_id, given.config.store.media_dir)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=30"})


@router.get(
    "/{event_id}/clip.mp4",
    summary="What happened, as video",
    description="The camera's own stream from before the event until after it, not encoded again. Ranges are served. "
    "While the event goes on, and until its clip is whole, 409 with `Retry-After`.",
    response_class=FileResponse,
    responses={
        200: {"description": "An MP4", "content": {"video/mp4": {}}},
        206: {"description": "The part that was asked for", "content": {"video/mp4": {}}},
        **problems(401, 403, 404, 409, 422, 500, 503),
    },
)
async def event_clip(event_id: EventIdPath, request: Request, given: Given) -> Response:
    event = await run_in_threadpool(given.repository.get_event, event_id)
    wait_s = clip_wait_s(event, given.config.events, datetime.now(UTC))
    if wait_s is not None:
        state = "is still going on" if event.end_utc is None else "has just ended, and its clip is being written"
        detail, hint = f"Event {event_id} {state}.", "Ask again after Retry-After seconds."
        return problem_response(request, 409, detail, hint, headers={"Retry-After": str(math.ceil(wait_s))})
    path = await run_in_threadpool(given.repository.clip_path, event_id, given.config.store.media_dir)
    name = f"{event.camera_id}-{event.start_utc:%Y%m%dT%H%M%SZ}-{event.label}.mp4"
    headers = {"Cache-Control": "private, max-age=3600"}
    return FileResponse(path, media_type="video/mp4", filename=name, content_disposition_type="inline", headers=headers)


def clip_wait_s(event: EventRecord, config: EventsConfig, now: datetime) -> float | None:
    """How long whoever wants the event's clip should wait; None where waiting does not help."""
    if event.has_clip or event.interrupted or not config.clips:
        return None
    whole_after_s = config.post_roll_s + _DELIVERY_S
    if event.end_utc is None:
        return whole_after_s
    left_s = whole_after_s - (now - event.end_utc).total_seconds()
    return None if left_s <= 0 else max(1.0, min(left_s, config.post_roll_s))


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise InputError(f"{moment.isoformat()} is no time in UTC.", hint="Send a later or an earlier one.") from None


__all__ = ["clip_wait_s", "router"]

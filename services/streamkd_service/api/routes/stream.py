"""The live stream."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse

from streamkd.errors import InputError
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems

router = APIRouter(prefix="/v1", tags=["events"])
_DESCRIPTION = """Server-sent events. `event` is the topic (`event`, `camera`, `model`, `refresh`), `data` the same JSON
as that resource's own answer, `id` the sequence number of the commit. A client that reconnects with `Last-Event-ID`
gets what it has missed, each change once. `reset` says that changes are missing (too old, or another database): read
the resources afresh. A client that reads too slowly is cut off; it may come back with its last id."""
_EXAMPLE = 'id: 4711\nevent: event\ndata: {"id":"7c9e6679-…","camera_id":"gate","label":"fight","score":0.93}\n\n'


@router.get(
    "/stream",
    summary="Follow events, cameras, models and refreshes live",
    description=_DESCRIPTION,
    response_class=EventSourceResponse,
    responses={
        200: {"description": "The stream", "content": {"text/event-stream": {"example": _EXAMPLE}}},
        **problems(401, 403, 422, 500),
    },
)
async def stream(
    given: Given,
    last_event_id: Annotated[str | None, Header(description="id of the last change that was seen")] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**62, description="the same, for a first connection")] = None,
    topics: Annotated[
        list[Literal["event", "camera", "model", "refresh"]] | None, Query(description="only these; may be repeated")
    ] = None,
) -> EventSourceResponse:
    return given.streams.response(_position(last_event_id, after), topics or ())


def _position(last_event_id: str | None, after: int | None) -> int | None:
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
        raise InputError("Last-Event-ID is not an id of this stream.", hint="Leave it out to start from now.")
    return int(last_event_id)


__all__ = ["router"]

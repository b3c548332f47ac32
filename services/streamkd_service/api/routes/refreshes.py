"""Refreshes: renewals of the student from the site's own footage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from starlette.concurrency import run_in_threadpool

from streamkd.store.serialize import refresh_json
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems
from streamkd_service.api.schemas import RefreshIn, RefreshOut
from streamkd_service.runtime.ports import RefreshRequest

router = APIRouter(prefix="/v1/refreshes", tags=["refreshes"])


@router.get(
    "",
    summary="List the refreshes, newest first",
    response_model=list[RefreshOut],
    responses=problems(401, 403, 422, 500, 503),
)
async def list_refreshes(given: Given, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[dict[str, Any]]:
    return [refresh_json(refresh) for refresh in await run_in_threadpool(given.repository.list_refreshes, limit)]


@router.post(
    "",
    status_code=202,
    summary="Start a refresh",
    description="Harvest, teach, distil, gate and, if the gate agrees, swap. One at a time: 409 while one runs.",
    response_model=RefreshOut,
    responses=problems(401, 403, 409, 422, 500, 503),
)
async def start_refresh(response: Response, given: Given, wish: RefreshIn | None = None) -> dict[str, Any]:
    asked = RefreshRequest(**(wish or RefreshIn()).model_dump())
    refresh = await given.controller.start_refresh(asked)
    response.headers["Location"] = f"/v1/refreshes/{refresh.id}"
    return refresh_json(refresh)


@router.get(
    "/{refresh_id}",
    summary="One refresh",
    response_model=RefreshOut,
    responses=problems(401, 403, 404, 422, 500, 503),
)
async def get_refresh(
    refresh_id: Annotated[str, Path(description="id of the refresh", max_length=100)], given: Given
) -> dict[str, Any]:
    return refresh_json(await run_in_threadpool(given.repository.get_refresh, refresh_id))


__all__ = ["router"]

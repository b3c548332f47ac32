"""Models: which there are, which is live, and changing that."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool

from streamkd.store.serialize import model_json
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems
from streamkd_service.api.schemas import ModelOut

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get(
    "",
    summary="List the models, newest first",
    response_model=list[ModelOut],
    responses=problems(401, 403, 500, 503),
)
async def list_models(given: Given) -> list[dict[str, Any]]:
    return [model_json(model) for model in await run_in_threadpool(given.repository.models)]


@router.post(
    "/{version}/promote",
    summary="Make a version live",
    description="Workers load and warm it beside the present one, then swap. No camera goes offline.",
    response_model=ModelOut,
    responses=problems(401, 403, 404, 409, 422, 500, 503),
)
async def promote(
    version: Annotated[str, Path(description="version of the model", examples=["lite0-5hz-5"], max_length=100)],
    given: Given,
) -> dict[str, Any]:
    return model_json(await given.controller.promote(version))


@router.post(
    "/rollback",
    summary="Go back to the version before",
    response_model=ModelOut,
    responses=problems(401, 403, 409, 500, 503),
)
async def rollback(given: Given) -> dict[str, Any]:
    return model_json(await given.controller.rollback())


__all__ = ["router"]

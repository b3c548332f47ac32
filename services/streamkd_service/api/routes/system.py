"""How the service is: for people, for supervisors, for Prometheus."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from streamkd.errors import StreamkdError, UnavailableError
from streamkd_service.api.auth import require_token, require_token_for_metrics
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems
from streamkd_service.api.schemas import HealthOut, SystemOut
from streamkd_service.runtime.ports import SystemView

READY_ANSWER_S = 2.0
router = APIRouter(tags=["system"])


@router.get(
    "/v1/system",
    summary="The service as a whole",
    response_model=SystemOut,
    responses=problems(401, 403, 500, 503),
    dependencies=[Depends(require_token)],
)
async def system(given: Given) -> dict[str, Any]:
    return asdict(await given.controller.system())


@router.get("/healthz", summary="Whether this process answers", response_model=HealthOut, responses=problems(500))
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Whether cameras can be analysed",
    description="200 when the Controller answers and every worker has the model loaded; else 503 says what is missing.",
    response_model=HealthOut,
    responses=problems(500, 503),
)
async def readyz(given: Given) -> dict[str, str]:
    try:
        view = await asyncio.wait_for(given.controller.system(), READY_ANSWER_S)
    except TimeoutError:
        raise UnavailableError(f"Not ready: the Controller has not answered for {READY_ANSWER_S:.0f} s.") from None
    except StreamkdError as error:
        raise UnavailableError(f"Not ready: the Controller does not answer: {error.message}") from error
    if not view.ready:
        raise UnavailableError(f"Not ready: {missing(view)}.", hint="Wait; if it stays, see the service's log.")
    return {"status": "ready"}


def missing(view: SystemView) -> str:
    """What keeps the service from being ready, in words."""
    if not view.workers:
        return "no worker has started"
    gone = [worker.worker_id for worker in view.workers if not worker.alive]
    silent = [worker.worker_id for worker in view.workers if worker.alive and worker.last_report_age_s is None]
    parts = []
    if gone:
        parts.append(f"{', '.join(gone)} not alive")
    if silent:
        parts.append(f"{', '.join(silent)} has not reported yet")
    return "; ".join(parts) or f"model {view.model_version} is not loaded by every worker"


@router.get(
    "/metrics",
    summary="Metrics in the text format of Prometheus",
    description="Open, or with the bearer token, as `api.metrics` says.",
    response_class=Response,
    responses={200: {"description": "Metrics", "content": {"text/plain": {}}}, **problems(401, 403, 500)},
    dependencies=[Depends(require_token_for_metrics)],
)
async def metrics(request: Request, given: Given) -> Response:
    await request.app.state.feed.refresh()
    body, content_type = given.metrics.render()
    return Response(body, media_type=content_type, headers={"Cache-Control": "no-store"})


__all__ = ["READY_ANSWER_S", "missing", "router"]

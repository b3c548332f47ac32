"""One uploaded clip through the same pipeline as the live cameras."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from streamkd.errors import UnavailableError
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems
from streamkd_service.api.schemas import ClipOut
from streamkd_service.api.uploads import FIELD, received_file
from streamkd_service.runtime.ports import ClipAnalysis

AT_ONCE = 2  # each may hold api.max_upload_mb of disk
router = APIRouter(prefix="/v1", tags=["clips"])
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {"type": "string", "format": "binary", "description": "MP4, MOV, MKV, WebM, AVI or MPEG-TS"}
                },
            }
        }
    },
}


@router.post(
    "/infer",
    summary="Analyse a clip",
    description="The clip goes up as a form, `curl -F file=@clip.mp4 …`; its scores and events come back. Nothing of "
    "it is kept. Size and length are limited by `api.max_upload_mb` and `api.max_upload_s`.",
    response_model=ClipOut,
    responses=problems(401, 403, 413, 415, 422, 500, 503),
    openapi_extra={"requestBody": _BODY},
)
async def infer(request: Request, given: Given) -> dict[str, Any]:
    slots: asyncio.Semaphore = request.app.state.upload_slots
    if slots.locked():
        raise UnavailableError(f"{AT_ONCE} uploads are being analysed already.", hint="Try again in a few seconds.")
    async with slots, received_file(request, given.config.api.max_upload_mb) as upload:
        return _clip_json(upload.filename, await given.controller.infer(upload.path, upload.filename))


def _clip_json(filename: str, analysis: ClipAnalysis) -> dict[str, Any]:
    frames = zip(analysis.pts_s, analysis.scores, analysis.anomaly_scores, strict=True)
    return {
        "filename": filename,
        "model_version": analysis.model_version,
        "duration_s": analysis.duration_s,
        "frames": [{"pts_s": pts_s, "scores": scores, "anomaly_score": anomaly} for pts_s, scores, anomaly in frames],
        "events": [
            {
                "kind": event.kind,
                "label": event.label,
                "start_pts_s": event.start_pts_s,
                "end_pts_s": event.end_pts_s,
                "score": event.score,
            }
            for event in analysis.events
        ],
    }


__all__ = ["AT_ONCE", "router"]

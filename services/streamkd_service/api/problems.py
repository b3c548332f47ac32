"""Every error as RFC 9457 problem details, and the same problems as they stand in the OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from streamkd.errors import (
    BundleError,
    ConflictError,
    DependencyError,
    InputError,
    NotFoundError,
    SourceError,
    StoreError,
    StreamkdError,
    TooLargeError,
    UnavailableError,
    UnsupportedMediaError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_log = structlog.get_logger("streamkd.api")

# The first match counts, so subclasses stand before their bases.
_STATUS: tuple[tuple[type[StreamkdError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (BundleError, 409),  # a model that can't be promoted as it is
    (DependencyError, 409),  # not as this service is installed
    (TooLargeError, 413),
    (UnsupportedMediaError, 415),
    (InputError, 422),
    (UnavailableError, 503),
    (SourceError, 503),
    (StoreError, 503),  # locked, full, away: nothing that the same request could not do later
)
# RFC 9110's names; Python's differ between its versions, and they are part of `type`.
_NEW_NAMES = {413: "Content Too Large", 422: "Unprocessable Content"}
_DESCRIPTIONS = {
    400: "The body is not JSON, or not a form, as its Content-Type says",
    401: "The bearer token is missing or wrong",
    403: "Not reachable from another web site",
    404: "It does not exist",
    405: "This path has no such method",
    409: "The request contradicts the present state",
    413: "Larger or longer than allowed",
    415: "Not a video, or not the content type that is asked for",
    422: "A field is missing or wrong; `errors` names each one",
    500: "A defect of the service; its log tells more",
    503: "A part of the service does not answer right now; try again after `Retry-After` seconds",
}


class ProblemField(BaseModel):
    """One wrong field of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"where": "body.sensitivity", "message": "Input should be less than or equal to 1"}]
        }
    )

    where: str = Field(description="the field, as a path: `body.sensitivity`, `query.limit`")
    message: str = Field(description="what is wrong with it; never its value")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:streamkd:problem:not-found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "Camera 'gate' does not exist.",
                    "hint": "GET /v1/cameras lists the known ones.",
                    "instance": "/v1/cameras/gate",
                    "request_id": "5f0c8a1de2b34c71",
                }
            ]
        }
    )

    type: str = Field(description="stable name of the kind of problem")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what was being done, with what, and why it failed")
    hint: str | None = Field(default=None, description="what to try next")
    instance: str = Field(description="the path that was asked for")
    request_id: str | None = Field(default=None, description="the same as X-Request-ID; the log knows it")
    errors: list[ProblemField] | None = Field(default=None, description="one entry a wrong field")


def problem_response(
    request: Request,
    status: int,
    detail: str,
    hint: str = "",
    errors: list[ProblemField] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The answer to a request that failed."""
    title = _title(status)
    problem = Problem(
        type=_urn(title),
        title=title,
        status=status,
        detail=detail,
        hint=hint or None,
        instance=request.url.path,
        request_id=getattr(request.state, "request_id", None),
        errors=errors,
    )
    extra = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S))
    return JSONResponse(problem.model_dump(exclude_none=True), status, extra, media_type=MEDIA_TYPE)


def internal_problem(request: Request) -> JSONResponse:
    """What the world learns of a defect: nothing but the number under which the log has it."""
    return problem_response(
        request, 500, "The service made an error of its own.", "Look for this request_id in the service's log."
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: the problems that it may answer with."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(status),
                }
            },
        }
        for status in sorted(statuses)
    }


def _example(status: int) -> dict[str, Any]:
    title = _title(status)
    example: dict[str, Any] = {
        "type": _urn(title),
        "title": title,
        "status": status,
        "detail": f"{_DESCRIPTIONS[status].split(';')[0]}.",
        "instance": "/v1/…",
        "request_id": "5f0c8a1de2b34c71",
    }
    if status == 422:
        example["errors"] = [{"where": "body.sensitivity", "message": "Input should be less than or equal to 1"}]
    return example


def _title(status: int) -> str:
    return _NEW_NAMES.get(status) or HTTPStatus(status).phrase


def _urn(title: str) -> str:
    return f"urn:streamkd:problem:{title.lower().replace(' ', '-')}"


def status_of(error: StreamkdError) -> int:
    """The HTTP status that fits an error; 500 for those that no client can do anything about."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


async def _on_streamkd_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StreamkdError)
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, StoreError):
        _log.error("request failed", path=request.url.path, kind=type(error).__name__, reason=str(error))
    return problem_response(request, status, error.message, error.hint)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail, hint = error.detail, ""
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail, hint = f"There is nothing at {request.url.path}.", "GET /openapi.json lists every path."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}."
        hint = "The Allow header names the methods that it takes."
    return problem_response(request, error.status_code, detail, hint, headers=dict(error.headers or {}))


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    # Neither `input` nor `ctx` is repeated: the value may be a camera's URL with its password.
    assert isinstance(error, RequestValidationError)
    errors = [
        ProblemField(
            where=".".join(str(part) for part in problem["loc"]),
            message=str(problem["msg"]).removeprefix("Value error, "),
        )
        for problem in error.errors()
    ]
    first = f"{errors[0].where}: {errors[0].message}" if errors else "the request is not valid"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return problem_response(request, 422, f"The request is not valid: {first}{more}.", errors=errors)


def install(app: FastAPI) -> None:
    """Register the handlers; a defect (any other exception) is answered by the outermost middleware."""
    app.add_exception_handler(StreamkdError, _on_streamkd_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "ProblemField",
    "install",
    "internal_problem",
    "problem_response",
    "problems",
    "status_of",
]

"""The outermost layer: a request id, one log line a request, safe headers, and no traceback for anyone outside."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.requests import ClientDisconnect, Request

from streamkd_service.api.problems import internal_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger("streamkd.api")
_GOOD_ID = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked for every few seconds, for ever
# The page is all of one origin; pictures and clips come as blobs because <img> and <video> can't send a token.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE_HEADERS = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class RequestLog:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = _request_id(request)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_SAFE_HEADERS]
            await send(message)

        began_s = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_noting_status)
            except ClientDisconnect:  # in the middle of an upload: nobody is left to answer
                status = status or 499
            except Exception:  # noqa: BLE001 - logged in full here, told to nobody outside
                _log.exception("request failed", method=request.method, path=request.url.path)
                if not status:
                    await internal_problem(request)(scope, receive, send_noting_status)
            finally:
                # The path only: a query may hold what is not meant for a log.
                write = _log.debug if request.url.path in _QUIET else _log.info
                duration_ms = round((time.monotonic() - began_s) * 1000, 1)
                write("request", method=request.method, path=request.url.path, status=status, duration_ms=duration_ms)


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if _GOOD_ID.match(given) else uuid.uuid4().hex[:16]


__all__ = ["RequestLog"]

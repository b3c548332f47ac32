"""The built-in pages: static files of this origin and nothing else; their data comes from /v1 with the user's token."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

WEB = Path(__file__).resolve().parents[2] / "web"
# Asked for again each time, so that a new release never meets an old script.
_HEADERS = {"Cache-Control": "no-cache"}
router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> FileResponse:
    return FileResponse(WEB / "index.html", headers=_HEADERS)


@router.get("/docs")
async def docs() -> FileResponse:
    """The OpenAPI document, readable: the usual viewers load their scripts from other hosts."""
    return FileResponse(WEB / "docs.html", headers=_HEADERS)


__all__ = ["WEB", "router"]

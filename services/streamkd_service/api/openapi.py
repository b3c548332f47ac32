"""The OpenAPI document: FastAPI's, with our problems in place of its validation errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from streamkd_service.api.problems import Problem, ProblemField

if TYPE_CHECKING:
    from fastapi import FastAPI

TAGS = [
    {"name": "cameras", "description": "What is watched, and how it is."},
    {"name": "events", "description": "What was seen: to query, to judge, to follow live."},
    {"name": "clips", "description": "Recordings through the same pipeline."},
    {"name": "models", "description": "Which student answers."},
    {"name": "refreshes", "description": "Renewal of the student from the site's own footage."},
    {"name": "system", "description": "Health and metrics."},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once, then kept."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
        )
        _, problem = models_json_schema(
            [(Problem, "serialization"), (ProblemField, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(problem["$defs"])
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


__all__ = ["TAGS", "describe"]

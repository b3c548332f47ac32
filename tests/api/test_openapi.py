"""The document is complete: whoever reads only it can use the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamkd.config import Config
from streamkd.store import Repository
from streamkd_service.api.app import create_app
from streamkd_service.api.problems import MEDIA_TYPE
from streamkd_service.api.schemas import CameraIn, CameraPatchIn, EventPatchIn, RefreshIn
from tests.api.fake_controller import FakeController, RecordedMetrics

PATHS = {
    "/v1/cameras": {"get", "post"},
    "/v1/cameras/{camera_id}": {"get", "patch", "delete"},
    "/v1/cameras/{camera_id}/snapshot.jpg": {"get"},
    "/v1/events": {"get"},
    "/v1/events/{event_id}": {"get", "patch"},
    "/v1/events/{event_id}/snapshot.jpg": {"get"},
    "/v1/events/{event_id}/clip.mp4": {"get"},
    "/v1/stream": {"get"},
    "/v1/infer": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{version}/promote": {"post"},
    "/v1/models/rollback": {"post"},
    "/v1/refreshes": {"get", "post"},
    "/v1/refreshes/{refresh_id}": {"get"},
    "/v1/system": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture
def document(repository: Repository, controller: FakeController, metrics: RecordedMetrics) -> dict[str, Any]:
    return create_app(controller, repository, Config(), metrics).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_path_and_method_is_there_and_no_other(document: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in document["paths"].items()} == PATHS


def test_every_operation_has_a_summary_and_one_known_tag(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    assert [name for name, about in operations(document) if not about.get("summary")] == []
    assert [
        name for name, about in operations(document) if len(about["tags"]) != 1 or about["tags"][0] not in tags
    ] == []


def test_every_problem_is_documented_as_one(document: dict[str, Any]) -> None:
    wrong = [
        f"{name} {status}"
        for name, about in operations(document)
        for status, answer in about["responses"].items()
        if int(status) >= 400 and set(answer.get("content", {})) != {MEDIA_TYPE}
    ]
    assert wrong == []


def test_every_operation_of_v1_documents_its_refusals(document: dict[str, Any]) -> None:
    without = [
        name
        for name, about in operations(document)
        if " /v1" in name and not {"401", "403", "500"} <= set(about["responses"])
    ]
    assert without == []


def test_operations_with_an_id_document_404(document: dict[str, Any]) -> None:
    without = [name for name, about in operations(document) if "{" in name and "404" not in about["responses"]]
    assert without == []


def test_operations_with_parameters_or_a_body_document_422(document: dict[str, Any]) -> None:
    without = [
        name
        for name, about in operations(document)
        if (about.get("parameters") or about.get("requestBody")) and "422" not in about["responses"]
    ]
    assert without == []


def test_every_object_has_an_example(document: dict[str, Any]) -> None:
    without = [
        name
        for name, schema in document["components"]["schemas"].items()
        if schema.get("type") == "object" and not schema.get("examples")
    ]
    assert without == []


@pytest.mark.parametrize("model", [CameraIn, CameraPatchIn, EventPatchIn, RefreshIn])
def test_the_examples_of_inputs_are_valid(model: Any) -> None:
    for example in model.model_config["json_schema_extra"]["examples"]:
        model.model_validate(example)


def test_every_guarded_operation_names_the_token(document: dict[str, Any]) -> None:
    assert [name for name, about in operations(document) if " /v1" in name and not about.get("security")] == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"].removeprefix("#/components/schemas/")
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    assert set(references(document)) <= set(schemas)

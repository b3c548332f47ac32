"""Examples in the OpenAPI document, and texts with a limit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(max_length=100)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Note = Annotated[str, StringConstraints(max_length=1000)]


def described(**values: Any) -> ConfigDict:
    """A model with this example."""
    return ConfigDict(json_schema_extra={"examples": [values]})


def described_input(**values: Any) -> ConfigDict:
    """A request's model with this example; unknown fields are refused."""
    return ConfigDict(json_schema_extra={"examples": [values]}, extra="forbid")


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """The example of another model."""
    extra: Any = model.model_config["json_schema_extra"]
    example: dict[str, Any] = extra["examples"][0]
    return example


__all__ = ["Label", "Name", "Note", "described", "described_input", "example_of"]

"""docs/reference/config.md, made from the configuration's own field descriptions, so that the two can't drift apart."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streamkd.config import CameraConfig, Config

_HEAD = """# Configuration

One YAML file, given as `streamkd serve --config cameras.yaml`. Every key is optional but a camera's `id` and `url`.
An unknown key or a wrong type is refused with its line. This page is made from the code: `streamkd config reference`.

- **Variables** override single keys outside `cameras`: `STREAMKD_API__PORT=9000`, `STREAMKD_LOG__FORMAT=json`.
- **Secrets** may be written `${NAME}` (from the environment) or `${file:/run/secrets/gate}` (a file's first line) in a
  camera's `url`, in `api.token` and in `store.url`. They are masked in logs, messages and answers.

```yaml
cameras:
  - id: gate
    url: rtsp://viewer:${GATE_PASSWORD}@192.0.2.10/stream1
  - id: lobby
    url: rtsp://192.0.2.11/main
    sensitivity: 0.7
api:
  host: 0.0.0.0
  token: ${STREAMKD_TOKEN}
```
"""


def render_reference() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, _section("cameras[]", CameraConfig)]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(_section(name, field.annotation))
    return "\n".join(parts)


def _section(name: str, model: type[BaseModel]) -> str:
    lines = [f"## `{name}`", "", (model.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in model.model_fields.items():
        lines.append(f"| `{key}` | {_type(field.annotation)} | {_default(field)} | {_meaning(field)} |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    if get_origin(annotation) is tuple:
        return f"list of {_type(arguments[0])}"
    if type(None) in arguments:
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None)) + " or null"
    return {SecretStr: "text (secret)", str: "text"}.get(
        annotation, getattr(annotation, "__name__", str(annotation)).lower()
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return "null" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, attribute)}"
        for bound in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(bound, attribute)
    ]
    text = field.description or ""
    return f"{text} ({', '.join(bounds)})" if bounds else text


__all__ = ["render_reference"]

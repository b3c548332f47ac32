"""Records as JSON: one shape for the API's answers and for the live stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from streamkd.config import CameraConfig
from streamkd.store.records import CameraOrigin, EventRecord, ModelRecord, RefreshRecord
from streamkd.types import CameraStatus

_CANDIDATE = "_candidate"  # the gate's figures come in pairs: of the parent, and of the candidate


def event_json(record: EventRecord) -> dict[str, Any]:
    """An event with the paths under which the API has its files; null where there is none."""
    own = f"/v1/events/{record.id}"
    links = {
        "self": own,
        "snapshot": f"{own}/snapshot.jpg" if record.has_snapshot else None,
        "clip": f"{own}/clip.mp4" if record.has_clip else None,
    }
    return _fields(record) | {"links": links}


def camera_json(
    config: CameraConfig, origin: CameraOrigin, status: CameraStatus | None = None, worker_id: str | None = None
) -> dict[str, Any]:
    """A camera's settings with its address masked, who owns it, and how it is (None: nobody has looked yet)."""
    found = {"origin": origin, "worker_id": worker_id, "status": None if status is None else asdict(status)}
    return {name: json_ready(value) for name, value in (config.shown() | found).items()}


def model_json(record: ModelRecord) -> dict[str, Any]:
    """Without the path: where a bundle lies on this machine is nobody's business outside. Metrics in short."""
    found = _fields(record)
    del found["path"]
    return found | {"metrics": figures(record.metrics)}


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a bundle's metrics, flat: its own numbers, those on held-out sources, and the gate's of it.

    What each clip scored, and how the training was set up, stays in the bundle.
    """
    gate = {
        name.removesuffix(_CANDIDATE): value
        for name, value in _numbers(metrics.get("gate")).items()
        if name.endswith(_CANDIDATE)
    }
    return _numbers(metrics) | _numbers(metrics.get("held_out")) | gate


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    return {
        str(name): value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def refresh_json(record: RefreshRecord) -> dict[str, Any]:
    return _fields(record)


def deleted_json(object_id: str) -> dict[str, Any]:
    """What the live stream says of an object that is gone."""
    return {"id": object_id, "deleted": True}


def json_ready(value: Any) -> Any:  # noqa: PLR0911 - one type a line
    """Plain JSON types only: times as ISO 8601 with `Z`, enums as their value, NaN and infinity as null.

    JSON knows no NaN: PostgreSQL refuses it, and so do browsers.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(json_ready(key)): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return json_ready(value.tolist())
    raise TypeError(f"{type(value).__name__} can't be stored as JSON")


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: json_ready(getattr(record, field.name)) for field in fields(record)}


__all__ = ["camera_json", "deleted_json", "event_json", "figures", "json_ready", "model_json", "refresh_json"]

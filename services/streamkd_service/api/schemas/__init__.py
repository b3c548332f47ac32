"""What comes in and goes out over HTTP, with an example each; the OpenAPI document is made of these."""

from streamkd_service.api.schemas.cameras import CameraIn, CameraOut, CameraPatchIn, CameraStatusOut, checked_url
from streamkd_service.api.schemas.clips import ClipEventOut, ClipFrameOut, ClipOut
from streamkd_service.api.schemas.events import EventLinks, EventOut, EventPageOut, EventPatchIn
from streamkd_service.api.schemas.models import ModelOut, RefreshIn, RefreshOut
from streamkd_service.api.schemas.system import HealthOut, SystemOut, WorkerOut

__all__ = [
    "CameraIn",
    "CameraOut",
    "CameraPatchIn",
    "CameraStatusOut",
    "ClipEventOut",
    "ClipFrameOut",
    "ClipOut",
    "EventLinks",
    "EventOut",
    "EventPageOut",
    "EventPatchIn",
    "HealthOut",
    "ModelOut",
    "RefreshIn",
    "RefreshOut",
    "SystemOut",
    "WorkerOut",
    "checked_url",
]

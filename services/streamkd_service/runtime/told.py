"""Which camera states the live stream has been told of. No I/O here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamkd.store.serialize import camera_json
from streamkd.types import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamkd_service.runtime.ports import CameraView


class ToldStates:
    """Remembers what was last told of each camera, so that only what is new is told."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}
        self.leaving = ""  # the camera that is being removed: that it is gone is the last word on it

    def news(self, views: Iterable[CameraView]) -> list[Any]:
        """Changes for the cameras whose state is another than last told; they count as told."""
        drafts: list[Any] = []
        for view in views:
            camera_id, status = view.config.id, view.status
            told = (status.state, status.reason, status.detail if status.state != CameraState.STALLED else "")
            if self._told.get(camera_id) != told and camera_id != self.leaving:
                self._told[camera_id] = told
                drafts.append(("camera", "updated", camera_json(view.config, view.origin, status, view.worker_id)))
        return drafts

    def forget(self, camera_id: str) -> None:
        self._told.pop(camera_id, None)


__all__ = ["ToldStates"]

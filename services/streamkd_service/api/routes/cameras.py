"""Cameras: those of the YAML are shown, those of the API are also changed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import SecretStr

from streamkd.config import MASK
from streamkd.errors import InputError
from streamkd.store.serialize import camera_json
from streamkd_service.api.dependencies import Given
from streamkd_service.api.problems import problems
from streamkd_service.api.schemas import CameraIn, CameraOut, CameraPatchIn
from streamkd_service.runtime.ports import CameraPatch, CameraView

router = APIRouter(prefix="/v1/cameras", tags=["cameras"])
CameraIdPath = Annotated[str, Path(description="id of the camera", examples=["gate"], max_length=63)]


@router.get("", summary="List the cameras", response_model=list[CameraOut], responses=problems(401, 403, 500, 503))
async def list_cameras(given: Given) -> list[dict[str, Any]]:
    return [_view_json(view) for view in await given.controller.list_cameras()]


@router.post(
    "",
    status_code=201,
    summary="Add a camera",
    description="It is connected to at once. Only network addresses: a file can be a camera in the YAML alone.",
    response_model=CameraOut,
    responses=problems(401, 403, 409, 422, 500, 503),
)
async def add_camera(camera: CameraIn, response: Response, given: Given) -> dict[str, Any]:
    view = await given.controller.add_camera(camera.config())
    response.headers["Location"] = f"/v1/cameras/{view.config.id}"
    return _view_json(view)


@router.get(
    "/{camera_id}", summary="One camera", response_model=CameraOut, responses=problems(401, 403, 404, 422, 500, 503)
)
async def get_camera(camera_id: CameraIdPath, given: Given) -> dict[str, Any]:
    return _view_json(await given.controller.get_camera(camera_id))


@router.patch(
    "/{camera_id}",
    summary="Change a camera",
    description="Any of its settings but the id. A camera of the YAML is changed there: 409.",
    response_model=CameraOut,
    responses=problems(401, 403, 404, 409, 422, 500, 503),
)
async def patch_camera(camera_id: CameraIdPath, patch: CameraPatchIn, given: Given) -> dict[str, Any]:
    changes = patch.model_dump(exclude_unset=True)
    for key in ("url", "clip_url"):
        address: SecretStr | None = changes.pop(key, None)
        if address is not None:
            changes |= await _changed_address(camera_id, key, address.get_secret_value(), given)
        elif key in patch.model_fields_set:
            changes[key] = None
    return _view_json(await given.controller.patch_camera(camera_id, CameraPatch(changes)))


@router.delete(
    "/{camera_id}",
    status_code=204,
    summary="Remove a camera",
    description="Its events stay. A camera of the YAML is removed there: 409.",
    responses=problems(401, 403, 404, 409, 422, 500, 503),
)
async def delete_camera(camera_id: CameraIdPath, given: Given) -> None:
    await given.controller.delete_camera(camera_id)


@router.get(
    "/{camera_id}/snapshot.jpg",
    summary="What the camera sees now",
    response_class=Response,
    responses={200: {"description": "A JPEG", "content": {"image/jpeg": {}}}, **problems(401, 403, 404, 422, 500, 503)},
)
async def camera_snapshot(camera_id: CameraIdPath, given: Given) -> Response:
    jpeg = await given.controller.snapshot(camera_id)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _view_json(view: CameraView) -> dict[str, Any]:
    return camera_json(view.config, view.origin, view.status, view.worker_id)


async def _changed_address(camera_id: str, key: str, address: str, given: Given) -> dict[str, str]:
    """The address to save; nothing where a client has sent back the masked one that it had read.

    Raises:
        InputError: It is masked and differs from the stored one in what can be seen.
    """
    if MASK not in address:
        return {key: address}
    if address == (await given.controller.get_camera(camera_id)).config.shown()[key]:
        return {}
    raise InputError(
        f"The {key} of camera {camera_id!r} can't be changed to a masked one.",
        hint=f"Send the whole address, with its secret in place of {MASK}, or leave {key} out.",
    )


__all__ = ["router"]

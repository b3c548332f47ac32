"""`streamkd explain`: where the student looked, as a picture."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkd.config import SHIPPED
from streamkd.errors import InputError, NotFoundError
from streamkd_service.cli.options import JsonOption, ModelOption, TokenOption, UrlOption
from streamkd_service.cli.train import resolve_model
from streamkd_service.needs import need_torch

if TYPE_CHECKING:
    from streamkd.bundle import Bundle

MAX_S = 60.0


def explain(
    what: Annotated[str, typer.Argument(metavar="EVENT|FILE", help="A video file, or the id of an event.")],
    out: Annotated[Path | None, typer.Option("--out", help="The picture. [NAME-explained.png]")] = None,
    label: Annotated[str | None, typer.Option(help="The class. [the event's; of a file, the likeliest action]")] = None,
    model: ModelOption = SHIPPED,
    start: Annotated[float, typer.Option(help="Leave out what comes before, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end. [start + 60 s]")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Draw where the student looked on the key frames of a recording or of an event's clip, as a PNG."""
    need_torch("streamkd explain", ("torch", "safetensors"))
    from streamkd.bundle import read_bundle

    bundle = read_bundle(resolve_model(model))
    if end is not None and end <= start:
        raise InputError(f"--end {end:g} is not after --start {start:g}.", hint="Leave --end out, or raise it.")
    span = (start, min(end if end is not None else start + MAX_S, start + MAX_S))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(what)
        name = path.stem
        if not path.is_file():
            name = what
            path, label = _event_clip(what, Path(folder), label, url, token)
        picture = out or Path(f"{name}-explained.png")
        told = _draw(bundle, path, picture, label, span)
    if as_json:
        print(json.dumps(told))
    else:
        times = ", ".join(f"{at:.1f} s ({prob:.2f})" for at, prob in zip(told["at_s"], told["probs"], strict=True))
        print(f"Wrote {told['picture']}: where {told['model']} saw {told['label']} at {times}.")


def _draw(bundle: Bundle, path: Path, picture: Path, label: str | None, span: tuple[float, float]) -> dict[str, Any]:
    from streamkd.distill.bundles import load_student
    from streamkd.engine.gaze import gaze_stretches
    from streamkd.evaluate.explain import draw, explain_clip
    from streamkd.media.clips import decode_clip

    spec = bundle.spec
    views = decode_clip(
        path, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect, start_s=span[0], end_s=span[1]
    ).frames
    student = load_student(bundle)
    # A map is about one window: that of the stretch in which the class was surest.
    stretches = gaze_stretches(views, spec)
    long = [one for one in stretches if len(one[1]) > spec.warmup_frames] or stretches[-1:]
    explained = [(first, frames, explain_clip(student, frames, label=label)) for first, frames in long]
    first, frames, found = max(explained, key=lambda one: max(one[2].probs))
    start_s = span[0] + first / spec.rate_hz
    try:
        draw(found, frames, spec.rate_hz, start_s=start_s).save(picture, "PNG")
    except OSError as error:
        raise InputError(
            f"{picture} can't be written: {error.strerror}.", hint="Name another file with --out."
        ) from error
    at_s = [round(start_s + t / spec.rate_hz, 3) for t in found.frames]
    probs = [round(prob, 4) for prob in found.probs]
    return {"picture": str(picture), "model": spec.version, "label": found.label, "at_s": at_s, "probs": probs}


def _event_clip(
    event: str, folder: Path, label: str | None, url: str | None, token: str | None
) -> tuple[Path, str | None]:
    """The clip of an event of the running service, and what it was told to be."""
    from streamkd_service.client import ApiClient
    from streamkd_service.settings import client_settings

    if not re.fullmatch(r"[0-9a-fA-F-]{32,36}", event):
        raise InputError(f"{event} is neither a file nor the id of an event.", hint="An id is a UUID.")
    path = folder / "clip.mp4"
    with ApiClient(*client_settings(url, token)) as client:
        known = client.get(f"/v1/events/{event}")
        try:
            client.download(f"/v1/events/{event}/clip.mp4", path)
        except NotFoundError as error:
            raise NotFoundError(
                f"Event {event} has no recorded clip; one picture alone shows no change.",
                hint="Turn event clips on, or name a recording and --start.",
            ) from error
    shown = label or (known["label"] if known["kind"] == "action" else None)
    return path, shown


__all__ = ["explain"]

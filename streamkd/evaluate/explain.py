"""Where the student looked: class-activation maps over the key frames of a clip.

The student reads change, not pictures: a logit is built on how a map of 10 by 10 places and 80 channels, and all
computed from it later differ from the frame before. So the map drawn is the product of gradient and activation of
that map, summed over the channels and over the two frames that make a change (HiResCAM: Draelos, Carin, 2020, the
elementwise form of Grad-CAM: Selvaraju et al., ICCV 2017); positive is what speaks for the class. Where the answer
rested on the linear reading of the same map, this is exactly the place's share of it. The same is done for the optical
flow that the student measures, and the two are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from streamkd.errors import InputError
from streamkd.evaluate.calibrate import scored_frames, softmax
from streamkd.models.student import EMBED_BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamkd.models.student import Student
    from streamkd.types import FloatArray, UInt8Array

KEY_FRAMES = 4
_PANEL_PX = 240
_CAPTION_PX = 18
_SHOW = 0.55  # opacity of the strongest place


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was looked at in one clip.

    Attributes:
        label: The class that is explained.
        frames: Indices of the key frames, in order of time.
        probs: Probability of the class on each key frame.
        maps: `[K, S, S]` float32, 0..1; 1 is the strongest place of the clip.
    """

    label: str
    frames: tuple[int, ...]
    probs: tuple[float, ...]
    maps: FloatArray


def explain_clip(
    student: Student, frames_rgb: UInt8Array, *, label: str | None = None, keys: int = KEY_FRAMES
) -> Explanation:
    """The key frames of a clip for a class, and where the student looked on each.

    Key frames are the frames after warm-up with the highest probability of the class.

    Args:
        student: In evaluation mode.
        frames_rgb: `[T, S, S, 3]` uint8 at the student's rate and size.
        label: The class; the most probable foreground class if None.
        keys: Number of key frames, at most.

    Raises:
        InputError: The student has no such class.
    """
    spec = student.spec
    if label is not None and label not in spec.classes:
        raise InputError(f"The student knows no class {label!r}.", hint=f"It knows {', '.join(spec.classes)}.")
    x = torch.from_numpy(np.ascontiguousarray(frames_rgb)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        front = student.front(x)[None]
        action = student.back(front)[0].action[0]
    probs = softmax(action.numpy() / spec.temperature)
    after = range(*scored_frames(spec.warmup_frames, len(probs)).indices(len(probs)))
    if label is None:
        label = max(spec.foreground, key=lambda name: probs[list(after), spec.classes.index(name)].max())
    target = spec.classes.index(label)
    chosen = sorted(sorted(after, key=lambda t: -probs[t, target])[:keys])
    maps = np.stack([_evidence(student, front, t, target, spec.input_size) for t in chosen])
    strongest = float(maps.max())
    scaled = np.asarray(maps / strongest if strongest > 0 else maps, dtype=np.float32)
    return Explanation(label, tuple(chosen), tuple(float(probs[t, target]) for t in chosen), scaled)


def _evidence(student: Student, front: Tensor, at: int, target: int, size: int) -> NDArray[np.float32]:
    """`[S, S]`, at least 0: gradient times activation for the class's lead over the others on frame `at`.

    Of the map that changes are seen on, the two frames whose difference is seen; of the flow, which counts from the
    last cut on, all frames up to `at`. Each counts by what it adds to the lead.
    """
    since = {student.backbone.blocks[EMBED_BLOCK]: max(0, at - 1)}  # part: the first of its frames that counts
    if student.motion is not None:
        since[student.motion.flow] = 0
    kept: dict[torch.nn.Module, Tensor] = {}

    def keep(module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> Any:
        value = output if isinstance(output, Tensor) else output[0]
        kept[module] = value.detach().requires_grad_(True)  # noqa: FBT003
        return kept[module] if isinstance(output, Tensor) else (kept[module], *output[1:])

    hooks = [part.register_forward_hook(keep) for part in since]
    try:
        with torch.enable_grad():
            logits = student.back(front[:, : at + 1])[0].action[0, at]
            others = torch.cat([logits[:target], logits[target + 1 :]])
            lead = logits[target] - others.logsumexp(dim=0)
            gradients = torch.autograd.grad(lead, [kept[part] for part in since])
    finally:
        for hook in hooks:
            hook.remove()
    evidence = np.zeros((size, size), np.float32)
    for (part, first), gradient in zip(since.items(), gradients, strict=True):
        shown = (gradient * kept[part].detach())[first : at + 1].sum(dim=(0, 1)).clamp(min=0)
        cells = (size / shown.shape[-1]) ** 2  # a coarse map says as much in fewer cells
        picture = Image.fromarray((shown / cells).numpy()).resize((size, size), Image.Resampling.BICUBIC)
        evidence += np.asarray(picture, dtype=np.float32).clip(min=0.0)
    return evidence


def draw(explanation: Explanation, frames_rgb: UInt8Array, rate_hz: float, *, start_s: float = 0.0) -> Image.Image:
    """The key frames above, the same with the map over them below, each with its time and probability.

    Args:
        explanation: Of the clip.
        frames_rgb: The clip, `[T, S, S, 3]` uint8.
        rate_hz: Of its frames.
        start_s: Time of its first frame.
    """
    columns = len(explanation.frames)
    sheet = Image.new("RGB", (columns * _PANEL_PX, 2 * _PANEL_PX + _CAPTION_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (t, prob) in enumerate(zip(explanation.frames, explanation.probs, strict=True)):
        left = column * _PANEL_PX
        frame = Image.fromarray(frames_rgb[t]).resize((_PANEL_PX, _PANEL_PX), Image.Resampling.BILINEAR)
        sheet.paste(frame, (left, _CAPTION_PX))
        sheet.paste(_overlay(frame, explanation.maps[column]), (left, _CAPTION_PX + _PANEL_PX))
        pen.text((left + 4, 3), f"{start_s + t / rate_hz:.1f} s  {explanation.label} {prob:.2f}", fill="black")
    return sheet


def _overlay(frame: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Blue to red over the picture, the more opaque the stronger."""
    strength = np.asarray(Image.fromarray(heat).resize(frame.size, Image.Resampling.BILINEAR)).clip(0.0, 1.0)[..., None]
    colour = np.concatenate(
        [(3 * strength - 1).clip(0, 1), 1 - np.abs(2 * strength - 1), (1 - 2 * strength).clip(0, 1)], axis=-1
    )
    opacity = _SHOW * np.sqrt(strength)
    mixed = np.asarray(frame, dtype=np.float32) * (1 - opacity) + 255.0 * colour * opacity
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


__all__ = ["KEY_FRAMES", "Explanation", "draw", "explain_clip"]

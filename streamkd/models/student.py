"""The streaming student: sees each frame once and keeps a small state per camera.

Time enters in four places, all causal: an eighth of the channels of five blocks comes from the previous frame (online
temporal shift: Lin, Gan, Han, "TSM", ICCV 2019), the head sees how pooled features and a low-resolution map changed
since the previous frame, a GRU remembers, and optical flow is measured and summed up (`streamkd.models.motion`). The
head sees change only, never appearance: a scene can be learnt by heart, and that does not carry over to another camera
(docs/results/student.md has the figures). `step` and `clip` are the same arithmetic: running `step` over T frames gives
what `clip` gives for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from streamkd.bundle import FocusSpec, MotionSpec, StudentSpec, TensorSpec
from streamkd.models.backbone import Backbone, block_specs
from streamkd.models.motion import GREY_CHANNELS, SHRINK, STATISTICS, Motion, pack, unpack

BACKBONE = "efficientnet-lite0"
CUT = 5  # blocks before it are never trained and know no time, so that their output can be cached
SHIFTED = (6, 9, 10, 12, 13)
SHIFT_SHARE = 8
EMBED_BLOCK = 7  # its output, 80 channels at stride 16, is the embedding
POOLED = 1280
HIDDEN = 64
MOVING_HIDDEN, MOVING_DROPOUT = 32, 0.2
STANDARD_LIMIT = 4.0  # standardised features are clipped here: the first frame has no previous one

FOCUS = FocusSpec(view_size=320)  # the window shows half the picture's height: docs/results/student.md
MOTION = MotionSpec()

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """What the student says; `N` is `B` for a step and `B, T` for a clip.

    Attributes:
        action: `[*N, C]` logits.
        forecast: `[*N, K, C]` logits of what will be said at each horizon.
        embedding: `[*N, D, h, w]`.
    """

    action: Tensor
    forecast: Tensor
    embedding: Tensor


def state_specs(input_size: int, *, motion: bool = True) -> tuple[TensorSpec, ...]:
    """The state of one camera: shifted channels, the previous features, the memory, and what motion is measured from.

    84 KiB at 160 pixels, 56 KiB without motion.
    """
    specs = block_specs(BACKBONE)
    strides = [2]
    for spec in specs:
        strides.append(strides[-1] * spec.stride)
    shifts = [
        TensorSpec(
            name=f"shift{index}",
            shape=(specs[index].c_in // SHIFT_SHARE, input_size // strides[index], input_size // strides[index]),
        )
        for index in SHIFTED
    ]
    side = input_size // strides[EMBED_BLOCK + 1]
    grey, cells = input_size // SHRINK, input_size // strides[CUT]
    moving = (
        TensorSpec(name="grey", shape=(1, grey, grey)),
        TensorSpec(name="flow", shape=(2, cells, cells)),
        TensorSpec(name="moving", shape=(STATISTICS + 2,)),
    )
    return (
        *shifts,
        TensorSpec(name="embed", shape=(specs[EMBED_BLOCK].c_out, side, side)),
        TensorSpec(name="pooled", shape=(POOLED,)),
        TensorSpec(name="memory", shape=(HIDDEN,)),
        *(moving if motion else ()),
    )


def student_spec(
    version: str,
    classes: tuple[str, ...],
    *,
    input_size: int = 160,
    rate_hz: float = 5.0,
    background: str = "normal",
    horizons_s: tuple[float, ...] = (1.0, 2.0),
    focus: FocusSpec | None = FOCUS,
    motion: MotionSpec | None = MOTION,
) -> StudentSpec:
    """The spec of a new, uncalibrated student."""
    state = state_specs(input_size, motion=motion is not None)
    embed = next(tensor.shape for tensor in state if tensor.name == "embed")
    return StudentSpec(
        version=version,
        backbone=BACKBONE,
        input_size=input_size,
        rate_hz=rate_hz,
        classes=classes,
        background=background,
        forecast_horizons_s=horizons_s,
        embedding_shape=(embed[0], embed[1], embed[2]),
        receptive_field_frames=0,
        warmup_frames=min(4, max(1, int(rate_hz))),
        gap_policy="reset",
        state=state,
        focus=focus,
        motion=motion,
    )


class Standardise(nn.Module):
    """`(x - mean) / deviation`, clipped; the statistics are set once from training features and then frozen."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, F]` to `[N, F]`."""
        return ((x - self.mean) / self.deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)


class Memory(nn.Module):
    """A GRU cell (Cho et al., 2014) of plain matrix products, which every export understands."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(size, 3 * size)
        self.recurrent = nn.Linear(size, 3 * size)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """`x [B, H]`, `memory [B, H]` to the next memory `[B, H]`."""
        update_x, reset_x, new_x = self.inputs(x).chunk(3, dim=-1)
        update_h, reset_h, new_h = self.recurrent(memory).chunk(3, dim=-1)
        update = torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        return update * memory + (1.0 - update) * new


class Student(nn.Module):
    """The network behind a `StudentSpec`."""

    def __init__(self, spec: StudentSpec, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.spec = spec
        n_classes, horizons = len(spec.classes), len(spec.forecast_horizons_s)
        self.backbone = Backbone(spec.backbone)
        local = 2 * block_specs(spec.backbone)[EMBED_BLOCK].c_out
        moving = 0 if spec.motion is None else STATISTICS
        self.changes = POOLED + local  # of the head's inputs; statistics of motion follow
        self.standardise = Standardise(self.changes + moving)
        self.dropout = nn.Dropout(dropout)
        self.direct = nn.Linear(self.changes, (1 + horizons) * n_classes)
        self.reduce = nn.Linear(local, HIDDEN)
        self.memory = Memory(HIDDEN)
        self.recall = nn.Linear(2 * HIDDEN, (1 + horizons) * n_classes)
        self.motion: Motion | None = None
        if spec.motion is not None:
            self.motion = Motion(spec.motion, spec.input_size, spec.rate_hz)
            self.moving = nn.Sequential(
                nn.Linear(moving, MOVING_HIDDEN),
                nn.ReLU(),
                nn.Dropout(MOVING_DROPOUT),
                nn.Linear(MOVING_HIDDEN, (1 + horizons) * n_classes),
            )

    def init_state(self, batch: int) -> State:
        """Zero state for `batch` cameras."""
        reference = self.direct.weight
        return {
            tensor.name: torch.zeros(batch, *tensor.shape, dtype=torch.float32, device=reference.device)
            for tensor in self.spec.state
        }

    def front(self, frames: Tensor) -> Tensor:
        """The part without time: `[N, 3, S, S]` RGB 0..255 to `[N, M, S/8, S/8]`.

        M: the first blocks' 40 channels; with motion, 16 more that are a small grey picture.
        """
        seen = self.backbone.front(frames, CUT)
        return seen if self.motion is None else torch.cat([seen, pack(self.motion.grey(frames))], dim=1)

    def step(self, frame: Tensor, state: State) -> tuple[StudentOutput, State]:
        """One frame of `B` cameras: `[B, 3, S, S]` RGB 0..255; the output's `N` is `B`."""
        raw, embedding, following = self.step_features(frame, state)
        action, forecast, following["memory"] = self.head(raw, state["memory"])
        return StudentOutput(action[:, 0], forecast[:, 0], embedding[:, 0]), following

    def clip(self, frames: Tensor, state: State | None = None) -> tuple[StudentOutput, State]:
        """`[B, T, 3, S, S]` RGB 0..255 at once; the output's `N` is `B, T`."""
        batch, time = frames.shape[:2]
        front = self.front(frames.flatten(0, 1))
        return self.back(front.reshape(batch, time, *front.shape[1:]), state)

    def features(self, front: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The head's raw input `[B, T, F]`, the embedding `[B, T, D, h, w]` and the state so far.

        Args:
            front: `[B, T, M, S/8, S/8]`, what `front` gave.
            state: State before the first of the T frames.
        """
        if self.motion is None:
            return self._features(front, None, state)
        grey = unpack(front[:, :, -GREY_CHANNELS:].flatten(0, 1))
        in_time = grey.reshape(*front.shape[:2], *grey.shape[1:])
        return self._features(front[:, :, :-GREY_CHANNELS], in_time, state)

    def step_features(self, frame: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """As `features` for one frame of `B` cameras, `[B, 3, S, S]` RGB 0..255; T is 1."""
        grey = None if self.motion is None else self.motion.grey(frame)[:, None]
        return self._features(self.backbone.front(frame, CUT)[:, None], grey, state)

    def _features(self, front: Tensor, grey: Tensor | None, state: State) -> tuple[Tensor, Tensor, State]:
        """`front [B, T, 40, S/8, S/8]`, `grey [B, T, 1, S/2, S/2]`."""
        time = front.shape[1]
        following: State = {}
        moving: list[Tensor] = []
        if self.motion is not None and grey is not None:
            statistics, after = self.motion(grey, state["grey"], state["flow"], state["moving"])
            following["grey"], following["flow"], following["moving"] = after
            moving.append(statistics)
        x = front.flatten(0, 1)
        embedding = x
        for index in range(CUT, len(self.backbone.blocks)):
            branch = None
            if index in SHIFTED:
                name = f"shift{index}"
                branch, following[name] = _shift(x, state[name], time)
            x = self.backbone.blocks[index](x, branch)
            if index == EMBED_BLOCK:
                embedding = x.float().unflatten(0, (-1, time))
        pooled = self.backbone.head(x).float().mean(dim=(2, 3)).unflatten(0, (-1, time))
        change, following["embed"] = _change(embedding, state["embed"])
        pooled_change, following["pooled"] = _change(pooled, state["pooled"])
        raw = torch.cat([pooled_change, change.mean(dim=(3, 4)), change.amax(dim=(3, 4)), *moving], dim=-1)
        return raw, embedding, following

    def back(self, front: Tensor, state: State | None = None) -> tuple[StudentOutput, State]:
        """Everything after the cut, over T frames: `front [B, T, M, S/8, S/8]`."""
        if state is None:
            state = self.init_state(front.shape[0])
        raw, embedding, following = self.features(front, state)
        action, forecast, following["memory"] = self.head(raw, state["memory"])
        return StudentOutput(action, forecast, embedding), following

    def head(self, raw: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From change to logits: a linear reading of this frame, what the memory makes of it, and what motion says.

        Args:
            raw: `[B, T, F]`.
            memory: `[B, H]` before the first of the T frames.

        Returns:
            Action logits `[B, T, C]`, forecast logits `[B, T, K, C]`, the memory after the last frame.
        """
        whole = self.standardise(raw)
        standard = self.dropout(whole[..., : self.changes])
        reduced = torch.relu(self.reduce(standard[..., POOLED:]))
        memories: list[Tensor] = []
        for index in range(raw.shape[1]):
            memory = self.memory(reduced[:, index], memory)
            memories.append(memory)
        logits = self.direct(standard) + self.recall(torch.cat([reduced, torch.stack(memories, dim=1)], dim=-1))
        if self.motion is not None:
            logits = logits + self.moving(whole[..., self.changes :])
        classes = len(self.spec.classes)
        forecast = logits[..., classes:].reshape(*raw.shape[:2], len(self.spec.forecast_horizons_s), classes)
        return logits[..., :classes], forecast, memory

    def trunk_parameters(self) -> list[nn.Parameter]:
        """What has ImageNet weights and lies behind the cut."""
        return [*self.backbone.blocks[CUT:].parameters(), *self.backbone.head.parameters()]

    def memory_parameters(self) -> list[nn.Parameter]:
        """The recurrent part of the head."""
        return [*self.reduce.parameters(), *self.memory.parameters(), *self.recall.parameters()]

    def moving_parameters(self) -> list[nn.Parameter]:
        """The reading of motion; empty without it."""
        return [] if self.motion is None else list(self.moving.parameters())

    def readouts(self) -> list[nn.Linear]:
        """The layers that give logits; their sum is what the student says."""
        last = [] if self.motion is None else [layer for layer in self.moving if isinstance(layer, nn.Linear)][-1:]
        return [self.direct, self.recall, *last]


def _shift(x: Tensor, previous: Tensor, time: int) -> tuple[Tensor, Tensor]:
    """Replace the first channels of `x [B*T, C, h, w]` by those of the frame before; returns the last ones too."""
    channels = previous.shape[1]
    if time == 1:
        # Channels as stretches of one row: OpenVINO's kernel that splits maps by channel takes far longer.
        row, had = x.flatten(1), previous.flatten(1)
        shifted = torch.cat([had.to(x.dtype), row[:, had.shape[1] :]], dim=1)
        return shifted.reshape(-1, *x.shape[1:]), row[:, : had.shape[1]].reshape(-1, *previous.shape[1:]).float()
    now = x[:, :channels].reshape(-1, time, *previous.shape[1:])
    before = torch.cat([previous[:, None].to(x.dtype), now[:, :-1]], dim=1)
    return torch.cat([before.flatten(0, 1), x[:, channels:]], dim=1), now[:, -1].float()


def _change(now: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """`|x_t - x_(t-1)|` over `[B, T, ...]`, and the last `x`."""
    before = torch.cat([previous[:, None], now[:, :-1]], dim=1)
    return (now - before).abs(), now[:, -1]


__all__ = ["BACKBONE", "CUT", "Standardise", "State", "Student", "StudentOutput", "state_specs", "student_spec"]

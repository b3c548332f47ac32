"""What moves, how fast and how uniformly: optical flow inside the student, summed up in a few numbers a frame.

The student measures flow between the last two frames by itself: one step of Lucas and Kanade ("An Iterative Image
Registration Technique", IJCAI 1981) on each of three scales, from coarse to fine (Bouguet, "Pyramidal Implementation of
the Lucas Kanade Feature Tracker", 2000), solved for every pixel at once. It has no weights: with a few hundred clips a
network does not learn flow better than arithmetic knows it (docs/results/distillation.md). Blows and falls show in how
the flow changes from frame to frame and in how it diverges and turns, less in how fast it is.

Everything is plain arithmetic that every export understands, and float in an int8 export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from streamkd.bundle import MotionSpec

PACK = 4  # the small picture travels as channels of a map with a quarter of its side
SHRINK = 2  # pixels of the student's input to one of the small picture
GREY_CHANNELS = PACK * PACK
MAPS, NORMS = 4, 5
STATISTICS = MAPS * NORMS
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_WINDOW = 5  # pixels of a scale; a box twice is nearly a Gaussian
_RIDGE = 1e-4  # of grey values 0..1: a flat window has no flow rather than a wild one
_FLOOR = 1e-3  # shares of the picture a second; what is slower stands still
_ROOT = 1e-12  # keeps the slope of a root finite at 0
# A cut, or a switched light: most of the new picture did not come from the old one. Of surveillance-fight, 0.5 %
# of the frames within clips are taken for one, and 97 % of the changes from a clip to one of another source.
_SCENE_LEVEL, _SCENE_SHARE = 12.0 / 255.0, 0.7


def pack(pictures: Tensor) -> Tensor:
    """Small grey pictures as channels of a smaller map: `[N, 1, h, h]` to `[N, 16, h/4, h/4]`."""
    return F.pixel_unshuffle(pictures, PACK)


def unpack(packed: Tensor) -> Tensor:
    """`[N, 16, h/4, h/4]` of `pack` to `[N, 1, h, h]`."""
    return F.pixel_shuffle(packed, PACK)


class SmallGrey(nn.Module):
    """`[N, 3, S, S]` RGB 0..255 to the small grey picture `[N, 1, S/2, S/2]`, -0.5..0.5; no weights.

    Centred, so that fp16 keeps more digits.
    """

    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        luma = torch.tensor(_LUMA)[None, :, None, None].expand(1, 3, SHRINK, SHRINK) / SHRINK**2
        self.register_buffer("shares", luma.contiguous(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        # In float also where networks run in half precision, or cuDNN in TF32: small differences would be lost.
        with torch.autocast(frames.device.type, enabled=False), torch.backends.cudnn.flags(enabled=False):
            return F.conv2d(frames.float(), self.shares, stride=SHRINK) * (1.0 / 255.0) - 0.5


class Flow(nn.Module):
    """Optical flow between small grey pictures; no weights.

    Written for how long it takes in an export: smoothing and doubling are products with small matrices, pictures are
    shrunk as channels of one, and places are summed up rather than put side by side. OpenVINO takes 0.4 to 0.55 of the
    time that pooling, interpolation and stacking take it.

    Args:
        side: Of the small picture.
        rate_hz: Of the frames.
    """

    def __init__(self, side: int, rate_hz: float) -> None:
        super().__init__()
        self._per_s = rate_hz / side
        self.fine, self.middle, self.coarse = _Scale(side), _Scale(side // 2), _Scale(side // 4)

    def forward(self, before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 1, h, h]` twice to the flow `[N, 2, h/4, h/4]` (right and down, shares of the picture a second).

        Also `[N]`: 1 where the picture has changed as a whole, else 0.
        """
        with torch.autocast(before.device.type, enabled=False):  # see SmallGrey
            fine = before, now
            middle = _shrink(before, 2), _shrink(now, 2)
            flow = self.coarse.step(_shrink(middle[0], 2), _shrink(middle[1], 2))
            for scale, (first, second) in ((self.middle, middle), (self.fine, fine)):
                flow = scale.doubled(flow)
                found = scale.warp(second, flow)
                flow = flow + scale.step(first, found)
            unlike = ((found - first).abs() > _SCENE_LEVEL).float().mean(dim=(1, 2, 3))
            right, down = _parts(_shrink(flow, PACK) * self._per_s, 2)
            return torch.cat([right, down], dim=1), (unlike > _SCENE_SHARE).float()


class _Scale(nn.Module):
    """One scale of the flow, with its constants; `side` in pixels.

    What belongs to several pictures of a frame (the flow's two, the five products) is in one tensor, one after the
    other, `[K N, 1, h, w]`: taking one out, or putting them together, then copies nothing.
    """

    grid: Tensor
    axes: Tensor
    smoothing: Tensor
    doubling: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self._side = side
        place = (torch.arange(side) + 0.5) / side * 2.0 - 1.0
        y, x = torch.meshgrid(place, place, indexing="ij")
        self.register_buffer("grid", torch.stack([x, y], dim=-1), persistent=False)
        self.register_buffer("axes", torch.eye(2), persistent=False)
        self.register_buffer("smoothing", _smoothing(side), persistent=False)
        self.register_buffer("doubling", _doubling(side // 2), persistent=False)

    def doubled(self, flow: Tensor) -> Tensor:
        """The flow of the next coarser scale, in pixels of this one."""
        return 2.0 * (self.doubling @ flow @ self.doubling.T)

    def warp(self, picture: Tensor, flow: Tensor) -> Tensor:
        """The picture looked up where the flow leads; outside, its border."""
        # Not by permuting the flow: OpenVINO's GridSample then reads places in the wrong order where shapes are fixed.
        right, down = (part[:, 0, :, :, None] for part in _parts(flow, 2))
        shift = right * self.axes[0] + down * self.axes[1]
        place = self.grid + shift * (2.0 / self._side)
        return F.grid_sample(picture, place, mode="bilinear", padding_mode="border", align_corners=False)

    def step(self, first: Tensor, second: Tensor) -> Tensor:
        """One Gauss-Newton step: the shift, `[2 N, 1, h, w]` in pixels, that explains how two pictures differ."""
        mean = F.pad((first + second) * 0.5, (1, 1, 1, 1), mode="replicate")
        dx = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) * 0.5
        dy = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) * 0.5
        dt = second - first
        sums = self.smoothing @ torch.cat([dx * dx, dx * dy, dy * dy, dx * dt, dy * dt]) @ self.smoothing.T
        xx, xy, yy, xt, yt = _parts(sums, 5)
        xx, yy = xx + _RIDGE, yy + _RIDGE
        over = 1.0 / (xx * yy - xy * xy)
        step = torch.cat([(xy * yt - yy * xt) * over, (xy * xt - xx * yt) * over])
        return step.clamp(-1.0, 1.0)  # linear only within about a pixel


def _parts(pictures: Tensor, count: int) -> list[Tensor]:
    """The `count` tensors `[N, 1, h, w]` that stand one after the other in one."""
    stacked = pictures.reshape(count, -1, *pictures.shape[1:])
    return [stacked[index] for index in range(count)]


def _shrink(pictures: Tensor, every: int) -> Tensor:
    """Means of squares of `every` pixels, `[N, C, h, w]`; as channels of one picture, which kernels are made for."""
    channels, height, width = pictures.shape[1:]
    small = F.avg_pool2d(pictures.reshape(1, -1, height, width), every)
    return small.reshape(-1, channels, height // every, width // every)


def _smoothing(side: int) -> Tensor:
    """The matrix `[h, h]` that smooths columns: twice the mean over the window, as much of it as there is."""
    index = torch.arange(side)
    near = ((index[:, None] - index).abs() <= _WINDOW // 2).float()
    box = near / near.sum(dim=1, keepdim=True)
    return box @ box


def _doubling(side: int) -> Tensor:
    """The matrix `[2 h, h]` that doubles columns, linearly between the centres of pixels and constant outside."""
    place = ((torch.arange(2 * side) + 0.5) / 2.0 - 0.5).clamp(0.0, side - 1.0)
    return (1.0 - (place[:, None] - torch.arange(side)).abs()).clamp(min=0.0)


def flow_statistics(flow: Tensor, before: Tensor) -> Tensor:
    """One frame's flow in numbers, `[N, 20]`.

    Of speed, of its change since the frame before, of divergence and of rotation: the logarithms of the mean, of the
    power means of 2, 4 and 8, and of the largest value. Power means are quantiles that every export understands.

    Args:
        flow: `[N, 2, h, w]`.
        before: That of the frame before.
    """
    turn = flow - before
    x, y = flow[:, 0], flow[:, 1]
    divergence = (x[:, 1:, 1:] - x[:, 1:, :-1]) + (y[:, 1:, 1:] - y[:, :-1, 1:])
    rotation = (y[:, 1:, 1:] - y[:, 1:, :-1]) - (x[:, 1:, 1:] - x[:, :-1, 1:])
    squares = [(flow * flow).sum(dim=1), (turn * turn).sum(dim=1), divergence * divergence, rotation * rotation]
    return torch.cat([_norms(one.flatten(1)) for one in squares], dim=1)


def _norms(squares: Tensor) -> Tensor:
    """Logarithms of power means 1, 2, 4, 8 and of the maximum, of the roots of `[N, K]`: `[N, 5]`."""
    absolute = (squares + _ROOT).sqrt()
    fourth = squares * squares
    means = [
        (part.mean(dim=1, keepdim=True) + _FLOOR**power).log() / power
        for part, power in ((absolute, 1), (squares, 2), (fourth, 4), (fourth * fourth, 8))
    ]
    return torch.cat([*means, (absolute.amax(dim=1, keepdim=True) + _FLOOR).log()], dim=1)


class Motion(nn.Module):
    """The student's sense of motion: flow, its statistics, and their fading mean since the last cut.

    The fading mean is kept as a sum and its weight, so that the first frames count fully. State: `grey`, the small
    picture of the frame before; `flow`, the flow up to it; `moving`, the sum `[20]`, its weight, and whether there was
    a frame before.

    Args:
        spec: Of the student's motion.
        input_size: S.
        rate_hz: Of the frames.
    """

    def __init__(self, spec: MotionSpec, input_size: int, rate_hz: float) -> None:
        super().__init__()
        self._keep = spec.keep
        self.grey = SmallGrey()
        self.flow = Flow(input_size // SHRINK, rate_hz)

    def forward(
        self, now: Tensor, grey: Tensor, flow: Tensor, moving: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """T frames: the mean statistics `[B, T, 20]`, and the three states after them.

        Args:
            now: `[B, T, 1, S/2, S/2]`, see `SmallGrey`.
            grey: `[B, 1, S/2, S/2]`.
            flow: `[B, 2, S/8, S/8]`.
            moving: `[B, 22]`.
        """
        time = now.shape[1]
        before = torch.cat([grey[:, None], now[:, :-1]], dim=1) if time > 1 else grey[:, None]
        flows, cuts = self.flow(before.flatten(0, 1), now.flatten(0, 1))
        flows, cuts = flows.unflatten(0, (-1, time)), cuts.reshape(-1, time, 1)
        total, weight, seen = moving[:, :-2], moving[:, -2:-1], moving[:, -1:]
        means: list[Tensor] = []
        for index in range(time):
            new, whole = flows[:, index], seen * (1.0 - cuts[:, index])  # 1: this flow is from a frame of this scene
            had = weight.clamp(max=1.0)[..., None, None]  # 0: the flow before was of no scene; it did not change then
            statistics = flow_statistics(new, had * flow + (1.0 - had) * new)
            total = whole * (self._keep * total + statistics)
            weight = whole * (self._keep * weight + 1.0)
            means.append(total / (weight + _ROOT))
            flow, seen = new, torch.ones_like(seen)
        return torch.stack(means, dim=1), (now[:, -1], flow, torch.cat([total, weight, seen], dim=1))


__all__ = [
    "GREY_CHANNELS",
    "SHRINK",
    "STATISTICS",
    "Flow",
    "Motion",
    "SmallGrey",
    "flow_statistics",
    "pack",
    "unpack",
]

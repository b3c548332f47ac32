"""Initialisation from the teacher: start from its weights instead of from noise.

Equal shapes: Sanh et al., "DistilBERT" (2019). Evenly spaced elements of larger tensors: Xu et al., "Initializing
Models with Larger Ones" (weight selection, ICLR 2024). Where teacher and student sum up the same thing in the same
numbers, seen better by the teacher, a layer that reads them can change owners once their units are made equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def spread(count: int, available: int) -> tuple[int, ...]:
    """`count` indices of `available`, evenly spaced, the first and the last among them.

    Raises:
        ValueError: More are wanted than there are.
    """
    if not 0 < count <= available:
        raise ValueError(f"{count} of {available} can't be chosen")
    if count == 1:
        return (0,)
    return tuple(round(i * (available - 1) / (count - 1)) for i in range(count))


def select_elements(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Evenly spaced slices of every axis that is longer than wanted."""
    for axis, wanted in enumerate(shape):
        index = torch.tensor(spread(wanted, tensor.shape[axis]), device=tensor.device)
        tensor = tensor.index_select(axis, index)
    return tensor


def matching_weights(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], *, shrink: bool = True
) -> dict[str, Tensor]:
    """What the teacher has for the student's names.

    Args:
        student: Names and shapes that are wanted.
        teacher: What there is.
        shrink: Take evenly spaced elements of a tensor that is larger on some axes; else only equal shapes count.

    Returns:
        Copies for the names that fit, ready for `load_state_dict(..., strict=False)`.
    """
    found: dict[str, Tensor] = {}
    for name, wanted in student.items():
        value = teacher.get(name)
        if value is None or value.dim() != wanted.dim():
            continue
        larger = all(have >= want for have, want in zip(value.shape, wanted.shape, strict=True))
        if value.shape == wanted.shape or (shrink and larger):
            found[name] = select_elements(value, tuple(wanted.shape)).to(wanted.dtype).clone()
    return found


def change_units(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """A layer that read standardised inputs, made to read them as they are.

    Of `x` it then says what `weight @ ((x - mean) / deviation) + bias` was.

    Args:
        weight: `[H, F]`.
        bias: `[H]`.
        mean: `[F]`.
        deviation: `[F]`, positive.

    Returns:
        Weight `[H, F]` and bias `[H]`.
    """
    scaled = weight / deviation
    return scaled, bias - scaled @ mean


__all__ = ["change_units", "matching_weights", "select_elements", "spread"]

"""What the live path asks of whatever runs the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamkd.bundle import StudentSpec
from streamkd.types import FloatArray, UInt8Array

State = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What the student says about one frame of each of `B` cameras.

    Attributes:
        action: `[B, C]` float32, calibrated probabilities: softmax(logits / spec.temperature).
        forecast: `[B, K, C]` float32, probabilities at each of the spec's K horizons.
        embedding: `[B, D, h, w]` float32; None from the live path's own step, where nobody asks for it.
    """

    action: FloatArray
    forecast: FloatArray
    embedding: FloatArray | None = None


class InferenceEngine(Protocol):
    """Runs one student. Used by one thread; holds no state of any camera."""

    @property
    def spec(self) -> StudentSpec: ...

    @property
    def version(self) -> str: ...

    def init_state(self) -> dict[str, FloatArray]:
        """The state of a camera that has seen nothing: one array per entry of `spec.state`, without a batch axis."""
        ...

    def warm(self) -> None:
        """Run every batch size once, so that no camera waits for a first time."""
        ...

    def step(self, rgb: UInt8Array, states: Sequence[State]) -> tuple[StepOutput, list[dict[str, FloatArray]]]:
        """Advance `B` cameras by one frame; a camera's answer does not depend on who shares the batch.

        Args:
            rgb: `[B, S, S, 3]` uint8.
            states: `B` states, each left by the same camera's frame before (or `init_state()`).

        Returns:
            The answers and the `B` next states, which own their memory.
        """
        ...


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities over the last axis, float32."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    raised = np.exp(shifted, dtype=np.float32)
    total: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
    return total


__all__ = ["InferenceEngine", "State", "StepOutput", "softmax"]

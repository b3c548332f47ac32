"""The states of many cameras under one version: an array per state tensor with a row per camera.

A batch gathers its cameras' rows into the network's inputs and scatters its outputs back, with a few calls for each
tensor, however many cameras there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamkd.bundle import TensorSpec
from streamkd.engine.base import InferenceEngine, State, StepOutput
from streamkd.types import FloatArray, UInt8Array


class StateRows:
    """States by row number; grows as cameras come, rows of cameras that left are used again.

    Args:
        tensors: The state tensors of the version.
        capacity: Rows to begin with.
    """

    def __init__(self, tensors: Sequence[TensorSpec], capacity: int = 8) -> None:
        self.arrays: dict[str, FloatArray] = {
            tensor.name: np.zeros((capacity, *tensor.shape), np.float32) for tensor in tensors
        }
        self._capacity = capacity
        self._free = list(range(capacity))[::-1]

    def take(self) -> int:
        """A row with zero state."""
        if not self._free:
            more = self._capacity
            self.arrays = {
                name: np.concatenate([array, np.zeros((more, *array.shape[1:]), np.float32)])
                for name, array in self.arrays.items()
            }
            self._free = list(range(self._capacity, self._capacity + more))[::-1]
            self._capacity += more
        row = self._free.pop()
        self.reset(row)
        return row

    def give_back(self, row: int) -> None:
        """Nobody needs the row any more."""
        self._free.append(row)

    def reset(self, row: int) -> None:
        """Zero state again."""
        for array in self.arrays.values():
            array[row] = 0.0

    def write(self, row: int, state: State) -> None:
        """Put a camera's state, without a batch axis, into its row."""
        for name, array in self.arrays.items():
            array[row] = state[name]

    def read(self, row: int) -> dict[str, FloatArray]:
        """A view of a row, by name."""
        return {name: array[row] for name, array in self.arrays.items()}


@runtime_checkable
class RowEngine(Protocol):
    """An engine that reads and writes rows itself."""

    @property
    def full_batch(self) -> int:
        """Rows of its largest run; more run in several, at no less a row."""
        ...

    def advance(
        self, frames: Sequence[UInt8Array], rows: StateRows, numbers: NDArray[np.intp]
    ) -> tuple[StepOutput, NDArray[np.bool_]]:
        """See the function `advance`."""
        ...


def advance(
    engine: InferenceEngine, frames: Sequence[UInt8Array], rows: StateRows, numbers: NDArray[np.intp]
) -> tuple[StepOutput, NDArray[np.bool_]]:
    """Advance the cameras of some rows by one frame each.

    Args:
        engine: The version.
        frames: `B` frames `[S, S, 3]` uint8.
        rows: The version's states.
        numbers: `[B]`, each camera's row.

    Returns:
        The answers, and `[B]`: whether answer and next state hold numbers only.
    """
    if isinstance(engine, RowEngine):
        return engine.advance(frames, rows, numbers)
    output, following = engine.step(np.stack(frames), [rows.read(int(row)) for row in numbers])
    for row, state in zip(numbers, following, strict=True):
        rows.write(int(row), state)
    return output, finite([output.action, output.forecast, *(array[numbers] for array in rows.arrays.values())])


def gather(arrays: Mapping[str, FloatArray], numbers: NDArray[np.intp], into: Mapping[str, Any]) -> None:
    """Copy rows into the first rows of equally named arrays."""
    for name, array in arrays.items():
        np.take(array, numbers, axis=0, out=into[name][: len(numbers)], mode="clip")


def finite(arrays: Sequence[FloatArray]) -> NDArray[np.bool_]:
    """Whether each row of some arrays `[B, …]` holds numbers only, `[B]`: NaN and infinity survive a sum."""
    sums = np.zeros(len(arrays[0]), np.float64)
    for array in arrays:
        sums += array.reshape(len(array), -1).sum(axis=1)
    return np.isfinite(sums)


__all__ = ["RowEngine", "StateRows", "advance", "finite", "gather"]

"""What engines have in common: batches run in pieces of a few sizes, each with memory of its own.

A slot is one batch size: arrays that frames and states are written into, a run, arrays that answers are read from.
Nothing is allocated for a batch but what is handed out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamkd.bundle import StudentSpec
from streamkd.engine.base import State, StepOutput, softmax
from streamkd.engine.rows import StateRows, finite, gather
from streamkd.types import FloatArray, UInt8Array


class Slot(Protocol):
    """One batch size, `N`."""

    @property
    def frame(self) -> UInt8Array:
        """`[N, S, S, 3]`, to be written to."""
        ...

    @property
    def state(self) -> Mapping[str, FloatArray]:
        """`[N, …]` of each state tensor, to be written to."""
        ...

    @property
    def output(self) -> Mapping[str, FloatArray]:
        """`[N, …]` of each output (logits, embedding, `next_…` of each state tensor), valid until the next run."""
        ...

    def run(self) -> None:
        """From `frame` and `state` to `output`."""
        ...


class SlottedEngine:
    """An `InferenceEngine`, and a `RowEngine`, over slots.

    Args:
        spec: Of the student.
        slots: Batch size to slot; 1 is among the sizes.
        run_cost: What a run costs beside its rows, in rows; see `pieces`.
    """

    def __init__(self, spec: StudentSpec, slots: Mapping[int, Slot], *, run_cost: float) -> None:
        self.spec = spec
        self._slots = dict(sorted(slots.items()))
        self._run_cost = run_cost
        self._names = tuple(tensor.name for tensor in spec.state)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.spec.version

    @property
    def full_batch(self) -> int:
        """Rows of the largest slot."""
        return max(self._slots)

    def init_state(self) -> dict[str, FloatArray]:
        """Zero state of one camera, without a batch axis."""
        return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.spec.state}

    def warm(self) -> None:
        """Run every batch size once."""
        for slot in self._slots.values():
            slot.run()

    def step(self, rgb: UInt8Array, states: Sequence[State]) -> tuple[StepOutput, list[dict[str, FloatArray]]]:
        """Advance `B` cameras by one frame, in pieces."""
        if len(rgb) != len(states) or not states:
            raise ValueError(f"{len(rgb)} frames do not go with {len(states)} states")
        outputs: list[StepOutput] = []
        following: list[dict[str, FloatArray]] = []
        for start, stop, slot in self._pieces(len(states)):
            output, after = self._step(slot, rgb[start:stop], states[start:stop])
            outputs.append(output)
            following.extend(after)
        return _joined(outputs), following

    def advance(
        self, frames: Sequence[UInt8Array], rows: StateRows, numbers: NDArray[np.intp]
    ) -> tuple[StepOutput, NDArray[np.bool_]]:
        """Advance the cameras of some rows by one frame each; see `streamkd.engine.rows`."""
        outputs, good = [], []
        for start, stop, slot in self._pieces(len(frames)):
            some = numbers[start:stop]
            for index, frame in enumerate(frames[start:stop]):
                slot.frame[index] = frame
            gather(rows.arrays, some, slot.state)
            slot.run()
            after = {name: slot.output[f"next_{name}"][: len(some)] for name in rows.arrays}
            for name, array in rows.arrays.items():
                array[some] = after[name]
            answers = self._answers(slot, len(some))
            outputs.append(answers)
            good.append(finite([answers.action, answers.forecast, *after.values()]))
        return _joined(outputs), good[0] if len(good) == 1 else np.concatenate(good)

    def _step(
        self, slot: Slot, rgb: UInt8Array, states: Sequence[State]
    ) -> tuple[StepOutput, list[dict[str, FloatArray]]]:
        batch = len(states)
        slot.frame[:batch] = rgb
        for name in self._names:
            buffer = slot.state[name]
            for row, state in enumerate(states):
                buffer[row] = state[name]
        slot.run()
        after = {name: slot.output[f"next_{name}"] for name in self._names}
        # A copy per camera: a view would keep the whole batch alive, and the next run writes into it.
        following = [{name: after[name][row].copy() for name in self._names} for row in range(batch)]
        answers = replace(self._answers(slot, batch), embedding=slot.output["embedding"][:batch].copy())
        return answers, following

    def _pieces(self, batch: int) -> Iterator[tuple[int, int, Slot]]:
        start = 0
        for size in pieces(batch, tuple(self._slots), self._run_cost):
            yield start, min(start + size, batch), self._slots[size]
            start += size

    def _answers(self, slot: Slot, batch: int) -> StepOutput:
        """The last run's answers; padding rows hold what an earlier batch left there: finite, and never read."""
        temperature = np.float32(self.spec.temperature)
        return StepOutput(
            action=softmax(slot.output["action"][:batch] / temperature),
            forecast=softmax(slot.output["forecast"][:batch] / temperature),
        )


def pieces(batch: int, sizes: Sequence[int], run_cost: float) -> list[int]:
    """The sizes in which a batch runs, one after the other: the largest that fit, and padding where that costs less.

    Args:
        batch: Its rows, at least 1.
        sizes: Ascending; the first is 1.
        run_cost: What a run costs beside its rows, in rows. Infinite: as few runs as can be (a GPU, where a run costs
            much and a row little).
    """
    cut: list[int] = []
    left = batch
    while left > 0:
        fitting = _fitting(left, sizes)
        larger = next((size for size in sizes if size > left), None)
        pads = larger is not None and larger - left < run_cost * (len(fitting) - 1)
        cut.append(larger if larger is not None and pads else fitting[0])
        left -= cut[-1]
    return cut


def _fitting(rows: int, sizes: Sequence[int]) -> list[int]:
    """So many rows in pieces of these sizes without padding, the largest first."""
    cut: list[int] = []
    for size in reversed(sizes):
        cut += [size] * ((rows - sum(cut)) // size)
    return cut


def output_shapes(spec: StudentSpec) -> dict[str, tuple[int, ...]]:
    """Shape of each of a student's outputs, without the batch axis."""
    return {
        "action": (len(spec.classes),),
        "forecast": (len(spec.forecast_horizons_s), len(spec.classes)),
        "embedding": spec.embedding_shape,
        **{f"next_{tensor.name}": tensor.shape for tensor in spec.state},
    }


def _joined(outputs: Sequence[StepOutput]) -> StepOutput:
    if len(outputs) == 1:
        return outputs[0]
    embeddings = [output.embedding for output in outputs if output.embedding is not None]
    return StepOutput(
        action=np.concatenate([output.action for output in outputs]),
        forecast=np.concatenate([output.forecast for output in outputs]),
        embedding=np.concatenate(embeddings) if embeddings else None,
    )


__all__ = ["Slot", "SlottedEngine", "output_shapes", "pieces"]

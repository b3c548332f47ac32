"""What a student costs, counted by PyTorch and not by us: parameters, and multiply-accumulates for one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from streamkd.models.student import Student

MAX_PARAMETERS = 4_500_000
MAX_MACS = 250_000_000


@dataclass(frozen=True, slots=True)
class StudentCost:
    """Of one student at its live size.

    Attributes:
        parameters: Trained or not, without buffers.
        macs: Multiply-accumulates a frame; the counter's floating-point operations, halved.
    """

    parameters: int
    macs: int

    @property
    def within_goal(self) -> bool:
        return self.parameters <= MAX_PARAMETERS and self.macs <= MAX_MACS


def student_cost(student: Student) -> StudentCost:
    """Count a student at its input size, one frame, state included."""
    size = student.spec.input_size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        student.step(torch.zeros(1, 3, size, size), student.init_state(1))
    return StudentCost(sum(one.numel() for one in student.parameters()), counter.get_total_flops() // 2)


__all__ = ["MAX_MACS", "MAX_PARAMETERS", "StudentCost", "student_cost"]

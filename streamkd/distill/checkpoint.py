"""Checkpoints of a run: written whole or not at all, and continued from only by the same run."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from streamkd.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run keeps its state, and what the run is.

    Attributes:
        path: The file.
        run: Fingerprint of recipe, seed and clips: another run's checkpoint is refused.
    """

    path: Path
    run: str

    def save(self, epoch: int, parts: Mapping[str, nn.Module | torch.optim.Optimizer], history: list[Any]) -> None:
        """After an epoch; the one before is replaced only when this one is complete.

        Raises:
            TrainingError: The disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        state = {name: part.state_dict() for name, part in parts.items()}
        try:
            with partial.open("wb") as file:
                torch.save({"run": self.run, "epoch": epoch, "history": history, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise
            raise TrainingError(
                f"The checkpoint {self.path} can't be written: the disk is full.",
                hint=f"Make room and continue with --resume; epoch {epoch} is lost, the one before is kept.",
            ) from error
        partial.replace(self.path)

    def restore(self, parts: Mapping[str, nn.Module | torch.optim.Optimizer]) -> tuple[int, list[Any]]:
        """The epoch to go on with and what was logged so far; `(0, [])` if there is no checkpoint.

        Raises:
            TrainingError: It belongs to another run, or is damaged.
        """
        if not self.path.is_file():
            return 0, []
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
            same = stored["run"] == self.run
            if same:
                for name, part in parts.items():
                    part.load_state_dict(stored["state"][name])
            epoch, history = int(stored["epoch"]), list(stored["history"])
        except Exception as error:
            raise TrainingError(
                f"The checkpoint {self.path} can't be read: {type(error).__name__}.",
                hint="Start anew without --resume.",
            ) from error
        if not same:
            raise TrainingError(
                f"The checkpoint {self.path} belongs to another recipe, seed or set of clips.",
                hint="Continue with what it was made with, or start anew without --resume.",
            )
        return epoch, history


__all__ = ["Checkpoint"]

"""Where a run's curves go besides its own report: TensorBoard, Weights & Biases, MLflow; each an optional package."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol

from streamkd.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class Tracker(Protocol):
    """Takes the figures of an epoch."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Once per epoch, from 0; a continued run tells all of them again."""

    def close(self) -> None:
        """Everything is on disk afterwards."""


class TensorBoard:
    """Event files that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 (the folder is)
        _need("tensorboard")
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

        # A continued run tells every epoch again: what an earlier process wrote is dropped by step.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=0)
        self._writer.add_text("recipe", f"```\n{settings}\n```", 0)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, epoch)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._run = _need("wandb").init(project="streamkd", name=name, dir=str(folder), config=dict(settings))

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=epoch)

    def close(self) -> None:
        self._run.finish()


class MlFlow:
    """A run of MLflow, in the folder unless MLFLOW_TRACKING_URI names a server."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._library = _need("mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self._library.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
            if self._library.get_experiment_by_name("streamkd") is None:  # else files go to the working directory
                files = (folder / "mlflow").resolve().as_uri()
                self._library.create_experiment("streamkd", artifact_location=files)
        self._library.set_experiment("streamkd")
        self._library.start_run(run_name=name)
        self._library.log_dict(dict(settings), "recipe.json")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self._library.log_metrics({key.replace(" ", "_"): value for key, value in values.items()}, step=epoch)

    def close(self) -> None:
        self._library.end_run()


_TRACKERS: dict[str, Callable[[Path, str, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MlFlow,
}


def open_trackers(names: Sequence[str], folder: Path, run: str, settings: Mapping[str, Any]) -> tuple[Tracker, ...]:
    """The trackers that a recipe names.

    Args:
        names: Of `tensorboard`, `wandb`, `mlflow`.
        folder: Of the run.
        run: Its name.
        settings: The recipe.

    Raises:
        DependencyError: One of them is not installed.
    """
    return tuple(_TRACKERS[name](folder, run, settings) for name in names)


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DependencyError(
            f"The recipe's tracking names {package}, which is not installed.",
            hint=f"Run: pip install {package}, or take it out of 'tracking'.",
        ) from error


__all__ = ["MlFlow", "TensorBoard", "Tracker", "WeightsAndBiases", "open_trackers"]

"""What shall run: the cameras, where each is placed, and what that means for a worker. No I/O here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import structlog

from streamkd.config import CameraConfig
from streamkd.errors import InputError, NotFoundError
from streamkd_service.runtime.assignment import SLACK, imbalance, place
from streamkd_service.runtime.ports import Assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamkd.bundle import StudentSpec
    from streamkd.config import Config
    from streamkd.store.records import CameraRecord, ModelRecord
    from streamkd_service.runtime.ports import CameraPatch

HISTORY_FOLDER = ".history"  # beside the models: it is learnt as they are
_FAR_TOO_MUCH = 0.5  # above its share; what moves is blind for some seconds, so less is left alone
_log = structlog.get_logger(__name__)


class Desired:
    """The desired state; every change of it raises `revision`, and workers with another one get a new assignment.

    Args:
        worker_ids: The workers at the beginning.
        first_revision: Above every revision of earlier lives.
        costs: What each of these cameras costs, in any unit.
    """

    def __init__(
        self,
        worker_ids: Sequence[str],
        first_revision: int,
        costs: Callable[[list[str]], Mapping[str, float]] = lambda names: dict.fromkeys(names, 1.0),
    ) -> None:
        self.revision = first_revision
        self.placement: dict[str, str] = {}  # camera → worker, enabled cameras only
        self.capacities: Mapping[str, float] = dict.fromkeys(worker_ids, 1.0)  # as the workers say
        self.strengths: Mapping[str, float] = {}  # worker → the share of that which it has shown, where it is less
        self._costs = costs
        self._records: dict[str, CameraRecord] = {}

    @property
    def records(self) -> list[CameraRecord]:
        return list(self._records.values())

    def record(self, camera_id: str) -> CameraRecord:
        """One camera.

        Raises:
            NotFoundError: There is none with this id.
        """
        record = self._records.get(camera_id)
        if record is None:
            raise NotFoundError(f"There is no camera {camera_id!r}.", hint="GET /v1/cameras lists them.")
        return record

    def known(self, camera_ids: Iterable[str]) -> list[CameraRecord]:
        """Those of the cameras that are here."""
        found = (self._records.get(camera_id) for camera_id in camera_ids)
        return [record for record in found if record is not None]

    def put(self, *records: CameraRecord) -> None:
        """Add cameras, or replace their settings; those that have a worker keep it."""
        self._records |= {record.config.id: record for record in records}
        self._place_new()

    def remove(self, camera_id: str) -> None:
        """Take a camera away; the others stay where they are."""
        self._records.pop(camera_id, None)
        self._place_new()

    def changed(self) -> None:
        """Something that assignments hold beside the cameras has changed: the model. Nothing moves."""
        self.revision += 1

    def move(self, cameras: Mapping[str, str], strengths: Mapping[str, float]) -> None:
        """Move these cameras to these workers, and think of workers as so much weaker than they say."""
        self.placement = self.placement | dict(cameras)
        self.strengths = dict(strengths)
        self.revision += 1

    def use(self, capacities: Mapping[str, float]) -> bool:
        """Place cameras on these workers, each as capable as it says; returns whether that changed anything.

        Args:
            capacities: Worker id to what it can bear, in any unit; at least one.
        """
        if capacities == self.capacities:
            return False
        self.capacities = dict(capacities)
        self._place()
        return True

    def rebalance(self) -> bool:
        """Place again where a worker has far more than its share; returns whether cameras have moved."""
        if imbalance(self._costs(self._running()), self._shown(), self.placement) <= _FAR_TOO_MUCH:
            return False
        before = self.placement
        self._place()
        return self.placement != before

    def _place_new(self) -> None:
        # Only `use` and `rebalance` move cameras that run: each is blind for some seconds. At first none runs yet.
        self._place(slack=math.inf if self.placement else SLACK)

    def _place(self, slack: float = SLACK) -> None:
        self.placement = place(self._costs(self._running()), self._shown(), self.placement, slack=slack)
        self.revision += 1

    def _shown(self) -> dict[str, float]:
        return {name: capacity * self.strengths.get(name, 1.0) for name, capacity in self.capacities.items()}

    def _running(self) -> list[str]:
        return [record.config.id for record in self._records.values() if record.config.enabled]

    def assignment(self, worker_id: str, config: Config, live: ModelRecord) -> Assignment:
        """All that a worker shall do."""
        mine: Iterable[CameraConfig] = (
            record.config for name, record in self._records.items() if self.placement.get(name) == worker_id
        )
        return Assignment(
            revision=self.revision,
            cameras=tuple(mine),
            student=config.student,
            events=config.events,
            model_version=live.version,
            bundle_path=live.path,
            history_dir=str(config.store.models_dir.resolve() / HISTORY_FOLDER),
        )


def unknown_labels(config: CameraConfig, spec: StudentSpec) -> tuple[str, ...]:
    """Labels that a camera asks for and that the student never gives."""
    return tuple(label for label in config.labels or () if label not in spec.foreground)


def warn_of_labels(records: Iterable[CameraRecord], spec: StudentSpec) -> None:
    """Say which cameras wait for events that the student that serves can't give."""
    for record in records:
        unknown = unknown_labels(record.config, spec)
        if unknown:
            known = ", ".join(spec.foreground)
            _log.warning("unknown labels", camera=record.config.id, labels=", ".join(unknown), student_knows=known)


def check_labels(config: CameraConfig, spec: StudentSpec) -> None:
    """Whether every label that a camera asks for can open an event.

    Raises:
        InputError: One can't.
    """
    unknown = unknown_labels(config, spec)
    if unknown:
        raise InputError(
            f"The student {spec.version} does not know {', '.join(map(repr, unknown))}.",
            hint=f"labels may name {', '.join(spec.foreground)}; null means all of them.",
        )


def patched(config: CameraConfig, patch: CameraPatch) -> CameraConfig:
    """A camera's settings with a patch's changes, checked like those of a new camera.

    Raises:
        InputError: They are wrong.
    """
    try:
        return CameraConfig.model_validate({**config.stored(), **patch.changes})
    except ValueError as error:
        raise InputError(f"Camera {config.id} can't be changed: {_first_problem(error)}.") from None


def _first_problem(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[2].partition(" [type=")[0].removeprefix("Value error, ") if len(lines) > 2 else lines[0]


__all__ = ["HISTORY_FOLDER", "Desired", "check_labels", "patched", "unknown_labels", "warn_of_labels"]

"""One camera's samples on /metrics with everything but the values written already.

A page of a thousand cameras has some thirty thousand samples, whose names and labels are the same at every scrape:
they are put together once a camera, and forgotten with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkd.types import CameraState, DropReason, FailureReason
from streamkd_service.exposition import Family, number, series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from streamkd.types import CameraStatus
    from streamkd_service.totals import Series

Kind = tuple[str, str]  # of an event: kind, label
_Row = tuple[tuple[str, "Series"], ...]  # samples of one camera in one family: as it begins, what it shows

_COUNTERS = {
    "received": ("frames_received", "Frames that arrived from the camera."),
    "decoded": ("frames_decoded", "Frames that were decoded."),
    "analysed": ("frames_analysed", "Frames that the student has answered for."),
    "repeated": ("frames_repeated", "Of these, frames of still scenes that showed nothing new: the last answer again."),
    "gated": (
        "frames_gated",
        "Due frames of still scenes that the student was spared when they came, on purpose.",
    ),
    "caught_up": ("frames_caught_up", "Of these, frames that were analysed later, when the scene woke up."),
    "stalls": ("stalls", "Times that the camera sent no frame for longer than its own rate allows."),
}
_REASONS = {
    "dropped": ("frames_dropped", "Due frames that were not analysed.", tuple(DropReason)),
    "reconnects": ("reconnects", "Connections that failed or ended, by reason.", tuple(FailureReason)),
}
_EVENTS, _STATE, _AGE = "streamkd_events_total", "streamkd_camera_state", "streamkd_frame_age_seconds"
_STATES = tuple(CameraState)


class CameraSeries:
    """The samples of the cameras that are shown."""

    def __init__(self) -> None:
        self._of: dict[str, _Prepared] = {}

    def keep(self, camera_ids: Iterable[str]) -> None:
        """Show exactly these cameras."""
        self._of = {camera_id: self._of.get(camera_id) or _Prepared(camera_id) for camera_id in camera_ids}

    def families(
        self,
        statuses: Mapping[str, CameraStatus],
        total: Callable[[Series], float],
        events: Mapping[tuple[str, str, str], int],
        kinds: Iterable[Kind],
    ) -> Iterator[Family]:
        """Every family of the cameras.

        Args:
            statuses: Of every camera that is shown.
            total: What a counter (name, camera, and reason where it has one) has come to.
            events: How many events of camera, kind and label were opened.
            kinds: Of events that some camera can open: a series that is born at 1 has no increase, so that every
                camera shows all of them from zero on.
        """
        shown = list(self._of.values())
        for position, (name, text, labels) in enumerate(_COUNTER_FAMILIES):
            family = Family(f"streamkd_{name}", "counter", text, labels)
            yield family.add_lines(
                f"{begin}{number(total(key))}" for camera in shown for begin, key in camera.counters[position]
            )
        ordered = sorted(kinds)
        family = Family("streamkd_events", "counter", "Events that were opened.", ("camera", "kind", "label"))
        yield family.add_lines(
            f"{camera.event(kind)}{number(events.get((camera.id, *kind), 0))}" for camera in shown for kind in ordered
        )
        family = Family(_STATE, "gauge", "1 for the state that the camera is in.", ("camera", "state"))
        yield family.add_lines(camera.state(statuses[camera.id].state) for camera in shown)
        ages = ((camera.age, statuses[camera.id].frame_age_s) for camera in shown)
        family = Family(_AGE, "gauge", "Age of the camera's newest analysed frame.", ("camera",))
        yield family.add_lines(f"{begin}{number(age_s)}" for begin, age_s in ages if age_s is not None)


_COUNTER_FAMILIES = (
    *((name, text, ("camera",)) for name, text in _COUNTERS.values()),
    *((name, text, ("camera", "reason")) for name, text, _ in _REASONS.values()),
)


class _Prepared:
    """What one camera's samples begin with."""

    __slots__ = ("_events", "_states", "age", "counters", "id")

    def __init__(self, camera_id: str) -> None:
        self.id = camera_id
        self.counters: tuple[_Row, ...] = (
            *(
                ((series(f"streamkd_{shown}_total", ("camera",), (camera_id,)), (name, camera_id)),)
                for name, (shown, _) in _COUNTERS.items()
            ),
            *(
                tuple(
                    (
                        series(f"streamkd_{shown}_total", ("camera", "reason"), (camera_id, reason.value)),
                        (name, camera_id, reason.value),
                    )
                    for reason in reasons
                )
                for name, (shown, _, reasons) in _REASONS.items()
            ),
        )
        self.age = series(_AGE, ("camera",), (camera_id,))
        self._events: dict[Kind, str] = {}
        self._states: dict[CameraState, str] = {}  # whole lines: one of few, and the same for a long time

    def event(self, kind: Kind) -> str:
        if kind not in self._events:
            self._events[kind] = series(_EVENTS, ("camera", "kind", "label"), (self.id, *kind))
        return self._events[kind]

    def state(self, state: CameraState) -> str:
        if state not in self._states:
            self._states[state] = "\n".join(
                f"{series(_STATE, ('camera', 'state'), (self.id, other.value))}{number(state == other)}"
                for other in _STATES
            )
        return self._states[state]


__all__ = ["CameraSeries", "Kind"]

"""A worker's event clips on their way: written beside the live path, handed to the Controller in bounded pieces."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from streamkd.errors import StreamkdError
from streamkd.media.recorder import ClipPlan, EventRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamkd.clock import Clock
    from streamkd.config import EventsConfig
    from streamkd.media.packets import PacketBuffer
    from streamkd.media.recorder import FinishedClip
    from streamkd.types import EventUpdate

    SendPiece = Callable[[str, int, bytes, int], bool]

PIECE_BYTES = 512 * 1024
_EVERY_S = 0.25
_AGAIN_AFTER_S = 1.0
_GIVE_UP_S = 120.0
_MOST_WAITING_BYTES = 256 * 2**20
_MIB = 2**20
_log = structlog.get_logger(__name__)


def clip_plan(events: EventsConfig) -> ClipPlan:
    """What the configuration says of clips."""
    return ClipPlan(events.pre_roll_s, events.post_roll_s, int(events.clip_max_mb * _MIB))


def buffer_bytes(events: EventsConfig) -> int:
    """What the configuration lets each camera keep in memory."""
    return int(events.buffer_mb * _MIB)


@dataclass(slots=True)
class _Waiting:
    clip: FinishedClip
    since_s: float
    not_before_s: float


class ClipCourier:
    """Runs the recorder on a thread of its own and delivers what it finishes, at least once.

    A clip whose event the Controller does not know yet is tried again every second; after two minutes, or when too
    much waits, it is given up. Nothing here ever waits for the live path, nor the live path for it.

    Args:
        folder: For files on their way; emptied now, and with `stop`.
        plan: How much of a stream belongs to a clip.
        buffer_of: The packet buffer of a camera.
        send: Takes (event id, offset, piece, bytes of the whole); says whether the event is known; raises
            `StreamkdError` where it could not be stored.
        clock: Time.
    """

    def __init__(
        self,
        folder: Path,
        plan: ClipPlan,
        buffer_of: Callable[[str], PacketBuffer | None],
        send: SendPiece,
        clock: Clock,
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of an incarnation that was killed
        self._folder = folder
        self._recorder = EventRecorder(folder, plan, buffer_of, clock)
        self._send = send
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, updates: Iterable[EventUpdate]) -> None:
        """Events have opened, changed or closed; from any thread."""
        self._recorder.offer(updates)

    def stop(self, timeout_s: float) -> None:
        """Deliver what is finished, clips of events that have just ended included, as far as there is time."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._take(self._recorder.finish())
            for waiting in self._waiting:
                waiting.not_before_s = 0.0
            self._deliver(deadline_s)
        if self._waiting:
            _log.warning("clips were not delivered", clips=len(self._waiting))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                self.step()
            except Exception:  # noqa: BLE001 - a defect here must not end the clips of all later events
                _log.exception("clips failed")

    def step(self) -> None:
        """Write what has come, deliver what is finished."""
        self._take(self._recorder.step())
        self._deliver(float("inf"))

    def _take(self, clips: Iterable[FinishedClip]) -> None:
        now_s = self._clock.monotonic_s()
        self._waiting.extend(_Waiting(clip, now_s, now_s) for clip in clips)
        while self._waiting and sum(waiting.clip.size_bytes for waiting in self._waiting) > _MOST_WAITING_BYTES:
            self._give_up(self._waiting.popleft(), "too much waits to be delivered")

    def _deliver(self, deadline_s: float) -> None:
        """Try everything that is due once, oldest first."""
        for _ in range(len(self._waiting)):
            now_s = self._clock.monotonic_s()
            if now_s > deadline_s:
                return
            waiting = self._waiting.popleft()
            if now_s < waiting.not_before_s:
                self._waiting.append(waiting)
            elif self._try(waiting):
                waiting.clip.path.unlink(missing_ok=True)
            elif now_s - waiting.since_s > _GIVE_UP_S:
                self._give_up(waiting, "the Controller did not take it")
            else:
                waiting.not_before_s = now_s + _AGAIN_AFTER_S
                self._waiting.append(waiting)

    def _try(self, waiting: _Waiting) -> bool:
        """Send a clip, piece by piece; returns whether it has arrived."""
        clip = waiting.clip
        try:
            with clip.path.open("rb") as file:
                for offset in range(0, clip.size_bytes, PIECE_BYTES):
                    if not self._send(clip.event_id, offset, file.read(PIECE_BYTES), clip.size_bytes):
                        return False
        except (StreamkdError, OSError) as error:
            _log.warning("clip not delivered yet", event_id=clip.event_id, reason=str(error))
            return False
        return True

    def _give_up(self, waiting: _Waiting, why: str) -> None:
        _log.warning("event without a clip", event_id=waiting.clip.event_id, reason=why)
        waiting.clip.path.unlink(missing_ok=True)


__all__ = ["PIECE_BYTES", "ClipCourier", "buffer_bytes", "clip_plan"]

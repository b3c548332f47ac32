"""Event clips: from the packets that a camera has just sent to an MP4 with what came before, during and after.

The recorder follows event updates. When an event opens, a clip begins with the keyframe before its pre-roll, out of
the camera's packet buffer; while it goes on, what arrives is written to disk as it is, so that a long event costs no
memory; when its post-roll is over, the clip is whole. A clip never crosses a connection or a change of resolution.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import structlog

from streamkd.errors import InputError
from streamkd.media.muxer import ClipMuxer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamkd.clock import Clock
    from streamkd.media.packets import CodedPacket, CodedStream, PacketBuffer
    from streamkd.types import EventUpdate

SETTLE_S = 5.0  # added to the pre-roll: smoothing and `min_frames` pass before an event opens
_FIRST_REVISION = 1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How much of a camera's stream belongs to an event's clip."""

    pre_roll_s: float
    post_roll_s: float
    max_bytes: int  # of one clip; a longer one ends there

    @property
    def buffer_s(self) -> float:
        """What has to be kept in memory of each camera."""
        return self.pre_roll_s + SETTLE_S


@dataclass(frozen=True, slots=True)
class FinishedClip:
    """A whole file that now belongs to whoever was told of it."""

    event_id: str
    camera_id: str
    path: Path
    size_bytes: int


@dataclass(slots=True)
class _Recording:
    """One event's clip while it is being written."""

    event_id: str
    camera_id: str
    start_s: float  # monotonic
    path: Path
    buffer: PacketBuffer
    end_s: float | None = None  # None: the event is open
    stream: CodedStream | None = None
    last_serial: int = -1
    muxer: ClipMuxer | None = None
    over: bool = False  # nothing more is written


class EventRecorder:
    """Writes the clips of one worker's events.

    `offer` may come from any thread; `step`, `finish` and the files being written belong to one.

    Args:
        folder: Where clips are written; an event's file there is `<event id>.mp4`.
        plan: Pre-roll, post-roll, largest clip.
        buffer_of: The packet buffer of a camera, None if it has none.
        clock: Time, the same as that of the packets.
    """

    def __init__(
        self, folder: Path, plan: ClipPlan, buffer_of: Callable[[str], PacketBuffer | None], clock: Clock
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._buffer_of = buffer_of
        self._clock = clock
        self._told: deque[tuple[EventUpdate, PacketBuffer | None]] = deque()
        self._recordings: dict[str, _Recording] = {}

    def offer(self, updates: Iterable[EventUpdate]) -> None:
        """Events have opened, changed or closed."""
        for update in updates:
            opens = update.revision == _FIRST_REVISION
            if opens or not update.is_open:
                self._told.append((update, self._buffer_of(update.camera_id) if opens else None))

    def step(self) -> list[FinishedClip]:
        """Write what has come since the last call; returns the clips that are whole now."""
        now_s = self._clock.monotonic_s()
        while self._told:
            self._follow(*self._told.popleft(), now_s)
        for recording in list(self._recordings.values()):
            self._write(recording)
        return self._take(lambda recording: self._is_due(recording, now_s))

    def finish(self) -> list[FinishedClip]:
        """End every clip now, whatever its post-roll; those of events that are still open are thrown away."""
        finished = self.step() + self._take(lambda recording: recording.end_s is not None)
        for recording in self._recordings.values():
            self._discard(recording)
        self._recordings.clear()
        return finished

    # --- following events ------------------------------------------------------------------------------------------

    def _follow(self, update: EventUpdate, buffer: PacketBuffer | None, now_s: float) -> None:
        recording = self._recordings.get(update.id)
        if recording is None and buffer is not None:
            start_s = now_s - (self._clock.utc() - update.start_utc).total_seconds()
            path = self._folder / f"{update.id}.mp4"
            recording = _Recording(update.id, update.camera_id, start_s, path, buffer)
            self._recordings[update.id] = recording
        if recording is not None and update.end_utc is not None:
            recording.end_s = recording.start_s + (update.end_utc - update.start_utc).total_seconds()

    def _is_due(self, recording: _Recording, now_s: float) -> bool:
        if recording.end_s is None:
            return False
        return recording.over or now_s >= recording.end_s + self._plan.post_roll_s

    # --- writing ---------------------------------------------------------------------------------------------------

    def _write(self, recording: _Recording) -> None:
        if recording.over:
            return
        try:
            for packet in self._next_packets(recording):
                if not self._belongs(recording, packet):
                    recording.over = True
                    return
                self._put(recording, packet)
        except (InputError, OSError, ValueError, av.FFmpegError) as error:
            _log.warning("event without a clip", event_id=recording.event_id, reason=str(error))
            self._discard(recording)
            recording.muxer, recording.over = None, True

    def _next_packets(self, recording: _Recording) -> list[CodedPacket]:
        """What the clip goes on with; at first from the keyframe before the pre-roll, of the event's own connection."""
        if recording.stream is not None:
            return recording.buffer.after(recording.last_serial)
        since_s = recording.start_s - self._plan.pre_roll_s
        packets = recording.buffer.since(since_s)
        # Where clips come from a stream of their own, what is kept may be of a connection that was lost long before.
        recent = [packet for packet in packets if packet.arrived_s >= since_s]
        if not recent:
            return []
        before = [packet.stream for packet in recent if packet.arrived_s <= recording.start_s]
        recording.stream = before[-1] if before else recent[0].stream
        return [packet for packet in packets if packet.stream is recording.stream]

    def _belongs(self, recording: _Recording, packet: CodedPacket) -> bool:
        size = 0 if recording.muxer is None else recording.muxer.size_bytes
        if packet.stream is not recording.stream or size + len(packet.data) > self._plan.max_bytes:
            return False
        return recording.end_s is None or packet.arrived_s <= recording.end_s + self._plan.post_roll_s

    def _put(self, recording: _Recording, packet: CodedPacket) -> None:
        if recording.muxer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            recording.muxer = ClipMuxer(recording.path, packet)
        recording.muxer.add(packet)
        recording.last_serial = packet.serial

    def _take(self, wanted: Callable[[_Recording], bool]) -> list[FinishedClip]:
        chosen = [recording for recording in self._recordings.values() if wanted(recording)]
        finished = []
        for recording in chosen:
            del self._recordings[recording.event_id]
            if recording.muxer is None:
                if not recording.over:
                    _log.warning("event without a clip", event_id=recording.event_id, reason="no video arrived")
                continue
            try:
                recording.muxer.close()
                size = recording.path.stat().st_size
            except (OSError, ValueError, av.FFmpegError) as error:
                _log.warning("event without a clip", event_id=recording.event_id, reason=str(error))
                self._discard(recording)
                continue
            finished.append(FinishedClip(recording.event_id, recording.camera_id, recording.path, size))
        return finished

    def _discard(self, recording: _Recording) -> None:
        try:
            if recording.muxer is not None:
                recording.muxer.close()
            recording.path.unlink(missing_ok=True)
        except (OSError, ValueError, av.FFmpegError):
            return  # the folder is emptied when the next worker begins


__all__ = ["SETTLE_S", "ClipPlan", "EventRecorder", "FinishedClip"]

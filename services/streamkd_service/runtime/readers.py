"""The readers of one worker's cameras: started, changed, stopped, and counted across their lives."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamkd.errors import NotFoundError, UnavailableError
from streamkd.media.clip_stream import ClipStream
from streamkd.media.convert import Scalers
from streamkd.media.flow import max_age_s
from streamkd.media.reader import CameraReader
from streamkd.types import CameraState, CameraStatus, DropReason
from streamkd_service.runtime.ports import CameraTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamkd.bundle import StudentSpec
    from streamkd.clock import Clock
    from streamkd.config import CameraConfig
    from streamkd.media.mailbox import MailboxSet
    from streamkd.media.packets import PacketBuffer
    from streamkd_service.runtime.engine_loop import CameraAnswers
    from streamkd_service.runtime.histograms import Histogram

# A change of these needs a new connection; everything else only changes what is made of the frames.
_CONNECTION_FIELDS = (
    "url",
    "clip_url",
    "transport",
    "open_timeout_s",
    "read_timeout_s",
    "decode",
    "gpu_decoding",
    "skip_loop_filter",
    "skip_still",
)
# Until a camera is known to be still it is decoded in full; a hundred that begin at once would be an overload. And many
# cameras start to send when they are asked to: this is the golden section of 0.2 s, so that neither their due frames
# (at 5 a second) nor their keyframes come in step ever after. 0.1 s would make two crowds of them.
_APART_S = 0.0764
# While frames arrive, what the student says about them is shown, whatever else is wrong with the picture.
_ANSWERED = frozenset(
    {CameraState.ONLINE, CameraState.WARMING, CameraState.FROZEN, CameraState.BLACK, CameraState.COVERED}
)


@dataclass(frozen=True, slots=True)
class Change:
    """How to get from the cameras that run to those that shall."""

    gone: tuple[str, ...] = ()  # to be stopped; a camera with another address is gone and new
    new: tuple[CameraConfig, ...] = ()
    changed: tuple[CameraConfig, ...] = ()  # other settings, same connection


def plan(running: Mapping[str, CameraConfig], wanted: Sequence[CameraConfig]) -> Change:
    """Compare the cameras that run with those that are wanted."""
    by_id = {config.id: config for config in wanted}
    again = {
        name
        for name, config in running.items()
        if name in by_id and any(getattr(config, key) != getattr(by_id[name], key) for key in _CONNECTION_FIELDS)
    }
    return Change(
        gone=tuple(name for name in running if name not in by_id or name in again),
        new=tuple(config for config in wanted if config.id not in running or config.id in again),
        changed=tuple(
            config
            for config in wanted
            if config.id in running and config.id not in again and config != running[config.id]
        ),
    )


@dataclass(slots=True)
class _Running:
    config: CameraConfig
    reader: CameraReader
    packets: PacketBuffer | None = None  # for event clips
    clip_stream: ClipStream | None = None  # None: the reader itself fills it

    def stop(self) -> None:
        if self.clip_stream is not None:
            self.clip_stream.stop(0.0)  # ends while the reader does
        self.reader.stop()


class ReaderPool:
    """One reader thread per camera. Used by the reporter; snapshots may come from any thread.

    Args:
        mailboxes: Where readers leave frames.
        decode_ms: Gets the decoding time of every frame.
        clock: Time.
    """

    def __init__(self, mailboxes: MailboxSet, decode_ms: Histogram, clock: Clock) -> None:
        self._mailboxes = mailboxes
        self._decode_ms = decode_ms
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._before: dict[str, CameraTotals] = {}  # of readers that were stopped: counts never fall
        self._scalers = Scalers()
        self._lock = threading.Lock()
        self.spec: StudentSpec | None = None  # set before the first reader starts
        self.max_frame_age_s = 0.5
        self.packets: Callable[[], PacketBuffer] | None = None  # makes a camera's buffer; None: nothing is kept

    def ids(self) -> list[str]:
        return list(self._running)

    def configs(self) -> list[CameraConfig]:
        return [running.config for running in self._running.values()]

    def plan(self, wanted: Sequence[CameraConfig]) -> Change:
        return plan({name: running.config for name, running in self._running.items()}, wanted)

    def start(self, configs: Iterable[CameraConfig]) -> None:
        """Start readers, one after the other: cameras that begin together send their keyframes together ever after."""
        assert self.spec is not None
        for number, config in enumerate(configs):
            packets = None if self.packets is None else self.packets()
            clip_stream = None
            if packets is not None and config.clip_url is not None:
                clip_stream = ClipStream(config, packets, clock=self._clock)
            reader = CameraReader(
                config,
                self._mailboxes,
                self.spec.rate_hz,
                self.spec.view_size,
                clock=self._clock,
                max_frame_age_s=self.max_frame_age_s,
                keep_aspect=self.spec.keeps_aspect,
                on_decode_ms=self._decode_ms.observe,
                scalers=self._scalers,
                packets=packets if clip_stream is None else None,
            )
            with self._lock:
                self._running[config.id] = _Running(config, reader, packets, clip_stream)
            reader.start(after_s=number * _APART_S)
            if clip_stream is not None:
                clip_stream.start(after_s=number * _APART_S)

    def slow_down(self, paces: Mapping[str, int]) -> None:
        """Set the pace of every camera, 0 where none is named; see `streamkd_service.runtime.overload`."""
        for name, running in self._running.items():
            running.reader.slow_down(paces.get(name, 0))

    def expect_latency(self, latency_p95_s: float) -> None:
        """Still scenes are looked at the sooner, the longer an answer may take."""
        for running in self._running.values():
            running.reader.max_age_s = max_age_s(latency_p95_s)

    def due_and_lost(self) -> tuple[float, float]:
        """Frames due so far, and of these those that were replaced or too old; may fall when a camera goes."""
        due = lost = 0.0
        for name, running in self._running.items():
            counts, stale = self._mailboxes.counts(name), running.reader.stale_due
            due += counts.put + stale
            lost += counts.superseded + stale
        return due, lost

    def priorities(self) -> dict[str, int]:
        """Of every camera that would cost less at a lower rate: not of those whose scene is still."""
        return {name: running.config.priority for name, running in self._running.items() if not running.reader.is_still}

    def remember(self, configs: Iterable[CameraConfig]) -> None:
        """Settings that need no new connection have been taken over."""
        for config in configs:
            self._running[config.id].config = config

    def stop(self, camera_ids: Sequence[str]) -> None:
        """End readers, all at the same time; returns when they have ended."""
        with self._lock:
            stopping = {name: self._running.pop(name) for name in camera_ids if name in self._running}
        threads = [threading.Thread(target=running.stop) for running in stopping.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, running in stopping.items():
            self._before[name] = self._counted(name, running)

    def stop_all(self) -> list[str]:
        names = self.ids()
        self.stop(names)
        return names

    def snapshot(self, camera_id: str) -> bytes:
        """The camera's newest picture as a JPEG; see `Worker.snapshot`."""
        with self._lock:
            running = self._running.get(camera_id)
        if running is None:
            raise NotFoundError(f"Camera {camera_id!r} does not run here.")
        jpeg = running.reader.snapshot()
        if jpeg is None:
            raise UnavailableError(f"Camera {camera_id!r} gives no picture now.", hint="See its state.")
        return jpeg

    def packets_of(self, camera_id: str) -> PacketBuffer | None:
        """What the camera has just sent, of the stream for clips; None where nothing is kept."""
        with self._lock:
            running = self._running.get(camera_id)
        return None if running is None else running.packets

    # --- telling ---------------------------------------------------------------------------------------------------

    def statuses(self, answers: Mapping[str, CameraAnswers]) -> tuple[CameraStatus, ...]:
        """Every camera as its reader and the engine loop see it now."""
        now_s = self._clock.monotonic_s()
        told = []
        for name, running in self._running.items():
            status, known = running.reader.status(), answers.get(name)
            if known is not None and status.state not in _ANSWERED:
                known.result = None  # the next connection begins without an answer
            merged = merge_status(status, known, now_s)
            if running.clip_stream is not None and not merged.detail:
                merged = replace(merged, detail=running.clip_stream.trouble)
            told.append(merged)
        return tuple(told)

    def totals(self, answers: Mapping[str, CameraAnswers]) -> tuple[CameraTotals, ...]:
        """Every camera's counts since the process began."""
        return tuple(
            self._with_answers(name, self._counted(name, running), answers.get(name))
            for name, running in self._running.items()
        )

    def _counted(self, name: str, running: _Running) -> CameraTotals:
        """The reader's counts on top of those of the readers before it."""
        before = self._before.get(name, CameraTotals(name))
        counts = running.reader.counts()
        return CameraTotals(
            camera_id=name,
            received=before.received + counts.received,
            decoded=before.decoded + counts.decoded,
            stalls=before.stalls + counts.stalls,
            gated=before.gated + counts.gated,
            caught_up=before.caught_up + counts.caught_up,
            dropped=add(before.dropped, counts.dropped),
            reconnects=add(before.reconnects, counts.reconnects),
        )

    def _with_answers(self, name: str, totals: CameraTotals, answers: CameraAnswers | None) -> CameraTotals:
        """With what the mailbox and the engine loop counted; both count since the process began."""
        superseded = {str(DropReason.SUPERSEDED): self._mailboxes.counts(name).superseded}
        dropped = add(totals.dropped, superseded)
        if answers is None:
            return replace(totals, dropped=dropped)
        dropped = add(dropped, answers.dropped)
        return replace(totals, analysed=answers.analysed, repeated=answers.repeated, dropped=dropped)


def add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Sums by key."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


def merge_status(status: CameraStatus, answers: CameraAnswers | None, now_s: float) -> CameraStatus:
    """What the reader knows of the stream, with what the student says about it.

    A camera is online only when its frames are analysed and the student is warm; an answer to a frame that is long gone
    is no answer about now.
    """
    result = None if answers is None else answers.result
    if answers is None or result is None or answers.gone or status.state not in _ANSWERED:
        state = CameraState.WARMING if status.state is CameraState.ONLINE else status.state
        return replace(status, state=state)
    warming = status.state is CameraState.ONLINE and result.warming
    return replace(
        status,
        state=CameraState.WARMING if warming else status.state,
        fps_analysed=answers.rate_hz(now_s),
        frame_age_s=now_s - answers.received_s,
        latency_ms=answers.latency_ms,
        action=result.action,
        action_score=result.action_score,
        action_opens_at=result.action_opens_at,
        anomaly_score=result.anomaly_score,
        anomaly_certified=result.anomaly_certified,
        model_version=result.model_version,
    )


__all__ = ["Change", "ReaderPool", "add", "merge_status", "plan"]

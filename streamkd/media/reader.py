"""A camera's reader: connect → decode → sample → convert what is due → mailbox, again and again on a thread of its own.

Recordings take the same way without thread, mailbox and drops: `read_recording`.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.clock import Clock, SystemClock
from streamkd.errors import SourceError
from streamkd.media.due import DueFrames
from streamkd.media.flow import MAX_AGE_S, FlowCounts, PacketFlow
from streamkd.media.freshness import DRIFT, LOOSE_DRIFT, FreshnessGate, LaggingError, when_settled
from streamkd.media.liveness import SightWatch, StallWatch
from streamkd.media.nap import Nap
from streamkd.media.pace import thin_out
from streamkd.media.reconnect import BackOff, Link, Phase, Signal, connecting, transition
from streamkd.media.recording import LOOP_FILTER, read_recording
from streamkd.media.sampler import DUE_SLACK_S
from streamkd.media.source import SourceStats, open_camera
from streamkd.media.stillness import Stillness
from streamkd.media.timestamps import DEFAULT_INTERVAL_S
from streamkd.types import CameraState, CameraStatus, DropReason, FailureReason, Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from streamkd.config import CameraConfig
    from streamkd.media.convert import Scalers
    from streamkd.media.mailbox import MailboxSet
    from streamkd.media.packets import PacketBuffer
    from streamkd.media.source import Arrival, DecodedFrame, Source, SourceInfo

STOP_S = 1.0
_RATE_WINDOW_S = 4.0
_LAGS_TO_LOOSEN = 3
_PACE_JUMP_S = 2.0


@dataclass(frozen=True, slots=True)
class ReaderCounts:
    """Cumulative since the reader began, over all of its connections.

    What the mailbox supersedes is counted there (`MailboxSet.counts`).
    """

    received: int = 0  # packets
    decoded: int = 0
    due: int = 0
    converted: int = 0  # due frames that were put into the mailbox
    stalls: int = 0
    gated: int = 0  # due frames of still scenes that the student did not look at when they came
    caught_up: int = 0  # of these, those that were analysed when the scene woke up
    unneeded: int = 0  # packets that were never decoded: nothing due depended on them
    dropped: dict[str, int] = field(default_factory=dict)  # by DropReason: corrupt, stale
    reconnects: dict[str, int] = field(default_factory=dict)  # attempts after a failure, by its FailureReason


class CameraReader:
    """Reads one camera until it is stopped; connects again whenever that fails.

    Args:
        camera: Address, transport and timeouts.
        mailboxes: Where the newest due frame is left.
        rate_hz: Of the student.
        size: Height and width of the pictures that the student gets.
        clock: Time.
        max_frame_age_s: Frames that are older when they arrive are dropped.
        back_off: When to connect again.
        rng: For the jitter.
        on_decode_ms: Gets the decoding time of every frame, on the reader's thread.
        packets: Keeps what has just been sent, for event clips.
        scalers: Shared with other cameras.
        keep_aspect: The picture keeps its proportions, and `size` is its shorter side.
    """

    def __init__(
        self,
        camera: CameraConfig,
        mailboxes: MailboxSet,
        rate_hz: float,
        size: int,
        *,
        clock: Clock | None = None,
        max_frame_age_s: float = 0.5,
        back_off: BackOff | None = None,
        rng: np.random.Generator | None = None,
        on_decode_ms: Callable[[float], None] | None = None,
        packets: PacketBuffer | None = None,
        keep_aspect: bool = False,
        scalers: Scalers | None = None,
    ) -> None:
        self._camera = camera
        self._mailboxes = mailboxes
        self._clock = clock or SystemClock()
        self._max_frame_age_s = max_frame_age_s
        self._back_off = back_off or BackOff()
        self._rng = rng or np.random.default_rng()
        self._on_decode_ms = on_decode_ms or (lambda _: None)
        self.packets = packets
        self._flow_counts = FlowCounts()
        self._due = DueFrames(
            camera.id,
            rate_hz,
            size,
            first_segment=mailboxes.next_segment(camera.id),
            keep_aspect=keep_aspect,
            scalers=scalers,
        )
        self._after_s = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader-{camera.id}", daemon=True)
        # Everything below is shared with who asks, under the lock.
        self._lock = threading.Lock()
        self._link = connecting(self._clock.monotonic_s())
        self._stats = SourceStats()
        self._converted = self._stale = 0
        self.stale_due, self._due_share = 0.0, 1.0  # of the stale frames, about so many would have been due
        self._reconnects: dict[str, int] = {}
        self._stall, self._sight = StallWatch(), SightWatch()
        self._info: SourceInfo | None = None
        self._detail = ""
        self._latest: Frame | None = None
        self._arrivals: deque[float] = deque(maxlen=512)
        self._lags = 0
        self._rate_hz, self._pace_wanted = rate_hz, 0
        self.is_still = False  # the scene, and little of it is decoded
        self.max_age_s = MAX_AGE_S  # of an answer about a still scene, when it is looked at again
        self._pace_from: float | None = None  # monotonic time of PTS 0 of a recording
        self._shown_state = CameraState.CONNECTING
        self._since_utc: datetime = self._clock.utc()

    # --- asked from any thread -------------------------------------------------------------------------------------

    def start(self, after_s: float = 0.0) -> None:
        """Begin to connect, after a while."""
        self._after_s = after_s
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End the reader; after this nothing is put into the mailbox any more.

        A thread that waits for the network can't be woken: it is left to its own timeout, and finds that it has ended.
        """
        with self._lock:
            self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def slow_down(self, pace: int) -> None:
        """Let fewer frames be analysed; see `streamkd.media.pace`."""
        self._pace_wanted = pace

    def counts(self) -> ReaderCounts:
        """What has happened so far."""
        with self._lock:
            return ReaderCounts(
                received=self._stats.packets,
                decoded=self._stats.frames,
                due=self._due.due,
                converted=self._converted,
                gated=self._flow_counts.gated,
                caught_up=self._flow_counts.caught_up,
                unneeded=self._flow_counts.unneeded,
                stalls=self._stall.stalls,
                dropped={str(DropReason.CORRUPT): self._stats.corrupt, str(DropReason.STALE): self._stale},
                reconnects=dict(self._reconnects),
            )

    def snapshot(self, *, max_width_px: int = 1280) -> bytes | None:
        """The newest picture as a JPEG; None while there is no connection that gives pictures."""
        with self._lock:
            latest = self._latest
        return None if latest is None or latest.picture is None else latest.picture.jpeg(max_width_px=max_width_px)

    def status(self) -> CameraStatus:
        """The camera as its reader sees it now; what the student says about it is not in it."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            state = self._state(now_s)
            if state != self._shown_state:
                self._shown_state, self._since_utc = state, self._clock.utc()
            link, info, latest = self._link, self._info, self._latest
            while self._arrivals and now_s - self._arrivals[0] > _RATE_WINDOW_S:
                self._arrivals.popleft()
            rate_hz = len(self._arrivals) / _RATE_WINDOW_S
            return CameraStatus(
                camera_id=self._camera.id,
                state=state,
                reason=None if link.phase is Phase.ONLINE else link.reason,
                detail="" if link.phase is Phase.ONLINE else self._detail,
                since_utc=self._since_utc,
                fps_received=rate_hz,
                width=info.width if info else 0,
                height=info.height if info else 0,
                codec=info.codec if info else "",
                frame_age_s=now_s - latest.received_s if latest else None,
                next_attempt_in_s=None if link.retry_at_s is None else max(0.0, link.retry_at_s - now_s),
            )

    # --- the reader's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._after_s > 0.0:
            self._clock.wait(self._stopped, self._after_s)
        while not self._stopped.is_set():
            try:
                self._read_connection()
            except SourceError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - one camera's surprise must not end its reader
                why = f"Camera {self._camera.id}: unexpected {type(error).__name__}."
                self._fail(SourceError(why, reason=FailureReason.ERROR))
            self._wait_for_retry()

    def _read_connection(self) -> None:
        """One connection, from connecting to its end."""
        with open_camera(self._camera, self._clock, self._stats) as source:
            if self._stopped.is_set():
                return
            self._due.restart(fps=source.info.fps)
            with self._lock:
                self._info = source.info
                self._stall.restart()
                self._sight.restart()
            if self.packets is not None:
                self.packets.begin(source.coded())
            keep = None if self.packets is None else self.packets.add
            self._flow_through(source, keep)
            if not self._stopped.is_set():
                raise SourceError(f"Recording {source.info.shown} ended.", reason=FailureReason.ENDED)

    def _flow_through(self, source: Source, keep: Callable[[Any, float], None] | None) -> None:
        """Everything that a connection gives, until it ends or the reader does."""
        source.skip_loop_filter(LOOP_FILTER[self._camera.skip_loop_filter])
        interval_s = 1.0 / source.info.fps if source.info.fps > 0 else DEFAULT_INTERVAL_S
        gate = None if source.info.paced else self._gate(source.info, interval_s)
        flow = PacketFlow(
            _Timed(source, self._on_decode_ms),
            self._due,
            self._pace if gate is None else partial(self._fresh, gate),
            self._flow_counts,
            stillness=Stillness() if self._camera.skip_still and gate is not None else None,
            keyframes_only=self._camera.decode == "keyframes",
            hold=gate is not None,
        )
        nap = Nap(self._max_frame_age_s / 2) if source.info.transport == "tcp" else None
        arrivals = source.arrivals(self._stopped.is_set, keep)
        for arrival in arrivals if gate is None else when_settled(arrivals, gate):
            thin = thin_out(self._pace_wanted, flow.entries_apart_s)
            self._due.set_rate(self._rate_hz * thin.rate_share)
            flow.group_share = thin.group_share
            flow.keyframes_only = self._camera.decode == "keyframes" or thin.keyframes_only
            self._due_share = 1.0 if flow.keyframes_only else min(1.0, self._due.rate_hz * interval_s)
            flow.max_age_s = self.max_age_s
            frames_before = self._stats.frames
            for frame in flow.push(arrival):
                self._deliver(frame)
            self.is_still = flow.is_still
            if flow.holds or self._stats.frames > frames_before:
                self._saw(arrival.arrived_s, decoded=self._stats.frames > frames_before)
            if nap is not None and gate is not None:
                nap.saw(arrival.pts_s, arrival.waited_s)
                self._sleep(nap, gate, flow.quiet_until_s)

    def _sleep(self, nap: Nap, gate: FreshnessGate, until_source_s: float | None) -> None:
        """Let the socket collect what is not needed yet: one waking for several pictures, which then come at once."""
        expected_s = None if until_source_s is None else gate.expected_s(until_source_s)
        if until_source_s is None or expected_s is None:
            return
        length_s = nap.length_s(until_source_s, expected_s, self._clock.monotonic_s())
        if length_s > 0.0:
            self._clock.wait(self._stopped, length_s)

    def _gate(self, info: SourceInfo, interval_s: float) -> FreshnessGate:
        # A camera that is always found to lag probably has a clock that is off, and would never be analysed.
        drift = LOOSE_DRIFT if self._lags >= _LAGS_TO_LOOSEN else DRIFT
        return FreshnessGate(self._max_frame_age_s, interval_s=interval_s, drift=drift, timed=info.timed)

    def _fresh(self, gate: FreshnessGate, decoded: DecodedFrame) -> list[DecodedFrame]:
        before, next_s = gate.stale, self._due.next_source_s
        try:
            return gate.push(decoded)
        finally:
            stale = gate.stale - before
            self._stale += stale
            # Of pictures that are decoded together the first are older, and not due.
            if next_s is None or decoded.raw_pts_s is None or decoded.raw_pts_s >= next_s - DUE_SLACK_S:
                self.stale_due += stale * self._due_share

    def _pace(self, decoded: DecodedFrame) -> list[DecodedFrame]:
        """Wait until a frame is due to be shown, as a player would; for what comes faster than it happened."""
        raw_s, now_s = decoded.raw_pts_s or 0.0, self._clock.monotonic_s()
        if self._pace_from is None or abs(self._pace_from + raw_s - now_s) > _PACE_JUMP_S:
            self._pace_from = now_s - raw_s
        wait_s = self._pace_from + raw_s - now_s
        if wait_s > 0:
            self._clock.wait(self._stopped, wait_s)
        return [replace(decoded, arrived_s=self._clock.monotonic_s())]

    def _saw(self, arrived_s: float, *, decoded: bool) -> None:
        with self._lock:
            if decoded:
                self._link = self._transition(Signal.FRAME, arrived_s)
            self._stall.saw(arrived_s)
            self._arrivals.append(arrived_s)

    def _deliver(self, frame: Frame) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            self._sight.saw(frame.grey, frame.received_s)
            self._latest = frame
            self._mailboxes.put(frame)
            self._converted += 1

    def _fail(self, error: SourceError) -> None:
        now_s = self._clock.monotonic_s()
        with self._lock:
            self._stall.stalled(now_s)
            self._stall.restart()
            self._sight.restart()
            self._arrivals.clear()
            self._latest, self._pace_from = None, None
            self.is_still = False
            self._detail = str(error)
            self._lags += isinstance(error, LaggingError)
            self._link = self._transition(Signal.FAILED, now_s, error.reason)

    def _wait_for_retry(self) -> None:
        if self._stopped.is_set() or self._link.retry_at_s is None:
            return
        wait_s = self._link.retry_at_s - self._clock.monotonic_s()
        if wait_s > 0 and self._clock.wait(self._stopped, wait_s):
            return
        with self._lock:
            reason = str(self._link.reason)
            self._reconnects[reason] = self._reconnects.get(reason, 0) + 1
            self._link = self._transition(Signal.RETRY, self._clock.monotonic_s())

    def _transition(self, signal: Signal, now_s: float, reason: FailureReason = FailureReason.ERROR) -> Link:
        return transition(self._link, signal, now_s, self._rng, self._back_off, reason)

    def _state(self, now_s: float) -> CameraState:
        if self._link.phase is Phase.WAITING:
            return CameraState.BACKING_OFF
        if self._link.phase is Phase.CONNECTING:
            return CameraState.CONNECTING
        if self._stall.stalled(now_s):
            return CameraState.STALLED
        return self._sight.state or CameraState.ONLINE


class _Timed:
    """A source whose decoding times are told."""

    def __init__(self, source: Source, on_decode_ms: Callable[[float], None]) -> None:
        self._source, self._on_decode_ms = source, on_decode_ms

    @property
    def reorders(self) -> bool:
        return self._source.reorders

    def decode(self, arrival: Arrival) -> Iterator[DecodedFrame]:
        for decoded in self._source.decode(arrival):
            self._on_decode_ms(decoded.decode_ms)
            yield decoded


__all__ = [
    "LOOP_FILTER",
    "CameraReader",
    "ReaderCounts",
    "read_recording",
]

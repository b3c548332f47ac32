"""A camera's other stream, received for event clips and never decoded: its full picture beside the small, analysed one.

Decoding costs by the pixel, receiving by the packet: most cameras send a small stream too, and the student's pictures
are small. A thread keeps what arrives in the camera's packet buffer, and connects again whenever that fails.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import structlog

from streamkd.clock import Clock, SystemClock
from streamkd.errors import SourceError
from streamkd.media.reconnect import BackOff, Signal, connecting, transition
from streamkd.media.source import open_camera
from streamkd.types import FailureReason

if TYPE_CHECKING:
    from streamkd.config import CameraConfig
    from streamkd.media.packets import PacketBuffer
    from streamkd.media.source import Source

_NAP_S = 0.2  # the socket collects meanwhile; a clip's ends need be no more exact
_READY_S = 0.0005  # reading that took longer found nothing lying there
_log = structlog.get_logger(__name__)


class ClipStream:
    """Fills a camera's packet buffer from `CameraConfig.clip_url` until it is stopped.

    Args:
        camera: With a `clip_url`.
        packets: To be filled.
        clock: Time; the recorder's.
        back_off: When to connect again.
        rng: For the jitter.

    Raises:
        ValueError: The camera has no `clip_url`.
    """

    def __init__(
        self,
        camera: CameraConfig,
        packets: PacketBuffer,
        *,
        clock: Clock | None = None,
        back_off: BackOff | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        if camera.clip_url is None:
            raise ValueError(f"camera {camera.id} has no clip_url")
        self._camera = camera.model_copy(update={"url": camera.clip_url, "gpu_decoding": "off"})
        self._packets = packets
        self._clock = clock or SystemClock()
        self._back_off = back_off or BackOff()
        self._rng = rng or np.random.default_rng()
        self._after_s = 0.0
        self._link = connecting(self._clock.monotonic_s())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"clips-{camera.id}", daemon=True)
        self.trouble = ""  # one redacted line while there is no connection; any thread may look

    def start(self, after_s: float = 0.0) -> None:
        """Begin to connect, after a while."""
        self._after_s = after_s
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End it; a thread that waits for the network ends when that has answered."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._clock.wait(self._stopped, self._after_s)
        while not self._stopped.is_set():
            try:
                with open_camera(self._camera, self._clock) as source:
                    self._receive(source)
                continue  # stopped
            except SourceError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - no surprise of one connection may end all later clips
                failure = SourceError(f"Unexpected {type(error).__name__}.", reason=FailureReason.ERROR)
            self._fail(failure)

    def _receive(self, source: Source) -> None:
        """Keep what arrives, until the connection ends."""
        self._packets.begin(source.coded())
        collects = source.info.transport != "udp"  # a UDP socket that is not read loses packets
        for arrival in source.arrivals(self._stopped.is_set, self._packets.add):
            if arrival.entry:
                self._signal(Signal.FRAME)
                self._is_back()
            if collects and arrival.waited_s > _READY_S:
                self._clock.wait(self._stopped, _NAP_S)
        if not self._stopped.is_set():
            raise SourceError(f"Recording {source.info.shown} ended.", reason=FailureReason.ENDED)

    def _is_back(self) -> None:
        if self.trouble:
            _log.info("clip stream is back", camera=self._camera.id)
        self.trouble = ""

    def _fail(self, error: SourceError) -> None:
        """Say so once, and wait for the next attempt."""
        if not self.trouble and not self._stopped.is_set():
            _log.warning("no clip stream", camera=self._camera.id, reason=str(error), hint=error.hint)
        self.trouble = f"No clips: {error}"
        self._signal(Signal.FAILED, error.reason)
        self._clock.wait(self._stopped, (self._link.retry_at_s or 0.0) - self._clock.monotonic_s())
        self._signal(Signal.RETRY)

    def _signal(self, signal: Signal, reason: FailureReason = FailureReason.ERROR) -> None:
        now_s = self._clock.monotonic_s()
        self._link = transition(self._link, signal, now_s, self._rng, self._back_off, reason)


__all__ = ["ClipStream"]

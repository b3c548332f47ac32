"""Decoding on a GPU, where ffmpeg and the machine have what it takes (NVDEC); what can't be is decoded on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import structlog
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer

OpenContainer = Callable[[str, dict[str, str], tuple[float, float] | None], InputContainer]

_DRIVER = Path("/dev/nvidiactl")  # is there where a driver runs
_log = structlog.get_logger(__name__)


def open_on_cpu(name: str, options: dict[str, str], timeouts: tuple[float, float] | None) -> InputContainer:
    """Open a file or URL whose pictures are decoded on the CPU.

    Args:
        name: Path or URL.
        options: ffmpeg's.
        timeouts: Seconds to open and to read; None: no limit.

    Raises:
        av.FFmpegError, OSError, ValueError: Whatever PyAV raises.
    """
    return av.open(name, mode="r", options=dict(options), timeout=timeouts)


class GpuDecoding:
    """Whether a process decodes on a GPU: as long as that works. Used from any thread.

    Args:
        is_there: Whether ffmpeg and the machine can; asked once.
    """

    def __init__(self, is_there: Callable[[], bool] | None = None) -> None:
        self._is_there = is_there or _nvdec_is_there
        self._works: bool | None = None  # None: not asked yet

    def open(self, name: str, options: dict[str, str], timeouts: tuple[float, float] | None) -> InputContainer:
        """As `open_on_cpu`, on the GPU where it works; a codec that the GPU lacks is decoded on the CPU."""
        if self._works is None:
            self._works = self._is_there()
            if not self._works:
                _log.warning("no GPU decodes here; cameras are decoded on the CPU")
        if not self._works:
            return open_on_cpu(name, options, timeouts)
        gpu = HWAccel("cuda", allow_software_fallback=True)
        try:
            return av.open(name, mode="r", options=dict(options), timeout=timeouts, hwaccel=gpu)
        except (av.FFmpegError, OSError, RuntimeError) as error:
            # The camera may be away as well: then this raises, and nothing is said of the GPU.
            container = open_on_cpu(name, options, timeouts)
            self._works = False
            _log.warning("the GPU does not decode; cameras are decoded on the CPU", reason=type(error).__name__)
            return container


def _nvdec_is_there() -> bool:
    return "cuda" in hwdevices_available() and _DRIVER.exists()


__all__ = ["GpuDecoding", "OpenContainer", "open_on_cpu"]

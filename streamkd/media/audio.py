"""The sound of a recording: decoded to mono, and as a log-mel spectrogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from av.audio.resampler import AudioResampler

from streamkd.errors import UnsupportedMediaError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from streamkd.types import FloatArray

AUDIO_RATE_HZ = 16_000
MEL_BANDS = 40
_WINDOW, _HOP, _FFT = 400, 160, 512  # 25 ms every 10 ms, as is usual for speech and sound events
_LOW_HZ, _HIGH_HZ = 60.0, 7_600.0
_FLOOR = 1e-6


def decode_audio(path: Path, *, start_s: float = 0.0, end_s: float | None = None) -> FloatArray | None:
    """The first audio track of a file, mixed to one channel at 16 kHz.

    Args:
        path: A media file.
        start_s: Leave out what comes before, in seconds from the track's begin.
        end_s: Leave out what comes from here on.

    Returns:
        `[n]` float32, -1..1, or None where the file has no audio track; what a damaged track gives until it breaks.

    Raises:
        UnsupportedMediaError: The file can't be opened.
    """
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.audio:
                return None
            samples = _decode(container)
    except (av.FFmpegError, OSError) as error:
        raise UnsupportedMediaError(
            f"{path} can't be decoded: {type(error).__name__}.",
            hint="Check that the file is complete and plays in a video player.",
        ) from error
    first, last = (None if at is None else int(at * AUDIO_RATE_HZ) for at in (start_s, end_s))
    return samples[first:last]


def _decode(container: av.container.InputContainer) -> FloatArray:
    stream = container.streams.audio[0]
    resampler = AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE_HZ)
    parts: list[FloatArray] = []
    decoded = container.decode(stream)
    while True:
        try:
            parts += [one.to_ndarray()[0] for one in resampler.resample(next(decoded))]
        except StopIteration:
            parts += [one.to_ndarray()[0] for one in resampler.resample(None)]
            break
        except av.FFmpegError:
            break
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def log_mel(samples: FloatArray) -> FloatArray:
    """`[n]` at 16 kHz to `[T, 40]` float32: natural logarithms of the power in mel bands, every 10 ms.

    The mel scale is O'Shaughnessy's, 2595 log10(1 + f/700); triangular filters; a Hann window of 25 ms.
    """
    padded = np.pad(samples, (0, max(_WINDOW - len(samples), 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(windows, _FFT)) ** 2 / _WINDOW
    return np.asarray(np.log(power @ _filters().T + _FLOOR), dtype=np.float32)


def _filters() -> NDArray[np.float64]:
    """`[bands, FFT/2 + 1]`."""
    mel = np.linspace(_mel(_LOW_HZ), _mel(_HIGH_HZ), MEL_BANDS + 2)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    at = np.fft.rfftfreq(_FFT, 1.0 / AUDIO_RATE_HZ)
    rising = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rising, falling), 0.0, None)


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


__all__ = ["AUDIO_RATE_HZ", "MEL_BANDS", "decode_audio", "log_mel"]

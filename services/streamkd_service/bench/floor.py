"""The floor: bare PyAV, a thread a camera, and bare int8 inference in batches; nothing that streamkd adds.

It reads as the live path does: the same share of the decoder left out, due frames converted to the pictures that the
student asks for (`streamkd.media.bare`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamkd.bundle import read_bundle
from streamkd.engine.openvino import bare_request
from streamkd.errors import UnavailableError
from streamkd.media.bare import BareCosts, read_bare
from streamkd_service.bench.waiting import pass_time, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

BATCH = 16
_START_S = 60.0
_WARM_FRAMES = 5  # converted of each camera, before the measurement
_INFERENCES = 40


@dataclass(frozen=True, slots=True)
class Floor:
    """CPU milliseconds of one stream and second.

    Attributes:
        reading_ms: Demux, decode, conversion of the due frames, and the threads' waking.
        decoded_hz: Frames decoded.
        converted_hz: Frames converted.
        inference_ms: Of one frame in a batch of 16.
        rate_hz: Frames that are analysed.
    """

    reading_ms: float
    decoded_hz: float
    converted_hz: float
    inference_ms: float
    rate_hz: float

    @property
    def total_ms(self) -> float:
        return self.reading_ms + self.inference_ms * self.rate_hz


def measure_floor(urls: Sequence[str], bundle: Path, seconds: float, *, skip_loop_filter: str = "default") -> Floor:
    """Measure the floor on live cameras, in a process of its own.

    Args:
        urls: Of the cameras.
        bundle: Of the student.
        seconds: How long to read.
        skip_loop_filter: As in the live path that is compared with it.

    Raises:
        UnavailableError: The process does not answer.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=_run, args=(tuple(urls), str(bundle), seconds, skip_loop_filter, there), daemon=True
    )
    process.start()
    there.close()
    try:
        if not here.poll(seconds + 2 * _START_S):
            raise UnavailableError("The measurement of the floor does not end.", hint="Try fewer cameras.")
        answer: Floor = here.recv()
    except EOFError:
        raise UnavailableError("The measurement of the floor failed.", hint="Try again.") from None
    finally:
        process.join(5.0)
        if process.is_alive():
            process.kill()
    return answer


def bare_inference_ms(bundle: Path, batch: int = BATCH, repeats: int = _INFERENCES) -> float:
    """CPU milliseconds of one frame in a bare int8 inference: no state is gathered, nothing is copied."""
    infer = bare_request(read_bundle(bundle), batch, np.random.default_rng(0))
    infer()
    samples = []
    for _ in range(repeats):
        began = time.thread_time()
        infer()
        samples.append(time.thread_time() - began)
    return float(np.median(samples)) / batch * 1e3


def _run(urls: Sequence[str], bundle: str, seconds: float, skip_loop_filter: str, pipe: Connection) -> None:
    from pathlib import Path  # noqa: PLC0415 - the annotation above is for the type checker only

    over = threading.Event()
    spec = read_bundle(Path(bundle)).spec
    costs = [BareCosts() for _ in urls]

    def read(url: str, cost: BareCosts) -> None:
        with contextlib.suppress(OSError):
            read_bare(url, cost, spec=spec, stopped=over.is_set, skip_loop_filter=skip_loop_filter)

    threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in zip(urls, costs, strict=True)]
    for thread in threads:
        thread.start()
    if not wait_until(lambda: min(cost.converted for cost in costs) >= _WARM_FRAMES, _START_S):
        return  # the other side says that it failed: a camera that gives nothing would look cheap
    frames, converted = (sum(cost.frames for cost in costs), sum(cost.converted for cost in costs))
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    pass_time(began_s + seconds)
    streams_s = (time.monotonic() - began_s) * len(urls)
    reading_ms = (time.process_time() - began_cpu_s) / streams_s * 1e3
    frames, converted = sum(c.frames for c in costs) - frames, sum(c.converted for c in costs) - converted
    over.set()
    for thread in threads:
        thread.join(2.0)
    inference_ms = bare_inference_ms(Path(bundle))
    pipe.send(Floor(reading_ms, frames / streams_s, converted / streams_s, inference_ms, spec.rate_hz))


__all__ = ["BATCH", "Floor", "bare_inference_ms", "measure_floor"]

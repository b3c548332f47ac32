"""`streamkd bench streams`: so many live RTSP cameras on this machine, server and all; what they cost, how late we are.

The picture with PTS `t` of a camera leaves the server at `began + t` (GStreamer sends on its pipeline's clock, which is
the machine's monotonic one). Latency runs from there to the end of the batch that analysed it, so neither a backlog in
a socket nor one inside ffmpeg hides. Due is what the server sent in the measured time, at the student's rate.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil

from streamkd.bundle import read_bundle
from streamkd.config import CameraConfig
from streamkd.media.reader import LOOP_FILTER
from streamkd_service.bench.floor import Floor, measure_floor
from streamkd_service.bench.live import LiveWorkers
from streamkd_service.bench.report import percentile
from streamkd_service.bench.rtsp import CameraServer, prepare_content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

LATENCY_LIMIT_MS = 500.0
_START_ALLOWANCE_S = 60.0  # for connecting and warming up, of the recordings' length
_SETTLE_S = 8.0  # a still scene is believed after three seconds
_GRACE_S = 1.5  # what was sent at the end of the measured time may be answered later
_FLOOR_CAMERAS = 16


@dataclass(frozen=True, slots=True)
class StreamsOptions:
    """One run.

    Attributes:
        cameras: How many.
        seconds: Measured time, warm-up excluded.
        still: Share of the cameras that show a still scene.
        workers: Worker processes; 0: as many as there are cores.
        floor_s: How long the floor is measured; 0: not at all.
        settings: Keys of every camera's configuration.
    """

    cameras: int
    seconds: float
    bundle: Path
    still: float = 0.0
    workers: int = 0
    floor_s: float = 10.0
    settings: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StreamsResult:
    """What was seen; the fields of `--json`."""

    cameras: int
    seconds: float
    still_share: float
    workers: int
    due: int
    analysed: int
    analysed_share: float  # of the due frames that the gate did not skip on purpose
    latency_p50_ms: float
    latency_p95_ms: float
    latency_max_ms: float
    latency_ok: int  # 1: p95 below 500 ms
    gated_share: float  # of all due frames
    catch_up: int  # frames that were skipped and analysed later, when the scene woke up
    catch_up_p95_ms: float | None
    answer_age_p95_s: float  # between two answers of one camera
    answer_age_max_s: float
    cpu_ms_per_stream_second: float
    floor_cpu_ms_per_stream_second: float | None
    floor: dict[str, float] | None
    rss_mb: float
    server_cpu_share: float  # of all cores
    server_cpu_ms_per_stream_second: float
    idle_share: float
    decoded_hz: float  # frames decoded of one stream and second
    dropped: dict[str, int]


def run_streams(options: StreamsOptions, say: Callable[[str], None] = lambda _: None) -> StreamsResult:
    """Run the benchmark: content, server, floor, then the live path.

    Raises:
        StreamkdError: The server or a worker does not start.
    """
    content = prepare_content(options.seconds + options.floor_s + _START_ALLOWANCE_S, still=options.still > 0, say=say)
    return measure_live(options, content.of(options.cameras, options.still), say)


def measure_live(
    options: StreamsOptions, recordings: dict[str, Path], say: Callable[[str], None] = lambda _: None
) -> StreamsResult:
    """Serve recordings as cameras, measure the floor, then the live path; see `run_streams`."""
    spec = read_bundle(options.bundle).spec
    workers = min(options.workers or len(os.sched_getaffinity(0)), options.cameras)
    with CameraServer(recordings) as server:
        floor = None
        if options.floor_s > 0:
            say(f"Measuring the floor for {options.floor_s:g} s")
            # Spread over all, so that the shares of still and moving ones are about the run's.
            urls = list(server.urls.values())
            some = urls[:: max(1, len(urls) // _FLOOR_CAMERAS)]
            skip = str((options.settings or {}).get("skip_loop_filter", _default_loop_filter()))
            floor = measure_floor(some, options.bundle, options.floor_s, skip_loop_filter=LOOP_FILTER[skip])
        say(f"Connecting {options.cameras} cameras to {workers} worker processes")
        with LiveWorkers(server.urls, options.bundle, workers, settings=options.settings) as live:
            live.wait_ready()
            time.sleep(_SETTLE_S)
            say(f"Measuring for {options.seconds:g} s")
            before, window, after = _measure(server, live, options.seconds)
            answers = live.finish()
        began_s = dict(server.began_s)
    return _result(options, workers, spec.rate_hz, _Taken(before, after, window, answers, began_s, floor))


def _default_loop_filter() -> str:
    return str(CameraConfig.model_fields["skip_loop_filter"].default)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Counters at one moment."""

    at_s: float
    workers_cpu_s: float
    server_cpu_s: float
    machine_idle_s: float
    totals: dict[str, dict[str, int]]
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class _Taken:
    before: _Mark
    after: _Mark
    window: tuple[float, float]
    answers: Sequence[tuple[str, float, float, bool]]
    began_s: dict[str, float]
    floor: Floor | None


def _measure(server: CameraServer, live: LiveWorkers, seconds: float) -> tuple[_Mark, tuple[float, float], _Mark]:
    before = _mark(server, live)
    time.sleep(max(0.0, before.at_s + seconds - time.monotonic()))
    after = _mark(server, live)
    time.sleep(_GRACE_S)
    return before, (before.at_s, after.at_s), after


def _mark(server: CameraServer, live: LiveWorkers) -> _Mark:
    totals, rss = live.totals(), live.rss_bytes()
    return _Mark(time.monotonic(), live.cpu_s(), server.cpu_s(), psutil.cpu_times().idle, totals, rss)


def _result(options: StreamsOptions, workers: int, rate_hz: float, taken: _Taken) -> StreamsResult:
    start_s, end_s = taken.window
    took_s = end_s - start_s
    stream_seconds = took_s * options.cameras
    due = round(stream_seconds * rate_hz)
    inside = _inside(taken)
    live_ms = [latency for _, _, latency, caught_up in inside if not caught_up]
    late_ms = [latency for _, _, latency, caught_up in inside if caught_up]
    ages_s = answer_ages_s([(camera, finished) for camera, finished, _, _ in inside])
    gated = _difference(taken, "gated") - len(late_ms)
    cpu_ms = (taken.after.workers_cpu_s - taken.before.workers_cpu_s) / stream_seconds * 1e3
    server_s = taken.after.server_cpu_s - taken.before.server_cpu_s
    cores = len(os.sched_getaffinity(0))
    p95 = percentile(live_ms, 0.95)
    return StreamsResult(
        cameras=options.cameras,
        seconds=round(took_s, 2),
        still_share=options.still,
        workers=workers,
        due=due,
        analysed=len(inside),
        analysed_share=min(1.0, len(inside) / max(1, due - gated)),
        latency_p50_ms=percentile(live_ms, 0.5),
        latency_p95_ms=p95,
        latency_max_ms=max(live_ms, default=float("nan")),
        latency_ok=int(p95 < LATENCY_LIMIT_MS),
        gated_share=max(0, gated) / due,
        catch_up=len(late_ms),
        catch_up_p95_ms=percentile(late_ms, 0.95) if late_ms else None,
        answer_age_p95_s=percentile(ages_s, 0.95),
        answer_age_max_s=max(ages_s, default=float("nan")),
        cpu_ms_per_stream_second=cpu_ms,
        floor_cpu_ms_per_stream_second=None if taken.floor is None else taken.floor.total_ms,
        floor=None if taken.floor is None else asdict(taken.floor),
        rss_mb=taken.after.rss_bytes / 1e6,
        server_cpu_share=server_s / (took_s * cores),
        server_cpu_ms_per_stream_second=server_s / stream_seconds * 1e3,
        idle_share=(taken.after.machine_idle_s - taken.before.machine_idle_s) / (took_s * cores),
        decoded_hz=_difference(taken, "decoded") / stream_seconds,
        dropped={
            key.removeprefix("dropped_"): _difference(taken, key)
            for key in sorted({key for counts in taken.after.totals.values() for key in counts if "dropped" in key})
        },
    )


def _inside(taken: _Taken) -> list[tuple[str, float, float, bool]]:
    """Answers to what was sent in the measured time: camera, finished, latency in ms, caught up."""
    start_s, end_s = taken.window
    found = []
    for camera, pts_s, finished_s, caught_up in taken.answers:
        sent_s = taken.began_s[camera] + pts_s
        if start_s <= sent_s < end_s:
            found.append((camera, finished_s, (finished_s - sent_s) * 1e3, caught_up))
    return found


def answer_ages_s(answers: Sequence[tuple[str, float]]) -> list[float]:
    """How old each camera's answer was when the next one came, from `(camera, finished)`; seconds."""
    by_camera: dict[str, list[float]] = defaultdict(list)
    for camera, finished_s in answers:
        by_camera[camera].append(finished_s)
    return [later - earlier for times in by_camera.values() for earlier, later in pairwise(sorted(times))]


def _difference(taken: _Taken, key: str) -> int:
    return sum(
        counts.get(key, 0) - taken.before.totals.get(camera, {}).get(key, 0)
        for camera, counts in taken.after.totals.items()
    )


__all__ = ["LATENCY_LIMIT_MS", "StreamsOptions", "StreamsResult", "answer_ages_s", "measure_live", "run_streams"]

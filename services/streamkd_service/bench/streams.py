"""`streamkd bench streams`: so many live RTSP cameras on this machine, server and all; what they cost, how late we are.

The picture with PTS `t` of a camera leaves the server at `began + t` (GStreamer sends on its pipeline's clock, which is
the machine's monotonic one). Latency runs from there to the end of the batch that analysed it, so neither a backlog in
a socket nor one inside ffmpeg hides. Due is what the server sent in the measured time, as it says itself, at the
student's rate.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import floor
from typing import TYPE_CHECKING

import psutil

from streamkd.bundle import read_bundle
from streamkd.config import CameraConfig
from streamkd.media.reader import LOOP_FILTER
from streamkd_service.bench.floor import Floor, measure_floor
from streamkd_service.bench.live import Answered, LiveWorkers
from streamkd_service.bench.report import percentile
from streamkd_service.bench.rtsp import FPS, CameraServer, prepare_content, sent_s
from streamkd_service.bench.waiting import pass_time
from streamkd_service.runtime.processors import usable_processors
from streamkd_service.runtime.slots import workers_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

LATENCY_LIMIT_MS = 500.0
_START_ALLOWANCE_S = 120.0  # for connecting and warming up, of the recordings' length
_SETTLE_S = 8.0  # of stream from each camera before the measured time; a still scene is believed after three
_UNHURRIED_IN_S = 60.0
_SETTLED_IN_S = 30.0  # where it takes longer than that, the result shows it
_GRACE_S = 1.5  # what was sent at the end of the measured time may be answered so much later, and no more
ANALYSED_LEAST, AGE_LIMIT_S = 0.99, 2.0
MEMORY_FROM_S = 300.0  # growth of memory counts from here on: histories and rings of the cameras have filled by then
_MEMORY_EVERY_S, _MEMORY_SPAN_S = 5.0, 60.0
_TAKE_EVERY_S = 1.0
_FLOOR_CAMERAS = 16
_WHOLE = 1e-6  # of a frame: sums of times are not exact


@dataclass(frozen=True, slots=True)
class StreamsOptions:
    """One run.

    Attributes:
        cameras: How many.
        seconds: Measured time, warm-up excluded.
        still: Share of the cameras that show a still scene.
        workers: Worker processes; 0: as many as the service starts for so many cameras.
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
    sent_share: float  # what the server sent, of what real time asks of it
    analysed: int
    analysed_share: float  # of the due frames that the gate did not skip on purpose
    latency_p50_ms: float
    latency_p95_ms: float
    latency_max_ms: float
    latency_ok: int  # 1: p95 below 500 ms
    gated_share: float  # of all due frames
    repeated: int  # of the gated ones: decoded, nothing new in them, the last answer again
    catch_up: int  # frames that were skipped and analysed later, when the scene woke up
    catch_up_p95_ms: float | None
    answer_age_p95_s: float  # between two answers of one camera
    answer_age_max_s: float
    ok: int  # 1: at least 99 % analysed, p95 below 500 ms, no answer older than 2 s
    cpu_ms_per_stream_second: float
    floor_cpu_ms_per_stream_second: float | None
    floor: dict[str, float] | None
    rss_mb: float
    pss_mb: float  # what the workers share counted once
    pss_minute_5_mb: float | None  # in runs that are longer
    pss_growth: float | None  # from minute 5 to the end
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
    processors = len(usable_processors())
    workers = min(options.workers or workers_for(options.cameras, processors), options.cameras)
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
            live.wait_unhurried(_UNHURRIED_IN_S)
            live.wait_for_pictures(round(_SETTLE_S * FPS), _SETTLED_IN_S)
            say(f"Measuring for {options.seconds:g} s")
            before, after, answers, memory = _measure(server, live, options.seconds)
        began_s = dict(server.began_s)
    return judge(options, workers, spec.rate_hz, Taken(before, after, answers, began_s, floor, memory))


def _default_loop_filter() -> str:
    return str(CameraConfig.model_fields["skip_loop_filter"].default)


@dataclass(frozen=True, slots=True)
class Mark:
    """Counters at one moment."""

    at_s: float
    workers_cpu_s: float
    server_cpu_s: float
    machine_idle_s: float
    totals: dict[str, dict[str, int]]
    sent_ticks: dict[str, int]
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Taken:
    """All that was seen in one run.

    Attributes:
        before: Counters when the measured time began.
        after: Counters when it ended.
        answers: Every answer from then on, those of the time after included.
        began_s: When each camera's stream began; the picture with PTS t was sent t later.
        floor: Where it was measured.
        memory: Seconds of the measured time, PSS of all workers in bytes.
    """

    before: Mark
    after: Mark
    answers: Sequence[Answered]
    began_s: dict[str, float]
    floor: Floor | None
    memory: Sequence[tuple[float, int]]

    def pss_bytes(self, until_s: float) -> float:
        """The median of the last minute before a moment of the measured time."""
        return statistics.median(size for at_s, size in self.memory if until_s - _MEMORY_SPAN_S <= at_s <= until_s)


def _measure(
    server: CameraServer, live: LiveWorkers, seconds: float
) -> tuple[Mark, Mark, list[Answered], list[tuple[float, int]]]:
    live.take_answers()  # of the time before
    before, answers, memory = _mark(server, live), [], []
    end_s = before.at_s + seconds
    follows_memory, next_s = seconds > MEMORY_FROM_S, before.at_s
    while (now_s := time.monotonic()) < end_s:
        if follows_memory and now_s >= next_s:
            memory.append((now_s - before.at_s, live.pss_bytes()))
            next_s += _MEMORY_EVERY_S
        answers += live.take_answers()
        pass_time(min(end_s, now_s + _TAKE_EVERY_S))
    after = _mark(server, live)
    memory.append((after.at_s - before.at_s, live.pss_bytes()))
    pass_time(after.at_s + _GRACE_S)
    return before, after, answers + live.finish(), memory


def _mark(server: CameraServer, live: LiveWorkers) -> Mark:
    totals, rss = live.totals(), live.rss_bytes()
    cpu_s, server_cpu_s, idle_s = live.cpu_s(), server.cpu_s(), psutil.cpu_times().idle
    asked_s = time.monotonic()
    sent_ticks = server.sent_ticks()
    return Mark((asked_s + time.monotonic()) / 2, cpu_s, server_cpu_s, idle_s, totals, sent_ticks, rss)


def judge(options: StreamsOptions, workers: int, rate_hz: float, taken: Taken) -> StreamsResult:
    """What a run says; every definition of the figures is here."""
    before, after = taken.before, taken.after
    took_s = after.at_s - before.at_s
    stream_seconds = took_s * options.cameras
    sent_by_camera = sent_s(before.sent_ticks, after.sent_ticks, took_s)
    sent = sum(sent_by_camera.values())
    due = max(1, round(sent * rate_hz))
    inside = _inside(taken)
    live_ms = [latency for answer, latency in inside if not answer.caught_up]
    late_ms = [latency for answer, latency in inside if answer.caught_up]
    finished = [(answer.camera, answer.finished_s) for answer, _ in inside]
    analysed = sum(not answer.repeated for answer, _ in inside)
    ages_s = answer_ages_s(finished, list(taken.began_s), (before.at_s, after.at_s))
    gated = max(0, _difference(taken, "gated") - _difference(taken, "caught_up"))
    cpu_ms = (after.workers_cpu_s - before.workers_cpu_s) / stream_seconds * 1e3
    server_s = after.server_cpu_s - before.server_cpu_s
    cores = len(usable_processors())
    p95 = percentile(live_ms, 0.95)
    analysed_share = _analysed_share(taken, sent_by_camera, rate_hz, (answer for answer, _ in inside))
    pss = taken.pss_bytes(took_s)
    minute_5 = taken.pss_bytes(MEMORY_FROM_S) if took_s > MEMORY_FROM_S + _MEMORY_SPAN_S else None
    return StreamsResult(
        cameras=options.cameras,
        seconds=round(took_s, 2),
        still_share=options.still,
        workers=workers,
        due=due,
        sent_share=sent / stream_seconds,
        analysed=analysed,
        analysed_share=analysed_share,
        latency_p50_ms=percentile(live_ms, 0.5),
        latency_p95_ms=p95,
        latency_max_ms=max(live_ms, default=float("nan")),
        latency_ok=int(p95 < LATENCY_LIMIT_MS),
        gated_share=gated / due,
        repeated=len(inside) - analysed,
        catch_up=len(late_ms),
        catch_up_p95_ms=percentile(late_ms, 0.95) if late_ms else None,
        answer_age_p95_s=percentile(ages_s, 0.95),
        answer_age_max_s=max(ages_s),
        ok=int(analysed_share >= ANALYSED_LEAST and p95 < LATENCY_LIMIT_MS and max(ages_s) <= AGE_LIMIT_S),
        cpu_ms_per_stream_second=cpu_ms,
        floor_cpu_ms_per_stream_second=None if taken.floor is None else taken.floor.total_ms,
        floor=None if taken.floor is None else asdict(taken.floor),
        rss_mb=after.rss_bytes / 1e6,
        pss_mb=pss / 1e6,
        pss_minute_5_mb=None if minute_5 is None else minute_5 / 1e6,
        pss_growth=None if minute_5 is None else pss / minute_5 - 1.0,
        server_cpu_share=server_s / (took_s * cores),
        server_cpu_ms_per_stream_second=server_s / stream_seconds * 1e3,
        idle_share=(after.machine_idle_s - before.machine_idle_s) / (took_s * cores),
        decoded_hz=_difference(taken, "decoded") / stream_seconds,
        dropped={
            key.removeprefix("dropped_"): _difference(taken, key)
            for key in sorted({key for counts in after.totals.values() for key in counts if "dropped" in key})
        },
    )


def _analysed_share(taken: Taken, sent: Mapping[str, float], rate_hz: float, answers: Iterable[Answered]) -> float:
    """Of the due frames that the gate did not leave out on purpose, those that were analysed.

    Camera by camera: a still scene is looked at between its due frames too, which makes up for no loss elsewhere. What
    was caught up on was due, whether it was analysed in the end or not.
    """
    seen = Counter(answer.camera for answer in answers if not answer.repeated)
    wanted = done = 0
    for camera, sent_for_s in sent.items():
        left_out = _difference_of(taken, camera, "gated") - _difference_of(taken, camera, "caught_up")
        due = max(0, floor(sent_for_s * rate_hz + _WHOLE) - left_out)
        wanted += due
        done += min(due, seen[camera])
    return done / wanted if wanted else 1.0


def _inside(taken: Taken) -> list[tuple[Answered, float]]:
    """Answers to what was sent in the measured time, and their latency in ms."""
    start_s, end_s = taken.before.at_s, taken.after.at_s
    found = []
    for answer in taken.answers:
        sent_s = taken.began_s[answer.camera] + answer.pts_s
        if start_s <= sent_s < end_s:
            found.append((answer, (answer.finished_s - sent_s) * 1e3))
    return found


def answer_ages_s(
    answers: Sequence[tuple[str, float]], cameras: Sequence[str], window: tuple[float, float]
) -> list[float]:
    """How old each camera's last answer became before the next one, in seconds.

    Args:
        answers: Camera, and when it was finished.
        cameras: All of them: one without an answer has one as old as the window.
        window: Begin and end of the measured time; both count as answers, so that silence at an end shows.
    """
    start_s, end_s = window
    by_camera: dict[str, list[float]] = {camera: [start_s, end_s] for camera in cameras}
    for camera, finished_s in answers:
        by_camera[camera].append(min(finished_s, end_s))
    return [later - earlier for times in by_camera.values() for earlier, later in pairwise(sorted(times))]


def _difference(taken: Taken, key: str) -> int:
    return sum(_difference_of(taken, camera, key) for camera in taken.after.totals)


def _difference_of(taken: Taken, camera: str, key: str) -> int:
    return taken.after.totals.get(camera, {}).get(key, 0) - taken.before.totals.get(camera, {}).get(key, 0)


__all__ = [
    "AGE_LIMIT_S",
    "ANALYSED_LEAST",
    "LATENCY_LIMIT_MS",
    "Mark",
    "StreamsOptions",
    "StreamsResult",
    "Taken",
    "answer_ages_s",
    "judge",
    "measure_live",
    "run_streams",
]

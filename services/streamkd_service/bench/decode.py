"""`streamkd bench decode`: what reading a stream costs at least, from a file and over RTSP; what can be left out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamkd.bundle import read_bundle
from streamkd.errors import UnavailableError
from streamkd.media.bare import BareCosts, read_bare
from streamkd_service.bench.rtsp import FPS, CameraServer, prepare_content
from streamkd_service.bench.waiting import pass_time, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamkd.bundle import StudentSpec
    from streamkd_service.bench.accuracy import Accuracy
    from streamkd_service.bench.paces import PaceAccuracy

# Name, ffmpeg's skip_frame, ffmpeg's skip_loop_filter.
WAYS = (
    ("everything", "DEFAULT", "default"),
    ("no loop filter but on keyframes", "DEFAULT", "nokey"),
    ("no loop filter", "DEFAULT", "all"),
    ("no unreferenced frames", "NONREF", "default"),
    ("keyframes only", "NONKEY", "default"),
)
_RTSP_CAMERAS = 4
_SETTLE_S = 1.5  # of stream, before the measurement
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """CPU milliseconds of the reading threads for one picture that came (not only those decoded); medians of rounds."""

    source: str  # "file", "rtsp"
    way: str
    demux_ms: float
    decode_ms: float
    convert_ms: float  # of the due ones to what the student asks for
    convert_each_ms: float  # the same, of one that is converted
    square_each_ms: float  # one squeezed to a square of the student's input size, as without the gaze; in no sum
    stream_second_ms: float  # demux, decode and convert, for a second of one stream; 15 pictures
    spread: float  # of that, (max - min) / median over the rounds


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """What was seen; `accuracy` and `paces` only where they were asked for."""

    costs: tuple[DecodeCost, ...]
    accuracy: tuple[Accuracy, ...] = ()
    paces: tuple[PaceAccuracy, ...] = ()


def run_decode(
    seconds: float,
    rounds: int,
    bundle: Path,
    *,
    accuracy_on: Sequence[Path] = (),
    say: Callable[[str], None] = lambda _: None,
) -> DecodeResult:
    """Measure; rounds alternate between the ways, and for each way between file and RTSP.

    Args:
        seconds: Of stream in each measurement.
        rounds: Measurements of each.
        bundle: The student that due pictures are converted for.
        accuracy_on: Folders of labelled clips for what leaving decoding out, and slowing a camera, cost in accuracy.
        say: Progress.
    """
    content = prepare_content(rounds * len(WAYS) * (seconds + _SETTLE_S) + 30.0, still=False, say=say)
    spec = read_bundle(bundle).spec
    samples: dict[tuple[str, str], list[BareCosts]] = {}
    with CameraServer(content.of(_RTSP_CAMERAS, 0.0)) as server:
        urls = list(server.urls.values())
        for number in range(rounds):
            say(f"Round {number + 1} of {rounds}")
            for way in WAYS:
                samples.setdefault(("file", way[0]), []).append(_from_file(content.moving[0], spec, seconds, way))
                samples.setdefault(("rtsp", way[0]), []).append(_from_rtsp(urls, spec, seconds, way))
    result = DecodeResult(tuple(_cost(*key, values) for key, values in samples.items()))
    if accuracy_on:
        from streamkd_service.bench.accuracy import measure_accuracy  # noqa: PLC0415 - loads scikit-learn
        from streamkd_service.bench.paces import measure_paces  # noqa: PLC0415 - the same

        say("Scoring clips")
        accuracy, paces = measure_accuracy(accuracy_on, bundle, say), measure_paces(accuracy_on, bundle, say)
        result = replace(result, accuracy=tuple(accuracy), paces=tuple(paces))
    return result


def _from_file(path: Path, spec: StudentSpec, seconds: float, way: tuple[str, str, str]) -> BareCosts:
    costs = BareCosts()
    enough = round(seconds * FPS)
    left_out = {"skip_frame": way[1], "skip_loop_filter": way[2]}
    read_bare(str(path), costs, spec=spec, stopped=lambda: costs.packets >= enough, square=True, **left_out)
    return costs


def _from_rtsp(urls: Sequence[str], spec: StudentSpec, seconds: float, way: tuple[str, str, str]) -> BareCosts:
    """Of several cameras at once, each on a thread of its own, after a second or so."""
    options = {"spec": spec, "skip_frame": way[1], "skip_loop_filter": way[2], "square": True}
    over, each = threading.Event(), [BareCosts() for _ in urls]
    threads = [
        threading.Thread(
            target=read_bare,
            args=(url, costs),
            kwargs=options | {"stopped": over.is_set},
            daemon=True,
        )
        for url, costs in zip(urls, each, strict=True)
    ]
    for thread in threads:
        thread.start()
    settled = _SETTLE_S * FPS
    if not wait_until(lambda: min(costs.packets for costs in each) >= settled, _START_S):
        over.set()
        raise UnavailableError("Not every camera of the benchmark gives pictures.", hint="Try again.")
    before, total = _sum(each), BareCosts()
    pass_time(time.monotonic() + seconds)
    after = _sum(each)
    over.set()
    for thread in threads:
        thread.join(3.0)
    for name in BareCosts.__slots__:
        setattr(total, name, getattr(after, name) - getattr(before, name))
    return total


def _sum(each: Sequence[BareCosts]) -> BareCosts:
    total = BareCosts()
    for costs in each:
        total.add(costs)
    return total


def _cost(source: str, way: str, samples: Sequence[BareCosts]) -> DecodeCost:
    def per_packet(name: str) -> np.ndarray:
        return np.array([getattr(costs, name) / max(1, costs.packets) * 1e3 for costs in samples])

    def per_converted(name: str) -> float:
        return float(np.median([getattr(costs, name) / max(1, costs.converted) * 1e3 for costs in samples]))

    demux, decode, convert = per_packet("demux_s"), per_packet("decode_s"), per_packet("convert_s")
    each = [per_converted(name) for name in ("convert_s", "square_s")]
    whole = (demux + decode + convert) * FPS
    middle = float(np.median(whole))
    return DecodeCost(
        source=source,
        way=way,
        demux_ms=float(np.median(demux)),
        decode_ms=float(np.median(decode)),
        convert_ms=float(np.median(convert)),
        convert_each_ms=each[0],
        square_each_ms=each[1],
        stream_second_ms=middle,
        spread=float(np.ptp(whole)) / middle if middle else 0.0,
    )


__all__ = ["WAYS", "DecodeCost", "DecodeResult", "run_decode"]

"""Several runs of `streamkd bench streams`: the same again, other numbers of cameras, the largest number that holds."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from streamkd.errors import InputError
from streamkd_service.bench.streams import ANALYSED_LEAST, run_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd_service.bench.streams import StreamsOptions, StreamsResult

LINEAR_WITHIN = 0.15
# What stands for several runs in `--json`: the worst where a goal is missed by one bad run, else the median.
_LEAST = ("analysed_share", "latency_ok", "ok", "sent_share")
_MOST = ("latency_p50_ms", "latency_p95_ms", "latency_max_ms", "answer_age_p95_s", "answer_age_max_s", "rss_mb")
_MIDDLE = (
    "cpu_ms_per_stream_second",
    "floor_cpu_ms_per_stream_second",
    "gated_share",
    "server_cpu_share",
    "idle_share",
    "pss_mb",
)


@dataclass(frozen=True, slots=True)
class Linearity:
    """CPU of one stream by how many there are.

    Attributes:
        cameras: How many.
        cpu_ms: Of one stream and second; the median of the runs.
        floor_ms: The same of the floor, where it was measured.
        spread: The farthest from the mean, as a share of it.
        seen_whole: Whether at least 99 % was analysed at each number: what is left undone costs nothing.
    """

    cameras: tuple[int, ...]
    cpu_ms: tuple[float, ...]
    floor_ms: tuple[float | None, ...]
    spread: float
    seen_whole: bool

    @property
    def ok(self) -> bool:
        return self.spread <= LINEAR_WITHIN and self.seen_whole

    def verdict(self) -> str:
        """In a sentence."""
        far = f"CPU a stream and second is within ±{self.spread:.0%} of its mean (goal: ±{LINEAR_WITHIN:.0%})"
        whole = "" if self.seen_whole else ", but at some number not all was analysed, so that this shows nothing yet"
        return f"{far}{whole}: {'met' if self.ok else '**not met**'}."


def numbers(text: str) -> list[int]:
    """Numbers of cameras from `8,16,32`.

    Raises:
        InputError: It is something else.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{text!r} is no list of numbers of cameras.", hint="Write one, such as 16, or 8,16,32,48.")
    return [int(word) for word in words]


def bounds(text: str) -> tuple[int, int]:
    """The bounds of a search from `LOW:HIGH`.

    Raises:
        InputError: It is something else.
    """
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and 0 < int(low) <= int(high)):
        raise InputError(f"{text!r} is no range of numbers of cameras.", hint="Write --search LOW:HIGH, such as 24:64.")
    return int(low), int(high)


def run_rounds(
    options: StreamsOptions, rounds: int, say: Callable[[str], None], *, until_one_fails: bool = False
) -> list[StreamsResult]:
    """The same run several times.

    Args:
        options: Of each run.
        rounds: How many.
        say: Progress.
        until_one_fails: Stop after a run that does not hold.
    """
    results: list[StreamsResult] = []
    for number in range(rounds):
        say(f"{options.cameras} cameras, run {number + 1} of {rounds}")
        results.append(run_streams(options, say))
        if until_one_fails and not results[-1].ok:
            break
    return results


def run_search(
    options: StreamsOptions, low: int, high: int, rounds: int, say: Callable[[str], None]
) -> tuple[int, dict[int, list[StreamsResult]]]:
    """The largest number of cameras that holds in every round; 0: not even `low`. Returns every run by number too."""
    seen: dict[int, list[StreamsResult]] = {}

    def holds(cameras: int) -> bool:
        seen[cameras] = run_rounds(replace(options, cameras=cameras), rounds, say, until_one_fails=True)
        whole = len(seen[cameras]) == rounds and all(result.ok for result in seen[cameras])
        say(f"{cameras} cameras {'hold' if whole else 'do not hold'}")
        return whole

    return largest(low, high, holds), seen


def largest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest number from `low` to `high` that holds, if all below it do; 0: not even `low`. By bisection."""
    if not holds(low):
        return 0
    if high > low and holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def linearity(results: Sequence[Sequence[StreamsResult]]) -> Linearity:
    """How the cost of a stream depends on how many there are; the runs of each number."""
    costs = [statistics.median(run.cpu_ms_per_stream_second for run in runs) for runs in results]
    floors = [
        [run.floor_cpu_ms_per_stream_second for run in runs if run.floor_cpu_ms_per_stream_second is not None]
        for runs in results
    ]
    mean = statistics.fmean(costs)
    return Linearity(
        cameras=tuple(runs[0].cameras for runs in results),
        cpu_ms=tuple(costs),
        floor_ms=tuple(statistics.median(found) if found else None for found in floors),
        spread=max(abs(cost - mean) for cost in costs) / mean,
        seen_whole=all(run.analysed_share >= ANALYSED_LEAST for runs in results for run in runs),
    )


def linearity_plot(seen: Linearity) -> str:
    """An SVG file: CPU of a stream over the number of cameras, with the band that is allowed."""
    from streamkd.distill.plots import Line, line_chart  # noqa: PLC0415 - only where it is drawn

    mean = statistics.fmean(seen.cpu_ms)
    ends = (min(seen.cameras), max(seen.cameras))
    lines = [Line("streamkd", seen.cameras, seen.cpu_ms)]
    if None not in seen.floor_ms:
        lines.append(Line("floor", seen.cameras, [value or 0.0 for value in seen.floor_ms]))
    lines += [
        Line(f"{sign}{LINEAR_WITHIN:.0%}", ends, [mean * (1 + share)] * 2)
        for sign, share in (("+", LINEAR_WITHIN), ("−", -LINEAR_WITHIN))  # noqa: RUF001 - a minus sign
    ]
    top = 1.2 * max(value for line in lines for value in line.y)
    chart = line_chart(lines, x_label="cameras", y_label="CPU, ms a stream and second", y_range=(0.0, top))
    style = '<style>text{font:11px sans-serif;fill:#444}</style><rect width="100%" height="100%" fill="#fff"/>'
    head, _, rest = chart.partition(">")
    named = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{named}>{style}{rest}\n"


def as_json(results: Sequence[StreamsResult]) -> dict[str, Any]:
    """For `--json`: one run as it is; of several each, and what stands for all of them."""
    if len(results) == 1:
        return asdict(results[0])
    found: dict[str, Any] = {"cameras": results[0].cameras, "still_share": results[0].still_share}
    for names, choose in ((_LEAST, min), (_MOST, max), (_MIDDLE, statistics.median)):
        for name in names:
            values = [getattr(result, name) for result in results]
            found[name] = None if None in values else choose(values)
    return found | {"ok_runs": sum(result.ok for result in results), "runs": [asdict(result) for result in results]}


__all__ = [
    "LINEAR_WITHIN",
    "Linearity",
    "as_json",
    "bounds",
    "largest",
    "linearity",
    "linearity_plot",
    "numbers",
    "run_rounds",
    "run_search",
]

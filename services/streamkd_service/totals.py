"""Cumulative figures of worker incarnations, added up so that nothing ever falls.

A worker counts from zero again after a restart, and a camera that moves is counted by two workers. What is added is
the difference to what the same incarnation said before; an incarnation heard of for the first time began at zero.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from streamkd_service.runtime.ports import HistogramTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamkd_service.runtime.ports import WorkerTotals

Series = tuple[str, ...]  # name, then label values
HISTOGRAMS = ("decode_ms", "inference_ms", "end_to_end_ms", "batch_size")
_INCARNATIONS_KEPT = 256


class TotalsFold:
    """Sums by series; feed it the same totals twice and nothing changes."""

    def __init__(self) -> None:
        self._sums: defaultdict[Series, float] = defaultdict(float)
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._said: OrderedDict[tuple[str, str], tuple[float, dict[Series, float]]] = OrderedDict()

    def fold(self, totals: Iterable[WorkerTotals]) -> None:
        """Add what is new in the latest totals of each incarnation."""
        for one in totals:
            self._fold(one)
        while len(self._said) > _INCARNATIONS_KEPT:
            self._said.popitem(last=False)

    def value(self, *series: str) -> float:
        return self._sums.get(series, 0.0)

    def get(self, series: Series) -> float:
        """As `value`, for a series that is at hand: tens of thousands are asked for at every scrape."""
        return self._sums.get(series, 0.0)

    def labels(self, name: str) -> list[tuple[str, ...]]:
        """Label values of all series with this name."""
        return sorted(series[1:] for series in self._sums if series[0] == name)

    def histogram(self, name: str, worker_id: str) -> HistogramTotals:
        bounds = self._bounds.get(name, ())
        counts = tuple(int(self.value(name, worker_id, repr(bound))) for bound in bounds)
        return HistogramTotals(bounds, counts, self.value(f"{name}_sum", worker_id))

    def _fold(self, totals: WorkerTotals) -> None:
        key = (totals.worker_id, totals.epoch)
        cpu_s, before = self._said.get(key, (0.0, {}))
        if totals.cpu_s < cpu_s:
            return  # overtaken by a later report
        now = dict(_flat(totals))
        for series, value in now.items():
            last = before.get(series, 0.0)
            self._sums[series] += value - last if value >= last else value
        for name in HISTOGRAMS:
            self._bounds[name] = getattr(totals, name).bounds
        # A camera that is not mentioned now keeps what was said of it: it may come back to the same worker.
        self._said[key] = (totals.cpu_s, before | now)
        self._said.move_to_end(key)


def _flat(totals: WorkerTotals) -> Iterator[tuple[Series, float]]:
    for camera in totals.cameras:
        for name in ("received", "decoded", "analysed", "repeated", "gated", "caught_up", "stalls"):
            yield (name, camera.camera_id), getattr(camera, name)
        for reason, count in camera.dropped.items():
            yield ("dropped", camera.camera_id, str(reason)), count
        for reason, count in camera.reconnects.items():
            yield ("reconnects", camera.camera_id, str(reason)), count
    yield ("cpu_s", totals.worker_id), totals.cpu_s
    for name in HISTOGRAMS:
        histogram: HistogramTotals = getattr(totals, name)
        for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
            yield (name, totals.worker_id, repr(bound)), count
        yield (f"{name}_sum", totals.worker_id), histogram.sum


__all__ = ["HISTOGRAMS", "Series", "TotalsFold"]

"""Whatever workers and cameras do, a counter on the page only rises, and it counts every frame once."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streamkd_service.runtime.ports import CameraTotals, HistogramTotals, WorkerTotals
from streamkd_service.totals import TotalsFold

EMPTY = HistogramTotals((1.0, float("inf")), (0, 0), 0.0)
WORKERS = ("worker-0", "worker-1")
CAMERAS = ("gate", "lobby")


class Workers:
    """Workers as they really count: from zero at each restart, never backwards in between."""

    def __init__(self):
        self.epochs = dict.fromkeys(WORKERS, 0)
        self.counts = defaultdict(int)
        self.cpu_s = 0.0
        self.told = {}
        self.true = defaultdict(int)

    def analyse(self, worker, camera, frames):
        self.counts[worker, self.epochs[worker], camera] += frames
        self.true[camera] += frames

    def restart(self, worker):
        self.report(worker)  # what was counted after the last report of a killed worker is lost for everyone
        self.epochs[worker] += 1

    def report(self, worker):
        epoch = self.epochs[worker]
        self.cpu_s += 1
        mine = {camera: n for (w, e, camera), n in self.counts.items() if (w, e) == (worker, epoch)}
        cameras = tuple(CameraTotals(camera, received=n) for camera, n in mine.items())
        self.told[worker, epoch] = WorkerTotals(worker, str(epoch), cameras, EMPTY, EMPTY, EMPTY, EMPTY, 0, self.cpu_s)


actions = st.one_of(
    st.tuples(st.just("analyse"), st.sampled_from(WORKERS), st.sampled_from(CAMERAS), st.integers(0, 50)),
    st.tuples(st.just("restart"), st.sampled_from(WORKERS)),
    st.tuples(st.just("report"), st.sampled_from(WORKERS)),
    st.tuples(st.just("scrape")),
    st.tuples(st.just("late"), st.integers(0, 5)),
)


@given(st.lists(actions, max_size=40))
def test_counters_rise_and_count_every_reported_frame_once(script):
    workers, fold, history = Workers(), TotalsFold(), []
    seen = dict.fromkeys(CAMERAS, 0.0)
    for name, *arguments in script:
        if name == "scrape":
            fold.fold(workers.told.values())
        elif name == "late":  # an answer that was on its way for long
            fold.fold(history[-1 - arguments[0] :][:1])
        else:
            getattr(workers, name)(*arguments)
            history += list(workers.told.values())[-1:]
        for camera in CAMERAS:
            assert fold.value("received", camera) >= seen[camera]
            seen[camera] = fold.value("received", camera)
    for worker in WORKERS:
        workers.report(worker)
    fold.fold(workers.told.values())
    assert {camera: fold.value("received", camera) for camera in CAMERAS} == {c: workers.true[c] for c in CAMERAS}

"""The benchmarks of the live path, without a camera: what is waited for, what is counted, what the floor is."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import pytest

from streamkd.bundle import read_bundle
from streamkd.errors import DependencyError, InputError, UnavailableError
from streamkd.media import bare
from streamkd.media.bare import BareCosts, read_bare
from streamkd_service.bench import streams_many
from streamkd_service.bench.compare_roboflow import check_environment, run_pipeline
from streamkd_service.bench.live import Answered
from streamkd_service.bench.rtsp import sent_s
from streamkd_service.bench.sections import streams_tables
from streamkd_service.bench.streams import Mark, StreamsOptions, StreamsResult, Taken, answer_ages_s, judge
from streamkd_service.bench.waiting import wait_until
from streamkd_service.runtime.models import bundle_path
from tests.media import make_clip

SPEC = read_bundle(bundle_path("shipped")).spec


def test_waiting_ends_with_its_condition():
    answers = iter([False, False, True])
    assert wait_until(lambda: next(answers), 5.0, every_s=0.001)


def test_waiting_ends_with_its_time():
    assert not wait_until(lambda: False, 0.01, every_s=0.001)


# --- the floor -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    make_clip(path, frames=30, fps=15)
    return str(path)


def test_the_floor_converts_what_is_due_and_no_more(clip):
    costs = BareCosts()
    read_bare(clip, costs, spec=SPEC, stopped=lambda: False)
    assert (costs.frames, costs.converted) == (30, 2 * SPEC.rate_hz)


def test_the_floor_converts_to_what_the_student_asks_for(clip, monkeypatch):
    asked = set()
    real = bare.to_view

    def seen(frame, size, *, keep_aspect, scalers):
        asked.add((size, keep_aspect))
        return real(frame, size, keep_aspect=keep_aspect, scalers=scalers)

    monkeypatch.setattr(bare, "to_view", seen)
    read_bare(clip, BareCosts(), spec=SPEC, stopped=lambda: False)
    assert asked == {(SPEC.view_size, SPEC.keeps_aspect)}


@pytest.mark.parametrize("square", [False, True])
def test_the_square_is_measured_apart_and_only_where_it_is_asked_for(clip, square):
    costs = BareCosts()
    read_bare(clip, costs, spec=SPEC, stopped=lambda: False, square=square)
    assert (costs.square_s > 0) == square


# --- what is counted -----------------------------------------------------------------------------------------------


def test_what_was_sent_is_the_sum_of_all_streams():
    assert sent_s({"a": 0, "b": 90_000}, {"a": 45_000, "b": 180_000}, passed_s=1.0) == {"a": 0.5, "b": 1.0}


def test_what_was_sent_survives_the_turn_of_the_clock():
    assert sent_s({"a": 2**32 - 45_000}, {"a": 45_000}, passed_s=1.0) == {"a": 1.0}


def test_a_camera_that_connected_again_counts_as_sent_all_the_time():
    assert sent_s({"a": 0, "b": 90_000}, {"a": 900_000, "b": 5}, passed_s=10.0) == {"a": 10.0, "b": 10.0}


def test_the_age_of_an_answer_is_the_time_to_the_next_one():
    assert sorted(answer_ages_s([("a", 1.0), ("a", 1.5)], ["a"], (1.0, 2.0))) == [0.0, 0.5, 0.5]


def test_a_camera_that_falls_silent_has_an_old_answer():
    assert max(answer_ages_s([("a", 1.0)], ["a"], (0.0, 10.0))) == 9.0


def test_a_camera_without_an_answer_has_one_as_old_as_the_time_measured():
    assert max(answer_ages_s([("a", float(at)) for at in range(10)], ["a", "b"], (0.0, 10.0))) == 10.0


BEGAN_S = 100.0  # of both cameras' streams


def a_mark(at_s, *, cpu_s=0.0, gated=0, caught_up=0, ticks=0):
    """`gated` and `caught_up`: of each camera, or by its name."""

    def of(counts, name):
        return counts.get(name, 0) if isinstance(counts, dict) else counts

    totals = {
        name: {"received": 0, "gated": of(gated, name), "caught_up": of(caught_up, name), "decoded": 0, "analysed": 0}
        for name in ("a", "b")
    }
    return Mark(at_s, cpu_s, cpu_s / 10, 0.0, totals, {"a": ticks, "b": ticks}, 1)


def judged(answers, *, seconds=10.0, sent_s=10.0, memory=((10.0, 1),), **after):
    """Two cameras from 200 s on; `answers`: camera, seconds of the measured time at which it was sent, latency."""
    before = a_mark(200.0)
    end = a_mark(200.0 + seconds, ticks=round(90_000 * sent_s), **after)
    found = [
        Answered(name, 200.0 - BEGAN_S + at_s, 200.0 + at_s + late_s, *kind) for name, at_s, late_s, *kind in answers
    ]
    taken = Taken(before, end, found, {"a": BEGAN_S, "b": BEGAN_S}, None, memory)
    return judge(StreamsOptions(cameras=2, seconds=seconds, bundle=Path()), 2, 5.0, taken)


def every_due(late_s=0.1, *, upto_s=10.0, caught=False):
    return [(name, n / 5, late_s, caught) for name in ("a", "b") for n in range(round(5 * upto_s))]


def test_due_is_what_the_server_sent():
    assert (judged(every_due()).due, judged(every_due(), sent_s=8.0).due) == (100, 80)


def test_what_the_server_did_not_send_in_time_is_told():
    assert judged(every_due(), sent_s=8.0).sent_share == pytest.approx(0.8)


def test_an_answer_to_what_was_sent_before_or_after_does_not_count():
    assert judged([*every_due(), ("a", -0.5, 0.1, False), ("b", 10.2, 0.1, False)]).analysed == 100


def test_latency_runs_from_sending():
    assert judged(every_due(0.25)).latency_p95_ms == pytest.approx(250.0)


def test_what_the_gate_skipped_on_purpose_is_not_missed():
    seen = judged(every_due(upto_s=5.0), gated=25)  # of each camera
    assert (seen.analysed_share, seen.gated_share) == (1.0, 0.5)


def test_what_was_caught_up_on_has_its_own_latency_and_was_not_gated():
    seen = judged(
        [*every_due(upto_s=9.0), *[("a", 9.0 + n / 5, 0.9, True) for n in range(5)]], gated=5, caught_up={"a": 5}
    )
    assert seen.latency_max_ms == pytest.approx(100.0)
    assert (seen.catch_up, seen.catch_up_p95_ms) == (5, pytest.approx(900.0))
    assert seen.gated_share == pytest.approx(0.05)


def test_what_showed_nothing_new_keeps_answers_young_and_is_not_the_network_s_work():
    again = [("a", 2.0 + n, 0.3, False, True) for n in range(8)]  # once a second from 2 s on, and nothing else of "a"
    answers = [answer for answer in every_due() if answer[0] == "b" or answer[1] < 2.0]
    seen = judged([*answers, *again], gated={"a": 40})
    assert (seen.analysed, seen.repeated) == (60, 8)
    assert (seen.analysed_share, seen.latency_max_ms) == (1.0, pytest.approx(300.0))
    assert seen.answer_age_max_s == pytest.approx(1.2, abs=0.2)


def test_looking_more_often_than_due_makes_up_for_no_loss_elsewhere():
    between = [("a", 0.1 + n / 5, 0.1, False) for n in range(50)]
    lost = [answer for answer in every_due() if answer[0] == "a" or answer[1] < 5.0]
    assert judged([*lost, *between]).analysed_share == pytest.approx(0.75)


def test_what_was_caught_up_on_too_late_to_be_analysed_is_missed():
    seen = judged(every_due(upto_s=9.0), gated=5, caught_up=5)
    assert (seen.analysed_share, seen.gated_share) == (pytest.approx(0.9), 0.0)


@pytest.mark.parametrize(
    ("answers", "ok"),
    [
        (every_due(), 1),
        (every_due(0.6), 0),  # late
        (every_due(upto_s=9.0), 0),  # 90 %
        ([answer for answer in every_due() if not (answer[0] == "a" and 3 <= answer[1] < 3.3)], 0),  # 98 %
    ],
)
def test_a_run_holds_or_does_not(answers, ok):
    assert judged(answers).ok == ok


def test_a_run_with_an_old_answer_does_not_hold():
    answers = [answer for answer in every_due(upto_s=300.0) if not (answer[0] == "a" and 3 <= answer[1] < 5.1)]
    seen = judged(answers, seconds=300.0, sent_s=300.0, memory=((300.0, 1),))
    assert (seen.analysed_share > 0.99, seen.answer_age_max_s > 2, seen.ok) == (True, True, 0)


def test_cpu_is_that_of_the_workers_for_a_stream_and_second():
    assert judged(every_due(), cpu_s=0.6).cpu_ms_per_stream_second == pytest.approx(30.0)


def test_memory_grows_from_minute_5_on():
    memory = [(0.0, 50), *((float(at), 100) for at in range(245, 300, 5)), (300.0, 900), (595.0, 103), (600.0, 103)]
    seen = judged(every_due(), seconds=600.0, memory=memory)
    assert seen.pss_growth == pytest.approx(0.03)


def test_a_short_run_says_nothing_about_growth():
    assert judged(every_due()).pss_growth is None


# --- several runs --------------------------------------------------------------------------------------------------

OPTIONS = StreamsOptions(cameras=8, seconds=60.0, bundle=Path())


def a_result(cameras=8, *, cpu_ms=30.0, analysed=1.0, **changes):
    values = {field.name: 1 for field in fields(StreamsResult)}
    ok = int(analysed >= 0.99)
    values |= {"cameras": cameras, "cpu_ms_per_stream_second": cpu_ms, "analysed_share": analysed, "ok": ok}
    return StreamsResult(**values | {"dropped": {}, "floor": None, "pss_growth": None} | changes)


def test_numbers_of_cameras_are_read():
    assert streams_many.numbers("8, 16,32") == [8, 16, 32]


@pytest.mark.parametrize("text", ["", "0", "8,", "eight", "-3"])
def test_what_is_no_number_of_cameras_is_refused(text):
    with pytest.raises(InputError, match="number"):
        streams_many.numbers(text)


@pytest.mark.parametrize("text", ["8", "8:", "9:8", "0:4", "a:b"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(InputError, match="range"):
        streams_many.bounds(text)


@pytest.mark.parametrize(("most", "found"), [(0, 0), (24, 24), (41, 41), (63, 63), (64, 64), (99, 64)])
def test_the_largest_number_that_holds_is_found(most, found):
    assert streams_many.largest(24, 64, lambda cameras: cameras <= most) == found


def test_a_search_asks_seldom():
    asked = []
    streams_many.largest(1, 64, lambda cameras: asked.append(cameras) or cameras <= 40)
    assert len(asked) <= 8


def test_a_search_gives_a_number_up_with_the_first_run_that_does_not_hold(monkeypatch):
    monkeypatch.setattr(streams_many, "run_streams", lambda options, _: a_result(options.cameras, analysed=0.5))
    found, seen = streams_many.run_search(OPTIONS, 4, 8, 3, lambda _: None)
    assert (found, {cameras: len(runs) for cameras, runs in seen.items()}) == (0, {4: 1})


def test_every_round_has_to_hold(monkeypatch):
    shares = {4: [1.0, 1.0, 1.0], 5: [1.0, 1.0, 0.98]}
    monkeypatch.setattr(
        streams_many, "run_streams", lambda options, _: a_result(analysed=shares[options.cameras].pop(0))
    )
    assert streams_many.run_search(OPTIONS, 4, 5, 3, lambda _: None)[0] == 4


@pytest.mark.parametrize(("last_ms", "ok"), [(31.0, True), (50.0, False)])
def test_cost_is_linear_within_its_band(last_ms, ok):
    runs = [[a_result(8)], [a_result(16)], [a_result(32, cpu_ms=last_ms)]]
    assert streams_many.linearity(runs).ok == ok


def test_cheap_because_it_was_not_done_is_not_linear():
    seen = streams_many.linearity([[a_result(8)], [a_result(48, analysed=0.4)]])
    assert not seen.ok
    assert "not met" in seen.verdict()


def test_the_plot_is_a_picture_of_its_own():
    seen = streams_many.linearity([[a_result(8)], [a_result(16)]])
    root = ET.fromstring(streams_many.linearity_plot(seen))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_one_run_is_told_as_it_is():
    assert streams_many.as_json([a_result()])["cpu_ms_per_stream_second"] == 30.0


def test_of_several_runs_the_worst_stands_for_what_one_bad_run_misses():
    runs = [a_result(), a_result(analysed=0.9, latency_p95_ms=700.0), a_result(cpu_ms=33.0)]
    found = streams_many.as_json(runs)
    assert (found["analysed_share"], found["latency_p95_ms"], found["ok"], found["ok_runs"]) == (0.9, 700.0, 0, 2)
    assert found["cpu_ms_per_stream_second"] == 30.0


def test_a_table_leaves_out_what_was_not_measured():
    shown = {row[0] for row in streams_tables([replace(a_result(), pss_growth=None)])[0][1]}
    assert "growth of that from minute 5 on" not in shown
    assert "latency p95, ms" in shown


# --- others --------------------------------------------------------------------------------------------------------


def test_a_python_without_the_other_pipeline_is_refused_with_what_it_lacks(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'inference'\" >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(DependencyError, match="No module named 'inference'"):
        check_environment(python)


def test_a_python_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DependencyError, match="does not run"):
        check_environment(tmp_path / "nothing")


def a_runner(tmp_path, *lines):
    """A Python that says these lines instead of running the pipeline."""
    python = tmp_path / "python"
    said = "".join(f"echo '{line}'\n" for line in lines)
    python.write_text(f"#!/bin/sh\ncat > {tmp_path}/given.json\n{said}")
    python.chmod(0o755)
    return python


def run(python, began):
    return run_pipeline(python, {"a": "rtsp://h/a"}, bundle_path("shipped"), 1.0, 5.0, 3, lambda: began.append(1))


def test_the_other_pipeline_s_answers_are_taken_over(tmp_path):
    began = []
    told = {"began_s": 1.0, "took_s": 2.0, "cpu_s": 0.5, "answers": [["a", 0.2, 1.5]]}
    found = run(a_runner(tmp_path, "some noise", "ready", json.dumps(told)), began)
    assert (found, began) == (told, [1])


def test_the_other_pipeline_is_told_what_the_student_asks_for(tmp_path):
    run(a_runner(tmp_path, '{"began_s": 1}'), [])
    given = json.loads((tmp_path / "given.json").read_text())
    assert (given["input_size"], given["rate_hz"]) == (SPEC.input_size, SPEC.rate_hz)
    assert {name: tuple(shape) for name, shape in given["states"].items()} == {t.name: t.shape for t in SPEC.state}


def test_a_pipeline_that_ends_early_failed(tmp_path):
    with pytest.raises(UnavailableError, match="failed"):
        run(a_runner(tmp_path, "ready"), [])

"""What `streamkd bench engine` compares with what: the batches, and the ratios of the table."""

from __future__ import annotations

import pytest

from streamkd.engine.openvino import BATCH_SIZES
from streamkd_service.bench.engine import BATCHES, LIVE_BATCH, EngineTime, _result
from streamkd_service.bench.sections import engine_tables

MS = {
    "torch eager": (12.0, 10.0, 9.0, 11.0),
    "onnxruntime fp32": (8.0, 7.0, 5.0, 6.0),
    "int8 bare": (4.0, 2.5, 3.0, 2.0),
}


def result(batches=BATCHES, names=tuple(MS)):
    times = {
        (name, batch): EngineTime(name, batch, ms, ms, ms)
        for name in names
        for batch, ms in zip(BATCHES, MS[name], strict=True)
        if batch in batches
    }
    steps = {("int8 step", batch): EngineTime("int8 step", batch, 2.2, 2.2, 2.2) for batch in batches}
    return _result(times | steps, batches, ())


def test_the_batch_that_live_batches_run_in_is_measured_beside_that_of_the_goals():
    assert max(BATCH_SIZES) == LIVE_BATCH
    assert BATCHES == (1, 4, 8, 16)


def test_int8_is_compared_at_the_batch_that_live_batches_run_in():
    found = result()
    assert (found.int8_vs_torch_live_batch, found.int8_vs_onnx_live_batch) == pytest.approx((9 / 3, 5 / 3))


def test_the_goals_stay_those_of_batches_of_16():
    found = result()
    assert (found.int8_vs_torch, found.int8_vs_onnx, found.step_overhead) == pytest.approx((12 / 2, 5 / 2, 2.2 / 2))


def test_the_least_ratio_is_over_all_batches():
    found = result()
    assert (found.int8_vs_torch_same_batch, found.int8_vs_onnx_same_batch) == pytest.approx((12 / 4, 5 / 3))


def test_a_quick_run_leaves_the_live_batch_out():
    found = result(batches=(1, 16))
    assert (found.int8_vs_torch_live_batch, found.int8_vs_onnx_live_batch) == (None, None)


def test_what_is_not_installed_is_compared_with_nothing():
    found = result(names=("int8 bare",))
    assert (found.int8_vs_torch, found.int8_vs_torch_same_batch, found.int8_vs_torch_live_batch) == (None, None, None)
    assert (found.int8_vs_onnx, found.int8_vs_onnx_same_batch, found.int8_vs_onnx_live_batch) == (None, None, None)


def test_the_table_says_which_batches_are_compared_and_has_no_goal_for_the_live_one():
    rows = {what: (seen, goal) for what, seen, goal in engine_tables(result())[1][1]}
    goals = [what for what, (_, goal) in rows.items() if goal]
    assert len(goals) == 3
    assert all("of 16" in what for what in goals)
    assert [found for what, found in rows.items() if "both in batches of 8" in what] == [("3.00", ""), ("1.67", "")]

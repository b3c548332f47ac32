"""The motion baseline, its threshold, and its evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.anomaly import MotionBaseline
from streamkd.anomaly.baseline import relative_score
from streamkd.anomaly.motion import MotionScore, largest_cell
from streamkd.anomaly.threshold import BLOCK_S, KEEP_BLOCKS, BlockThreshold, block_threshold
from streamkd.errors import InputError, UnsupportedMediaError
from streamkd.evaluate.anomaly import evaluate_anomaly, read_labels


def flat(value=100):
    return np.full((240, 360), value, np.uint8)


def with_cell(value, row=3, column=5):
    grey = flat()
    grey[row * 15 : row * 15 + 15, column * 15 : column * 15 + 15] = value
    return grey


def test_the_largest_cell_is_the_definition():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 240, 360)).astype(np.uint8)
    expected = np.abs(a.astype(float) - b).reshape(16, 15, 24, 15).mean((1, 3)).max()
    assert largest_cell(a, b) == pytest.approx(expected)


def test_one_cell_is_enough():
    assert largest_cell(with_cell(140), flat()) == 40.0


def test_the_largest_difference_does_not_overflow():
    assert largest_cell(flat(255), flat(0)) == 255.0


def test_the_score_is_the_mean_of_the_last_eleven():
    motion = MotionScore()
    values = [motion.add(flat(100 + 22 * (index % 2) if index < 5 else 100)) for index in range(20)]
    # Differences: 0, then 22 four times, then 0 (frame 4 is 100 again, so are all later ones).
    assert values[4] == pytest.approx(4 * 22 / 5)
    assert values[11] == pytest.approx(4 * 22 / 11)
    assert values[15] == 0.0


def test_a_new_segment_moves_by_nothing():
    motion = MotionScore()
    motion.add(flat(0))
    motion.clear()
    assert motion.add(flat(255)) == 0.0


def test_with_enough_blocks_the_threshold_is_the_conformal_rank():
    maxima = np.arange(1.0, 20_001.0)
    limit, certified = block_threshold(maxima, false_alarms_per_day=2.0)
    p = 2.0 * BLOCK_S / 86_400
    assert certified
    assert (maxima > limit).sum() + 1 <= p * (len(maxima) + 1)


def test_with_few_blocks_the_threshold_lies_above_all_and_is_not_certified():
    limit, certified = block_threshold(np.array([1.0, 2.0, 3.0, 2.5, 1.5]), false_alarms_per_day=2.0)
    assert limit > 3.0
    assert not certified


def test_equal_blocks_leave_headroom():
    assert block_threshold(np.ones(10), 2.0) == (1.25, False)


def test_a_smaller_aim_never_lowers_the_threshold():
    maxima = np.random.default_rng(1).exponential(size=200)
    limits = [block_threshold(maxima, aim)[0] for aim in (5000.0, 500.0, 50.0, 2.0, 0.1)]
    assert limits == sorted(limits)


def test_conformal_alarms_stay_below_the_aim_on_exchangeable_scores():
    rng = np.random.default_rng(2)
    aim = 200.0  # a day; p is 1.2 %, certified from 86 blocks on
    p = aim * BLOCK_S / 86_400
    over = [rng.gamma(2.0, size=100)[0] > block_threshold(rng.gamma(2.0, size=120), aim)[0] for _ in range(4000)]
    assert np.mean(over) <= p * 1.5


def test_the_history_is_bounded():
    threshold = BlockThreshold(60.0, 2.0)
    threshold._maxima.extend(np.ones(KEEP_BLOCKS + 10).tolist())
    assert len(threshold._maxima) == KEEP_BLOCKS


def run(model, greys, *, start_s=0.0, rate_hz=5.0, frozen=False):
    return [model.update(grey, start_s + i / rate_hz, frozen=frozen) for i, grey in enumerate(greys)]


def quiet(count):
    """A cell that flickers by 0 to 4 grey levels."""
    rng = np.random.default_rng(3)
    return [with_cell(100 + int(rng.integers(0, 5))) for _ in range(count)]


def test_there_is_no_score_before_the_warm_up_is_over():
    results = run(MotionBaseline(30.0, 2.0), quiet(200))
    first = next(i for i, result in enumerate(results) if result.score is not None)
    assert 30.0 <= first / 5.0 <= 30.0 + 2 * BLOCK_S + 1.0


@pytest.mark.parametrize(("aim_per_day", "certified"), [(2.0, False), (5000.0, True)])
def test_a_threshold_is_certified_once_there_are_enough_blocks_for_the_aim(aim_per_day, certified):
    assert run(MotionBaseline(30.0, aim_per_day), quiet(300))[-1].certified is certified


def test_usual_motion_stays_below_half():
    results = run(MotionBaseline(30.0, 2.0), quiet(600))
    assert max(result.score for result in results if result.score is not None) < 0.5


def test_unusual_motion_is_above_half():
    model = MotionBaseline(30.0, 2.0)
    run(model, quiet(400))
    results = run(model, [with_cell(100 + 120 * (i % 2)) for i in range(11)], start_s=80.0)
    assert results[-1].score > 0.5


def test_nothing_is_learnt_while_frozen():
    model = MotionBaseline(30.0, 2.0)
    run(model, quiet(400))
    before = model._threshold.value
    run(model, [with_cell(100 + 120 * (i % 2)) for i in range(200)], start_s=80.0, frozen=True)
    run(model, quiet(11), start_s=120.0, frozen=True)
    run(model, quiet(200), start_s=130.0)
    assert model._threshold.value == pytest.approx(before, rel=0.2)


def test_what_led_to_an_event_is_not_learnt():
    model = MotionBaseline(30.0, 2.0)
    run(model, quiet(400))
    run(model, [with_cell(100 + 120 * (i % 2)) for i in range(8)], start_s=80.0)
    run(model, quiet(11), start_s=81.6, frozen=True)
    run(model, quiet(200), start_s=84.0)
    assert model._threshold.value < 20.0


def test_a_new_segment_keeps_the_history():
    model = MotionBaseline(30.0, 2.0)
    run(model, quiet(400))
    model.begin_segment()
    assert run(model, quiet(1))[0].score == 0.0


def test_a_still_camera_takes_coding_noise_for_nothing():
    assert relative_score(1.0, 0.0) < 0.5


def test_the_score_is_half_at_the_threshold():
    assert relative_score(12.0, 12.0) == 0.5


@pytest.mark.shared
def test_ped2_gives_the_figure_of_the_definition(shared_data):
    report = evaluate_anomaly(shared_data / "ucsd-ped2")
    assert report.micro_auc == pytest.approx(0.880, abs=0.005)
    assert report.macro_auc == pytest.approx(0.894, abs=0.005)
    assert report.n == 2010


def test_a_folder_without_labels_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no labels\.csv"):
        evaluate_anomaly(tmp_path)


def test_a_wrong_line_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("file,frames,first_anomalous,last_anomalous\na.mp4,ten,0,1\n")
    with pytest.raises(InputError, match="line 2"):
        read_labels(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("file,frames,first_anomalous,last_anomalous\na.mp4,10,0,1\n")
    with pytest.raises(InputError, match=r"a\.mp4 does not exist"):
        read_labels(tmp_path)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    (tmp_path / "labels.csv").write_text("file,frames,first_anomalous,last_anomalous\na.mp4,10,0,1\n")
    with pytest.raises(UnsupportedMediaError, match=r"a\.mp4"):
        evaluate_anomaly(tmp_path)


def test_labels_that_do_not_fit_the_file_are_named(tmp_path, demo_clips):
    clip = next((demo_clips / "clips").glob("*.mp4"))
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "labels.csv").write_text("file,frames,first_anomalous,last_anomalous\na.mp4,7,0,1\n")
    with pytest.raises(InputError, match=r"labels\.csv says 7"):
        evaluate_anomaly(tmp_path)

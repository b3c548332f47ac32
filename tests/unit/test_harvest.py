"""Harvest: what is kept, what is left out, and that a stored clip gives back what the student saw."""

from __future__ import annotations

import numpy as np
import pytest

from streamkd.errors import InputError
from streamkd.media.clips import decode_clip
from streamkd.media.writer import jpeg_of, write_jpeg_clip
from streamkd.refresh.harvest import Harvester, HarvestPlan, Selection, relative_entropy
from streamkd.refresh.moments import as_cells, frame_signature, share_moment, split_moments
from streamkd.types import FrameResult
from tests.fakes import make_frame

RATE_HZ = 5.0


def result_of(frame, fight=0.5, *, warming=False, version="tiny-1"):
    return FrameResult(
        camera_id=frame.camera_id,
        segment=frame.segment,
        pts_s=frame.pts_s,
        warming=warming,
        scores={"normal": 1 - fight, "fight": fight},
        action="fight",
        action_score=fight,
        forecast=(),
        anomaly_score=None,
        model_version=version,
    )


def picture_of(level, seed=0):
    grey = np.random.default_rng(seed).integers(0, 256, (8, 12)).repeat(30, axis=0).repeat(30, axis=1)
    return np.clip(grey * 0.1 + level, 0, 255).astype(np.uint8)


def collect(tmp_path, stream, **plan):
    """Run a harvest over `(frame, result)` pairs, without losing any to a full queue."""
    harvester = Harvester(HarvestPlan(**plan), tmp_path / "clips")
    for frame, result in stream:
        harvester._queue.put((frame, result))
    return harvester.finish()


def stream_of(camera_id, seconds, fight=lambda t: 0.5, *, level=lambda t: 100, segment=0, start_s=0.0, **result):
    for index in range(round(seconds * RATE_HZ)):
        t = start_s + index / RATE_HZ
        frame = make_frame(camera_id, t, segment=segment, grey=picture_of(level(t)))
        yield frame, result_of(frame, fight(t), **result)


def test_keeps_so_many_clips_a_camera(tmp_path):
    stream = [*stream_of("a", 60), *stream_of("b", 60)]
    clips = collect(tmp_path, stream, per_camera=4)
    assert [clip.camera_id for clip in clips] == ["a"] * 4 + ["b"] * 4


def test_only_what_is_kept_is_on_disk(tmp_path):
    clips = collect(tmp_path, stream_of("a", 60), per_camera=4)
    assert sorted((tmp_path / "clips").iterdir()) == sorted(clip.path for clip in clips)


def test_the_most_uncertain_clips_are_among_the_kept(tmp_path):
    clips = collect(tmp_path, stream_of("a", 120, lambda t: 0.5 if 40 <= t < 44 else 0.01), per_camera=4)
    assert {40.0, 42.0} <= {clip.start_pts_s for clip in clips}


def test_the_rest_is_a_random_sample(tmp_path):
    starts = set()
    for seed in range(6):
        clips = collect(tmp_path, stream_of("a", 60, lambda t: 0.5 if t < 4 else 0.01), per_camera=4, seed=seed)
        starts |= {clip.start_pts_s for clip in clips if clip.start_pts_s >= 4}
    assert len(starts) > 4


def test_no_clip_while_the_student_warms_up(tmp_path):
    assert collect(tmp_path, stream_of("a", 20, warming=True)) == []


def test_no_clip_over_a_gap(tmp_path):
    stream = [*stream_of("a", 1), *stream_of("a", 3, segment=1)]
    clips = collect(tmp_path, stream)
    assert [(clip.segment, clip.start_pts_s) for clip in clips] == [(1, 0.0)]


def test_no_clip_over_a_cut(tmp_path):
    clips = collect(tmp_path, stream_of("a", 4.4, level=lambda t: 30 if t < 1 else 200))
    assert [clip.start_pts_s for clip in clips] == [1.0]


def test_a_clip_that_a_cut_ends_a_little_early_is_kept(tmp_path):
    clips = collect(tmp_path, stream_of("a", 3.6, level=lambda t: 30 if t < 1.8 else 200))
    assert [clip.frames for clip in clips][:1] == [9]


def test_no_clip_over_two_models(tmp_path):
    stream = [*stream_of("a", 1), *stream_of("a", 1, start_s=1.0, version="tiny-2")]
    assert collect(tmp_path, stream) == []


def test_no_more_on_disk_than_the_quota(tmp_path):
    clips = collect(tmp_path, stream_of("a", 60), per_camera=12, max_bytes=20_000)
    assert 0 < sum(clip.path.stat().st_size for clip in clips) <= 21_000


def test_many_cameras_cost_no_more_pictures(tmp_path):
    cameras = [list(stream_of(f"cam{i}", 20)) for i in range(8)]
    stream = [one for batch in zip(*cameras, strict=True) for one in batch]
    clips = collect(tmp_path, stream, pictures_hz=10.0, per_camera=12)
    assert 0 < sum(clip.frames for clip in clips) < 0.5 * len(stream)


def test_a_stored_clip_gives_back_every_frame(tmp_path):
    clips = collect(tmp_path, stream_of("a", 2.0))
    assert len(decode_clip(clips[0].path, RATE_HZ, 32).frames) == 10


def test_offering_never_waits(tmp_path):
    harvester = Harvester(HarvestPlan(), tmp_path / "clips")
    pairs = list(stream_of("a", 200))
    for frame, result in pairs:
        harvester.offer([frame], [result])
    clips = harvester.finish()
    assert harvester.lost > 0
    assert clips or harvester.lost > len(pairs) // 2


def test_what_an_interrupted_harvest_left_is_deleted(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "old.mkv").write_bytes(b"x")
    collect(tmp_path, [])
    assert list((tmp_path / "clips").iterdir()) == []


def test_a_selection_names_the_clip_that_goes():
    selection = Selection(2)
    assert selection.offer(0, 0.9, 0.5) is None
    assert selection.offer(1, 0.1, 0.5) is None
    assert selection.offer(2, 0.2, 0.1) == 1


def test_entropy_is_relative_to_a_uniform_answer():
    assert relative_entropy([0.5, 0.5]) == pytest.approx(1.0)
    assert relative_entropy([1.0, 0.0]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("rate_hz", [3.0, 5.0, 6.25, 7.0])
def test_a_written_clip_is_sampled_frame_by_frame(tmp_path, rate_hz):
    shades = range(10, 250, 20)
    pictures = [jpeg_of(np.full((48, 64, 3), shade, np.uint8)) for shade in shades]
    write_jpeg_clip(tmp_path / "clip.mkv", pictures, rate_hz)
    found = decode_clip(tmp_path / "clip.mkv", rate_hz, 32).frames.mean(axis=(1, 2, 3))
    assert found == pytest.approx(list(shades), abs=3)


def test_a_clip_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError):
        write_jpeg_clip(tmp_path / "clip.mkv", [b"no picture"], 5.0)


def cells_of(*levels):
    return as_cells([frame_signature(picture_of(level)) for level in levels])


def test_clips_with_a_frame_in_common_share_a_moment():
    assert share_moment(cells_of(10, 60, 120), cells_of(118, 200))


def test_clips_with_no_frame_in_common_share_none():
    assert not share_moment(cells_of(10, 60), cells_of(120, 200))


def test_something_that_moves_in_one_corner_makes_another_moment():
    grey = picture_of(100)
    other = grey.copy()
    other[:30, :30] += 40
    assert not share_moment(as_cells([frame_signature(grey)]), as_cells([frame_signature(other)]))


def looping(moments, clips):
    """Clips cut at any place from a loop of so many moments, each two moments long."""
    return [cells_of((i % moments) * 200 / moments, ((i + 1) % moments) * 200 / moments) for i in range(clips)]


@pytest.mark.parametrize("seed", range(5))
def test_no_moment_lies_on_both_sides_of_the_split(seed):
    cells = looping(8, 24)
    split = split_moments(cells, ["a"] * 24, np.random.default_rng(seed))
    assert not any(share_moment(cells[i], cells[j]) for i in split.train for j in split.held_out)


@pytest.mark.parametrize("seed", range(5))
def test_held_out_clips_are_all_different_moments(seed):
    cells = looping(8, 24)
    held_out = split_moments(cells, ["a"] * 24, np.random.default_rng(seed)).held_out
    assert not any(share_moment(cells[i], cells[j]) for i in held_out for j in held_out if i != j)


def test_every_camera_with_footage_is_held_out_in_part():
    cells = [cells_of(level) for level in range(0, 250, 25)]
    cameras = ["a"] * 5 + ["b"] * 5
    held_out = split_moments(cells, cameras, np.random.default_rng(0)).held_out
    assert [sum(cameras[i] == name for i in held_out) for name in "ab"] == [2, 2]


def test_an_empty_harvest_is_an_empty_split():
    split = split_moments([], [], np.random.default_rng(0))
    assert (split.train, split.held_out) == ((), ())

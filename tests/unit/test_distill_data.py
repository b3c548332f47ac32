"""Reading clips, splitting them by source, sampling them like the live path, joining them into streams."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkd.errors import InputError, UnsupportedMediaError
from streamkd.evaluate.dataset import (
    ClipRecord,
    FrameCache,
    make_folds,
    missing_files,
    read_dataset,
    read_folds,
    read_hashes,
    readable,
)
from streamkd.media.clips import DueGrid, decode_clip


def record(source: str, label: str = "normal") -> ClipRecord:
    return ClipRecord(path=None, file=source, label=label, source=source, sha256=source)


@pytest.fixture
def two_clips(demo_clips, tmp_path):
    """Two of the shipped clips in a folder of their own."""
    for name, label in (("fi001.mp4", "fight"), ("nofi001.mp4", "normal")):
        source = demo_clips / "clips" / name
        if not source.exists():
            source = min((demo_clips / "clips").glob("nofi*.mp4"))
        (tmp_path / label).mkdir()
        shutil.copy(source, tmp_path / label / name)
    return tmp_path


def test_a_list_names_file_label_and_source(demo_clips):
    records = read_dataset(demo_clips)
    assert len(records) == 33
    assert {r.label for r in records} == {"fight", "normal"}
    assert len({r.source for r in records}) == 4


def test_a_folder_of_folders_takes_its_labels_from_their_names(two_clips):
    assert [(r.file, r.label) for r in read_dataset(two_clips)] == [
        ("fight/fi001.mp4", "fight"),
        ("normal/nofi001.mp4", "normal"),
    ]


def test_excluded_clips_are_left_out_by_their_bytes(demo_clips, two_clips):
    hashes = read_hashes(demo_clips / "clips.csv")
    with pytest.raises(InputError, match="No clips found"):
        read_dataset(two_clips, exclude=hashes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na.mp4,x\n", "lacks the column file"),
        ("file,label\n,x\n", "line 2: file or label is empty"),
        ("file,label\nmissing.mp4,x\n", "No clips found"),
        ("file,label,start,end\nclips.csv,x,2,1\n", "line 2: clips.csv would hold no frame"),
    ],
)
def test_a_wrong_list_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path)


def test_files_that_are_listed_and_missing_are_named(tmp_path):
    (tmp_path / "clips.csv").write_text("file,label\ngone.mp4,x\n")
    assert missing_files(tmp_path) == ("gone.mp4",)


def test_folds_file_must_know_every_clip(tmp_path):
    (tmp_path / "folds.csv").write_text("file,fold\na,0\nb,1\n")
    assert read_folds(tmp_path, [record("a"), record("b")]) == (0, 1)
    assert read_folds(tmp_path, [record("a"), record("c")]) is None


def test_folds_that_split_a_source_are_refused(tmp_path):
    (tmp_path / "folds.csv").write_text("file,fold\na,0\nb,1\n")
    clips = [replace(record("a"), source="scene"), replace(record("b"), source="scene")]
    with pytest.raises(InputError, match="source scene into several folds"):
        read_folds(tmp_path, clips)


@pytest.mark.parametrize("text", ["file,fold\na,one\n", "clip,fold\na,1\n", "file,fold\na\n"])
def test_folds_that_can_not_be_read_are_named(tmp_path, text):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(InputError, match=r"folds\.csv can't be read"):
        read_folds(tmp_path, [record("a")])


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60), st.integers(1, 5))
def test_no_source_is_in_two_folds(clips, count):
    records = [record(f"s{source}", "fight" if fight else "normal") for source, fight in clips]
    folds = make_folds(records, count, seed=0)
    fold_of: dict[str, set[int]] = {}
    for one, fold in zip(records, folds, strict=True):
        fold_of.setdefault(one.source, set()).add(fold)
        assert 0 <= fold < count
    assert all(len(found) == 1 for found in fold_of.values())


def test_unreadable_clips_are_named_and_left_out(two_clips, tmp_path):
    (two_clips / "fight" / "broken.mp4").write_bytes(b"this is not a video")
    warnings: list[str] = []
    kept = readable(read_dataset(two_clips), FrameCache(tmp_path / "cache"), 5.0, 64, warnings.append)
    assert len(kept) == 2
    assert len(warnings) == 1
    assert "broken.mp4" in warnings[0]


def test_cached_frames_are_the_decoded_frames(two_clips, tmp_path):
    clip = read_dataset(two_clips)[0]
    cache = FrameCache(tmp_path / "cache")
    first = cache.load(clip, 5.0, 64)
    again = cache.load(clip, 5.0, 64)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.pts_s, again.pts_s)


def test_a_damaged_cache_entry_is_decoded_again(two_clips, tmp_path):
    clip = read_dataset(two_clips)[0]
    cache = FrameCache(tmp_path / "cache")
    first = cache.load(clip, 5.0, 64)
    for entry in (tmp_path / "cache").iterdir():
        entry.write_bytes(b"PK broken")
    np.testing.assert_array_equal(cache.load(clip, 5.0, 64).frames, first.frames)


def test_frames_are_due_on_the_grid_of_the_first(two_clips):
    clip = decode_clip(two_clips / "fight" / "fi001.mp4", 5.0, 32)
    assert clip.frames.shape[1:] == (32, 32, 3)
    np.testing.assert_allclose(clip.pts_s, np.arange(len(clip.pts_s)) * 0.2, atol=0.04 + 1e-6)


def test_a_range_of_a_file_is_decoded_alone(two_clips):
    whole = decode_clip(two_clips / "fight" / "fi001.mp4", 5.0, 32)
    part = decode_clip(two_clips / "fight" / "fi001.mp4", 5.0, 32, start_s=1.0, end_s=1.7)
    assert part.pts_s.min() >= 1.0
    assert part.pts_s.max() < 1.7
    assert len(part.frames) < len(whole.frames)


@pytest.mark.parametrize("content", [b"", b"not a video at all"])
def test_what_is_no_video_says_so(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UnsupportedMediaError, match="can't be decoded"):
        decode_clip(tmp_path / "x.mp4", 5.0, 32)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=50), st.floats(1.0, 15.0))
def test_the_grid_never_asks_for_more_than_its_rate(gaps, rate_hz):
    times = np.cumsum(gaps)
    grid = DueGrid(rate_hz)
    due = [t for t in times if grid.due(float(t))]
    assert due[0] == times[0]
    assert len(due) <= (times[-1] - times[0]) * rate_hz + 1 + 1e-6

"""What is said of a folder of clips before a student is trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkd.evaluate.advice import FEW_CLIPS, FEW_SOURCES, lacks
from streamkd.evaluate.dataset import ClipRecord


def clips(label: str, source: str, count: int) -> list[ClipRecord]:
    return [
        ClipRecord(Path(f"{source}-{label}-{n}.mp4"), f"{source}-{label}-{n}.mp4", label, source, f"{source}{label}{n}")
        for n in range(count)
    ]


def enough() -> list[ClipRecord]:
    """Both classes in each of enough places, enough clips of each."""
    per_source = -(-FEW_CLIPS // FEW_SOURCES)
    return [
        clip
        for n in range(FEW_SOURCES)
        for label in ("normal", "fight")
        for clip in clips(label, f"place {n}", per_source)
    ]


def test_enough_clips_of_enough_places_need_no_word():
    assert lacks(enough(), "normal") == ()


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (clips("Fight", "place 0", FEW_CLIPS), "'Fight' and 'fight' differ in their case only"),
        (clips("fall", "kitchen", FEW_CLIPS), "clips of 'fall' come from kitchen"),
        (clips("fall", "place 0", 1), "'fall' has 1 clips only"),
        (clips("normal", "place 0", 300), "the largest class"),
    ],
)
def test_what_a_class_lacks_is_named(added, said):
    assert any(said in line for line in lacks([*enough(), *added], "normal"))


def test_few_sources_are_named():
    few = [*clips("normal", "a", 30), *clips("fight", "a", 30), *clips("normal", "b", 30), *clips("fight", "b", 30)]
    assert lacks(few, "normal") == ("The clips come from 2 sources; how well it does elsewhere can hardly be told.",)


def test_classes_that_were_filmed_in_different_places_are_named():
    apart = [clip for n in range(8) for clip in clips("normal" if n < 4 else "fight", f"place {n}", 10)]
    assert [line for line in lacks(apart, "normal") if line.startswith("No source shows both 'normal'")]


def test_clips_without_a_source_are_asked_for_one():
    alone = [clip for n in range(40) for clip in clips("normal" if n % 2 else "fight", f"{n}.mp4", 1)]
    assert [line[:30] for line in lacks(alone, "normal")] == ["Every clip counts as a source "]

"""Decoding on a GPU is tried where one may be, and given up for good where it fails."""

from __future__ import annotations

import pytest

from streamkd.media.hardware import GpuDecoding

NOWHERE = "rtsp://127.0.0.1:1/none"


@pytest.fixture
def clip(demo_clips):
    return str(min((demo_clips / "clips").glob("*.mp4")))


def pictures(container):
    with container:
        return sum(1 for _ in container.decode(video=0))


def test_without_a_gpu_the_cpu_decodes(clip):
    assert pictures(GpuDecoding(lambda: False).open(clip, {}, None)) > 10


def test_where_the_gpu_is_asked_for_every_picture_is_there(clip):
    on_cpu = pictures(GpuDecoding(lambda: False).open(clip, {}, None))
    assert pictures(GpuDecoding(lambda: True).open(clip, {}, None)) == on_cpu


def test_whether_there_is_one_is_asked_once(clip):
    asked = []
    decoding = GpuDecoding(lambda: bool(asked.append(1)))
    for _ in range(3):
        decoding.open(clip, {}, None).close()
    assert len(asked) == 1


def test_a_camera_that_is_away_says_nothing_of_the_gpu():
    decoding = GpuDecoding(lambda: True)
    with pytest.raises(OSError, match=r"refused|[Oo]peration"):
        decoding.open(NOWHERE, {}, (1.0, 1.0))
    assert decoding._works

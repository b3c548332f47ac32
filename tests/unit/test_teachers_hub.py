"""Video models of `transformers`: tiny ones are made and saved here, the loading code is the real one."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="pip install 'streamkd[transformers]'")

from streamkd.errors import InputError
from streamkd.models.teachers import TeacherClip, open_teacher
from streamkd.models.teachers.declared import HubDeclaration
from streamkd.models.teachers.hub import HubModel
from tests.teachers import declare, moving_clip

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "patch_size": 16,
    "num_labels": 3,
    "id2label": {0: "walking", 1: "boxing", 2: "wrestling"},
}
MAPPING = {"normal": ["*"], "fight": ["boxing", "wrestling"]}
CLASSES = ("normal", "fight")


def video_mae():
    config = transformers.VideoMAEConfig(image_size=32, num_frames=4, **SMALL)
    return transformers.VideoMAEForVideoClassification(config)


def time_sformer():
    return transformers.TimesformerForVideoClassification(
        transformers.TimesformerConfig(image_size=32, num_frames=4, **SMALL)
    )


def v_jepa_2():
    config = transformers.VJEPA2Config(
        crop_size=32, frames_per_clip=4, pred_hidden_size=32, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        num_pooler_layers=1, mlp_ratio=2, **SMALL,
    )  # fmt: skip
    return transformers.VJEPA2ForVideoClassification(config)


def save(model, folder, mean=(0.5, 0.5, 0.5)):
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    said = {"image_mean": mean, "image_std": [0.5, 0.5, 0.5], "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def save_x_clip(folder):
    sides = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sides | {"vocab_size": 16, "max_position_embeddings": 12, "bos_token_id": 1, "eos_token_id": 2}
    mit = {"mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    vision = sides | mit | {"image_size": 32, "patch_size": 16, "num_frames": 4}
    config = transformers.XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=32, prompt_layers=1, prompt_num_attention_heads=2
    )
    save(transformers.XCLIPModel(config), folder)
    words = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", "people", "fighting", "walking", "a", "street"]
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def clip(tmp_path):
    return TeacherClip.of(moving_clip(tmp_path / "clip.mp4", speed=3))


def declared(folder, **said):
    return declare(folder / "teacher.yaml", kind="transformers", name="tiny", model="model", **said)


@pytest.mark.parametrize("make", [video_mae, time_sformer, v_jepa_2], ids=["VideoMAE", "TimeSformer", "V-JEPA 2"])
def test_a_classifier_answers_as_its_own_library_does(make, tmp_path, clip):
    torch.manual_seed(0)
    model = make().eval()
    save(model, tmp_path / "model")
    teacher = open_teacher(declared(tmp_path, classes=MAPPING), CLASSES)
    said = teacher.label([clip])
    frames = teacher._extract._read(clip, 8.0, 32)
    chosen = frames[torch.linspace(0, len(frames) - 1, 4).round().int().numpy()]
    pixels = (torch.from_numpy(chosen).permute(0, 3, 1, 2)[None] / 255.0 - 0.5) / 0.5
    name = "pixel_values_videos" if make is v_jepa_2 else "pixel_values"
    with torch.inference_mode():
        own = model(**{name: pixels}).logits.softmax(dim=-1)[0]
    expected = torch.stack([own[0], own[1] + own[2]])
    torch.testing.assert_close(said.logits[0].softmax(dim=0), expected, atol=2e-3, rtol=0)


def test_its_last_layer_serves_as_features(tmp_path, clip):
    save(video_mae(), tmp_path / "model")
    said = open_teacher(declared(tmp_path, classes=MAPPING), CLASSES).label([clip])
    assert said.features["tiny"].shape == (1, 32)


def test_x_clip_needs_no_training_but_words(tmp_path, clip):
    torch.manual_seed(0)
    save_x_clip(tmp_path / "model")
    prompts = {"normal": ["people walking", "a street"], "fight": ["people fighting"]}
    said = open_teacher(declared(tmp_path, prompts=prompts), CLASSES).label([clip])
    torch.testing.assert_close(said.logits.exp().sum(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_x_clip_with_the_same_words_for_both_classes_cannot_tell_them_apart(tmp_path, clip):
    torch.manual_seed(0)
    save_x_clip(tmp_path / "model")
    said = open_teacher(declared(tmp_path, prompts={"a": ["a street"], "b": ["a street"]})).label([clip])
    torch.testing.assert_close(said.logits.exp(), torch.tensor([[0.5, 0.5]]), atol=1e-3, rtol=0)


def test_x_clip_without_words_is_refused(tmp_path):
    save_x_clip(tmp_path / "model")
    with pytest.raises(InputError, match=r"no classes of its own.*prompts"):
        open_teacher(declared(tmp_path), CLASSES)


def test_classes_that_do_not_match_are_refused(tmp_path):
    save(video_mae(), tmp_path / "model")
    with pytest.raises(InputError, match="it knows walking, boxing, wrestling"):
        open_teacher(declared(tmp_path), CLASSES)


def test_without_a_wish_it_speaks_of_its_own_classes(tmp_path):
    save(video_mae(), tmp_path / "model")
    assert open_teacher(declared(tmp_path)).classes == ("walking", "boxing", "wrestling")


def test_other_weights_are_another_version(tmp_path):
    versions = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        save(video_mae(), tmp_path / "model")
        versions.add(open_teacher(declared(tmp_path)).version)
    assert len(versions) == 2


def test_pickled_weights_are_not_loaded(tmp_path):
    save(video_mae(), tmp_path / "model")
    torch.save(video_mae().state_dict(), tmp_path / "model" / "pytorch_model.bin")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can't be loaded"):
        open_teacher(declared(tmp_path))


def test_a_model_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    declared = HubDeclaration(kind="transformers", name="far", model="nobody/nothing")
    with pytest.raises(InputError, match="far: nobody/nothing can't be loaded"):
        HubModel(declared)

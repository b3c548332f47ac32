"""Video models of the `transformers` library: VideoMAE, TimeSformer, V-JEPA 2, and X-CLIP without any training.

Weights come as safetensors only, and no code of the hub is ever run. Frames are squeezed to the model's size, as
everywhere here, instead of cropped: at the border of a surveillance picture things happen as well.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamkd.errors import DependencyError, InputError
from streamkd.models.teachers.cache import digest
from streamkd.models.teachers.models import Answer, spread, version_of

if TYPE_CHECKING:
    from torch import Tensor

    from streamkd.models.teachers.declared import HubDeclaration
    from streamkd.types import UInt8Array

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what all of these were trained with, unless they say so
_PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


class HubModel:
    """A video classifier, or X-CLIP with prompts.

    Args:
        declared: Which one.
        device: Where it runs: "cpu", "cuda", ….

    Raises:
        DependencyError: `transformers` is not installed.
        InputError: There is no such model here or on the hub, or it is none of these.
    """

    def __init__(self, declared: HubDeclaration, *, device: str = "cpu") -> None:
        self._declared, self._device = declared, device
        library = _library()
        options: dict[str, Any] = {"revision": declared.revision, "trust_remote_code": False}
        with _named(declared):
            self._config = library.AutoConfig.from_pretrained(declared.model, **options)
            zero_shot = self._config.model_type == "xclip"
            kind = library.AutoModel if zero_shot else library.AutoModelForVideoClassification
            self._model = kind.from_pretrained(declared.model, use_safetensors=True, **options).eval().to(device)
            mean, deviation = _normalisation(library, declared)
        self._mean, self._deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, deviation))
        vision = self._config.vision_config if zero_shot else self._config
        self.frames = int(getattr(vision, "num_frames", 0) or vision.frames_per_clip)
        self.size = _side(getattr(vision, "image_size", None) or vision.crop_size)
        self.rate_hz = declared.rate_hz
        commit = getattr(self._config, "_commit_hash", None) or ""
        self._prompts = _prompts(library, declared, options) if zero_shot else None
        ids = {int(index): str(label) for index, label in (self._config.id2label or {}).items()}
        self.labels = tuple(declared.prompts) if zero_shot else tuple(ids[i] for i in sorted(ids))
        self.version = digest(version_of(declared), commit, json.dumps(declared.prompts, sort_keys=True))

    @torch.inference_mode()
    def answer(self, frames: UInt8Array) -> Answer:
        x = torch.from_numpy(spread(frames, self.frames)).permute(0, 3, 1, 2).float() / 255.0
        x = ((x - self._mean) / self._deviation)[None].to(self._device)  # [1, T, 3, S, S]
        if self._prompts is not None:
            return self._zero_shot(x, self._prompts)
        name = "pixel_values_videos" if self._config.model_type.startswith("vjepa2") else "pixel_values"
        found = self._model(**{name: x}, output_hidden_states=True)
        features = found.hidden_states[-1][0].mean(dim=0)
        return Answer(found.logits[0].float().softmax(dim=-1).cpu(), features.float().cpu())

    def _zero_shot(self, x: Tensor, prompts: _Prompts) -> Answer:
        tokens = {name: value.to(self._device) for name, value in prompts.tokens.items()}
        found = self._model(pixel_values=x, **tokens)
        each = found.logits_per_video[0].float().softmax(dim=-1).cpu()  # [prompts]
        return Answer(each @ prompts.owner, found.video_embeds[0].float().cpu())


class _Prompts:
    """Tokens of all prompts, and `owner` `[prompts, classes]`: which class each stands for."""

    def __init__(self, tokens: dict[str, Tensor], owner: Tensor) -> None:
        self.tokens, self.owner = tokens, owner


def _prompts(library: Any, declared: HubDeclaration, options: dict[str, Any]) -> _Prompts:
    if not declared.prompts or not all(declared.prompts.values()):
        raise InputError(
            f"Teacher {declared.name} knows no classes of its own.",
            hint="Describe each class in its file, for instance: prompts: {fight: [a fight], normal: [a street]}.",
        )
    texts = [text for several in declared.prompts.values() for text in several]
    with _named(declared):
        tokenizer = library.AutoTokenizer.from_pretrained(declared.model, **options)
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
    owner = torch.zeros(len(texts), len(declared.prompts))
    row = 0
    for column, several in enumerate(declared.prompts.values()):
        owner[row : row + len(several), column] = 1.0
        row += len(several)
    return _Prompts({name: encoded[name] for name in ("input_ids", "attention_mask")}, owner)


def _normalisation(library: Any, declared: HubDeclaration) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation a channel, as the model's own files say."""
    for name in _PREPROCESSORS:
        path = library.utils.cached_file(
            declared.model, name, revision=declared.revision, _raise_exceptions_for_missing_entries=False
        )
        if path is not None:
            said = json.loads(Path(path).read_text(encoding="utf-8"))
            if said.get("do_normalize", True):
                return tuple(said.get("image_mean", _IMAGENET[0])), tuple(said.get("image_std", _IMAGENET[1]))
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return _IMAGENET


def _side(size: Any) -> int:
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def _library() -> Any:
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise DependencyError(
            "A teacher of kind transformers needs the transformers library, which is not installed.",
            hint="Run: pip install 'streamkd[train,transformers]'",
        ) from error
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


class _named:  # noqa: N801 (reads as a word after `with`)
    """Whatever the library complains about becomes one line with the model's name."""

    def __init__(self, declared: HubDeclaration) -> None:
        self._declared = declared

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ValueError, KeyError, RuntimeError, ImportError)):
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"Teacher {self._declared.name}: {self._declared.model} can't be loaded: {first}",
                hint="Name a folder with config.json and model.safetensors, or a hub id that this machine can reach.",
            ) from error


__all__ = ["HubModel"]

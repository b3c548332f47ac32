"""The small YAML file beside a model that says how to feed it and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from streamkd.errors import InputError

Layout = Literal["NHWC", "NCHW", "NTHWC", "NTCHW", "NCTHW"]
POSE_VALUES = 56  # of a person: 17 key points (y, x, score), box (ymin, xmin, ymax, xmax), score


FOCUS_RULE = "short_side has to be at least the size of the window, and both multiples of 4"


def valid_focus(short_side: int, size: int) -> bool:
    """Whether a window of `size` pixels fits into a picture whose shorter side has `short_side`."""
    return short_side >= size and short_side % 4 == 0 and size % 4 == 0


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputDeclaration(_Declared):
    """How pictures go in.

    Attributes:
        name: Of the model's input; empty for its only one.
        layout: Order of the axes. With T, a clip at once; without, frame by frame.
        height: Pixels.
        width: Pixels; 0 keeps the picture's shape, to the nearest multiple of `multiple`.
        multiple: See `width`.
        short_side: Scales the picture's shorter side to so many pixels and shows the `height` x `width` window in which
            the most moves, where that is not 0; then height and width are the same, a multiple of 4.
        range: What the grey values 0 and 255 become ...
        mean: ... before this is taken off, a channel ...
        std: ... and this divided by.
    """

    name: str = ""
    layout: Layout = "NCHW"
    height: int = Field(default=224, gt=0)
    width: int = Field(default=224, ge=0)
    multiple: int = Field(default=32, gt=0)
    short_side: int = Field(default=0, ge=0)
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class OutputDeclaration(_Declared):
    """What comes out.

    Attributes:
        kind: "logits" or "probs" of classes; "pose": per frame `[P, 56]` as MoveNet MultiPose gives it.
        name: Of the model's output; empty for its first one.
        features: Name of an output to use as features; without, the class logits are.
    """

    kind: Literal["logits", "probs", "pose"] = "logits"
    name: str = ""
    features: str = ""


class FileDeclaration(_Declared):
    """An ONNX or OpenVINO file.

    Attributes:
        kind: "file".
        name: Of the teacher.
        file: `.onnx` or `.xml`, relative to the declaration.
        rate_hz: Frames a second that it wants.
        frames: Clip length of a model that takes clips, spread over the clip; of another, at most so many are shown.
        input: How.
        output: What.
        labels: Its classes, in the order of the output.
        classes: Per class of ours, which of its `labels`; `"*"`: all others. Not needed where the names are the same.
    """

    kind: Literal["file"] = "file"
    name: str
    file: Path
    rate_hz: float = Field(default=5.0, gt=0)
    frames: int = Field(default=16, gt=0)
    input: InputDeclaration = InputDeclaration()
    output: OutputDeclaration = OutputDeclaration()
    labels: tuple[str, ...] = ()
    classes: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.output.kind == "pose") == bool(self.labels):
            raise ValueError("a pose model has no labels, any other needs them")
        if self.output.kind == "pose" and "T" in self.input.layout:
            raise ValueError("a pose model looks at single frames: layout NHWC or NCHW")
        if self.output.kind != "pose" and (not self.input.width or self.input.short_side):
            raise ValueError("input.width is needed, and short_side is for poses; a member's short_side does the same")
        if self.input.short_side and not valid_focus(self.input.short_side, self.input.height):
            raise ValueError(FOCUS_RULE)
        if self.input.short_side and self.input.width != self.input.height:
            raise ValueError("with short_side, width and height have to be the same")
        return self


class HubDeclaration(_Declared):
    """A video model of the `transformers` library.

    Attributes:
        kind: "transformers".
        name: Of the teacher.
        model: Folder (relative to the declaration) or hub id.
        revision: Branch, tag or commit on the hub.
        rate_hz: Frames a second that it is shown; as many as it takes are spread over the clip.
        classes: As in `FileDeclaration`.
        prompts: Per class of ours, what a picture of it shows: zero-shot, for X-CLIP.
    """

    kind: Literal["transformers"]
    name: str
    model: str
    revision: str | None = None
    rate_hz: float = Field(default=8.0, gt=0)
    classes: dict[str, tuple[str, ...]] = {}
    prompts: dict[str, tuple[str, ...]] = {}


Declaration = FileDeclaration | HubDeclaration
_ADAPTER: TypeAdapter[Declaration] = TypeAdapter(Annotated[Declaration, Field(discriminator="kind")])


def read_declaration(path: Path) -> Declaration:
    """Read a declaration; paths in it become absolute.

    Raises:
        InputError: It is missing or malformed, or names a file that is not there.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"Teacher file {path} can't be read: {' '.join(str(error).split())}.",
            hint="It must be a YAML file in UTF-8.",
        ) from error
    try:
        declared = _ADAPTER.validate_python({"kind": "file", **raw} if isinstance(raw, dict) else raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        raise InputError(
            f"Teacher file {path} is malformed: {where + ': ' if where else ''}{first['msg']}.",
            hint="docs/reference/teachers.md lists what it may say.",
        ) from error
    if isinstance(declared, HubDeclaration):
        local = path.parent / declared.model
        return declared.model_copy(update={"model": str(local)}) if local.is_dir() else declared
    file = path.parent / declared.file
    if not file.is_file():
        raise InputError(f"Teacher file {path} names {declared.file}, which is not there.", hint="Correct its `file:`.")
    return declared.model_copy(update={"file": file})


def model_files(declared: Declaration) -> tuple[Path, ...]:
    """The files on this machine that hold the model: what a teacher's version is made of."""
    if isinstance(declared, HubDeclaration):
        folder = Path(declared.model)
        if not folder.is_dir():
            return ()
        return tuple(sorted(one for one in folder.iterdir() if one.suffix in {".json", ".safetensors"}))
    beside = declared.file.with_suffix(".bin")
    return (declared.file, beside) if declared.file.suffix == ".xml" and beside.is_file() else (declared.file,)


__all__ = [
    "FOCUS_RULE",
    "POSE_VALUES",
    "Declaration",
    "FileDeclaration",
    "HubDeclaration",
    "InputDeclaration",
    "OutputDeclaration",
    "model_files",
    "read_declaration",
    "valid_focus",
]

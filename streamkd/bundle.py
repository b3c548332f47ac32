"""The model bundle: what a student is, on disk. Read, check, write; no torch and no inference here.

A bundle is a folder:

    spec.json            StudentSpec
    model.safetensors    weights, fp16 (training and the torch engine)
    int8.xml, int8.bin   OpenVINO IR with the state as inputs and outputs (CPU serving)
    metrics.json         what was measured, on what
    lineage.json         Lineage: parent, teachers, hashes of the data, seed, code version
    MANIFEST.sha256      one "<sha256>  <file>" line per file above

Nothing in it is ever unpickled.

The IR's interface (frame values are RGB, 0..255; normalisation is inside the model):

    inputs   frame             f32 [B, 3, S, S]
             <name>            f32 [B, *shape]    for every entry of spec.state
    outputs  action            f32 [B, C]         logits
             forecast          f32 [B, K, C]      logits, K = len(spec.forecast_horizons_s)
             embedding         f32 [B, D, h, w]
             next_<name>       f32 [B, *shape]    for every entry of spec.state
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamkd.errors import BundleError
from streamkd.focus import CELL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "MANIFEST.sha256"
REQUIRED_FILES = ("spec.json", "model.safetensors", "int8.xml", "int8.bin", "metrics.json", "lineage.json")


class TensorSpec(BaseModel):
    """One named state tensor, without its batch dimension; zero-initialised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]


class FocusSpec(BaseModel):
    """The student looks at the busiest part of a larger picture: see `streamkd.engine.gaze`.

    Attributes:
        view_size: Shorter side in pixels of the whole picture that the window is cut from.
        settle_frames: Frames of a segment before the window is aimed for the first time.
        hold_frames: Frames that a window stays at least.
        gain: How many times more motion another window must show before the gaze moves to it.
        decay: What is left of a cell's motion after one frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view_size: int = Field(gt=0)
    settle_frames: int = Field(default=3, ge=2)
    hold_frames: int = Field(default=5, ge=1)
    gain: float = Field(default=1.5, ge=1.0)
    decay: float = Field(default=0.8, ge=0.0, lt=1.0)


class MotionSpec(BaseModel):
    """The student measures optical flow: see `streamkd.models.motion`.

    Attributes:
        keep: What is left of a frame's share in the fading mean after one more frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: float = Field(default=0.8, ge=0.0, lt=1.0)


class StudentSpec(BaseModel):
    """What a student needs and gives; the only thing the live path knows of it.

    Attributes:
        version: Name of this bundle, unique in a registry, e.g. "lite0-5hz-20261121-3f9c2a".
        input_size: S, height and width of the input in pixels.
        rate_hz: Analysed frames a second that it was trained at.
        classes: C names, the index is the logit's.
        background: The class that never opens an event ("normal").
        forecast_horizons_s: K horizons in seconds of the forecast head.
        receptive_field_frames: Frames that can influence an answer directly (0: unbounded, recurrent).
        warmup_frames: Frames before its answers count; at most one second at `rate_hz`.
        gap_policy: What happens to the state when frames are skipped on purpose: thrown away, or kept as it is.
        state: Named state tensors.
        focus: How the gaze follows what moves; None: the whole picture is the input.
        motion: How it measures motion; None: it does not, as students before 2026-11-28.
        temperature: Logits are divided by this before the softmax (calibration, fitted on held-out clips).
        thresholds: Per foreground class, the smoothed probability at which an event opens at sensitivity 0.5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")  # becomes a folder, and part of a URL
    backbone: str = "efficientnet-lite0"
    input_size: int = Field(gt=0)
    rate_hz: float = Field(gt=0)
    classes: tuple[str, ...] = Field(min_length=2)
    background: str = "normal"
    forecast_horizons_s: tuple[float, ...] = ()
    embedding_shape: tuple[int, int, int]
    receptive_field_frames: int = 0
    warmup_frames: int = Field(ge=1)
    gap_policy: Literal["reset", "hold"] = "reset"
    state: tuple[TensorSpec, ...]
    focus: FocusSpec | None = None
    motion: MotionSpec | None = None
    temperature: float = Field(default=1.0, gt=0)
    thresholds: dict[str, float] = {}

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.focus is not None:
            sides = (self.input_size, self.focus.view_size)
            if self.focus.view_size < self.input_size or any(side % CELL for side in sides):
                raise ValueError(f"the gaze needs input_size <= view_size, both multiples of {CELL}, not {sides}")
        return self

    @property
    def view_size(self) -> int:
        """Height and width in pixels of the frames that are made for it, or their shorter side (`keeps_aspect`)."""
        return self.input_size if self.focus is None else self.focus.view_size

    @property
    def keeps_aspect(self) -> bool:
        """Whether the frames that are made for it keep their proportions (`view_size` is then the shorter side)."""
        return self.focus is not None

    @property
    def foreground(self) -> tuple[str, ...]:
        """The classes that may open events."""
        return tuple(name for name in self.classes if name != self.background)


class Lineage(BaseModel):
    """Where a bundle comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str | None = None
    teachers: tuple[str, ...] = ()
    recipe: str = ""
    seed: int = 0
    code_version: str = ""
    created_utc: str = ""
    data_sha256: tuple[str, ...] = ()  # one per training clip: sha256 of the file's bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle on disk."""

    path: Path
    spec: StudentSpec
    lineage: Lineage
    metrics: dict[str, object]

    @property
    def ir_path(self) -> Path:
        return self.path / "int8.xml"

    @property
    def weights_path(self) -> Path:
        return self.path / "model.safetensors"


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, names: Iterable[str] = REQUIRED_FILES) -> None:
    """Write `MANIFEST.sha256` for the named files of a bundle; the last step of making one."""
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / MANIFEST_NAME).write_text("".join(lines), encoding="utf-8")


def check_manifest(folder: Path, names: Iterable[str]) -> None:
    """Check that a folder holds the named files, each as its `MANIFEST.sha256` says.

    Raises:
        BundleError: A file is missing, not listed, or damaged.
    """
    if not (folder / MANIFEST_NAME).is_file():
        raise BundleError(
            f"{folder} is not a model bundle: {MANIFEST_NAME} is missing.",
            hint="Name a folder made by streamkd train, or for a teacher by streamkd teachers train.",
        )
    listed: dict[str, str] = {}
    for line in (folder / MANIFEST_NAME).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name in names:
        if name not in listed or not (folder / name).is_file():
            raise BundleError(f"Model bundle {folder} lacks {name}.", hint="Copy the whole folder again.")
        if file_sha256(folder / name) != listed[name]:
            raise BundleError(
                f"Model bundle {folder} is damaged: {name} does not match its checksum in {MANIFEST_NAME}.",
                hint="Copy the bundle again, or roll back to the version before.",
            )


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file against its manifest.

    Raises:
        BundleError: The folder is no bundle, a file is missing or damaged, or its schema version is another one.
    """
    check_manifest(folder, REQUIRED_FILES)
    raw = _read_json(folder / "spec.json")
    found = raw.get("schema_version")
    if found != SCHEMA_VERSION:
        raise BundleError(
            f"Model bundle {folder} has schema version {found}, this streamkd reads {SCHEMA_VERSION}.",
            hint="Retrain it with this version, or use the version that made it.",
        )
    try:
        spec = StudentSpec.model_validate(raw)
        lineage = Lineage.model_validate(_read_json(folder / "lineage.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"Model bundle {folder} is malformed: {where}: {first['msg']}.") from error
    return Bundle(path=folder, spec=spec, lineage=lineage, metrics=_read_json(folder / "metrics.json"))


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"Model bundle file {path} can't be read: {error}.") from error
    if not isinstance(value, dict):
        raise BundleError(f"Model bundle file {path} is not a JSON object.")
    return value


__all__ = [
    "MANIFEST_NAME",
    "REQUIRED_FILES",
    "SCHEMA_VERSION",
    "Bundle",
    "FocusSpec",
    "Lineage",
    "MotionSpec",
    "StudentSpec",
    "TensorSpec",
    "check_manifest",
    "file_sha256",
    "read_bundle",
    "write_manifest",
]

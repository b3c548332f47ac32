"""Students to bundles and back."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from streamkd.bundle import Bundle, Lineage, StudentSpec, read_bundle, write_manifest
from streamkd.distill.export import int8_model, save_ir
from streamkd.errors import BundleError, InputError, TrainingError
from streamkd.models.student import Student

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class BundleParts:
    """What goes into a bundle besides the weights."""

    spec: StudentSpec
    lineage: Lineage
    metrics: dict[str, Any]


def write_bundle(
    folder: Path, student: Student, parts: BundleParts, calibration: Sequence[UInt8Array], *, samples: int = 300
) -> Bundle:
    """Export, quantise and write a bundle; the folder appears only when it is complete.

    Args:
        folder: Its place; an older bundle there is replaced.
        student: Trained.
        parts: Spec (calibrated), lineage, metrics.
        calibration: Training clips `[T, S, S, 3]` uint8 for the quantiser.
        samples: Frames to quantise on.

    Raises:
        TrainingError: A weight is not a finite number.
        InputError: The folder holds something else.
    """
    folder = free_for_bundle(folder)
    weights = {name: value.detach().half().contiguous() for name, value in student.state_dict().items()}
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise TrainingError("The trained student holds weights that are not finite.", hint="Lower the learning rate.")
    # What is served and what is stored are the same numbers.
    student.load_state_dict({name: value.float() for name, value in weights.items()})
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_ir(int8_model(student, parts.spec, calibration, samples=samples), partial / "int8.xml")
    save_file(weights, partial / "model.safetensors")
    _write_json(partial / "spec.json", parts.spec.model_dump(mode="json"))
    _write_json(partial / "lineage.json", parts.lineage.model_dump(mode="json"))
    _write_json(partial / "metrics.json", parts.metrics)
    write_manifest(partial)
    if folder.exists():
        for old in folder.iterdir():  # a model card or the like stays
            target = partial / old.name
            if not target.exists() and old.is_file():
                shutil.copy2(old, target)
        shutil.rmtree(folder)
    partial.replace(folder)
    return read_bundle(folder)


def free_for_bundle(folder: Path) -> Path:
    """The folder's absolute path, if a bundle may be written there: what stands in its place will be deleted.

    Raises:
        InputError: It holds something that is no bundle.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and not (folder.is_dir() and ((folder / "spec.json").is_file() or not any(folder.iterdir()))):
        raise InputError(
            f"{folder} exists and is no model bundle, so it is not overwritten.", hint="Name a new folder with --out."
        )
    return folder


def load_student(bundle: Bundle) -> Student:
    """The torch student of a bundle, in evaluation mode.

    Raises:
        BundleError: The weights don't fit the spec.
    """
    student = Student(bundle.spec)
    try:
        student.load_state_dict({name: value.float() for name, value in load_file(bundle.weights_path).items()})
    except (RuntimeError, OSError) as error:
        raise BundleError(
            f"The weights in {bundle.weights_path} don't fit this version's student.", hint="Train it again."
        ) from error
    return student.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def lineage(
    *, parent: str | None, teachers: Sequence[str], recipe: str, seed: int, data_sha256: Sequence[str]
) -> Lineage:
    """A lineage made now, by this version."""
    return Lineage(
        parent=parent,
        teachers=tuple(teachers),
        recipe=recipe,
        seed=seed,
        code_version=_code_version(),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        data_sha256=tuple(sorted(set(data_sha256))),
    )


def _code_version() -> str:
    try:
        return version("streamkd")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["BundleParts", "free_for_bundle", "lineage", "load_student", "write_bundle"]

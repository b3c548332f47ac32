"""A model made elsewhere as a teacher of its own, and the one function that opens any teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streamkd.errors import InputError
from streamkd.models.teachers.base import MemberInfo, TeacherOutput, class_matrix, combine
from streamkd.models.teachers.cache import digest
from streamkd.models.teachers.declared import HubDeclaration, read_declaration
from streamkd.models.teachers.ensemble import load_teacher
from streamkd.models.teachers.extract import Extractor
from streamkd.models.teachers.models import open_model
from streamkd.models.teachers.spec import FeatureKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamkd.models.teachers.base import Teacher, TeacherClip

DECLARATIONS = frozenset({".yaml", ".yml"})


class ModelTeacher:
    """A declared model that knows classes: an ONNX or OpenVINO file, or one of `transformers`.

    Args:
        path: The declaration.
        classes: Ours, in order; those that its mapping names, or else its own, unless given.
        device: Where a model of `transformers` runs.

    Raises:
        InputError: The declaration or model can't be read, or its classes do not match.
        DependencyError: `transformers` is not installed.
    """

    def __init__(self, path: Path, classes: tuple[str, ...] = (), *, device: str = "cpu", threads: int = 1) -> None:
        declared = read_declaration(path)
        prompted = tuple(declared.prompts) if isinstance(declared, HubDeclaration) else ()
        if not classes:
            classes = tuple(declared.classes) or prompted or open_model(path, threads=threads, device=device).labels
        self.name, self.classes = declared.name, classes
        self._extract = Extractor(root=path.parent, classes=classes, threads=threads, device=device)
        self._key = FeatureKey("", 0, declared.rate_hz, kind="model", model=path.name)
        if not self._extract.own_classes(self._key):  # says what is missing
            class_matrix(open_model(path, threads=threads, device=device).labels, classes, declared.classes, self.name)
        self.version = digest(self._extract.version(self._key), *classes)
        self.members = (MemberInfo(self.name),)

    def variant(self, clip: TeacherClip) -> str:  # noqa: ARG002 (one set of weights answers to all)
        return "own"

    def label(
        self, clips: Sequence[TeacherClip], progress: Callable[[str, float], None] | None = None
    ) -> TeacherOutput:
        """See `Teacher.label`."""
        rows: list[torch.Tensor] = []
        for index, clip in enumerate(clips):
            rows.append(self._extract(clip, self._key)[0])
            if progress is not None:
                progress("labelling", (index + 1) / len(clips))
        found = torch.stack(rows) if rows else torch.zeros(0, len(self.classes))
        logits = {self.name: found[:, : len(self.classes)]}
        pooled, entropy = combine(self.members, logits)
        return TeacherOutput(pooled, logits, entropy, {self.name: found[:, len(self.classes) :]})


def open_teacher(path: Path, classes: tuple[str, ...] = (), *, device: str = "cpu", threads: int = 1) -> Teacher:
    """Any teacher: a bundle's folder, or the declaration of a model made elsewhere.

    Args:
        path: Folder or YAML file.
        classes: What it has to know, in this order where it can choose.
        device: Where models of `transformers` run.
        threads: CPU threads of networks in files.

    Raises:
        BundleError: The bundle is damaged.
        InputError: There is no such teacher, or it does not know these classes.
        DependencyError: A library is not installed.
    """
    if path.suffix.lower() in DECLARATIONS:
        return ModelTeacher(path, classes, device=device, threads=threads)
    if not path.is_dir():
        raise InputError(f"There is no teacher at {path}.", hint="Name a teacher's folder, or a model's .yaml file.")
    teacher = load_teacher(path)
    if device != "cpu" or threads > 1:
        extractor = Extractor(root=path, classes=teacher.classes, device=device, threads=threads)
        teacher = load_teacher(path, extractor)
    if classes and set(classes) != set(teacher.classes):
        raise InputError(
            f"Teacher {teacher.name} knows {', '.join(teacher.classes)}; asked for are {', '.join(classes)}.",
            hint="Train a teacher for these classes: streamkd teachers train.",
        )
    return teacher


__all__ = ["ModelTeacher", "open_teacher"]

"""Teachers: slow, look at a whole clip at once, and label footage that nobody has labelled.

    base        the protocol, and how classes and members combine
    spec        what a bundle says about itself
    ensemble    heads over features, cross-fitted; the bundle
    heads       linear, forest, transformer over time
    extract     from a clip to features: pictures, flow, sound, poses
    declared    the YAML beside a model made elsewhere
    models hub  ONNX and OpenVINO files; transformers
    single      such a model as a teacher of its own; `open_teacher`

A teacher's members belong to one of two groups: "train" members make the labels that students learn from, "judge"
members have another backbone and other features and only ever compare students, because a teacher must not judge its
own pupil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamkd.models.teachers.base import MemberInfo, Teacher, TeacherClip, TeacherOutput
from streamkd.models.teachers.ensemble import EnsembleTeacher, Heads, load_teacher, save_teacher
from streamkd.models.teachers.extract import Extractor, Poses, PoseSource
from streamkd.models.teachers.heads import STANDARD_LIMIT, LinearHead
from streamkd.models.teachers.single import ModelTeacher, open_teacher
from streamkd.models.teachers.spec import FeatureKey, TeacherMember, TeacherSpec, feature_key

if TYPE_CHECKING:
    from torch import Tensor


def softmax_numpy(logits: Tensor) -> np.ndarray:
    """Probabilities `[N, C]` as float64."""
    return np.asarray(logits.double().softmax(dim=-1).numpy())


__all__ = [
    "STANDARD_LIMIT",
    "EnsembleTeacher",
    "Extractor",
    "FeatureKey",
    "Heads",
    "LinearHead",
    "MemberInfo",
    "ModelTeacher",
    "PoseSource",
    "Poses",
    "Teacher",
    "TeacherClip",
    "TeacherMember",
    "TeacherOutput",
    "TeacherSpec",
    "feature_key",
    "load_teacher",
    "open_teacher",
    "save_teacher",
    "softmax_numpy",
]

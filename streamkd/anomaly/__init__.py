"""Per-camera normality: what a camera usually looks like, and how unusual this frame is."""

from streamkd.anomaly.base import Normality, NormalityModel
from streamkd.anomaly.baseline import MotionBaseline

__all__ = ["MotionBaseline", "Normality", "NormalityModel"]

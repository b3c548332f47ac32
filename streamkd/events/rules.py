"""From settings to rules: which labels open events on a camera, and at which score."""

from __future__ import annotations

import math

from streamkd.anomaly.baseline import STEEPNESS
from streamkd.bundle import StudentSpec
from streamkd.config import CameraConfig, EventsConfig
from streamkd.events.machine import Rule

UNUSUAL_MOTION = "unusual_motion"
DEFAULT_THRESHOLD = 0.5
ACTION_REACH = 2.0  # logits that sensitivity moves an action's threshold up or down, at 0 and at 1
ANOMALY_REACH = STEEPNESS * math.log(1.5)  # at 0, one and a half times the motion is needed; at 1, two thirds
_EDGE = 1e-3


def threshold_at(threshold: float, sensitivity: float, reach: float = ACTION_REACH) -> float:
    """The opening threshold at a sensitivity: `sigmoid(logit(threshold) + reach * (1 - 2 * sensitivity))`.

    0.5 leaves the threshold as it is; a higher sensitivity lowers it, strictly. Moving in logit space keeps it between
    0 and 1 and makes a step mean the same share of odds everywhere.

    Args:
        threshold: The score, 0..1, at which an event opens at sensitivity 0.5.
        sensitivity: 0..1.
        reach: Logits between sensitivity 0.5 and either end.
    """
    inside = min(max(threshold, _EDGE), 1.0 - _EDGE)
    logit = math.log(inside / (1.0 - inside)) + reach * (1.0 - 2.0 * sensitivity)
    return 1.0 / (1.0 + math.exp(-logit))


def action_rules(spec: StudentSpec, events: EventsConfig, camera: CameraConfig) -> dict[str, Rule]:
    """One rule for each foreground class that may open events on this camera."""
    return {
        label: _rule(threshold_at(spec.thresholds.get(label, DEFAULT_THRESHOLD), camera.sensitivity), events, camera)
        for label in spec.foreground
        if camera.labels is None or label in camera.labels
    }


def anomaly_rule(events: EventsConfig, camera: CameraConfig) -> Rule | None:
    """The rule for anomaly scores, which are 0.5 at the camera's own threshold; None where anomalies are off."""
    if not camera.anomalies:
        return None
    return _rule(threshold_at(0.5, camera.sensitivity, ANOMALY_REACH), events, camera)


def _rule(open_at: float, events: EventsConfig, camera: CameraConfig) -> Rule:
    return Rule(
        open_at=open_at,
        close_below=events.close_ratio * open_at,
        min_frames=events.min_frames,
        close_after_s=events.close_after_s,
        max_duration_s=events.max_duration_s,
        cooldown_s=camera.cooldown_s,
    )


__all__ = ["ACTION_REACH", "ANOMALY_REACH", "UNUSUAL_MOTION", "action_rules", "anomaly_rule", "threshold_at"]

"""From scores to events: smoothing, hysteresis, rules."""

from streamkd.events.machine import MachineState, Phase, Rule, advance
from streamkd.events.rules import UNUSUAL_MOTION, action_rules, anomaly_rule, threshold_at
from streamkd.events.smoothing import CausalMean
from streamkd.events.timebase import LiveTime, RecordingTime, TimeBase
from streamkd.events.tracker import EventTracker, TrackerName

__all__ = [
    "UNUSUAL_MOTION",
    "CausalMean",
    "EventTracker",
    "LiveTime",
    "MachineState",
    "Phase",
    "RecordingTime",
    "Rule",
    "TimeBase",
    "TrackerName",
    "action_rules",
    "advance",
    "anomaly_rule",
    "threshold_at",
]

"""What `streamkd bench compare` runs in Roboflow's environment: their `InferencePipeline`, our student on OpenVINO.

    /path/of/that/environment/bin/python roboflow_runner.py < settings.json

Stands alone: that environment has `inference` and `openvino`, and no streamkd. The pipeline reads, decodes and batches;
the custom logic is what a user would write around the same int8 network: pick what is due, squeeze, stack, infer, keep
each camera's state. `max_fps` is not used: it limits the batches of all cameras together, and with several cameras most
batches are not whole (asked for 5, four cameras got 1.1 a second each). Prints a line "ready", then a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from typing import Any

import numpy as np

_LOOK_EVERY_S = 0.1
_NEVER = threading.Event()
cv2: Any = importlib.import_module("cv2")
ov: Any = importlib.import_module("openvino")


class Student:
    """The int8 network with a state for each camera."""

    def __init__(self, ir: str, size: int, states: dict[str, list[int]]) -> None:
        core = ov.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}
        self._network = core.compile_model(core.read_model(ir), "CPU", settings | {"ENABLE_CPU_PINNING": False})
        self._size = size
        self._empty = {name: np.zeros(shape, np.float32) for name, shape in states.items()}
        self._states: dict[tuple[str, str], np.ndarray] = {}

    def step(self, cameras: list[str], pictures: list[Any]) -> np.ndarray:
        """Advance some cameras by one picture each; returns their logits."""
        small = [cv2.resize(picture, (self._size, self._size), interpolation=cv2.INTER_AREA) for picture in pictures]
        frames = np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in small])
        inputs = {"frame": frames.transpose(0, 3, 1, 2).astype(np.float32)}
        for name, empty in self._empty.items():
            inputs[name] = np.stack([self._states.get((camera, name), empty) for camera in cameras])
        outputs = self._network(inputs)
        for name in self._empty:
            following = outputs[f"next_{name}"]
            for row, camera in enumerate(cameras):
                self._states[camera, name] = following[row].copy()
        logits: np.ndarray = outputs["action"]
        return logits


class Follower:
    """The custom logic: what was answered, and when."""

    def __init__(self, student: Student, names: list[str], fps: float, rate_hz: float) -> None:
        self.answers: list[tuple[str, float, float]] = []  # camera, PTS, when it was finished
        self._student, self._names, self._fps, self._rate_hz = student, names, fps, rate_hz
        self._seen = dict.fromkeys(names, 0)
        self._next_s = dict.fromkeys(names, 0.0)

    def analyse(self, frames: list[Any]) -> list[Any]:
        due = [(self._names[frame.source_id or 0], frame) for frame in frames if self._is_due(frame)]
        if due:
            self._student.step([camera for camera, _ in due], [frame.image for _, frame in due])
        now_s = time.monotonic()
        for camera, frame in due:
            self._seen[camera] += 1
            self.answers.append((camera, self._pts_s(frame), now_s))
        return [None] * len(frames)  # one for each frame

    def _pts_s(self, frame: Any) -> float:
        pts_s: float = (frame.frame_id - 1) / self._fps  # frames count from one
        return pts_s

    def _is_due(self, frame: Any) -> bool:
        camera, pts_s = self._names[frame.source_id or 0], self._pts_s(frame)
        if pts_s < self._next_s[camera] - 1e-6:
            return False
        self._next_s[camera] += max(1, int((pts_s - self._next_s[camera]) * self._rate_hz) + 1) / self._rate_hz
        return True

    def warm(self, frames: int) -> bool:
        return min(self._seen.values()) >= frames


def main() -> None:
    """Run, measure, tell."""
    given = json.load(sys.stdin)
    cv2.setNumThreads(1)
    student = Student(given["ir"], given["input_size"], given["states"])
    follower = Follower(student, list(given["urls"]), given["fps"], given["rate_hz"])
    pipeline = importlib.import_module("inference").InferencePipeline.init_with_custom_logic(
        video_reference=list(given["urls"].values()),
        on_video_frame=follower.analyse,
        on_prediction=lambda _predictions, _frames: None,
        video_processing_mode="auto",  # every frame while it keeps up
    )
    pipeline.start(use_main_thread=False)
    deadline_s = time.monotonic() + given["start_s"]
    while not follower.warm(given["warm_frames"]) and time.monotonic() < deadline_s:
        _NEVER.wait(_LOOK_EVERY_S)  # where it does not come that far, the result shows it
    _tell("ready")
    began_s, cpu_s = time.monotonic(), time.process_time()
    _NEVER.wait(given["seconds"])  # the measured time
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    _NEVER.wait(given["grace_s"])  # what was sent at its end may be answered a little later
    _tell(json.dumps({"began_s": began_s, "took_s": took_s, "cpu_s": cpu_s, "answers": list(follower.answers)}))
    os._exit(0)  # the pipeline's threads would wait for its cameras


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

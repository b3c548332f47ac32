"""The candidate of `streamkd bench compare` that lives in an environment of its own: Roboflow's `inference`.

Its requirements are its own, so it is run by that environment's Python: `python -m venv DIR`, then
`DIR/bin/pip install inference openvino`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkd.bundle import read_bundle
from streamkd.errors import DependencyError, UnavailableError
from streamkd_service.bench.rtsp import FPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RUNNER = Path(__file__).with_name("roboflow_runner.py")
_CHECK_S, _GRACE_S = 120.0, 1.0
# Nothing is to be reported home or looked up while it is measured; one thread for each library, as for the others.
_SETTINGS = {"TELEMETRY_OPT_OUT": "True", "DISABLE_VERSION_CHECK": "True", "OMP_NUM_THREADS": "1"}


def check_environment(python: Path) -> str:
    """The version of `inference` that this Python has.

    Raises:
        DependencyError: It can't import what the runner needs.
    """
    words = "import cv2, openvino; from importlib.metadata import version; from inference import InferencePipeline"
    try:
        ended = subprocess.run(  # noqa: S603 - the Python that the user names
            [str(python), "-c", f"{words}; print(version('inference'))"],
            capture_output=True,
            text=True,
            timeout=_CHECK_S,
            check=False,
            env=os.environ | _SETTINGS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(f"{python} does not run: {type(error).__name__}.", hint="Name a Python.") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        raise DependencyError(
            f"{python} can't run Roboflow's InferencePipeline: {last[:200]}.",
            hint="In an environment of its own: pip install inference openvino",
        )
    return ended.stdout.strip().splitlines()[-1]


def run_pipeline(
    python: Path,
    urls: Mapping[str, str],
    bundle: Path,
    seconds: float,
    start_s: float,
    warm_frames: int,
    on_measuring: Callable[[], None],
) -> dict[str, Any]:
    """Run the pipeline on these cameras; returns `began_s`, `took_s`, `cpu_s` and `answers` as the runner tells them.

    Args:
        python: Of the environment.
        urls: Address of each camera.
        bundle: Of the student.
        seconds: Measured time.
        start_s: How long it may take until every camera has been analysed.
        warm_frames: Analysed of each camera before the measured time.
        on_measuring: Called when the measured time begins.

    Raises:
        UnavailableError: It fails, or takes too long.
    """
    opened = read_bundle(bundle)
    given = {
        "urls": dict(urls),
        "ir": str(opened.ir_path),
        "input_size": opened.spec.input_size,
        "rate_hz": opened.spec.rate_hz,
        "states": {tensor.name: tensor.shape for tensor in opened.spec.state},
        "fps": FPS,
        "seconds": seconds,
        "start_s": start_s,
        "warm_frames": warm_frames,
        "grace_s": _GRACE_S,
    }
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603 - the Python that the user names, our own script
            [str(python), str(_RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | _SETTINGS,
        )
        over = threading.Timer(start_s + seconds + _CHECK_S, process.kill)
        over.start()
        try:
            found = _converse(process, given, on_measuring)
            if found is not None:
                return found
        finally:
            over.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no word"])[-1]
    raise UnavailableError(f"Roboflow's InferencePipeline failed: {last[:200]}.", hint="Try fewer cameras.")


def _converse(
    process: subprocess.Popen[str], given: Mapping[str, Any], on_measuring: Callable[[], None]
) -> dict[str, Any] | None:
    """Tell the runner what to do and listen to it: its result, or None where it ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as pipe:
        json.dump(given, pipe)
    for line in process.stdout:
        if line.strip() == "ready":
            on_measuring()
        elif line.startswith('{"began_s"'):
            found: dict[str, Any] = json.loads(line)
            return found
    return None


__all__ = ["check_environment", "run_pipeline"]

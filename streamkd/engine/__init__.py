"""Running the student: one interface, one module per runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from streamkd.bundle import read_bundle
from streamkd.engine.base import InferenceEngine, StepOutput


def open_engine(bundle_path: Path, *, device: Literal["cpu", "auto"] = "cpu", threads: int = 1) -> InferenceEngine:
    """Check a model bundle and load it; call `warm()` before the first frame.

    Args:
        bundle_path: Folder of a model bundle.
        device: Where to run; "auto" takes the best device that is present, which is the CPU so far.
        threads: Inference threads.

    Raises:
        BundleError: The bundle is damaged, or its network does not fit its spec.
    """
    from streamkd.engine.openvino import OpenVinoEngine  # noqa: PLC0415 (loading the runtime takes a moment)

    del device
    return OpenVinoEngine(read_bundle(bundle_path), threads=threads)


__all__ = ["InferenceEngine", "StepOutput", "open_engine"]

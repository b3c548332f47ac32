"""Small teachers and clips for tests: self-made networks in files, footage that moves or stands still."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import openvino as ov
import yaml
from openvino import opset13 as ops

from tests.media import make_clip

SIZE = 32


def moving_clip(path: Path, *, speed: int, seed: int = 0, frames: int = 12, fps: int = 10) -> Path:
    """A textured square that moves `speed` pixels a frame over a textured ground; 0 stands still."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 120, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    thing = np.kron(rng.integers(100, 255, (4, 4, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    start = int(rng.integers(0, 40))

    def picture(number: int) -> np.ndarray:
        shown = ground.copy()
        at = (start + speed * number) % 44
        shown[20:40, at : at + 20] = thing
        return shown

    return make_clip(path, frames=frames, fps=fps, gop=frames, width=64, height=64, picture=picture)


def moving_set(folder: Path, *, sources: int = 6, per_source: int = 2) -> Path:
    """A data set: in each source "still" clips and "moves" clips, that look alike but for the motion."""
    (folder / "clips").mkdir(parents=True)
    rows = []
    for source in range(sources):
        for index in range(per_source):
            for label, speed in (("still", 0), ("moves", 3)):
                name = f"clips/{label}-{source}-{index}.mp4"
                moving_clip(folder / name, speed=speed, seed=100 * source + index)
                rows.append((name, label, f"camera {source}"))
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "source"))
        writer.writerows(rows)
    return folder


def clip_with_sound(path: Path, samples: np.ndarray, *, rate_hz: int = 16_000) -> Path:
    """Grey pictures for as long as the sound lasts, `[n]` float32, -1..1."""
    with av.open(str(path), mode="w") as container:
        video = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 10)
        audio = container.add_stream("pcm_s16le", rate=rate_hz, layout="mono")
        for number in range(max(int(len(samples) / rate_hz * 10), 1)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = rate_hz, 0, Fraction(1, rate_hz)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def brightness_network(layout: str, frames: int = 4) -> ov.Model:
    """Two logits: minus and plus (mean of all that goes in, less one half), times 10."""
    shapes = {
        "NCHW": [1, 3, SIZE, SIZE],
        "NHWC": [1, SIZE, SIZE, 3],
        "NTHWC": [1, frames, SIZE, SIZE, 3],
        "NCTHW": [1, 3, frames, SIZE, SIZE],
    }
    pictures = ops.parameter(shapes[layout], np.float32, name="pictures")
    axes = ops.constant(list(range(1, len(shapes[layout]))), np.int64)
    mean = ops.subtract(ops.reduce_mean(pictures, axes), ops.constant(0.5, np.float32))
    row = ops.reshape(mean, ops.constant([1, 1], np.int64), special_zero=False)
    logits = ops.matmul(row, ops.constant([[-10.0, 10.0]], np.float32), transpose_a=False, transpose_b=False)
    logits.output(0).get_tensor().set_names({"logits"})
    row.output(0).get_tensor().set_names({"brightness"})
    return ov.Model([logits, row], [pictures], "brightness")


def pose_network() -> ov.Model:
    """Two "people" a frame whose 56 values are the mean grey value 0..1 of the picture; any height and width."""
    pictures = ops.parameter(ov.PartialShape([1, -1, -1, 3]), np.int32, name="input")
    mean = ops.reduce_mean(ops.convert(pictures, np.float32), ops.constant([1, 2, 3], np.int64), keep_dims=False)
    row = ops.reshape(
        ops.divide(mean, ops.constant(255.0, np.float32)), ops.constant([1, 1, 1], np.int64), special_zero=False
    )
    people = ops.tile(row, ops.constant([1, 2, 56], np.int64))
    people.output(0).get_tensor().set_names({"people"})
    return ov.Model([people], [pictures], "poses")


def declare(path: Path, **said: object) -> Path:
    """Write a declaration."""
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return path


def brightness_teacher(folder: Path, layout: str = "NCHW", **said: object) -> Path:
    """An OpenVINO file that calls bright clips "day" and dark ones "night", with its declaration."""
    ov.save_model(brightness_network(layout), folder / "brightness.xml", compress_to_fp16=False)
    shape = {"layout": layout, "height": SIZE, "width": SIZE}
    asked = {"name": "brightness", "file": "brightness.xml", "frames": 4, "labels": ["night", "day"], "input": shape}
    return declare(folder / "brightness.yaml", **(asked | said))


def pose_teacher(folder: Path, **shape: object) -> Path:
    """A declared pose network, see `pose_network`."""
    ov.save_model(pose_network(), folder / "poses.xml", compress_to_fp16=False)
    return declare(
        folder / "poses.yaml",
        name="poses",
        file="poses.xml",
        input={"layout": "NHWC", "height": 64, "width": 0, "range": [0, 255]} | shape,
        output={"kind": "pose"},
    )


def grey_clip(path: Path, level: int, *, width: int = 64, height: int = 64) -> Path:
    """Six pictures of one grey."""
    return make_clip(
        path,
        frames=6,
        fps=5,
        gop=6,
        width=width,
        height=height,
        picture=lambda _: np.full((height, width, 3), level, np.uint8),
    )

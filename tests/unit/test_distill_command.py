"""`streamkd distil` as a user calls it: wrong input, a full disk, and one small real run that is continued."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nncf")

import streamkd
from streamkd.bundle import file_sha256, read_bundle
from streamkd.distill.labels import ClipLabels, MemberLabels, write_labels
from streamkd.distill.parts import disk_full_named, loose_clips, split_by_source
from streamkd.distill.teacher_signals import reduced
from streamkd.errors import TrainingError
from streamkd.evaluate.dataset import ClipRecord
from streamkd.models.student import student_spec
from streamkd_service.cli import main

ANCHOR = Path(streamkd.__file__).parent / "assets" / "anchor"


def record(number: int, label: str, source: str) -> ClipRecord:
    return ClipRecord(Path(f"{number}.mp4"), f"{number}.mp4", label, source, f"{number:064x}")


@pytest.fixture
def few_clips(tmp_path):
    """One clip of each class and source among the shipped ones, with their list."""
    folder = tmp_path / "data"
    (folder / "clips").mkdir(parents=True)
    with (ANCHOR / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = list({(row["source"], row["label"]): row for row in rows}.values())
    for row in chosen:
        shutil.copy(ANCHOR / row["file"], folder / row["file"])
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    return folder


@pytest.fixture
def labels(few_clips, tmp_path):
    """A teacher's answers to them, as a file."""
    with (few_clips / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    probs = tuple((0.8, 0.2) if row["label"] == "normal" else (0.3, 0.7) for row in rows)
    hashes = tuple(file_sha256(few_clips / row["file"]) for row in rows)
    members = (MemberLabels("m", "train", probs),)
    write_labels(
        tmp_path / "labels", ClipLabels("mine", ("normal", "fight"), tuple(r["file"] for r in rows), hashes, members)
    )
    return tmp_path / "labels"


def write_recipe(path: Path, teacher: Path | str, **train: object) -> Path:
    settings = {"epochs": 2, "variants": 0} | train
    path.write_text(
        json.dumps(
            {
                "teacher": {"source": str(teacher)},
                "objectives": [{"name": "labels", "weight": 0.3}, {"name": "response", "weight": 0.7}],
                "train": settings,
                "tracking": ["tensorboard"],
            }
        )
    )
    return path


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, " ".join(captured.err.split())


def test_a_wrong_recipe_is_one_clear_line(few_clips, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("objectives:\n- name: nothing\n")
    status, _, err = run(capsys, "distil", tmp_path / "r.yaml", "--data", few_clips)
    assert status == 2
    assert "r.yaml, line 2" in err


def test_too_few_sources_are_refused(few_clips, labels, tmp_path, capsys):
    listing = few_clips / "clips.csv"
    lines = listing.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.startswith("file") or "v4dhdnsxiX4" in line or "KSybYlMepTE" in line]
    listing.write_text("".join(kept))
    recipe = write_recipe(tmp_path / "r.yaml", labels)
    words = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
    status, _, err = run(capsys, "distil", recipe, "--data", few_clips, *words)
    assert status == 2
    assert "2 source(s)" in err


def test_a_full_disk_while_caching_is_one_clear_line(few_clips, labels, tmp_path, capsys):
    frames = tmp_path / "cache" / "frames"
    frames.mkdir(parents=True)
    with (few_clips / "clips.csv").open(newline="") as file:
        first = file_sha256(few_clips / next(csv.DictReader(file))["file"])
    # What the cache writes to first leads to a device that is always full.
    spec = student_spec("unnamed", ("normal", "fight"))
    shape = f"{spec.rate_hz:g}hz-{spec.view_size}px{'-wide' if spec.keeps_aspect else ''}"
    (frames / f"{first[:32]}-{shape}-0-end.{os.getpid()}.partial.npz").symlink_to("/dev/full")
    recipe = write_recipe(tmp_path / "r.yaml", labels)
    words = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
    status, _, err = run(capsys, "distil", recipe, "--data", few_clips, *words)
    assert status == 2
    assert "The disk is full while caching frames" in err
    assert "Traceback" not in err
    assert not list(frames.glob("*.partial*"))


def test_another_error_of_the_disk_is_not_hidden(tmp_path):
    with pytest.raises(PermissionError), disk_full_named("frames", tmp_path):
        raise PermissionError(13, "no")


def test_a_split_is_by_source_and_three_to_one_to_one(tmp_path):
    records = tuple(record(10 * s + i, ("normal", "fight")[i % 2], f"s{s}") for s in range(10) for i in range(4))
    parts = split_by_source(records, tmp_path, 0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 8, 8]
    sources = [{one.source for one in part} for part in (parts.train, parts.validation, parts.test)]
    assert len(set.union(*sources)) == sum(map(len, sources))


def test_the_same_clip_in_two_parts_is_refused_by_name(tmp_path):
    records = [record(10 * s + i, ("normal", "fight")[i % 2], f"s{s}") for s in range(5) for i in range(2)]
    twin = record(0, "normal", "s3")
    with pytest.raises(TrainingError, match=r"0\.mp4"):
        split_by_source((*records, twin), tmp_path, 0)


def test_clips_without_labels_leave_the_labelled_out(tmp_path):
    for name in ("a.mp4", "b.mp4", "note.txt"):
        (tmp_path / name).write_bytes(name.encode())
    known = {file_sha256(tmp_path / "a.mp4")}
    assert [one.file for one in loose_clips(tmp_path, known)] == ["b.mp4"]


def test_components_keep_absent_clips_absent():
    features = torch.randn(10, 100, generator=torch.Generator().manual_seed(0))
    features[3] = torch.nan
    found = reduced(features, 4)
    assert found.shape == (10, 4)
    assert torch.isnan(found[3]).all()
    assert torch.isfinite(found[torch.arange(10) != 3]).all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_run_ends_with_a_bundle_and_a_report_and_can_be_continued(few_clips, labels, tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install 'streamkd[tracking]')")
    recipe = write_recipe(tmp_path / "r.yaml", labels)
    out = tmp_path / "out"
    words = ("distil", recipe, "--data", few_clips, "--out", out, "--cache", tmp_path / "cache", "--threads", 1)
    status, text, err = run(capsys, *words)
    assert status == 0, err
    assert "student, int8" in text
    bundle = read_bundle(out / "student")
    assert bundle.spec.classes == ("normal", "fight")
    assert bundle.metrics["split"] == "3:1:1 by source"
    first = (out / "student" / "model.safetensors").read_bytes()
    assert {"recipe.json", "metrics.json", "report.html", "checkpoint.pt", "tensorboard"} <= {
        path.name for path in out.iterdir()
    }
    status, _, err = run(capsys, *words, "--resume")  # nothing is left to do: the same student
    assert status == 0, err
    assert (out / "student" / "model.safetensors").read_bytes() == first
    scores = json.loads((out / "metrics.json").read_text())["clips"]
    assert np.isfinite(list(scores.values())).all()

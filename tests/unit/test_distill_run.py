"""Training by a recipe on cached features: every objective, determinism, kills, and losses that are no numbers."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from streamkd.distill.checkpoint import Checkpoint
from streamkd.distill.features import FeatureSet
from streamkd.distill.recipe import Recipe
from streamkd.distill.run import run_fingerprint, train_head
from streamkd.distill.signals import TeacherSignals
from streamkd.distill.terms import REGISTRY
from streamkd.errors import TrainingError
from streamkd.models.motion import STATISTICS
from streamkd.models.student import Student, student_spec

CLIPS = 16
WIDTH = 1440 + STATISTICS  # of what the head sees
LABELS = [index % 2 for index in range(CLIPS)]


def made_features(seed: int = 0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    clips = [torch.rand(8 + i % 4, WIDTH, generator=generator) * (1.0 + 0.3 * LABELS[i]) for i in range(CLIPS)]
    return FeatureSet(tuple(clip.half() for clip in clips), ())


def made_teacher() -> TeacherSignals:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    right = torch.tensor([[1.5, -1.5] if label == 0 else [-1.5, 1.5] for label in LABELS])
    audio = noise(CLIPS, 4)
    audio[::3] = math.nan  # not every clip has sound
    return TeacherSignals(
        logits=right,
        members=torch.stack([right, right + noise(CLIPS, 2)]),
        features=noise(CLIPS, 20),
        modalities={"flow": noise(CLIPS, 6), "audio": audio},
        frame_features=tuple(noise(12, 5) for _ in range(CLIPS)),
    )


def recipe(*names: str, **other: object) -> Recipe:
    train = {"epochs": 2, "batch": 2, **other.pop("train", {})}  # type: ignore[dict-item]
    return Recipe.model_validate({"objectives": [{"name": name} for name in names], "train": train, **other})


def weights(student) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in (*student.memory_parameters(), *student.direct.parameters())])


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    torch.set_num_threads(1)
    return made_features()


@pytest.fixture(scope="module")
def teacher() -> TeacherSignals:
    return made_teacher()


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_objective_trains_the_student(features, teacher, name):
    labels = [-1 if name == "pseudo-labels" and i > 9 else label for i, label in enumerate(LABELS)]
    chosen = recipe(name, train={"epochs": 1})
    run = train_head(features, labels, teacher, chosen, 0)
    start = train_head(features, labels, teacher, recipe(name, train={"epochs": 1, "lr_head": 1e-12}), 0)
    assert math.isfinite(run.history[0].parts[name])
    assert not torch.equal(weights(run.student), weights(start.student))


@pytest.mark.parametrize("combine", ["mean", "learnt", "entropy", "confidence"])
def test_teachers_are_combined(features, teacher, combine):
    chosen = recipe("response", teacher={"combine": combine, "conditional": True})
    assert math.isfinite(train_head(features, LABELS, teacher, chosen, 0).history[-1].loss)


def test_everything_at_once(features, teacher):
    chosen = recipe(
        "labels",
        "response",
        "motion",
        "hints",
        multi_task="uncertainty",
        progressive={"widths": [32, 8], "epochs": 5},
        shots=3,
    )
    assert math.isfinite(train_head(features, LABELS, teacher, chosen, 0).history[-1].loss)


def test_equal_arguments_give_an_equal_student(features, teacher):
    chosen = recipe("labels", "response", "hints", "attacked")
    first, second = (train_head(features, LABELS, teacher, chosen, 3) for _ in range(2))
    assert torch.equal(weights(first.student), weights(second.student))


def test_another_seed_gives_another_student(features, teacher):
    first, second = (train_head(features, LABELS, teacher, recipe("labels"), seed) for seed in (0, 1))
    assert not torch.equal(weights(first.student), weights(second.student))


def test_it_learns(features, teacher):
    run = train_head(features, LABELS, teacher, recipe("labels", "response", train={"epochs": 15}), 0)
    said = [int(one.mean(dim=0).argmax()) for one in run.logits(features)]
    assert said == LABELS


def test_a_clip_of_one_frame_trains(teacher):
    features = made_features()
    features = replace(features, plain=(features.plain[0][:1], *features.plain[1:]))
    assert math.isfinite(train_head(features, LABELS, teacher, recipe("labels", "response"), 0).history[-1].loss)


def test_what_the_teacher_lacks_is_named(features):
    with pytest.raises(TrainingError, match=r"'hints' needs the teacher's features of each clip"):
        train_head(features, LABELS, TeacherSignals(logits=torch.zeros(CLIPS, 2)), recipe("hints"), 0)


def test_a_missing_modality_is_named(features, teacher):
    chosen = Recipe.model_validate({"objectives": [{"name": "motion", "modality": "pose"}]})
    with pytest.raises(TrainingError, match=r"'pose'.*flow, audio"):
        train_head(features, LABELS, teacher, chosen, 0)


def test_a_teacher_of_other_classes_is_refused(features):
    with pytest.raises(TrainingError, match="3 classes; there are 16 and 2"):
        train_head(features, LABELS, TeacherSignals(logits=torch.zeros(CLIPS, 3)), recipe("response"), 0)


def test_a_teachers_nan_names_the_clip(features, teacher):
    logits = torch.zeros(CLIPS, 2)
    logits[5] = math.nan
    names = [f"clip{i}" for i in range(CLIPS)]
    with pytest.raises(TrainingError, match="clip5"):
        train_head(features, LABELS, TeacherSignals(logits=logits), recipe("response"), 0, names=names)


def test_a_loss_that_is_no_number_says_where(features, teacher):
    chosen = recipe("labels", "similarity", train={"mixup": 0.0})
    names = [f"clip{i}.mp4" for i in range(CLIPS)]
    broken = replace(teacher, features=teacher.features.clone())
    broken.features[7] = math.nan
    with pytest.raises(TrainingError, match=r"Objective 'similarity'.*epoch 1, step \d, clip.*\.mp4"):
        train_head(features, LABELS, broken, chosen, 0, names=names)


def test_the_last_good_checkpoint_is_kept(features, teacher, tmp_path):
    chosen = recipe("labels", train={"epochs": 3})
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")
    train_head(features, LABELS, teacher, recipe("labels", train={"epochs": 1}), 0, checkpoint=checkpoint)
    before = checkpoint.path.read_bytes()
    with pytest.raises(TrainingError, match="epoch 2"):
        train_head(_nan_clip(features), LABELS, teacher, chosen, 0, checkpoint=checkpoint)
    assert checkpoint.path.read_bytes() == before


def _nan_clip(features: FeatureSet) -> FeatureSet:
    plain = list(features.plain)
    plain[3] = torch.full_like(plain[3], math.nan)
    return FeatureSet(tuple(plain), ())


def test_a_run_that_was_stopped_ends_like_one_that_was_not(features, teacher, tmp_path):
    chosen = recipe("labels", "response", "hints", multi_task="uncertainty", train={"epochs": 4})
    checkpoint = Checkpoint(tmp_path / "c.pt", "run")

    def stop(what: str, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_head(features, LABELS, teacher, chosen, 0, checkpoint=checkpoint, progress=stop)
    continued = train_head(features, LABELS, teacher, chosen, 0, checkpoint=checkpoint)
    straight = train_head(features, LABELS, teacher, chosen, 0)
    assert torch.equal(weights(continued.student), weights(straight.student))
    assert continued.history == straight.history


def test_another_runs_checkpoint_is_refused(features, teacher, tmp_path):
    first = Checkpoint(tmp_path / "c.pt", "one")
    train_head(features, LABELS, teacher, recipe("labels"), 0, checkpoint=first)
    with pytest.raises(TrainingError, match="another recipe"):
        train_head(features, LABELS, teacher, recipe("labels"), 0, checkpoint=replace(first, run="two"))


def test_a_damaged_checkpoint_is_one_clear_error(features, teacher, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="can't be read"):
        train_head(features, LABELS, teacher, recipe("labels"), 0, checkpoint=Checkpoint(tmp_path / "c.pt", "run"))


def test_a_full_disk_is_one_clear_error(features, teacher, tmp_path):
    (tmp_path / "c.partial").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="the disk is full"):
        train_head(features, LABELS, teacher, recipe("labels"), 0, checkpoint=Checkpoint(tmp_path / "c.pt", "run"))


@pytest.mark.slow
def test_the_trunk_is_trained_where_the_recipe_says_so(teacher):
    generator = torch.Generator().manual_seed(0)
    maps = FeatureSet(tuple(torch.rand(4, 56, 20, 20, generator=generator).half() for _ in range(4)), ())
    chosen = recipe("labels", "response", "attacked", train={"epochs": 1, "batch": 1, "head_only": False})
    start = Student(student_spec("new", ("normal", "fight")))
    run = train_head(maps, LABELS[:4], teacher.subset([0, 1, 2, 3]), chosen, 0, student=start)
    before, after = start.trunk_parameters()[-1], run.student.trunk_parameters()[-1]
    assert not torch.equal(before, after)
    assert run.logits(maps)[0].shape == (4, 2)


def test_maps_without_a_student_to_start_from_are_refused(teacher):
    maps = FeatureSet((torch.zeros(4, 56, 20, 20),), ())
    with pytest.raises(TrainingError, match="needs a student"):
        train_head(maps, [0], None, recipe("labels"), 0)


def test_weights_of_a_larger_network_start_the_head(features, teacher, tmp_path):
    run = train_head(features, LABELS, teacher, recipe("labels"), 0)
    larger = {
        f"big.{n}": torch.nn.functional.pad(v, (0, 2)) if v.dim() else v for n, v in run.student.state_dict().items()
    }
    save_file(larger, tmp_path / "w.safetensors")
    init = {"from": str(tmp_path / "w.safetensors"), "prefix": "big."}
    frozen = recipe("labels", init=init, train={"epochs": 1, "lr_head": 1e-12})
    started = train_head(features, LABELS, teacher, frozen, 1)
    assert torch.equal(started.student.reduce.bias[0], run.student.reduce.bias[0])


def test_weights_that_fit_nowhere_are_refused(features, teacher, tmp_path):
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    chosen = recipe("labels", init={"from": str(tmp_path / "w.safetensors")})
    with pytest.raises(TrainingError, match="fits the student"):
        train_head(features, LABELS, teacher, chosen, 0)


_KILLED = """
import sys, torch
sys.path.insert(0, {tests!r})
from tests.unit import test_distill_run as t
from streamkd.distill.checkpoint import Checkpoint
from pathlib import Path
torch.set_num_threads(1)
chosen = t.recipe("labels", "response", train={{"epochs": 4}})
run = t.train_head(
    t.made_features(), t.LABELS, t.made_teacher(), chosen, 0, checkpoint=Checkpoint(Path({path!r}), "run"),
    progress=lambda what, share: print(share, flush=True) or (share == {stop} and sys.stdin.read()),
)
torch.save(t.weights(run.student), {path!r} + ".weights")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # two processes on a machine that may be busy
def test_a_killed_process_goes_on_with_the_same_result(features, teacher, tmp_path):
    root, path = str(Path(__file__).parents[2]), str(tmp_path / "c.pt")

    def start(stop: float) -> subprocess.Popen[str]:
        code = _KILLED.format(tests=root, path=path, stop=stop)
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start(0.5) as first:
        assert first.stdout is not None
        assert any(line.strip() == "0.5" for line in first.stdout)
        os.kill(first.pid, signal.SIGKILL)
    with start(2.0) as second:
        assert second.stdout is not None
        assert [line.strip() for line in second.stdout] == ["0.75", "1.0"]
    assert second.returncode == 0
    straight = train_head(features, LABELS, teacher, recipe("labels", "response", train={"epochs": 4}), 0)
    assert torch.equal(torch.load(path + ".weights", weights_only=True), weights(straight.student))


def test_a_run_is_named_by_recipe_seed_and_clips():
    chosen = recipe("labels")
    names = {run_fingerprint(chosen, 0, ["a"]), run_fingerprint(chosen, 1, ["a"]), run_fingerprint(chosen, 0, ["b"])}
    assert len(names | {run_fingerprint(recipe("response"), 0, ["a"])}) == 4

"""A refresh as resumable steps over a work folder. Every step leaves a file; a step whose file is there is done.

    plan.json               RefreshPlan, written first
    harvest/<worker>/*.mkv  clips
    harvest.json            what was harvested, and the split into training and held-out clips
    labels/labels.json      what the teacher says about all of them
    <version>/              the candidate's bundle, until it is published
    gate.json               the gate's report

Nothing here runs anything: `*_job` name what is to run in a process of its own, and with what.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamkd.distill.labels import read_labels
from streamkd.errors import InputError
from streamkd.evaluate.dataset import read_dataset
from streamkd.refresh.gate import GateLimits
from streamkd.refresh.moments import as_cells, split_moments
from streamkd.shipped import SHIPPED_ANCHOR, SHIPPED_TEACHER, asset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamkd.config import RefreshConfig
    from streamkd.refresh.harvest import HarvestedClip
    from streamkd.refresh.verdicts import VerdictClip

SHUFFLED_LABELS = "shuffled_labels"
MIN_TRAIN_CLIPS = 4
MIN_LABEL_SPREAD = 0.12


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """All that a refresh depends on, fixed when it begins.

    Attributes:
        id: Of the refresh.
        parent_version: The live student.
        parent_path: Its bundle.
        candidate_version: What it makes.
        self_test: `SHUFFLED_LABELS` for a fire drill that the gate has to refuse, or None.
        seed: Of the split, the training and the gate.
        resumed: How often it was begun again after an interruption.
    """

    id: str
    parent_version: str
    parent_path: Path
    candidate_version: str
    self_test: str | None
    seed: int
    teacher: Path
    anchor_dir: Path
    replay_dir: Path | None
    harvest_s: float
    clip_s: float
    clips_per_camera: int
    epochs: int
    temperature: float
    safety_margin: float
    confidence: float
    resumed: int = 0


@dataclass(frozen=True, slots=True)
class Harvest:
    """The site's clips. `paths[i]` came from `cameras[i]` in `groups[i]`; `train` and `held_out` are indices."""

    paths: tuple[Path, ...]
    sha256: tuple[str, ...]
    cameras: tuple[str, ...]
    groups: tuple[str, ...]
    uncertainty: tuple[float, ...]
    train: tuple[int, ...]
    held_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SiteClip:
    """A harvested clip for the gate.

    Attributes:
        path: The file.
        sha256: Of its bytes; finds its labels.
        group: Of its camera.
        held_out: Whether it was kept from training; the others only show the group's look.
    """

    path: Path
    sha256: str
    group: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A function to call in a process of its own as `entry(**kwargs, progress=…)`, and the file or folder it leaves."""

    entry: str
    kwargs: dict[str, Any]
    makes: Path


def plan_from(config: RefreshConfig, **given: Any) -> RefreshPlan:
    """A plan with what the configuration says; `given` holds the rest and overrides it where not None."""
    values: dict[str, Any] = {
        "teacher": asset(config.teacher, SHIPPED_TEACHER),
        "anchor_dir": asset(config.anchor_dir, SHIPPED_ANCHOR),
        "replay_dir": None if config.replay_dir is None else config.replay_dir.expanduser().resolve(),
        "harvest_s": config.harvest_s,
        "clip_s": config.clip_s,
        "clips_per_camera": config.clips_per_camera,
        "epochs": config.epochs,
        "temperature": config.temperature,
        "safety_margin": config.safety_margin,
        "confidence": config.confidence,
        "self_test": None,
    }
    return RefreshPlan(**values | {name: value for name, value in given.items() if value is not None})


def save_plan(work: Path, plan: RefreshPlan) -> None:
    """Write the plan; the work folder is made."""
    work.mkdir(parents=True, exist_ok=True)
    _write(work / "plan.json", {name: _plain(value) for name, value in asdict(plan).items()})


def load_plan(work: Path) -> RefreshPlan:
    """Read the plan.

    Raises:
        InputError: It is missing or of another version of streamkd.
    """
    raw = _read(work / "plan.json")
    try:
        plan = RefreshPlan(**raw)
    except TypeError as error:
        raise InputError(f"{work / 'plan.json'} can't be used: {error}.", hint="Start a new refresh.") from error
    paths = {name: Path(raw[name]) for name in ("parent_path", "teacher", "anchor_dir", "replay_dir") if raw[name]}
    return replace(plan, **paths)  # type: ignore[arg-type]


def clips_folder(work: Path, worker_id: str) -> Path:
    """Where a worker puts its clips."""
    return work / "harvest" / worker_id


def harvest_done(work: Path) -> bool:
    """Whether the harvest is complete."""
    return (work / "harvest.json").is_file()


def save_harvest(work: Path, clips: Sequence[HarvestedClip], group_of: Mapping[str, str], plan: RefreshPlan) -> Harvest:
    """Split what was harvested and write it down; the step's end."""
    split = split_moments(
        [as_cells(clip.signature) for clip in clips],
        [clip.camera_id for clip in clips],
        np.random.default_rng(plan.seed),
    )
    harvest = Harvest(
        paths=tuple(clip.path for clip in clips),
        sha256=tuple(clip.sha256 for clip in clips),
        cameras=tuple(clip.camera_id for clip in clips),
        groups=tuple(group_of.get(clip.camera_id, "default") for clip in clips),
        uncertainty=tuple(clip.uncertainty for clip in clips),
        train=split.train,
        held_out=split.held_out,
    )
    _write(work / "harvest.json", {name: _plain(value) for name, value in asdict(harvest).items()})
    return harvest


def load_harvest(work: Path) -> Harvest:
    """Read what `save_harvest` wrote.

    Raises:
        InputError: It is missing or malformed.
    """
    raw = _read(work / "harvest.json")
    values = {field.name: tuple(raw[field.name]) for field in fields(Harvest)}
    return Harvest(**values | {"paths": tuple(Path(path) for path in raw["paths"])})


def lack_of_footage(harvest: Harvest) -> str | None:
    """Why a refresh can't go on with so few clips, or None."""
    if len(harvest.train) >= MIN_TRAIN_CLIPS and harvest.held_out:
        return None
    return (
        f"not enough evidence: {len(harvest.paths)} clips harvested, {len(harvest.train)} to train on "
        f"({MIN_TRAIN_CLIPS} needed) and {len(harvest.held_out)} to judge by"
    )


def teach_job(work: Path, plan: RefreshPlan, harvest: Harvest, threads: int) -> Job:
    """The teacher labels the clips that are trained on or held out; its members and its judges are kept apart.

    Clips that share a moment with a held-out one serve as examples of the group's look alone, and need no label.
    """
    out = work / "labels"
    clips = [harvest.paths[index] for index in sorted({*harvest.train, *harvest.held_out})]
    kwargs = {"teacher_dir": plan.teacher, "clips": clips, "out": out, "threads": threads}
    return Job("streamkd.distill.job:label_clips", kwargs, out / "labels.json")


def lack_of_poison(work: Path, harvest: Harvest) -> str | None:
    """Why a fire drill would prove nothing, or None: labels that are all alike are the same after shuffling."""
    said = read_labels(work / "labels")
    train = {harvest.sha256[index] for index in harvest.train}
    rows = [index for index, digest in enumerate(said.sha256) if digest in train]
    spread = float(said.probs("train")[rows].std(axis=0).max()) if rows else 0.0
    if spread >= MIN_LABEL_SPREAD:
        return None
    return (
        f"no fire drill: the labels of the {len(rows)} training clips hardly differ (standard deviation {spread:.2f}, "
        f"{MIN_LABEL_SPREAD} needed), so shuffling them poisons nothing."
    )


def distil_job(work: Path, plan: RefreshPlan, harvest: Harvest, threads: int) -> Job:
    """The candidate learns from the training clips and is quantised."""
    out = work / plan.candidate_version
    kwargs = {
        "parent_bundle": plan.parent_path,
        "clips": [harvest.paths[index] for index in harvest.train],
        "labels": work / "labels",
        "out_bundle": out,
        "version": plan.candidate_version,
        "seed": plan.seed,
        "epochs": plan.epochs,
        "temperature": plan.temperature,
        "shuffle_labels": plan.self_test == SHUFFLED_LABELS,
        "replay": [] if plan.replay_dir is None else [record.path for record in read_dataset(plan.replay_dir)],
        "threads": threads,
    }
    return Job("streamkd.distill.job:distil", kwargs, out)


def gate_job(work: Path, plan: RefreshPlan, harvest: Harvest, verdicts: Sequence[VerdictClip] = ()) -> Job:
    """The candidate is compared with its parent; `verdicts` are events that operators have judged."""
    held_out = set(harvest.held_out)
    clips = [
        SiteClip(path, digest, group, index in held_out)
        for index, (path, digest, group) in enumerate(zip(harvest.paths, harvest.sha256, harvest.groups, strict=True))
    ]
    kwargs = {
        "parent_bundle": plan.parent_path,
        "candidate_bundle": work / plan.candidate_version,
        "anchor_dir": plan.anchor_dir,
        "labels": work / "labels",
        "clips": clips,
        "out": work / "gate.json",
        "limits": GateLimits(safety_margin=plan.safety_margin, confidence=plan.confidence),
        "seed": plan.seed,
        "verdicts": list(verdicts),
    }
    return Job("streamkd.refresh.evidence:judge", kwargs, work / "gate.json")


def gate_done(work: Path) -> bool:
    """Whether the gate has decided."""
    return (work / "gate.json").is_file()


def load_gate(work: Path) -> dict[str, Any]:
    """The gate's report as JSON values (`GateReport.as_json`).

    Raises:
        InputError: It is missing or malformed.
    """
    return _read(work / "gate.json")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}.", hint="Start a new refresh.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object.", hint="Start a new refresh.")
    return value


__all__ = [
    "MIN_LABEL_SPREAD",
    "MIN_TRAIN_CLIPS",
    "SHUFFLED_LABELS",
    "Harvest",
    "Job",
    "RefreshPlan",
    "SiteClip",
    "clips_folder",
    "distil_job",
    "gate_done",
    "gate_job",
    "harvest_done",
    "lack_of_footage",
    "lack_of_poison",
    "load_gate",
    "load_harvest",
    "load_plan",
    "plan_from",
    "save_harvest",
    "save_plan",
    "teach_job",
]

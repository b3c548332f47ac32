"""`streamkd teachers list|train|label|check`: thin shells around the library."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from streamkd.config import SHIPPED
from streamkd.errors import InputError
from streamkd.shipped import SHIPPED_TEACHER
from streamkd.yamlfile import in_words, read_yaml
from streamkd_service.cli.footage import teacher_clips
from streamkd_service.cli.options import (
    BackgroundOption,
    CacheOption,
    DataOption,
    ExcludeOption,
    JsonOption,
    SeedOption,
)
from streamkd_service.cli.screen import bars, warn
from streamkd_service.needs import need_torch, need_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamkd.models.teachers import Teacher, TeacherClip, TeacherMember

ThreadsOption = Annotated[int, typer.Option(help="CPU threads.", min=1)]
DeviceOption = Annotated[str, typer.Option(help="Where transformers models run: cpu, cuda, cuda:1, …")]
TeacherArgument = Annotated[str, typer.Argument(help="'shipped', a teacher's folder, or a model's .yaml file.")]


def teachers_list(
    folder: Annotated[Path, typer.Argument(help="Where to look besides the shipped one.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """The shipped teacher, and the teachers and model declarations in a folder."""
    need_torch("streamkd teachers")
    from streamkd.models.teachers.declared import read_declaration
    from streamkd.models.teachers.spec import TeacherSpec

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", hint="Name one that holds teachers, or none.")
    rows: list[dict[str, object]] = []
    for place in [SHIPPED_TEACHER, *sorted(folder.glob("*/"))]:
        try:
            said = (place / "teacher.json").read_text(encoding="utf-8")
        except OSError:
            continue
        try:
            spec = TeacherSpec.model_validate_json(said)
        except ValidationError:
            rows.append({"teacher": str(place), "kind": "malformed"})
            continue
        members = [f"{one.name} ({one.group}, {one.oof_roc_auc})" for one in spec.members]
        where = SHIPPED if place == SHIPPED_TEACHER else str(place)
        rows.append(_row(where, "ensemble", spec.classes, members, spec.oof_roc_auc))
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            declared = read_declaration(path)
        except InputError:  # some other YAML file
            continue
        rows.append(_row(str(path), declared.kind, tuple(declared.classes), [], None))
    if as_json:
        print(json.dumps({"teachers": rows}, indent=1))
        return
    table = Table("teacher", "kind", "classes", "out-of-fold ROC AUC", "members")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in ("teacher", "kind", "classes", "oof_roc_auc", "members")))
    Console().print(table)


def teachers_train(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new teacher bundle.")],
    members: Annotated[
        str,
        typer.Option(
            "--members", help="Names, comma-separated, or a YAML list of members. [flow,motion,close,close-judge]"
        ),
    ] = "",
    models: Annotated[
        list[Path] | None, typer.Option("--model", help="A declared class model (.yaml) as a further member.")
    ] = None,
    poses: Annotated[
        list[Path] | None, typer.Option("--pose", help="A declared pose model (.yaml): a privileged member.")
    ] = None,
    exclude: ExcludeOption = None,
    background: BackgroundOption = "normal",
    name: Annotated[str, typer.Option(help="Name of the teacher.")] = "ensemble",
    seed: SeedOption = 0,
    threads: ThreadsOption = 1,
    device: DeviceOption = "cpu",
    cache: CacheOption = None,
) -> None:
    """Train a teacher on labelled clips: heads per fold, weights learnt on what was held out."""
    need_torch("streamkd teachers train")
    import torch

    from streamkd.distill.teach import train_teacher
    from streamkd.evaluate.dataset import default_cache
    from streamkd.models.teachers.cache import TensorCache

    torch.set_num_threads(threads)
    need_writable(out)
    _need_device(device)
    chosen = _members(members, models or [], poses or [])
    clips = teacher_clips(data, exclude, background, cache)
    features = TensorCache((cache or default_cache()) / "teacher-features")
    features.prune()
    with bars() as progress:
        spec = train_teacher(
            clips.records,
            clips.folds,
            clips.frames,
            out,
            name=name,
            classes=clips.classes,
            background=background,
            progress=progress,
            members=chosen,
            cache=features,
            seed=seed,
            threads=threads,
            device=device,
        )
    print(f"Wrote {out} ({spec.name}): out-of-fold ROC AUC {spec.oof_roc_auc}")
    for member in spec.members:
        weight = f"weight {member.weight:.2f}" if member.group == "train" else "judge      "
        print(f"  {member.name:<16} {weight}  out-of-fold ROC AUC {member.oof_roc_auc}")


def teachers_label(
    teacher: TeacherArgument,
    data: Annotated[Path, typer.Option("--data", help="Folder of clips: labelled ones, or any videos.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the result: labels.json.")],
    classes: Annotated[str, typer.Option(help="Classes that it has to know, comma-separated.")] = "",
    threads: ThreadsOption = 1,
    device: DeviceOption = "cpu",
    cache: CacheOption = None,
) -> None:
    """Label clips, by heads that have not seen their sources; what was labelled before comes from the cache."""
    need_torch("streamkd teachers label")
    import torch

    from streamkd.distill.job import as_clip_labels
    from streamkd.distill.label_cache import cached_labels
    from streamkd.distill.labels import write_labels
    from streamkd.evaluate.dataset import default_cache
    from streamkd.models.teachers import EnsembleTeacher
    from streamkd.models.teachers.cache import TensorCache

    torch.set_num_threads(threads)
    need_writable(out)
    opened = _open(teacher, classes, device, threads)
    clips = _clips(data)
    kept = TensorCache((cache or default_cache()) / "labels")
    kept.prune()
    with bars() as progress:
        found = cached_labels(opened, clips, kept, progress=progress, warn=warn)
    for clip, why in found.unreadable:
        warn(f"Skipping {clip.path}: {why}")
    seen = [one for one in found.clips if isinstance(opened, EnsembleTeacher) and opened.saw(one)]
    if seen:
        warn(f"{len(seen)} of these clips were used to train this teacher, which has no heads that did not see them.")
    if not found.clips:
        raise InputError(f"None of {len(clips)} clips in {data} can be decoded.")
    write_labels(out, as_clip_labels(opened, found))
    print(f"Wrote {out / 'labels.json'}: {len(found.clips)} clips, {found.fresh} of them labelled now.")


def teachers_check(
    teacher: TeacherArgument,
    classes: Annotated[str, typer.Option(help="Classes that it has to know, comma-separated.")] = "",
    clip: Annotated[Path | None, typer.Option(help="Let it label this clip, and say how long that took.")] = None,
    threads: ThreadsOption = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Whether a teacher can be loaded, knows the classes, and answers."""
    need_torch("streamkd teachers check")
    from streamkd.models.teachers import TeacherClip

    opened = _open(teacher, classes, device, threads)
    print(f"{opened.name}, version {opened.version[:12]}, classes {', '.join(opened.classes)}")
    for member in opened.members:
        print(f"  {member.name:<16} {member.group:<6} weight {member.weight:.2f}")
    if clip is None:
        return
    asked = TeacherClip.of(clip)
    began_s = time.perf_counter()
    said = opened.label([asked])
    took_s = time.perf_counter() - began_s
    probs = said.logits.softmax(dim=-1)[0].tolist()
    answer = ", ".join(f"{name} {value:.3f}" for name, value in zip(opened.classes, probs, strict=True))
    print(
        f"{clip}: {answer}; uncertainty {float(said.uncertainty[0]):.2f} nats, {took_s:.1f} s ({opened.variant(asked)})"
    )


def _open(teacher: str, classes: str, device: str, threads: int) -> Teacher:
    from streamkd.models.teachers import open_teacher

    _need_device(device)
    path = SHIPPED_TEACHER if teacher == SHIPPED else Path(teacher)
    wanted = tuple(one.strip() for one in classes.split(",") if one.strip())
    return open_teacher(path, wanted, device=device, threads=threads)


def _need_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f"--device {device!r} is no device.", hint="Write cpu, cuda or cuda:1.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch finds no such GPU here.", hint="Leave --device out for the CPU.")


def _clips(data: Path) -> list[TeacherClip]:
    """Of a data set with its sources, or of any folder of videos."""
    from streamkd.distill.teach import teacher_clip
    from streamkd.evaluate.dataset import VIDEO_SUFFIXES, read_dataset
    from streamkd.models.teachers import TeacherClip

    if (data / "clips.csv").is_file():
        return [teacher_clip(one) for one in read_dataset(data)]
    if not data.is_dir():
        raise InputError(f"{data} is not a folder.", hint="Name a folder with clips.csv, or one of videos.")
    found = [one for one in sorted(data.rglob("*")) if one.suffix.lower() in VIDEO_SUFFIXES and one.is_file()]
    if not found:
        raise InputError(f"No videos found in {data}.", hint="Name a folder with clips.csv, or one of videos.")
    return [TeacherClip.of(one) for one in found]


def _members(named: str, models: Sequence[Path], poses: Sequence[Path]) -> list[TeacherMember]:
    """The members that the options ask for.

    Raises:
        InputError: A name is unknown, or the file that lists them is malformed.
    """
    from streamkd.distill.teach import DEFAULT_MEMBERS, PRESETS
    from streamkd.models.teachers import TeacherMember

    chosen: list[TeacherMember] = []
    if Path(named).suffix in {".yaml", ".yml"}:
        chosen += _listed(Path(named))
    elif named:
        for one in (part.strip() for part in named.split(",")):
            if one not in PRESETS:
                raise InputError(f"There is no member {one!r}.", hint=f"Known are {', '.join(PRESETS)}.")
            chosen.append(PRESETS[one])
    else:
        chosen += DEFAULT_MEMBERS
    chosen += [TeacherMember(name=one.stem, features="model", head="own", model=str(one.resolve())) for one in models]
    chosen += [TeacherMember(name=one.stem, features="pose", head="forest", model=str(one.resolve())) for one in poses]
    return chosen


def _listed(path: Path) -> list[TeacherMember]:
    from streamkd.models.teachers import TeacherMember

    raw, _ = read_yaml(path, "List of members", example="members")
    listed = raw.get("members")
    if not isinstance(listed, list):
        raise InputError(f"{path} holds no list named members.", hint="docs/reference/teachers.md shows one.")
    try:
        found = [TeacherMember.model_validate(one) for one in listed]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is malformed: {where + ': ' if where else ''}{in_words(first)}.") from error
    return [
        one.model_copy(update={"model": str((path.parent / one.model).resolve())}) if one.model else one
        for one in found
    ]


def _row(where: str, kind: str, classes: tuple[str, ...], members: list[str], area: float | None) -> dict[str, object]:
    return {"teacher": where, "kind": kind, "classes": list(classes), "oof_roc_auc": area, "members": members}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)


__all__ = ["teachers_check", "teachers_label", "teachers_list", "teachers_train"]

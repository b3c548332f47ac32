"""The demo's recordings: which clips make which camera, joined once and kept in the user's cache."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamkd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PREPARED_VERSION = "1"  # part of the cache key: raise it when the way of joining changes


@dataclass(frozen=True, slots=True)
class DemoClip:
    path: Path
    label: str
    source: str


@dataclass(frozen=True, slots=True)
class DemoCamera:
    """A camera of the demo: its id and the clips that it plays, in order, over and over."""

    id: str
    clips: tuple[DemoClip, ...]

    def cache_name(self) -> str:
        """A file name that changes with the content of the clips and the way they are joined."""
        digest = hashlib.sha256(_PREPARED_VERSION.encode())
        for clip in self.clips:
            digest.update(hashlib.sha256(clip.path.read_bytes()).digest())
        return f"{self.id}-{digest.hexdigest()[:16]}.mp4"


def read_clips(folder: Path) -> list[DemoClip]:
    """The clips that `clips.csv` in a folder lists.

    Raises:
        InputError: There is no such list, or a file of it is missing.
    """
    try:
        with (folder / "clips.csv").open(encoding="utf-8", newline="") as file:
            clips = [DemoClip(folder / row["file"], row["label"], row["source"]) for row in csv.DictReader(file)]
    except (OSError, KeyError) as error:
        raise InputError(
            f"{folder} holds no clips.csv with file, label and source.",
            hint="Run the demo from a clone of the repository, or name a folder with --clips.",
        ) from error
    missing = [clip.path.name for clip in clips if not clip.path.is_file()]
    if missing or not clips:
        raise InputError(
            f"{folder}: {len(missing)} of {len(clips)} clips are missing.", hint="Clone the repository again."
        )
    return clips


def plan_cameras(clips: Sequence[DemoClip]) -> tuple[DemoCamera, ...]:
    """One camera on which fights break out between ordinary scenes, and one quiet camera for every other source.

    The source with fights and the most normal clips gives the ordinary scenes of "fights"; at least two more sources
    with normal clips are wanted, so that four cameras show four places.

    Raises:
        InputError: There are no fights, or too few sources.
    """
    fights = [clip for clip in clips if clip.label == "fight"]
    calm: dict[str, list[DemoClip]] = {}
    for clip in clips:
        if clip.label == "normal":
            calm.setdefault(clip.source, []).append(clip)
    if not fights or len(calm) < 2:
        raise InputError("The demo needs clips of fights, and normal clips of two sources.", hint="See --clips.")
    fight_sources = {clip.source for clip in fights}
    stage = max(calm, key=lambda s: (s in fight_sources, len(calm[s]), s))
    names = itertools.chain(("lobby", "street", "yard"), (f"camera-{n}" for n in itertools.count(5)))
    cameras = [DemoCamera("fights", tuple(_interleave(calm[stage], fights)))]
    cameras += [DemoCamera(next(names), tuple(calm[source])) for source in sorted(calm) if source != stage]
    return tuple(cameras)


def _interleave(calm: Sequence[DemoClip], fights: Sequence[DemoClip]) -> list[DemoClip]:
    """Two ordinary clips, then two with a fight: long enough for smoothing to see either."""
    order: list[DemoClip] = []
    ordinary = itertools.cycle(calm)
    by_source = sorted(fights, key=lambda clip: (clip.source, clip.path.name))
    for start in range(0, len(by_source), 2):
        order += [next(ordinary), next(ordinary), *by_source[start : start + 2]]
    return order


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/streamkd/demo`, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "streamkd" / "demo"


__all__ = ["DemoCamera", "DemoClip", "cache_folder", "plan_cameras", "read_clips"]

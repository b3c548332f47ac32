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
from streamkd.evaluate.drift import Dusk

if TYPE_CHECKING:
    from collections.abc import Sequence

_PREPARED_VERSION = "1"  # part of the cache key: raise it when the way of joining changes
DUSK = Dusk()


@dataclass(frozen=True, slots=True)
class DemoClip:
    path: Path
    label: str
    source: str


@dataclass(frozen=True, slots=True)
class DemoCamera:
    """A camera of the demo: its id and the clips that it plays, in order, over and over; at dusk, or as filmed."""

    id: str
    clips: tuple[DemoClip, ...]
    dusk: bool = False

    def cache_name(self) -> str:
        """A file name that changes with the content of the clips and the way they are joined."""
        digest = hashlib.sha256(f"{_PREPARED_VERSION} {DUSK if self.dusk else 'as filmed'}".encode())
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
    """Four cameras: "fights" and "lobby" in daylight, "street" and "yard" at dusk.

    On "fights" every fight breaks out between ordinary scenes of one place; "lobby" is the calmest other place. The two
    at dusk show all places, half of them each: the student has never seen that light, so a refresh has something to
    teach it.

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
    lobby = max(calm.keys() - {stage}, key=lambda s: (s not in fight_sources, len(calm[s]), s))
    sources = sorted({clip.source for clip in clips})
    return (
        DemoCamera("fights", tuple(_interleave(calm[stage], fights))),
        DemoCamera("lobby", tuple(calm[lobby])),
        DemoCamera("street", tuple(_mixed(clips, sources[::2])), dusk=True),
        DemoCamera("yard", tuple(_mixed(clips, sources[1::2])), dusk=True),
    )


def _mixed(clips: Sequence[DemoClip], sources: Sequence[str]) -> list[DemoClip]:
    """All clips of some sources, in an order that has nothing to do with their labels."""
    own = [clip for clip in clips if clip.source in sources]
    return sorted(own, key=lambda clip: hashlib.sha256(clip.path.name.encode()).digest())


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


__all__ = ["DUSK", "DemoCamera", "DemoClip", "cache_folder", "plan_cameras", "read_clips"]

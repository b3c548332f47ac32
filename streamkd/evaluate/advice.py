"""What a set of labelled clips can't carry, said before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamkd.evaluate.dataset import ClipRecord

FEW_SOURCES = 8  # fewer, and an interval by source is wider than anything that one would decide on
FEW_CLIPS = 20
MOST_UNEVEN = 10.0


def lacks(records: Sequence[ClipRecord], background: str) -> tuple[str, ...]:
    """One line for each thing that these clips are too few or too alike for; empty if nothing is.

    None of them stops a training: the figures it ends with are then worth less than they look.
    """
    return (*_of_labels(records), *_of_classes(records), *_of_sources(records, background))


def _of_labels(records: Sequence[ClipRecord]) -> Iterator[str]:
    alike: dict[str, set[str]] = {}
    for record in records:
        alike.setdefault(record.label.casefold(), set()).add(record.label)
    for found in alike.values():
        if len(found) > 1:
            yield f"The labels {_listed(found)} differ in their case only and count as different classes."


def _of_classes(records: Sequence[ClipRecord]) -> Iterator[str]:
    clips = Counter(record.label for record in records)
    for label, count in sorted(clips.items()):
        sources = {record.source for record in records if record.label == label}
        if len(sources) == 1 and count > 1:
            yield f"All {count} clips of {label!r} come from {min(sources)}: the place may be learnt, not the action."
        elif count < FEW_CLIPS:
            yield f"Class {label!r} has {count} clips only; with fewer than {FEW_CLIPS} its figures are a guess."
    most, least = max(clips.values()), min(clips.values())
    if most > MOST_UNEVEN * least:
        rare = min(clips, key=lambda label: (clips[label], label))
        yield f"Class {rare!r} has {least} clips, the largest class {most}: the rare one will seldom be named."


def _of_sources(records: Sequence[ClipRecord], background: str) -> Iterator[str]:
    labels_of: dict[str, set[str]] = {}
    for record in records:
        labels_of.setdefault(record.source, set()).add(record.label)
    if len(labels_of) == len(records):
        yield (
            "Every clip counts as a source of its own; if several show one place, name it in clips.csv "
            "(column source), or the figures will flatter."
        )
        return
    if len(labels_of) < FEW_SOURCES:
        yield f"The clips come from {len(labels_of)} sources; how well it does elsewhere can hardly be told."
    both = [source for source, labels in labels_of.items() if background in labels and len(labels) > 1]
    if len(both) < 2:
        yield (
            f"{len(both) or 'No'} source shows both {background!r} and another class: "
            "what tells places apart may be learnt for what tells actions apart."
        )


def _listed(labels: set[str]) -> str:
    return " and ".join(repr(label) for label in sorted(labels))


__all__ = ["FEW_CLIPS", "FEW_SOURCES", "MOST_UNEVEN", "lacks"]

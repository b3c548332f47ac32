"""Which worker runs which camera: pure functions, so that placement can be reasoned about and tested alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def place(cameras: Iterable[str], workers: Sequence[str], previous: Mapping[str, str]) -> dict[str, str]:
    """Spread cameras evenly over workers and move as few as possible.

    Every worker gets between `floor(n / w)` and `ceil(n / w)` cameras. A camera stays where it was unless its worker is
    gone or has more than its share; of those that must move, the last by name do.

    Args:
        cameras: Ids of the cameras that shall run.
        workers: Ids of the workers, at least one.
        previous: Camera id to worker id as it is now; may name cameras and workers that no longer exist.

    Returns:
        Camera id to worker id for every camera.
    """
    names = sorted(set(cameras))
    share, extra = divmod(len(names), len(workers))
    load: dict[str, list[str]] = {worker: [] for worker in workers}
    homeless: list[str] = []
    for name in names:
        worker = previous.get(name, "")
        load[worker].append(name) if worker in load else homeless.append(name)
    # The fullest workers keep the larger shares: that moves the fewest cameras.
    by_load = sorted(workers, key=lambda worker: (-len(load[worker]), worker))
    room = {worker: share + (1 if index < extra else 0) for index, worker in enumerate(by_load)}
    for worker in by_load:
        homeless += load[worker][room[worker] :]
        del load[worker][room[worker] :]
    for name in sorted(homeless):
        target = max(by_load, key=lambda worker: (room[worker] - len(load[worker]), worker))
        load[target].append(name)
    return {name: worker for worker, names_here in load.items() for name in names_here}


__all__ = ["place"]

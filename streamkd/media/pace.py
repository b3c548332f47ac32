"""How a camera is thinned out that overload has slowed: fewer frames are due, or less is decoded.

Half of the rate saves half of the network's work, but everything is decoded all the same. The first half of each group
of pictures, at the full rate, saves half of both, and what the student sees is as far apart as it has learnt it. So
that is how a camera is slowed, where groups are short enough.
"""

from __future__ import annotations

from typing import NamedTuple

KEYFRAMES_PACE = 3
SPARSE_S = 3.0  # answers further apart than this do not belong together: no event can open


class Thinning(NamedTuple):
    """What is left of a camera at a pace.

    Attributes:
        rate_share: Of the student's rate.
        group_share: Of each group of pictures, from its beginning, what is decoded.
        keyframes_only: Nothing but keyframes is decoded.
    """

    rate_share: float = 1.0
    group_share: float = 1.0
    keyframes_only: bool = False


def thin_out(pace: int, entries_apart_s: float | None) -> Thinning:
    """What is left of a camera.

    Args:
        pace: 0 is everything; each one more halves it, and from `KEYFRAMES_PACE` on keyframes are left.
        entries_apart_s: How long its groups of pictures are; None: not known, or pictures come in another order than
            they are shown in. Where they are longer than `SPARSE_S`, keyframes are too far apart, and so would be the
            end of one group's first part and the beginning of the next: the rate is lowered.
    """
    share = 1.0 / 2 ** min(pace, KEYFRAMES_PACE - 1)
    if pace >= KEYFRAMES_PACE and (entries_apart_s is None or entries_apart_s <= SPARSE_S):
        return Thinning(rate_share=share, keyframes_only=True)
    if entries_apart_s is None or entries_apart_s > SPARSE_S:
        return Thinning(rate_share=share)
    return Thinning(group_share=share)


__all__ = ["KEYFRAMES_PACE", "SPARSE_S", "Thinning", "thin_out"]

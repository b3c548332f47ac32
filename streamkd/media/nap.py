"""How long a reader sleeps while its socket collects what is not needed yet: a pure decision.

A reader that sleeps until a picture is expected finds it lying there whenever it was expected too late, and can't tell
since when. What it takes for the time of arrival is then its own time of waking, the next picture is expected as late,
and a delay from the first busy second of a connection would last as long as the connection. So one that found its
picture lying there wakes earlier the next time, until it has to wait again and sees the true time.
"""

from __future__ import annotations

EARLY_S, EARLIEST_S = 0.002, 0.4
_STEP_S, _BACK = 0.02, 0.5
_READY_S = 0.0005  # reading that took no longer found the picture lying there
# What the socket collects stays small; a nap that is shorter than a few context switches saves nothing.
_LONGEST_S, _SHORTEST_S = 0.25, 0.01


class Nap:
    """One connection's naps.

    Args:
        longest_s: Of a nap.
    """

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = min(longest_s, _LONGEST_S)
        self._until_source_s: float | None = None
        self.early_s = EARLY_S

    def length_s(self, until_source_s: float, expected_s: float, now_s: float) -> float:
        """How long to sleep now; 0: not at all.

        Args:
            until_source_s: PTS before which nothing is needed.
            expected_s: When the picture with that PTS arrives at the earliest, as far as is known.
            now_s: Monotonic time.
        """
        length_s = min(expected_s - self.early_s - now_s, self._longest_s)
        if length_s <= _SHORTEST_S:
            return 0.0
        self._until_source_s = until_source_s
        return length_s

    def saw(self, pts_s: float | None, waited_s: float) -> None:
        """A picture has arrived.

        Args:
            pts_s: Its own time.
            waited_s: How long reading had to wait for it.
        """
        if self._until_source_s is None or pts_s is None or pts_s < self._until_source_s:
            return  # lay there, as it was meant to
        self._until_source_s = None
        if waited_s < _READY_S:
            self.early_s = min(EARLIEST_S, self.early_s + _STEP_S)
        else:
            self.early_s = max(EARLY_S, self.early_s * _BACK)


__all__ = ["EARLIEST_S", "EARLY_S", "Nap"]

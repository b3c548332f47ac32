"""Mailboxes lose and reorder nothing silently: `put == taken + superseded + discarded + pending`."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamkd.media.mailbox import MailboxSet
from streamkd.types import Frame

CAMERAS = ("a", "b", "c")
PIXELS = np.zeros((1, 1, 3), np.uint8)


def frame(camera_id, number, segment=0):
    return Frame(camera_id, segment, float(number), float(number), PIXELS, PIXELS[..., 0])


class Mailboxes(RuleBasedStateMachine):
    """Any order of puts, collects and removals."""

    def __init__(self):
        super().__init__()
        self.boxes = MailboxSet()
        self.number = 0
        self.put = {name: [] for name in CAMERAS}
        self.gone = {name: [] for name in CAMERAS}  # superseded or discarded
        self.taken = {name: [] for name in CAMERAS}

    @rule(camera_id=st.sampled_from(CAMERAS))
    def leave(self, camera_id):
        self.number += 1
        replaced = self.boxes.put(frame(camera_id, self.number))
        if replaced is not None:
            self.gone[camera_id].append(replaced.pts_s)
        self.put[camera_id].append(float(self.number))

    @rule(most=st.none() | st.integers(0, 3), without=st.sets(st.sampled_from(CAMERAS)))
    def collect(self, most, without):
        waiting = sum(self.boxes.counts(name).pending for name in CAMERAS if name not in without)
        frames = self.boxes.collect(most, without)
        assert without.isdisjoint(f.camera_id for f in frames)
        assert len(frames) == min(waiting, waiting if most is None else most)
        assert [f.received_s for f in frames] == sorted(f.received_s for f in frames)
        for f in frames:
            self.taken[f.camera_id].append(f.pts_s)
            assert f.pts_s == self.put[f.camera_id][-1]  # the newest won

    @rule(camera_id=st.sampled_from(CAMERAS))
    def remove(self, camera_id):
        pending = self.boxes.counts(camera_id).pending
        self.boxes.remove(camera_id)
        if pending:
            self.gone[camera_id].append(self.put[camera_id][-1])

    @invariant()
    def nothing_is_lost(self):
        for name in CAMERAS:
            counts = self.boxes.counts(name)
            assert counts.put == len(self.put[name])
            assert counts.put == counts.taken + counts.superseded + counts.discarded + counts.pending
            assert counts.taken == len(self.taken[name])
            assert sorted(self.taken[name] + self.gone[name]) == self.put[name][: counts.put - counts.pending]

    @invariant()
    def nothing_is_reordered(self):
        assert all(a < b for taken in self.taken.values() for a, b in pairwise(taken))


Mailboxes.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestMailboxes = Mailboxes.TestCase


def test_threads_lose_nothing():
    boxes, each = MailboxSet(), 500
    taken = []

    def leave(camera_id):
        for number in range(each):
            boxes.put(frame(camera_id, number))

    threads = [threading.Thread(target=leave, args=(name,)) for name in CAMERAS]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += boxes.take(0.01)
    taken += boxes.collect()
    for name in CAMERAS:
        counts, mine = boxes.counts(name), [f.pts_s for f in taken if f.camera_id == name]
        assert counts.put == each == counts.taken + counts.superseded
        assert mine == sorted(set(mine))
        assert mine[-1] == each - 1


def test_wait_ends_at_once_when_a_frame_comes():
    boxes = MailboxSet()
    threading.Timer(0.02, lambda: boxes.put(frame("a", 1))).start()
    assert [f.camera_id for f in boxes.take(30)] == ["a"]


def test_wake_ends_a_wait_without_frames():
    boxes = MailboxSet()
    threading.Timer(0.02, boxes.wake).start()
    assert boxes.take(30) == []


def test_wait_gives_up():
    assert MailboxSet().wait(0.01) is False


def test_segments_of_a_later_reader_are_new():
    boxes = MailboxSet()
    boxes.put(frame("a", 1, segment=4))
    boxes.remove("a")
    assert (boxes.next_segment("a"), boxes.next_segment("b")) == (5, 0)


def test_gathering_does_not_count_cameras_whose_frames_are_not_for_this_batch():
    boxes = MailboxSet()
    for name in "ab":
        boxes.put(frame(name, 1))
    timer = threading.Timer(0.1, lambda: boxes.put(frame("c", 5)))
    timer.start()
    boxes.gather(5.0, 2, without={"a"})
    assert boxes.oldest_s(without={"a", "b"}) == 5.0
    timer.join()

"""kill -9 of the process that writes: every acknowledged event is there afterwards, with its picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from streamkd.store import open_repository

ROOT = Path(__file__).resolve().parents[2]
ACKNOWLEDGED = 25
WRITER = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from streamkd.store import open_repository
from streamkd.types import EventKind, EventUpdate

repository = open_repository(sys.argv[1])
for n in range(100_000):
    now = datetime.now(UTC)
    picture = b"picture of %d" % n
    update = EventUpdate(f"e{n}", 1, "gate", EventKind.ACTION, "fight", now, None, 0.0, None, 0.9, "m", "w", picture)
    (change,) = repository.apply_updates([update], Path(sys.argv[2]))
    print(f"e{n}", change.seq, flush=True)
"""


def test_every_acknowledged_event_survives_kill_9(database_url, media):
    command = [sys.executable, "-c", WRITER, database_url, str(media)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().split() for _ in range(ACKNOWLEDGED)]
        os.kill(writer.pid, signal.SIGKILL)
        # What it had written to the pipe before it died was acknowledged as well.
        acknowledged += [line.split() for line in writer.stdout.read().splitlines() if len(line.split()) == 2]
    with open_repository(database_url) as repository:
        _, _, changes = repository.changes_after(0, limit=100_000)
        found = {change.data["id"]: str(change.seq) for change in changes}
        assert {event_id: found.get(event_id) for event_id, _ in acknowledged} == dict(acknowledged)
        for event_id, _ in acknowledged:
            assert repository.get_event(event_id).label == "fight"
            assert repository.snapshot_path(event_id, media).read_bytes() == f"picture of {event_id[1:]}".encode()

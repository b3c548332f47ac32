"""What a worker process sets for itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_threads_that_wait_for_the_lock_wake_up_less_often():
    code = (
        "import sys; from streamkd_service.runtime.process import prepare_process; prepare_process(); "
        "print(sys.getswitchinterval())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0.01 <= float(done.stdout) <= 0.05


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_every_thread_stays_on_the_worker_s_processor_and_may_leave_it_again():
    code = """
import os, threading
from pathlib import Path
from streamkd_service.runtime.process import stay
from streamkd_service.runtime.processors import usable_count, usable_processors
from streamkd_service.runtime.slots import Place
allowed = os.sched_getaffinity(0)
over = threading.Event()
threading.Thread(target=over.wait).start()
def seen():
    return {frozenset(os.sched_getaffinity(int(thread.name))) for thread in Path("/proc/self/task").iterdir()}
stay(Place(1, len(allowed)))
threading.Thread(target=over.wait).start()
assert seen() == {frozenset({sorted(allowed)[1]})}, seen()
stay(Place(0, len(allowed) + 1))
assert seen() == {frozenset(allowed)}, seen()
over.set()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_no_process_can_be_bound_all_processors_are_used():
    code = """
import os
del os.sched_getaffinity, os.sched_setaffinity  # as on macOS
from streamkd_service.runtime.handles import _this_node
from streamkd_service.runtime.process import stay
from streamkd_service.runtime.processors import usable_count, usable_processors
from streamkd_service.runtime.session import RaySession
from streamkd_service.runtime.slots import Place
assert usable_processors() == frozenset(range(os.cpu_count()))
assert _this_node(RaySession("any", local=True, node_id="here")) == {"here": float(usable_count())}
stay(Place(0, os.cpu_count()))
"""
    subprocess.run([sys.executable, "-c", code], check=True)

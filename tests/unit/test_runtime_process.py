"""What a worker process sets for itself."""

from __future__ import annotations

import subprocess
import sys


def test_threads_that_wait_for_the_lock_wake_up_less_often():
    code = (
        "import sys; from streamkd_service.runtime.process import prepare_process; prepare_process(); "
        "print(sys.getswitchinterval())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0.01 <= float(done.stdout) <= 0.05

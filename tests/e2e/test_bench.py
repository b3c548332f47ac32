"""A small version of each benchmark of the live path: that it runs, and that its figures fit together."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from streamkd_service import cli
from tests.media import needs_rtsp, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400), needs_rtsp()]


def bench(capsys, *words):
    assert cli.main(["bench", *words, "--quick", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_streams(capsys):
    found = bench(capsys, "streams", "--cameras", "2", "--seconds", "2", "--still", "0.5")
    assert found["cameras"] == 2
    assert found["due"] == pytest.approx(2 * 5 * found["seconds"], abs=2)
    assert 0 < found["analysed"] <= found["due"] + 2
    assert 0 <= found["analysed_share"] <= 1
    assert found["latency_p50_ms"] <= found["latency_p95_ms"]
    assert found["latency_ok"] == int(found["latency_p95_ms"] < 500)
    assert 0 <= found["gated_share"] < 1
    assert found["cpu_ms_per_stream_second"] > 0
    assert found["floor_cpu_ms_per_stream_second"] > 5
    assert 100 < found["rss_mb"] < 2000
    assert 0 < found["server_cpu_share"] < 0.5


def test_decode(capsys):
    costs = {(cost["source"], cost["way"]): cost for cost in bench(capsys, "decode")["costs"]}
    for source in ("file", "rtsp"):
        whole, keyframes = costs[source, "everything"], costs[source, "keyframes only"]
        assert keyframes["decode_ms"] < 0.5 * whole["decode_ms"]


def test_engine(capsys):
    found = bench(capsys, "engine")
    assert found["step_overhead"] < 2
    if found["int8_vs_torch"] is not None:
        assert found["int8_vs_torch"] > 2


def test_compare(capsys):
    pytest.importorskip("cv2")
    pytest.importorskip("torch")
    found = bench(capsys, "compare", "--cameras", "2", "--seconds", "2")
    names = [candidate["name"] for candidate in found["found"]]
    assert len(names) == 3
    assert names[-1] == "streamkd"
    assert all(candidate["cpu_ms_per_stream_second"] > 0 for candidate in found["found"])


ABANDONED = """
import os, signal, psutil
from streamkd_service.bench.rtsp import CameraServer

with CameraServer({}):
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_cameras_end_with_a_benchmark_that_was_killed():
    killed = subprocess.run([sys.executable, "-c", ABANDONED], stdout=subprocess.PIPE, text=True, check=False)
    (server,) = map(int, killed.stdout.split())
    wait_until(lambda: not psutil.pid_exists(server), what="the RTSP server ends")

"""How the service's processes live and end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamkd.bundle import read_bundle
from streamkd.clock import SystemClock
from streamkd.errors import UnavailableError
from streamkd.store import open_repository, upgrade
from streamkd_service.runtime.models import record_of
from streamkd_service.runtime.processors import usable_count
from streamkd_service.runtime.slots import CAMERAS_A_WORKER
from tests.fakes import make_tiny_bundle
from tests.processes import Service, command_line, session_folders, started, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]
GIB = 2**30


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Service]:
    """A running service without cameras that knows two models."""
    service = Service(tmp_path_factory.mktemp("idle"), student={"bundle": str(tiny_bundle)})
    folder = make_tiny_bundle(service.folder / "models" / "tiny-2", version="tiny-2")
    url = service.config["store"]["url"]
    upgrade(url)
    with open_repository(url) as repository:
        repository.add_model(record_of(read_bundle(folder), SystemClock()))
    with started(service):
        yield service


def test_an_idle_session_needs_less_than_a_gibibyte(idle):
    assert sum(process.memory_full_info().pss for process in idle.family()) < GIB


def follow(service):
    """A client of the live stream until that ends, in order or not."""
    with contextlib.suppress(UnavailableError):
        list(service.api.stream())


def test_ctrl_c_with_a_live_client_ends_within_5_s_and_leaves_nothing(service):
    with started(service):
        family = service.family()
        assert len(session_folders(service.process.pid)) == 1
        listening = threading.Thread(target=follow, args=(service,), daemon=True)
        listening.start()
        wait_for(lambda: service.counter("streamkd_stream_clients") == 1, why="the client is counted")
        took_s = service.interrupt()
        left = [command_line(process) for process in psutil.wait_procs(family, timeout=1)[1]]
        listening.join(5)
    assert (service.process.returncode, left, session_folders(service.process.pid)) == (0, [], [])
    assert took_s < 5.0


@pytest.mark.parametrize("begun", ["nothing", "a Ray session"])
def test_ctrl_c_while_ray_starts_ends_within_5_s_and_leaves_nothing(service, begun):
    service.launch()
    wait_for(lambda: "starting" in service.log.read_text(), why="Ray is about to start")
    if begun != "nothing":
        service.process_of("gcs_server")
    family = service.family()
    took_s = service.interrupt()
    left = psutil.wait_procs(family, timeout=1)[1]
    assert (service.process.returncode, left, session_folders(service.process.pid)) == (0, [], [])
    assert took_s < 5.0
    assert "Traceback" not in service.log.read_text()


def test_sigterm_ends_it_in_order_too(service):
    with started(service):
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(10)
    assert (service.process.returncode, "SIGTERM" in service.log.read_text()) == (0, False)


def test_a_second_ctrl_c_ends_at_once(service):
    with started(service):
        family = service.family()
        service.process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # so that it is two signals, not one
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGINT)
        service.process.wait(3)
        left = psutil.wait_procs(family, timeout=1)[1]
    assert left == []


def test_the_service_ends_and_says_so_when_ray_dies(service):
    with started(service):
        family = service.family()
        service.process_of("gcs_server").kill()
        service.process.wait(5)
        _, left = psutil.wait_procs(family, timeout=2)
    assert (service.process.returncode, left) == (2, [])
    assert "Ray" in service.log.read_text().splitlines()[-1]


@pytest.fixture
def processors() -> set[int]:
    found = os.sched_getaffinity(0)
    if not 1 < len(found) <= 4 or usable_count() < len(found):
        pytest.skip("two to four processors are needed, and no quota that allows fewer")
    return found


def workers_of(service):
    return [process for process in service.family() if "WorkerActor" in command_line(process)]


def kept(service):
    """What the threads of the workers stay on."""
    seen = set()
    for process in workers_of(service):
        with contextlib.suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    seen.add(frozenset(os.sched_getaffinity(thread.id)))
    return seen


def test_a_worker_for_each_processor_stays_on_its_own(tmp_path, tiny_bundle, processors):
    service = Service(tmp_path, student={"bundle": str(tiny_bundle)}, workers={"count": len(processors)})
    with started(service):
        assert kept(service) == {frozenset({processor}) for processor in processors}


def test_a_worker_that_is_started_again_stays_where_it_was_told_later(service, processors):
    """Without a camera there is one worker, which stays nowhere; its actor is made for that."""
    own = {frozenset({processor}) for processor in processors}

    def restarts():
        return [worker["restarts"] for worker in service.api.get("/v1/system")["workers"]]

    with started(service):
        for index in range(CAMERAS_A_WORKER * (len(processors) - 1) + 1):
            camera = {"id": f"c{index}", "url": "rtsp://127.0.0.1:1/none", "enabled": False}
            service.api.post("/v1/cameras", camera)
        wait_for(lambda: kept(service) == own, timeout_s=60, why="each has its own")
        for process in workers_of(service):
            process.kill()
        wait_for(lambda: restarts() == [1] * len(processors), timeout_s=60, why="they are started again")
        wait_for(lambda: kept(service) == own, why="each has its own again")


def test_a_promoted_model_is_swapped_in_and_rolled_back(idle):
    served = []
    for path in ("/v1/models/tiny-2/promote", "/v1/models/rollback"):
        idle.api.post(path)
        system = wait_for(lambda: _ready(idle), why="every worker has the model")
        served.append(system["model_version"])
    assert served == ["tiny-2", "tiny-1"]


def _ready(service: Service):
    system = service.api.get("/v1/system")
    return system if system["ready"] else None

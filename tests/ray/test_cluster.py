"""A real Ray cluster of several raylets on this machine: cameras follow the nodes that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.media import make_clip
from tests.processes import Service, started, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
CAMERAS = 6
PATIENCE_S = 120.0
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, nobody connected."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def service(cluster: Any, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Service]:
    """`streamkd serve` on the cluster, with recordings for cameras, one worker a node."""
    folder = tmp_path_factory.mktemp("cluster")
    recording = make_clip(folder / "camera.mp4", frames=15 * 120, width=160, height=128)
    service = Service(
        folder,
        cameras=[{"id": f"c{index}", "url": str(recording)} for index in range(CAMERAS)],
        student={"bundle": str(tiny_bundle)},
        workers={"ray_address": cluster.address, "count": 1},
    )
    with started(service):
        yield service


@pytest.fixture
def third(cluster: Any, service: Service) -> Iterator[tuple[str, Any]]:
    """A node that has joined and runs cameras: the id of its worker, and the node."""
    wait_for(lambda: len(busy(service)) == 2, timeout_s=PATIENCE_S, why="both nodes run cameras")
    node = cluster.add_node(**NODE)
    found = wait_for(lambda: len(busy(service)) == 3 and busy(service), timeout_s=PATIENCE_S, why="the third runs some")
    yield next(worker for worker, name in found.items() if name.endswith(node.node_id[:6])), node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def busy(service: Service) -> dict[str, str]:
    """Workers that have online cameras: id and node."""
    shown = service.api.get("/v1/cameras")
    online = {camera["worker_id"] for camera in shown if camera["status"]["state"] == "online"}
    workers = service.api.get("/v1/system")["workers"]
    return {worker["worker_id"]: worker["node"] for worker in workers if worker["worker_id"] in online}


def placed(service: Service) -> dict[str, str]:
    return {camera["id"]: camera["worker_id"] for camera in service.api.get("/v1/cameras")}


def all_online(service: Service, *, without: str = "") -> bool:
    shown = service.api.get("/v1/cameras")
    return all(camera["status"]["state"] == "online" and camera["worker_id"] != without for camera in shown)


def test_cameras_are_spread_over_the_nodes(service):
    found = wait_for(lambda: len(busy(service)) == 2 and busy(service), timeout_s=PATIENCE_S, why="both nodes are used")
    assert len(set(found.values())) == 2


def test_a_node_that_joins_takes_cameras_and_only_those_move(cluster, service):
    wait_for(lambda: len(busy(service)) == 2 and all_online(service), timeout_s=PATIENCE_S, why="both nodes are used")
    before = placed(service)
    node = cluster.add_node(**NODE)
    try:
        wait_for(lambda: len(busy(service)) == 3 and all_online(service), timeout_s=PATIENCE_S, why="it is used")
        after = placed(service)
        moved = {after[camera] for camera in after if after[camera] != before[camera]}
        assert len(moved) == 1
    finally:
        cluster.remove_node(node)


def test_the_cameras_of_a_node_that_dies_come_back_elsewhere_and_the_others_stay(cluster, service, third):
    wait_for(lambda: all_online(service), timeout_s=PATIENCE_S, why="all cameras are online")
    before, (worker, node) = placed(service), third
    node.kill_raylet()
    wait_for(lambda: all_online(service, without=worker), timeout_s=PATIENCE_S, why="all are online without it")
    after = placed(service)
    assert {camera for camera in after if after[camera] != before[camera]} == {
        camera for camera in before if before[camera] == worker
    }
    cluster.remove_node(node)

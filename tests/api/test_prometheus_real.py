"""A real Prometheus scrapes the page, evaluates the shipped alerts, and understands the shipped dashboard.

One Prometheus for all tests, because its first scrape takes five seconds; every test has a camera of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from streamkd.config import CameraConfig
from streamkd.store.records import CameraOrigin, Change
from streamkd.types import CameraState, CameraStatus
from streamkd_service.metrics import ServiceMetrics
from streamkd_service.runtime.histograms import BATCH_BOUNDS, LATENCY_BOUNDS_MS, Histogram
from streamkd_service.runtime.ports import CameraTotals, CameraView, SystemView, WorkerTotals, WorkerView
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed (Debian: prometheus)",
)
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Page:
    """What is served at `address`; every test puts its own metrics there."""

    metrics: ServiceMetrics
    address: str = ""


@dataclass
class Scraped:
    """A page, and the Prometheus that scrapes it."""

    page: Page
    client: httpx.Client
    camera: str = ""

    @property
    def metrics(self) -> ServiceMetrics:
        return self.page.metrics

    def query(self, expression):
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def wait_for(self, expression, expected, timeout_s=20.0):
        """Poll until the query's first value is the expected one."""
        deadline_s = time.monotonic() + timeout_s
        found = self.query(expression)
        while time.monotonic() < deadline_s and (not found or found[0][1] != expected):
            time.sleep(0.1)
            found = self.query(expression)
        return found[0][1] if found else None

    def first(self, expression, timeout_s=10.0):
        """The query's first value, as soon as there is one: after a scrape that failed there is none for a moment."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline_s, f"no value: {expression}"
            time.sleep(0.1)
        return found[0][1]

    def wait_for_alert(self, name, timeout_s=20.0):
        """Poll until the alert is pending or firing for this test's camera."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
            for alert in alerts:
                if (alert["labels"]["alertname"], alert["labels"].get("camera")) == (name, self.camera):
                    return alert
            time.sleep(0.1)
        raise AssertionError(f"{name} never came")


@pytest.fixture(scope="module")
def page():
    served = Page(ServiceMetrics())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body, content_type = served.metrics.render()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def prometheus(page, tmp_path_factory):
    """A client of the running Prometheus; it scrapes the page four times a second."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(DEPLOY / "alerts.yml", folder)
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms", "scrape_timeout": "250ms"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [page.address]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    arguments = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
            wait_until_ready(process, client, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def scraped(page, prometheus, request):
    page.metrics = ServiceMetrics()
    return Scraped(page, prometheus, camera=request.node.name.replace("_", "-")[5:65])


def wait_until_ready(process, client, log, timeout_s=30.0):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def totals_of(camera_id, epoch, received, cpu_s=1.0):
    latency = Histogram(LATENCY_BOUNDS_MS)
    latency.observe(20, received)
    camera = CameraTotals(camera_id, received, received, received, dropped={"stale": 1}, reconnects={"auth": 1})
    took = latency.totals()
    return WorkerTotals("worker-0", epoch, (camera,), took, took, took, Histogram(BATCH_BOUNDS).totals(), 1, cpu_s)


def fill(metrics, camera_id, state=CameraState.ONLINE):
    status = CameraStatus(camera_id, state, frame_age_s=0.1, action="fight")
    config = CameraConfig(id=camera_id, url="rtsp://x/y")
    metrics.set_cameras([CameraView(config, CameraOrigin.API, status, "worker-0")])
    worker = WorkerView("worker-0", "node", True, 1, 0.1, 1, 1.0, 0)
    metrics.set_system(SystemView("0.1.0", NOW, 1.0, True, "shipped", (worker,), {}, 0, "sqlite", None))
    refresh = {
        "id": "r",
        "status": "refused",
        "started_utc": "2026-01-01T00:00:00Z",
        "ended_utc": "2026-01-01T00:01:00Z",
        "gate": {"checks": [{"part": "safety", "value": 0.1}]},
    }
    metrics.count(Change(1, "refresh", NOW, refresh, "updated"))


def test_the_page_is_scraped(scraped):
    fill(scraped.metrics, scraped.camera)
    assert scraped.wait_for("up", 1.0) == 1.0


def test_a_worker_restart_is_no_counter_reset(scraped):
    fill(scraped.metrics, scraped.camera)
    received = f'streamkd_frames_received_total{{camera="{scraped.camera}"}}'
    scraped.metrics.fold([totals_of(scraped.camera, "e1", 100)])
    scraped.wait_for(received, 100)
    scraped.metrics.fold([totals_of(scraped.camera, "e2", 3)])
    assert scraped.wait_for(received, 103) == 103
    assert scraped.query(f"resets({received}[1m])")[0][1] == 0


def test_a_removed_camera_is_gone_at_the_next_scrape(scraped):
    fill(scraped.metrics, scraped.camera)
    states = f'streamkd_camera_state{{camera="{scraped.camera}"}}'
    assert scraped.wait_for(f"count({states})", len(CameraState)) == len(CameraState)
    scraped.metrics.set_cameras([])
    assert scraped.wait_for(f"absent({states})", 1.0) == 1.0


def test_histograms_give_quantiles(scraped):
    fill(scraped.metrics, scraped.camera)
    scraped.metrics.fold([totals_of(scraped.camera, "e1", 57)])
    scraped.wait_for("streamkd_end_to_end_seconds_count", 57)
    median = scraped.first("histogram_quantile(0.5, streamkd_end_to_end_seconds_bucket)")
    assert 0.01 <= median <= 0.02


def test_the_very_first_event_raises_the_alert(scraped):
    fill(scraped.metrics, scraped.camera)
    data = {"camera_id": scraped.camera, "kind": "action", "label": "fight"}
    scraped.metrics.count(Change(2, "event", NOW, data, "created"))
    alert = scraped.wait_for_alert("StreamkdEvent")
    assert alert["annotations"]["summary"] == f"fight on camera {scraped.camera}"


def test_a_camera_that_backs_off_is_on_its_way_to_an_alert(scraped):
    fill(scraped.metrics, scraped.camera, CameraState.BACKING_OFF)
    assert scraped.wait_for_alert("StreamkdCameraOffline")["state"] == "pending"


def test_every_query_of_the_dashboard_is_understood(prometheus):
    answers = [prometheus.get("/api/v1/query", params={"query": query}).json() for query in dashboard_queries()]
    assert not [answer for answer in answers if answer["status"] != "success"]


def test_alerts_and_dashboard_name_only_metrics_that_exist():
    metrics = ServiceMetrics()
    fill(metrics, "gate")
    metrics.fold([totals_of("gate", "e1", 50)])
    text = metrics.render()[0].decode()
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    expressions = [*dashboard_queries(), *(rule["expr"] for group in rules for rule in group["rules"])]
    named = {name for expression in expressions for name in re.findall(r"\bstreamkd_\w+", expression)}
    assert not {name for name in named if not re.search(rf"^{name}[ {{]", text, re.MULTILINE)}


@pytest.mark.parametrize(("kind", "name"), [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_accepts_what_is_shipped(kind, name):
    done = subprocess.run(["promtool", "check", kind, name], cwd=DEPLOY, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def dashboard_queries():
    dashboard = json.loads((DEPLOY / "grafana" / "streamkd.json").read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [expression.replace("$instance", ".*").replace("$camera", ".*") for expression in targets]

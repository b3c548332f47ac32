"""The built-in page: its headers, and the page itself in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from streamkd.config import CameraConfig
from streamkd.store.records import EventQuery
from streamkd.types import CameraState, CameraStatus, FailureReason, Verdict
from streamkd_service.api.routes.page import WEB
from tests.api.browser import CHROMIUM, Browser
from tests.api.conftest import Serve
from tests.api.fake_controller import START, FakeController, jpeg
from tests.media import make_clip

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.new_page()
    return chromium


@pytest.fixture
def busy(controller: FakeController) -> FakeController:
    """Two cameras, one online and one not, and an event with a picture."""
    for name, address in (("gate", "192.0.2.1"), ("yard", "192.0.2.2")):
        url = SecretStr(f"rtsp://viewer:hunter2@{address}/s")
        controller.add_yaml_camera(CameraConfig(id=name, url=url, name=f"The {name}"))
    controller.pictures["gate"] = jpeg("gate")
    controller.statuses["gate"] = CameraStatus(
        "gate", CameraState.ONLINE, fps_analysed=5.0, latency_ms=21.0, action="fight", action_score=0.07
    )
    controller.statuses["yard"] = CameraStatus(
        "yard", CameraState.BACKING_OFF, FailureReason.AUTH, detail="wrong user or password"
    )
    controller.commit_event("gate", snapshot_jpeg=jpeg("fight"))
    return controller


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/docs", "text/html"), ("/static/app.js", "javascript")]
)
def test_the_page_is_served(client: httpx.Client, path: str, kind: str) -> None:
    assert kind in client.get(path).headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/v1/cameras", "/nowhere"])
def test_a_strict_policy_goes_with_every_answer(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("file", sorted(WEB.iterdir()), ids=lambda file: file.name)
def test_nothing_of_the_page_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|innerHTML|eval\(", text)


@needs_browser
def test_the_page_shows_cameras_with_their_state(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve().url}/")
    browser.wait("document.querySelector('#link').dataset.state == 'live'")
    cards = browser.run("[...document.querySelectorAll('.camera')].map(c => [c.dataset.camera, c.dataset.tone])")
    shown = browser.run("document.body.innerText")
    assert cards == [["gate", "good"], ["yard", "bad"]]
    for words in ("The gate", "wrong user or password", "1 of 2 cameras online", "5.0", "21 ms", "0.07"):
        assert words in shown
    assert "hunter2" not in browser.run("document.documentElement.outerHTML")


@needs_browser
def test_the_page_shows_pictures_of_cameras_and_events(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve().url}/")
    for image in (".camera[data-camera=gate] img", ".event img"):
        browser.wait(f"document.querySelector('{image}')?.naturalWidth == 320")


@needs_browser
def test_an_event_appears_while_the_page_is_open(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve().url}/")
    browser.wait("document.querySelector('#link').dataset.state == 'live'")
    event = busy.commit_event("yard", label="fall")
    browser.wait(f"document.querySelector('.event').dataset.event == '{event.id}'")
    assert browser.run("document.querySelector('.event .label').textContent") == "fall"


@needs_browser
def test_a_click_confirms_an_event(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve().url}/")
    browser.wait("document.querySelector('.event')")
    browser.run("document.querySelector('.event .confirm').click()")
    browser.wait("document.querySelector('.event').dataset.verdict == 'confirmed'")
    assert busy.repository.list_events(EventQuery()).events[0].verdict is Verdict.CONFIRMED


@needs_browser
def test_a_click_plays_the_clip_of_an_event(
    serve: Serve, busy: FakeController, browser: Browser, tmp_path: Path
) -> None:
    video = make_clip(tmp_path / "c.mp4", frames=30).read_bytes()
    event = busy.commit_event("gate", seconds=60, end_utc=START + timedelta(seconds=70))
    browser.open(f"{serve().url}/")
    browser.wait("document.querySelector('#link').dataset.state == 'live'")
    browser.wait(f"document.querySelector('.event')?.dataset.event == '{event.id}'")
    assert browser.run("document.querySelector('.event .clip').hidden")
    busy.repository.store_clip(event.id, 0, video, len(video), busy.media_dir)
    browser.wait("!document.querySelector('.event .clip').hidden")
    browser.run("document.querySelector('.event .clip').click()")
    browser.wait("document.querySelector('#player video').videoWidth == 320")


@needs_browser
def test_a_click_starts_a_refresh(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve().url}/")
    browser.wait("document.querySelector('#link').dataset.state == 'live'")
    browser.run("document.querySelector('#refresh').click()")
    browser.wait("document.querySelector('.refresh .status')?.textContent == 'harvest'")
    assert browser.run("document.querySelector('#refresh').disabled")


@needs_browser
def test_the_token_opens_the_page_and_its_live_stream(serve: Serve, busy: FakeController, browser: Browser) -> None:
    browser.open(f"{serve(token='secret').url}/")
    browser.wait("!document.querySelector('#sign-in').hidden")
    for token, done in (
        ("wrong", "document.querySelector('#sign-in-problem').textContent != ''"),
        ("secret", "document.querySelector('#link').dataset.state == 'live'"),
    ):
        browser.run(f"document.querySelector('#token').value = '{token}'")
        browser.run("document.querySelector('#sign-in').requestSubmit()")
        browser.wait(done)
    browser.wait("document.querySelectorAll('.camera').length == 2")


@needs_browser
def test_the_page_breaks_no_rule_of_its_own_policy(serve: Serve, busy: FakeController, browser: Browser) -> None:
    url = serve().url
    watch = (
        "new Promise(done => { const seen = []; setTimeout(() => done(seen), 1500); new ReportingObserver("
        "list => seen.push(...list.map(report => report.body.blockedURL)), {buffered: true}).observe(); })"
    )
    for path in ("/", "/docs"):
        browser.open(url + path)
        browser.wait("document.readyState == 'complete' && document.querySelector('h2')")
        assert browser.run(watch) == []


@needs_browser
def test_the_api_can_be_read_in_the_browser(serve: Serve, browser: Browser) -> None:
    browser.open(f"{serve().url}/docs")
    browser.wait("document.querySelectorAll('details').length == 23")

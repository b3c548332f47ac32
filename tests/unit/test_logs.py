"""Logs carry no secrets, whoever wrote the line, and are one JSON object a line on request."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from streamkd.config import LogConfig
from streamkd_service.logs import mask_credentials, set_up_logs


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://admin:s3cret@cam/1", "rtsp://***@cam/1"),
        ("can't open rtsp://admin:p@ss/w0rd@cam/1: refused", "can't open rtsp://***@cam/1: refused"),
        ("postgresql+psycopg://u:p@db/x", "postgresql+psycopg://***@db/x"),
        ("http://host/without", "http://host/without"),
        ("mail a@b.example", "mail a@b.example"),
    ],
)
def test_credentials_in_urls_are_masked(text, masked):
    assert mask_credentials(text) == masked


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_reaches_the_log(stream, form):
    set_up_logs(LogConfig(format=form), stream=stream)
    structlog.get_logger().info("opening rtsp://u:hunter2@cam", nested={"url": "rtsp://u:hunter2@cam"}, token="hunter2")
    logging.getLogger("library").warning("lost rtsp://u:hunter2@cam")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 2


def test_every_line_is_json_on_request(stream):
    set_up_logs(LogConfig(format="json"), stream=stream)
    structlog.get_logger().info("ready", port=8400)
    logging.getLogger("library").error("broken")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("ready", "info"), ("broken", "error")]


def test_lines_below_the_level_are_left_out(stream):
    set_up_logs(LogConfig(format="json", level="warning"), stream=stream)
    structlog.get_logger().info("not this")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_do_not_reach_a_terminal(stream, form):
    set_up_logs(LogConfig(format=form), stream=stream)
    structlog.get_logger().info("request", path="/v1/\x1b[2J\x00\x9b")
    assert not set(stream.getvalue()) & {"\x1b", "\x00", "\x9b"}

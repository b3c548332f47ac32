"""The configuration: what is taken, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from streamkd.config import CameraConfig, Config, load_config, redact_url
from streamkd.errors import ConfigError
from streamkd_service.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "cameras.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ=environ)


def test_a_minimal_file_takes_every_default(tmp_path):
    config = load(tmp_path, "cameras:\n  - {id: gate, url: 'rtsp://192.0.2.1/a'}\n")
    assert config.cameras[0].transport == "tcp"
    assert config.api.port == 8400


def test_an_empty_file_is_the_default_configuration(tmp_path):
    assert load(tmp_path, "") == Config()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("cameras:\n  - id: gate\n    url: rtsp://h/a\n    senstivity: 1\n", 4, "cameras.0.senstivity: unknown key"),
        ("api:\n  port: many\n", 2, "api.port"),
        ("cameras:\n  - id: gate\n    url: ftp://h/a\n", 3, "scheme 'ftp' is not supported"),
        ("cameras:\n  - {id: a, url: 'rtsp://h/a'}\n  - {id: a, url: 'rtsp://h/b'}\n", 3, "'a' is used twice"),
        ("log:\n  level: info\napi:\n  host: 0.0.0.0\n", 4, "api.token is not set"),
        ("api:\n  host: 0.0.0.0\n  token: ''\n", 3, "api.token: is empty"),
        ("api:\n  port: 1\nlog: {}\napi:\n  port: 2\n", 4, "api: this key stands twice"),
        ("cameras:\n  - {id: a, url: ''}\n", 2, "cameras.0.url: is empty"),
        ("cameras:\n  - {id: a, url: rtsp://h/a, clip_url: large.mp4}\n", 2, "clip_url: scheme '' is not supported"),
        ("cameras: gate\n", 1, "cameras: must be a list"),
        ("cameras: [gate]\n", 1, "cameras.0: must hold keys"),
        ("cameras:\n  - id: Main Gate\n    url: rtsp://h/a\n", 2, "cameras.0.id: use lower case letters"),
        ("cameras: [\n", 2, "expected"),
        ("- 1\n", None, "must hold keys"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, line, says):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert says in caught.value.message
    if line is not None:
        assert f"cameras.yaml, line {line}" in caught.value.message


def test_sections_without_content_take_every_default(tmp_path):
    assert load(tmp_path, "cameras:\nstore:\n") == Config()


def test_a_file_that_is_not_text_is_one_clear_line(tmp_path):
    path = tmp_path / "cameras.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(path, environ={})


def test_a_secret_file_that_is_not_text_is_one_clear_line(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="Secret file"):
        load(tmp_path, f"api:\n  token: ${{file:{secret}}}\n")


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "none.yaml", environ={})


def test_variables_override_single_keys(tmp_path):
    assert load(tmp_path, "api: {port: 1}\n", STREAMKD_API__PORT="9000").api.port == 9000


@pytest.mark.parametrize(("name", "example"), [("STREAMKD_API", "STREAMKD_API__HOST"), ("STREAMKD_LOG", "LOG__FORMAT")])
def test_a_variable_that_names_a_whole_section_is_refused(tmp_path, name, example):
    with pytest.raises(ConfigError, match=rf"{name} names a whole section.*{example}"):
        load(tmp_path, "", **{name: "abc"})


def test_variables_of_the_command_line_are_no_sections(tmp_path):
    assert load(tmp_path, "", STREAMKD_URL="http://h", STREAMKD_TOKEN="t") == Config()


def test_secrets_come_from_variables_and_are_encoded_in_urls(tmp_path):
    config = load(tmp_path, "cameras:\n  - {id: a, url: 'rtsp://u:${PW}@h/a'}\n", PW="p@ss/1")
    assert config.cameras[0].url.get_secret_value() == "rtsp://u:p%40ss%2F1@h/a"


def test_a_camera_may_have_a_stream_for_clips(tmp_path):
    text = "cameras:\n  - {id: a, url: 'rtsp://u:${PW}@h/small', clip_url: 'rtsp://u:${PW}@h/large'}\n"
    camera = load(tmp_path, text, PW="p@ss/1").cameras[0]
    assert camera.stored()["clip_url"] == "rtsp://u:p%40ss%2F1@h/large"
    assert camera.shown()["clip_url"] == "rtsp://***@h/large"
    assert CameraConfig.model_validate(camera.stored()) == camera


def test_without_a_stream_for_clips_there_is_none():
    camera = CameraConfig.model_validate({"id": "a", "url": "rtsp://u:p@h/a"})
    assert (camera.shown()["clip_url"], camera.stored()["clip_url"]) == (None, None)


def test_secrets_come_from_files(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("s3cret\n", encoding="utf-8")
    token = load(tmp_path, f"api: {{token: '${{file:{secret}}}'}}\n").api.token
    assert token is not None
    assert token.get_secret_value() == "s3cret"


def test_a_missing_secret_names_its_variable(tmp_path):
    with pytest.raises(ConfigError, match="PW is not set"):
        load(tmp_path, "cameras:\n  - {id: a, url: 'rtsp://u:${PW}@h/a'}\n")


def test_no_secret_is_in_any_repr_or_message(tmp_path):
    config = load(tmp_path, "cameras:\n  - {id: a, url: 'rtsp://u:hunter2@h/a'}\napi: {token: hunter2}\n")
    assert "hunter2" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "cameras:\n  - {id: A B, url: 'xyz://u:hunter2@h/a'}\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("rtsp://u:p@h:554/x", "rtsp://***@h:554/x"),
        ("rtsp://h/x?user=u&password=p", "rtsp://h/x?***"),
        ("rtsp://[::1]:8554/x", "rtsp://[::1]:8554/x"),
        ("/data/clip.mp4", "/data/clip.mp4"),
        ("rtsp://u:p#a/b@c@h:554/x?q", "rtsp://***@h:554/x?***"),
        ("admin:hunter2@192.0.2.1/x", "***@192.0.2.1/x"),
    ],
)
def test_redacted_urls(url, redacted):
    assert redact_url(url) == redacted


def test_every_key_is_described():
    def check(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            nested = field.annotation
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                check(nested)
            else:
                assert field.description, f"{model.__name__}.{name} has no description"

    check(Config)
    check(CameraConfig)


def test_the_reference_page_is_what_the_command_prints(capsys):
    page = REPOSITORY / "docs" / "reference" / "config.md"
    assert main(["config", "reference"]) == 0
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out, (
        "run: streamkd config reference > docs/reference/config.md"
    )

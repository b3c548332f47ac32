"""What a user gets for wrong input: one line that names it and says what to do, and an exit status of its own."""

from __future__ import annotations

import pytest

from streamkd_service import cli

NO_SERVICE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the wrong things lie; the working directory."""
    monkeypatch.chdir(tmp_path)
    files = {
        "text.mp4": "not a video",
        "unknown.yaml": "cameras: [{id: gate, url: 'rtsp://x/y', colour: red}]",
        "type.yaml": "cameras: 3",
        "number.yaml": "1: x",
        "list.yaml": "- a",
        "broken.yaml": "a: [",
        "twice.yaml": "seed: 1\nseed: 2",
        "nolabel/clips.csv": "nonsense\n",
        "novideo/clips.csv": "file,label\na.mp4,fight\n",
        "novideo/a.mp4": "not a video",
        "nothing/labels.csv": "hello\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.mp4").touch()
    return tmp_path


def said(capsys, *words: str) -> str:
    """The one line of an error, after warnings about single clips."""
    assert cli.main(words) == cli.EXIT_ERROR
    *warnings, line = capsys.readouterr().err.splitlines()
    assert all(warning.startswith("Skipping") for warning in warnings)
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--config", "absent.yaml"), "absent.yaml can't be read: No such file"),
        (("--config", "empty"), "empty can't be read: Is a directory"),
        (("--config", "unknown.yaml"), "unknown.yaml, line 1: cameras.0.colour: unknown key"),
        (("--config", "type.yaml"), "type.yaml, line 1: cameras: must be a list"),
        (("--config", "number.yaml"), "number.yaml, line 1: 1: unknown key"),
        (("--config", "list.yaml"), "list.yaml: the file must hold keys such as 'cameras:'"),
        (("--config", "broken.yaml"), "broken.yaml, line"),
        (("--host", "0.0.0.0"), "api.host: '0.0.0.0' is reachable from outside, and api.token is not set"),
        (("--port", "99999"), "'--port': Input should be less than or equal to 65535. See streamkd serve --help"),
        (("--nonsense",), "No such option: --nonsense. See streamkd serve --help"),
    ],
)
def test_serve(folder, capsys, words, named):
    assert named in said(capsys, "serve", *words)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("foo://x",), "scheme 'foo' is not supported"),
        (("",), "is empty"),
        (("rtsp://127.0.0.1/x", "--transport", "tpc"), "--transport"),
        ((), "Missing argument 'url'. See streamkd check --help"),
    ],
)
def test_check(folder, capsys, words, named):
    assert named in said(capsys, "check", *words)


@pytest.mark.parametrize("file", ["absent.mp4", "text.mp4", "zero.mp4", "empty"])
@pytest.mark.parametrize("command", ["check", "replay"])
def test_a_file_that_is_no_video_is_named(folder, capsys, command, file):
    assert cli.main([command, file]) in {cli.EXIT_NEGATIVE, cli.EXIT_ERROR}
    (line,) = capsys.readouterr().err.splitlines()
    assert file in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("replay", "text.mp4", "--model", "empty"), "empty is not a model bundle"),
        (("replay", "text.mp4", "--model", "absent"), "There is no model 'absent', here or in data/models"),
        (("replay", "text.mp4", "--speed", "fast"), "--speed 'fast' is neither"),
        (("replay", "text.mp4", "--sensitivity", "3"), "'--sensitivity'"),
        (("explain", "absent"), "absent is neither a file nor the id of an event"),
        (("explain", "text.mp4"), "text.mp4 can't be decoded as a video"),
        (("explain", "text.mp4", "--end", "0"), "--end 0 is not after --start 0"),
    ],
)
def test_recordings(folder, capsys, words, named):
    pytest.importorskip("torch", reason="needs the train extra")
    assert named in said(capsys, *words)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--out", "out"),
        ("distil", "response", "--out", "out"),
        ("teachers", "train", "--out", "out"),
        ("teachers", "label", "shipped", "--out", "out"),
        ("evaluate", "actions"),
        ("evaluate", "events"),
        ("evaluate", "forecast"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("data", ["absent", "empty", "nolabel", "novideo", "text.mp4"])
def test_a_folder_without_clips_is_named(folder, capsys, command, data):
    pytest.importorskip("nncf", reason="needs the train extra")
    line = said(capsys, *command, "--data", data, "--cache", "cache")
    assert data in line or "None of the clips can be decoded" in line


@pytest.mark.parametrize("data", ["absent", "empty", "nothing", "text.mp4"])
def test_streams_without_labels_are_named(folder, capsys, data):
    assert data in said(capsys, "evaluate", "anomaly", "--data", data)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("distil", "absent", "--data", "empty"), "Recipe absent can't be read"),
        (("distil", "twice.yaml", "--data", "empty"), "twice.yaml, line 2: seed: this key stands twice"),
        (("distil", "number.yaml", "--data", "empty"), "1: unknown key"),
        (("teachers", "list", "absent"), "absent is not a folder"),
        (("teachers", "check", "absent"), "There is no teacher at absent"),
        (("teachers", "check", "empty"), "by streamkd teachers train"),
        (("teachers", "check", "shipped", "--classes", "a,b"), "asked for are a, b"),
        (("teachers", "check", "shipped", "--device", "abacus"), "--device 'abacus' is no device"),
        (("teachers", "train", "--data", "empty", "--out", "o", "--members", "x"), "There is no member 'x'"),
        (("teachers", "train", "--data", "empty", "--out", "o", "--members", "list.yaml"), "such as 'members:'"),
        (("teachers", "train", "--data", "empty", "--out", "o", "--members", "number.yaml"), "no list named members"),
    ],
)
def test_recipes_and_teachers(folder, capsys, words, named):
    pytest.importorskip("nncf", reason="needs the train extra")
    assert named in said(capsys, *words)


@pytest.mark.parametrize(
    "command",
    [
        ("refresh",),
        ("clip", "x"),
        ("models", "list"),
        ("models", "promote", "x"),
        ("models", "rollback"),
        ("top",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("url", "named"),
    [(NO_SERVICE, f"No streamkd service answers at {NO_SERVICE}"), ("nonsense", "'nonsense' is not the address")],
)
def test_no_service_there(folder, capsys, command, url, named):
    assert named in said(capsys, *command, "--url", url)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--url", "nonsense"), "'nonsense' is not a database URL"),
        (("--url", "foo://x"), "'foo', which is not supported"),
        (("--url", "sqlite:///empty"), "empty can't be opened: Is a directory"),
        (("--url", "sqlite:///text.mp4"), "text.mp4 can't be opened: file is not a database"),
        (("--url", "sqlite:////proc/x/y.db"), "/proc/x/y.db can't be opened"),
        (("--config", "absent.yaml"), "absent.yaml can't be read"),
    ],
)
def test_databases(folder, capsys, words, named):
    assert named in said(capsys, "db", "upgrade", *words)


@pytest.mark.parametrize("words", [("nonsense",), ("--nonsense",), ("models", "nonsense"), ("config", "nonsense")])
def test_commands_and_options_that_are_none(folder, capsys, words):
    assert "onsense" in said(capsys, *words)


@pytest.mark.parametrize(
    "command",
    [("train",), ("distil", "response"), ("teachers", "train"), ("teachers", "label", "shipped")],
    ids=" ".join,
)
@pytest.mark.parametrize("out", ["text.mp4/out", "/proc/out"])
def test_a_place_for_the_result_that_can_not_be_written_is_named_at_once(folder, capsys, demo_clips, command, out):
    pytest.importorskip("nncf", reason="needs the train extra")
    assert f"{out} can't be written" in said(capsys, *command, "--data", str(demo_clips), "--out", out)


def test_a_cache_that_can_not_be_written_is_named(folder, capsys, demo_clips):
    line = said(capsys, "evaluate", "actions", "--data", str(demo_clips), "--cache", "text.mp4")
    assert "text.mp4/frames" in line
    assert "can't be used: Not a directory" in line


@pytest.mark.parametrize("name", ["STREAMKD_API__PORT", "STREAMKD_API__NIX", "STREAMKD_API"])
def test_variables(folder, capsys, monkeypatch, name):
    monkeypatch.setenv(name, "abc")
    line = said(capsys, "serve")
    assert name.lower().removeprefix("streamkd_").replace("__", ".") in line.lower()

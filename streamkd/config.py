"""The configuration: one YAML file, checked by pydantic, every key documented here.

Loading (file, variables, line numbers in messages) is `load_config`; the `STREAMKD_…` variables override single keys,
with two underscores between levels: `STREAMKD_API__PORT=9000`. Secrets may be written as `${NAME}` (environment)
or `${file:/path}` (a file's first line) anywhere in a camera's URL or in `api.token`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from streamkd.errors import ConfigError
from streamkd.yamlfile import Lines, in_words, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

CameraId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
SHIPPED = "shipped"
MASK = "***"
_SECRET = re.compile(r"\$\{(file:)?([^}]+)\}")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraConfig(_Section):
    """One camera."""

    id: CameraId = Field(description="lower case letters, digits, `-` and `_`; the `camera` label of every metric")
    url: SecretStr = Field(description="rtsp://, rtsps://, http(s):// (HLS, MJPEG) or a file; may carry user:password")
    clip_url: SecretStr | None = Field(
        default=None,
        description="another stream of the same camera, on the network: event clips are cut from it, and nothing of it "
        "is decoded. With the camera's small stream as `url`, clips keep the full picture. null: from `url`",
    )
    name: str = Field(default="", description="shown to people; the id if empty")
    enabled: bool = Field(default=True, description="false: kept in the list, not connected to")
    group: str = Field(default="default", description="cameras of one group are judged together by the gate")
    labels: tuple[str, ...] | None = Field(default=None, description="action classes that open events; null: all")
    anomalies: bool = Field(default=True, description="whether anomaly events are opened")
    sensitivity: float = Field(default=0.5, ge=0, le=1, description="0: only the surest events, 1: every suspicion")
    cooldown_s: float = Field(default=10.0, ge=0, description="pause after an event before the same label opens again")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport; UDP loss smears the picture")
    open_timeout_s: float = Field(default=5.0, gt=0, le=60, description="seconds a connection may take to open")
    read_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="seconds without a packet that end a connection"
    )
    decode: Literal["all", "keyframes"] = Field(
        default="all", description="keyframes: nothing else is decoded; a tenth of the cost, an answer per keyframe"
    )
    gpu_decoding: Literal["off", "auto"] = Field(
        default="off", description="auto: on the GPU, where ffmpeg finds one that decodes; on the CPU elsewhere"
    )
    skip_loop_filter: Literal["none", "nonkey", "all"] = Field(
        default="nonkey", description="frames whose deblocking is left out: cheaper decoding, slightly wrong pictures"
    )
    skip_still: bool = Field(default=True, description="a still scene's frames are decoded when it wakes up, if at all")
    priority: int = Field(
        default=0, ge=-100, le=100, description="who keeps its rate longest when the machine can't do it all"
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("is empty; give an address like rtsp://user:password@host/path, or a file")
        scheme = urlsplit(value.get_secret_value()).scheme.lower()
        if scheme not in {"rtsp", "rtsps", "http", "https", "file", ""}:
            raise ValueError(f"scheme {scheme!r} is not supported; use rtsp, rtsps, http, https or a file path")
        return value

    @field_validator("clip_url")
    @classmethod
    def _on_the_network(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme = urlsplit(value.get_secret_value()).scheme.lower()
        if scheme not in {"rtsp", "rtsps", "http", "https"}:
            raise ValueError(f"scheme {scheme!r} is not supported; use rtsp, rtsps, http or https, or leave it out")
        return value

    @property
    def redacted_url(self) -> str:
        return redact_url(self.url.get_secret_value())

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON has it, addresses without their secrets."""
        return self._with_addresses(redact_url)

    def stored(self) -> dict[str, Any]:
        """Every setting as JSON has it, addresses with their secrets, which connecting needs."""
        return self._with_addresses(str)

    def _with_addresses(self, told: Callable[[str], str]) -> dict[str, Any]:
        settings: dict[str, Any] = self.model_dump(mode="json")
        addresses = {"url": self.url, "clip_url": self.clip_url}
        return settings | {
            key: None if value is None else told(value.get_secret_value()) for key, value in addresses.items()
        }


class StudentConfig(_Section):
    """The model that serves until the registry holds a promoted one."""

    bundle: str = Field(default=SHIPPED, description="'shipped' or the path of a model bundle")
    device: Literal["cpu", "auto"] = Field(
        default="cpu",
        description="auto: a GPU where PyTorch is installed and finds one, which has not been tried on one yet",
    )
    threads: int = Field(default=1, ge=1, le=64, description="inference threads of each worker process")
    max_frame_age_s: float = Field(default=0.5, gt=0, description="older frames are dropped, not analysed")


class EventsConfig(_Section):
    """From scores to events."""

    smoothing_s: float = Field(default=1.0, ge=0, description="scores are averaged over this long, causally")
    close_ratio: float = Field(default=0.6, gt=0, le=1, description="an event closes below this share of its threshold")
    min_frames: int = Field(default=3, ge=1, description="analysed frames above the threshold before an event opens")
    close_after_s: float = Field(default=2.0, gt=0, description="seconds below the closing threshold that end an event")
    max_duration_s: float = Field(default=300.0, gt=0, description="a longer event is closed and a new one may open")
    clips: bool = Field(default=True, description="whether a video clip of every event is kept")
    pre_roll_s: float = Field(default=5.0, ge=0, le=60, description="what a clip shows before its event, at least")
    post_roll_s: float = Field(default=5.0, ge=0, le=60, description="what a clip shows after its event")
    buffer_mb: float = Field(
        default=8.0, gt=0, le=256, description="compressed video that each camera keeps in memory for the pre-roll"
    )
    clip_max_mb: float = Field(default=64.0, gt=0, le=1024, description="a clip ends where it would become larger")
    anomaly_warmup_s: float = Field(default=60.0, gt=0, description="history that a camera needs before anomaly events")
    anomaly_false_alarms_per_day: float = Field(default=2.0, gt=0, description="aim of the anomaly threshold")


class StoreConfig(_Section):
    """Where events, cameras and models are remembered."""

    url: SecretStr = Field(default=SecretStr("sqlite:///data/streamkd.db"), description="SQLAlchemy URL")
    media_dir: Path = Field(default=Path("data/media"), description="snapshots and clips of events")
    models_dir: Path = Field(default=Path("data/models"), description="model bundles made by refreshes")
    retention_days: float = Field(default=30.0, gt=0, description="closed events older than this are deleted")
    media_quota_mb: int = Field(default=2048, ge=1, description="files of the oldest events go first")


class RefreshConfig(_Section):
    """How the student is renewed from the site's own footage."""

    every_hours: float | None = Field(default=None, gt=0, description="null: only when asked for")
    teacher: str = Field(default=SHIPPED, description="'shipped' or the path of a teacher bundle")
    anchor_dir: str = Field(
        default=SHIPPED, description="'shipped' or a folder with clips.csv: clips with human labels"
    )
    replay_dir: Path | None = Field(
        default=None, description="a folder of clips on which the student goes on saying what it said; null: none"
    )
    harvest_s: float = Field(default=60.0, gt=0, description="how long footage is collected")
    clip_s: float = Field(default=2.0, gt=0, description="length of one harvested clip")
    clips_per_camera: int = Field(default=12, ge=2, description="clips kept of each camera")
    epochs: int = Field(default=20, ge=1, description="passes over the harvested clips")
    temperature: float = Field(default=2.0, gt=0, description="softens teacher and student in the distillation loss")
    safety_margin: float = Field(default=0.02, ge=0, description="loss on the anchor set that the gate still accepts")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the gate's bounds, over all groups together")
    watch_s: float = Field(
        default=3600.0, ge=0, description="after a swap, how long alarms are compared with those before; 0: not at all"
    )
    watch_alarms_per_hour: float = Field(
        default=12.0, ge=0, description="action events on a camera that this comparison never finds too many"
    )
    keep_versions: int = Field(default=5, ge=2, description="bundles kept on disk; the live one and its parent always")
    footage_quota_mb: int = Field(default=512, ge=8, description="harvested clips kept on disk")


class ApiConfig(_Section):
    """The HTTP side."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all (needs a token)")
    port: int = Field(default=8400, ge=0, le=65535, description="0: any free port")
    token: SecretStr | None = Field(default=None, description="bearer token; required unless host is loopback")
    metrics: Literal["open", "token"] = Field(default="open", description="whether /metrics needs the token")
    max_upload_mb: int = Field(default=64, ge=1, description="largest clip that POST /v1/infer takes")
    max_upload_s: float = Field(default=60.0, gt=0, description="longest clip that POST /v1/infer takes")
    keep_changes: int = Field(default=10_000, ge=100, description="live updates that a reconnecting client can ask for")

    @field_validator("token")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("is empty, so that everybody would be let in; set a secret, or leave the key out")
        return value


class WorkersConfig(_Section):
    """Processes of the live path."""

    count: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="worker processes on each node; null: one for every 12 cameras, at most one a processor "
        "(of a container: of its quota)",
    )
    pin: bool = Field(
        default=True,
        description="where a node has one worker a processor, each stays on its own (unless `student.threads` is more)",
    )
    ray_address: str | None = Field(default=None, description="null: a private local Ray session")


class LogConfig(_Section):
    """What is written to standard error."""

    format: Literal["console", "json"] = Field(default="console", description="json: one object a line")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is written"
    )


class Config(_Section):
    """The whole file."""

    cameras: tuple[CameraConfig, ...] = Field(
        default=(), description="cameras owned by this file; others come by the API"
    )
    student: StudentConfig = StudentConfig()
    events: EventsConfig = EventsConfig()
    store: StoreConfig = StoreConfig()
    refresh: RefreshConfig = RefreshConfig()
    api: ApiConfig = ApiConfig()
    workers: WorkersConfig = WorkersConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _unique_cameras(self) -> Config:
        seen: set[str] = set()
        for index, camera in enumerate(self.cameras):
            if camera.id in seen:
                raise _at(
                    ("cameras", index, "id"),
                    f"camera id {camera.id!r} is used twice; every camera needs an id of its own",
                )
            seen.add(camera.id)
        return self

    @model_validator(mode="after")
    def _token_unless_loopback(self) -> Config:
        if self.api.token is None and self.api.host not in {"127.0.0.1", "::1", "localhost"}:
            raise _at(
                ("api", "host"),
                f"{self.api.host!r} is reachable from outside, and api.token is not set; "
                "set api.token (for example ${STREAMKD_TOKEN}) or listen on 127.0.0.1",
            )
        return self


def _at(where: tuple[str | int, ...], message: str) -> ValidationError:
    """A check of the whole that fails at one key, so that this key's line is named."""
    kind = PydanticCustomError("contradiction", "{says}", {"says": message})
    return ValidationError.from_exception_data("Config", [InitErrorDetails(type=kind, loc=where, input=None)])


def redact_url(url: str) -> str:
    """The URL without its user, password and query; for logs, messages and answers.

    Works on the text, not on a parsed URL: a password with an unescaped `#`, `/` or `@` must not slip through.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    if "@" in rest:
        rest = f"{MASK}@{rest.rsplit('@', 1)[1]}"
    path, question, _ = rest.partition("?")
    return f"{scheme}{separator}{path}{f'?{MASK}' if question else ''}"


def expand_secrets(text: str, environ: dict[str, str], *, in_url: bool) -> str:
    """Replace `${NAME}` and `${file:/path}`; values put into a URL are percent-encoded.

    Raises:
        ConfigError: The variable or file does not exist.
    """

    def value(match: re.Match[str]) -> str:
        is_file, name = match.group(1), match.group(2)
        if is_file:
            try:
                found = Path(name).read_text(encoding="utf-8").splitlines()[0].strip()
            except (OSError, IndexError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"Secret file {name} can't be read: {error}.", hint="Create it, or fix the path."
                ) from error
        elif name in environ:
            found = environ[name]
        else:
            raise ConfigError(f"Variable {name} is not set.", hint=f"Export {name}, or write ${{file:/path}}.")
        return quote(found, safe="") if in_url else found

    return _SECRET.sub(value, text)


def load_config(path: Path | None, *, environ: dict[str, str] | None = None) -> Config:
    """Read and check the YAML file, with `STREAMKD_…` variables on top.

    Raises:
        ConfigError: The file can't be read or is wrong; the message names file, line and key.
    """
    variables = dict(os.environ) if environ is None else environ
    data: dict[str, Any] = {}
    lines: Lines = {}
    if path is not None:
        data, lines = read_yaml(path, "Configuration", example="cameras")
        # A section whose every line is commented out.
        data = {key: value for key, value in data.items() if value is not None or key not in Config.model_fields}
    _apply_environ(data, variables)
    _expand(data, variables)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise config_error(error, path, lines) from None


def config_error(error: ValidationError, path: Path | None = None, lines: Lines | None = None) -> ConfigError:
    """What is wrong with a configuration, with file, line and key as far as they are known."""
    hint = "Every key is described in docs/reference/config.md."
    return ConfigError(_describe(error, path, lines or {}), hint=hint)


def _apply_environ(data: dict[str, Any], environ: dict[str, str]) -> None:
    sections = set(Config.model_fields) - {"cameras"}
    for name, text in environ.items():
        section, _, key = name.removeprefix("STREAMKD_").lower().partition("__")
        if not name.startswith("STREAMKD_") or section not in sections:
            continue
        if not key:
            keys: list[str] = list(type(getattr(Config(), section)).model_fields)
            raise ConfigError(
                f"Variable {name} names a whole section, which holds several keys.",
                hint=f"Set one of them, as in {name}__{keys[0].upper()}.",
            )
        target = data.setdefault(section, {})
        if isinstance(target, dict):
            target[key] = text


def _expand(data: dict[str, Any], environ: dict[str, str]) -> None:
    cameras = data.get("cameras")
    for camera in cameras if isinstance(cameras, list) else ():
        for key in ("url", "clip_url") if isinstance(camera, dict) else ():
            if isinstance(camera.get(key), str):
                camera[key] = expand_secrets(camera[key], environ, in_url=True)
    for section, key in (("api", "token"), ("store", "url")):
        values = data.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str):
            values[key] = expand_secrets(values[key], environ, in_url=key == "url")


def _describe(error: ValidationError, path: Path | None, lines: Lines) -> str:
    rows = []
    for problem in error.errors(include_input=False, include_url=False):
        where = tuple(problem["loc"])
        known = next((where[:n] for n in range(len(where), -1, -1) if where[:n] in lines), ())
        place = (
            f"{path}, line {lines[known]}"
            if path is not None and known in lines
            else (str(path) if path else "settings")
        )
        key = ".".join(str(part) for part in where)
        rows.append(f"{place}: {key + ': ' if key else ''}{in_words(problem)}")
    return "; ".join(rows) + "."


__all__ = [
    "MASK",
    "SHIPPED",
    "ApiConfig",
    "CameraConfig",
    "CameraId",
    "Config",
    "EventsConfig",
    "LogConfig",
    "RefreshConfig",
    "StoreConfig",
    "StudentConfig",
    "WorkersConfig",
    "config_error",
    "expand_secrets",
    "load_config",
    "redact_url",
]

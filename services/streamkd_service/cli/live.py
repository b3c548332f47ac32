"""Commands around the running service: serve, demo, check, top, config check."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamkd_service.cli import EXIT_NEGATIVE
from streamkd_service.cli.options import ConfigOption, TokenOption, UrlOption


class Transport(StrEnum):
    """How RTSP brings its packets."""

    TCP = "tcp"
    UDP = "udp"


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Listen here instead of api.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Listen here instead of api.port.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Join this Ray cluster instead of a private session.")] = None,
) -> int:
    """Watch cameras and answer over HTTP until Ctrl-C."""
    from streamkd_service.service import serve as run
    from streamkd_service.settings import service_config

    return run(service_config(config, host=host, port=port, ray_address=ray_address))


def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="End by itself after so long.")] = None,
    clips: Annotated[Path | None, typer.Option(help="A folder with clips.csv instead of the demo's own.")] = None,
    rtsp_server: Annotated[Path | None, typer.Option(help="The RTSP server's script.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the API; 0: any free one.")] = 0,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Begin with a student that knows nothing: a refresh has to teach it.")
    ] = False,
) -> int:
    """Four live cameras on this machine, analysed, with a live table; Ctrl-C ends it."""
    from dataclasses import replace

    from streamkd_service.demo import DemoOptions, run_demo

    options = DemoOptions(seconds=seconds, port=port, cold_start=cold_start)
    if clips is not None:
        options = replace(options, clips=clips)
    if rtsp_server is not None:
        options = replace(options, rtsp_server=rtsp_server)
    return run_demo(options, Console())


def top(url: UrlOption = None, token: TokenOption = None) -> int:
    """A live table of a running service; events are printed as they happen."""
    from streamkd_service.client import ApiClient
    from streamkd_service.settings import client_settings
    from streamkd_service.top import LiveTable

    with ApiClient(*client_settings(url, token)) as client:
        client.get("/v1/cameras")  # one clear line now if nothing is there
        LiveTable(client, Console(), until=lambda: False).run()
    return 0


def check(
    url: Annotated[str, typer.Argument(help="rtsp://…, http://… or a file")],
    transport: Annotated[Transport, typer.Option(help="Of RTSP.")] = Transport.TCP,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds for opening and for reading.")] = 5.0,
) -> int:
    """Connect to a camera, decode its first frames and say what was found."""
    from streamkd.errors import SourceError
    from streamkd.media.check import probe_camera

    try:
        print(probe_camera(url, transport=transport.value, timeout_s=timeout))
    except SourceError as error:
        print(f"no video: {error}", file=sys.stderr)
        return EXIT_NEGATIVE
    return 0


def config_check(path: Annotated[Path, typer.Argument(help="The YAML file")]) -> int:
    """Check a configuration file and print it with every default, secrets masked."""
    import yaml

    from streamkd_service.settings import service_config

    config = service_config(path)
    shown = config.model_dump(mode="json") | {"cameras": [camera.shown() for camera in config.cameras]}
    print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), end="")
    return 0


def config_reference() -> None:
    """Every key of the configuration file with its type, default and meaning; docs/reference/config.md is this."""
    from streamkd.config_reference import render_reference

    print(render_reference(), end="")

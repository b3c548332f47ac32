"""Options that several commands have, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path, typer.Option("--data", help="Folder with clips.csv (file,label[,source,start,end]) or one folder per label.")
]
ExcludeOption = Annotated[
    list[Path] | None, typer.Option("--exclude", help="A clips.csv whose clips must not be used (by file hash).")
]
BackgroundOption = Annotated[str, typer.Option(help="The label that opens no event.")]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Where decoded frames are kept. [~/.cache/streamkd]")]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
ModelOption = Annotated[str, typer.Option("--model", help="'shipped', a version, or the folder of a bundle.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="A small version of everything.")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Put the result's section into this document.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The YAML file; without it, defaults.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Of the running service; STREAMKD_URL.")]
TokenOption = Annotated[str | None, typer.Option("--token", help="Its bearer token; better in STREAMKD_TOKEN.")]

__all__ = [
    "BackgroundOption",
    "CacheOption",
    "ConfigOption",
    "DataOption",
    "ExcludeOption",
    "JsonOption",
    "ModelOption",
    "QuickOption",
    "ReportOption",
    "SeedOption",
    "TokenOption",
    "UrlOption",
]

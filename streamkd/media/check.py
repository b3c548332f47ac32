"""`streamkd check`: connect to a camera, look at it for some seconds, and say what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from streamkd.clock import Clock, SystemClock
from streamkd.config import CameraConfig
from streamkd.errors import InputError, SourceError
from streamkd.media.convert import to_grey
from streamkd.media.liveness import detail, is_black
from streamkd.media.source import DecodedFrame, SourceInfo, open_camera
from streamkd.media.timestamps import TimestampRepair
from streamkd.types import FailureReason

if TYPE_CHECKING:
    from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a camera is and does; `str` is the report for people.

    Attributes:
        info: What it says about itself.
        first_frame_s: From the first byte sent to it until the first decoded frame.
        frames: Decoded while it was watched.
        measured_fps: By their PTS; 0 if it can't be told.
        gop_frames: Longest distance between keyframes; None if fewer than two were seen.
        corrupt: Frames lost or damaged.
        missing_pts: Frames without a PTS.
        repaired_pts: Frames whose PTS repeated or went back a little.
        segments: Stretches without a gap or jump; 1 is what it should be.
        brightness: Mean grey level of the last picture, 0 to 255.
        remarks: What may go wrong, and what to do about it.
    """

    info: SourceInfo
    first_frame_s: float
    frames: int
    measured_fps: float
    gop_frames: int | None
    corrupt: int
    missing_pts: int
    repaired_pts: int
    segments: int
    brightness: float
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        info = self.info
        transport = f" over {info.transport}" if info.transport else ""
        gop = f"{self.gop_frames} frames" if self.gop_frames is not None else "longer than the look"
        lines = [
            f"{info.shown}: a picture after {self.first_frame_s:.2f} s",
            f"  stream      {info.format}{transport}, {info.codec}, {info.width}x{info.height}",
            f"  rate        {self.measured_fps:.1f} frames/s measured, {info.fps:.1f} announced",
            f"  keyframes   {gop}",
            f"  brightness  {self.brightness:.0f} of 255",
            f"  frames      {self.frames} decoded, {self.corrupt} damaged",
            *(f"  note        {remark}" for remark in self.remarks),
        ]
        return "\n".join(lines)


def probe_camera(
    camera: CameraConfig | str,
    *,
    transport: str = "tcp",
    timeout_s: float = 5.0,
    seconds: float = 3.0,
    clock: Clock | None = None,
) -> CheckReport:
    """Open a camera, decode it for some seconds, and report.

    Args:
        camera: Its configuration, or only its URL.
        transport: For a URL: "tcp" or "udp".
        timeout_s: For a URL: of opening and of reading.
        seconds: How long to look, from the first frame on.
        clock: Time.

    Raises:
        InputError: The URL is not one that a camera can have.
        SourceError: It can't be opened or read; `reason` says which kind of failure it is.
    """
    config = camera if isinstance(camera, CameraConfig) else _config(camera, transport, timeout_s)
    clock = clock or SystemClock()
    began_s = clock.monotonic_s()
    look = _Look(seconds)
    with open_camera(config, clock) as source:
        for decoded in source.frames():
            look.add(decoded, clock.monotonic_s())
            if look.over:
                break
        info, stats = source.info, source.stats
    if look.first_s is None or look.grey is None:
        raise SourceError(
            f"{info.shown} was opened, but gave no picture.",
            hint="Check that it plays in a video player.",
            reason=FailureReason.CORRUPT if stats.packets else FailureReason.ENDED,
        )
    report = CheckReport(
        info=info,
        first_frame_s=look.first_s - began_s,
        frames=stats.frames,
        measured_fps=_rate(look.times),
        gop_frames=max((after - at for at, after in pairwise(stats.keyframe_at)), default=None),
        corrupt=stats.corrupt,
        missing_pts=stats.missing_pts,
        repaired_pts=look.repaired,
        segments=look.times[-1][0] + 1,
        brightness=float(look.grey.mean()),
        remarks=(),
    )
    return _with_remarks(report, look.grey)


class _Look:
    """What is seen of a stream within some seconds from its first frame on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._repair = TimestampRepair()
        self._raw_before: float | None = None
        self.first_s: float | None = None  # when the first frame came
        self.times: list[tuple[int, float]] = []  # segment and repaired PTS of every frame
        self.repaired = 0  # frames whose PTS was not above the one before
        self.grey: UInt8Array | None = None  # of the last frame, or of one shortly before it
        self.over = False

    def add(self, decoded: DecodedFrame, now_s: float) -> None:
        self.first_s = now_s if self.first_s is None else self.first_s
        self.over = now_s - self.first_s >= self._seconds
        stamp = self._repair.repair(decoded.raw_pts_s)
        before, self._raw_before = self._raw_before, decoded.raw_pts_s
        self.repaired += decoded.raw_pts_s is not None and before is not None and decoded.raw_pts_s <= before
        self.times.append((stamp.segment, stamp.pts_s))
        if self.grey is None or self.over or len(self.times) % 50 == 0:
            self.grey = to_grey(decoded.frame)


def _config(url: str, transport: str, timeout_s: float) -> CameraConfig:
    try:
        return CameraConfig.model_validate(
            {
                "id": "check",
                "url": SecretStr(url),
                "transport": transport,
                "open_timeout_s": timeout_s,
                "read_timeout_s": timeout_s,
            }
        )
    except ValidationError as error:
        why = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors(include_input=False))
        raise InputError(f"This can't be a camera: {why}.", hint="Give rtsp://user:password@address/path.") from None


def _rate(times: list[tuple[int, float]]) -> float:
    """Frames a second within the last segment."""
    last = [pts_s for segment, pts_s in times if segment == times[-1][0]]
    return (len(last) - 1) / last[-1] if len(last) > 1 else 0.0


def _with_remarks(report: CheckReport, grey: UInt8Array) -> CheckReport:
    remarks = []
    if report.measured_fps and report.measured_fps < 5:
        remarks.append("fewer than 5 frames/s: raise the camera's frame rate, or actions are seen late")
    if report.gop_frames and report.measured_fps and report.gop_frames / report.measured_fps > 4:
        remarks.append("keyframes are more than 4 s apart: set 1 to 2 s, or every connection begins late")
    if report.corrupt:
        remarks.append("frames are lost or damaged: use transport tcp, lower the bitrate, check the network")
    if report.missing_pts > 1 or report.repaired_pts or report.segments > 1:
        remarks.append(
            f"its clock is unsteady ({report.missing_pts} times missing, {report.repaired_pts} repeated, "
            f"{report.segments - 1} jumps): these are repaired, every jump starts the student afresh"
        )
    if is_black(grey, 24.0):
        remarks.append("the picture is black")
    elif detail(grey) < 1.0:
        remarks.append("the picture shows no detail: is the lens covered or out of focus?")
    return replace(report, remarks=tuple(remarks))


__all__ = ["CheckReport", "probe_camera"]

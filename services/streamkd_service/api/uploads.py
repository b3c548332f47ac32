"""A multipart upload, written to a temporary file as it arrives and stopped at the limit; never whole in memory."""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from streamkd.errors import InputError, TooLargeError, UnsupportedMediaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

FIELD = "file"
_MB = 1_000_000
_OVERHEAD_BYTES = 64_000  # boundaries, part headers and small other fields around the file
_HEADER_BYTES = 4_096
_FLUSH_BYTES = 256_000
_HEAD_BYTES = 189  # two sync bytes of a transport stream are 188 apart
_HINT = "Send one video file as multipart/form-data, in the field 'file': curl -F file=@clip.mp4 …/v1/infer"
_ODD = re.compile(r"[^\w.\- ]")


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete upload; the file is gone when the context ends."""

    path: Path
    filename: str  # for people: no folders, no odd characters
    size_bytes: int


@contextlib.asynccontextmanager
async def received_file(request: Request, max_mb: int) -> AsyncIterator[Upload]:
    """Receive the part named `file` into a temporary file.

    Args:
        request: With a body that nobody has read yet.
        max_mb: Largest file, in millions of bytes.

    Raises:
        UnsupportedMediaError: The request is not a form, the file is empty, or its first bytes are no video's.
        TooLargeError: The file, or the whole body, is over the limit.
        InputError: The form is broken or cut short, or has no such part.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    limit_bytes = max_mb * _MB
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit_bytes + _OVERHEAD_BYTES:
        raise _too_large(max_mb)
    with tempfile.TemporaryDirectory(prefix="streamkd-upload-") as folder:
        path = Path(folder) / "upload"
        with path.open("wb") as file:
            form = _Form(boundary, file, limit_bytes, max_mb)
            async for chunk in request.stream():
                await form.feed(chunk)
            await form.finish()
        _check_kind(path, form.filename)
        yield Upload(path, form.filename, form.size_bytes)


class _Form:
    """Callbacks of the multipart parser: keeps the file's bytes, ignores every other part."""

    def __init__(self, boundary: bytes, file: IO[bytes], limit_bytes: int, max_mb: int) -> None:
        self.filename = ""
        self.size_bytes = 0
        self._file = file
        self._limit_bytes = limit_bytes
        self._max_mb = max_mb
        self._total_bytes = 0
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._in_file = False
        self._found = False
        self._complete = False
        self._buffer = bytearray()
        callbacks: Any = {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    async def feed(self, chunk: bytes) -> None:
        self._total_bytes += len(chunk)
        if self._total_bytes > self._limit_bytes + _OVERHEAD_BYTES:
            raise _too_large(self._max_mb)
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise InputError("The upload is not a valid multipart form.", hint=_HINT) from error
        if self.size_bytes > self._limit_bytes:
            raise _too_large(self._max_mb)
        if len(self._buffer) >= _FLUSH_BYTES:
            await self._flush()

    async def finish(self) -> None:
        await self._flush()
        if not self._complete:
            raise InputError("The upload was cut short: the form has no end.", hint="Send it again.")
        if not self._found:
            raise InputError("The form has no file in the field 'file'.", hint=_HINT)

    async def _flush(self) -> None:
        block, self._buffer = self._buffer, bytearray()
        await run_in_threadpool(self._file.write, block)

    def _add(self, which: int, piece: bytes) -> None:
        self._header[which] += piece
        if len(self._header[which]) > _HEADER_BYTES:
            raise InputError("The upload is not a valid multipart form: a header has no end.", hint=_HINT)

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._in_file = options.get(b"name") == FIELD.encode() and not self._found
        if self._in_file:
            self._found = True
            self.filename = plain_name(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.size_bytes += end - start
            self._buffer += data[start:end]

    def _part_end(self) -> None:
        self._in_file = False

    def _end(self) -> None:
        self._complete = True


def plain_name(given: str) -> str:
    """The last part of a file name, without anything that a terminal or a path could mistake for something else."""
    name = PurePosixPath(given.replace("\\", "/")).name
    return _ODD.sub("_", name).strip(". ")[:80] or "upload"


def looks_like_video(head: bytes) -> bool:
    """Whether a file's first bytes are those of a container that `streamkd.media.recording.decode_upload` takes.

    A whitelist: a playlist, which could make the decoder open other addresses, is text and never matches.
    """
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}:  # ISO media, QuickTime
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    matroska = head.startswith(b"\x1aE\xdf\xa3")  # WebM too
    transport_stream = head[:1] == b"G" and head[188:189] == b"G"
    return matroska or transport_stream


def _check_kind(path: Path, filename: str) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise UnsupportedMediaError(f"The upload {filename} is empty.", hint="Check the file, then send it again.")
    if not looks_like_video(head):
        raise UnsupportedMediaError(
            f"The upload {filename} is not a video: its first bytes are those of no container that is known here.",
            hint="Send MP4, MOV, MKV, WebM, AVI or MPEG-TS.",
        )


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedMediaError(f"The request is not a form with a file, but {_kind(kind)}.", hint=_HINT)
    return options[b"boundary"]


def _kind(kind: bytes) -> str:
    return _ODD.sub("_", kind.decode("latin-1").replace("/", "-"))[:60] or "of no stated type"


def _too_large(max_mb: int) -> TooLargeError:
    return TooLargeError(
        f"The upload is larger than {max_mb} MB.", hint="Cut the clip, or raise api.max_upload_mb in the configuration."
    )


__all__ = ["FIELD", "Upload", "looks_like_video", "plain_name", "received_file"]

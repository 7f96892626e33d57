"""Files as they are sent: whole, in part, or not again; as an open file, in pieces, or by the server in front.

Validators and ranges are those of RFC 9110 sections 13 and 14.
"""

from __future__ import annotations

import email.utils
import errno
import functools
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from .. import disk, observe
from ..config.values import Sendfile
from ..errors import Missing, PypiServerLiteError
from ..model import HandOver, LocalFile, Stream
from .answers import Answer, Headers, matches, unchanged_headers

_log = logging.getLogger(__name__)

_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a date field can tell
_AT_ONCE = 64 * 1024  # bytes: reading a short file costs less than having it sent
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE | re.ASCII)
_LONGEST_RANGE = 200  # characters; the pattern is quadratic in spaces

_TYPES = {
    ".whl": "application/zip",
    ".zip": "application/zip",
    ".egg": "application/zip",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".asc": "application/pgp-signature",
    ".metadata": "text/plain; charset=utf-8",
    ".provenance": "application/json",
}


@functools.lru_cache(maxsize=4096)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)


def _seconds(header: str | None) -> float | None:
    """The moment a date field names, or ``None`` if it is no date."""
    try:
        return email.utils.parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def unmodified(environ: Mapping[str, str], etag: str, modified: int | None) -> bool:
    """Whether the client's copy is current.

    If-None-Match decides, If-Modified-Since only without it (RFC 9110 section 13.2.2).
    """
    tags = environ.get("HTTP_IF_NONE_MATCH")
    if tags is not None:
        return matches(tags, etag)
    since = _seconds(environ.get("HTTP_IF_MODIFIED_SINCE"))
    return since is not None and modified is not None and modified <= since


def wanted_range(environ: Mapping[str, str], size: int, etag: str, modified: int | None) -> tuple[int, int] | bool:
    """The half-open range of bytes a GET asks for.

    False: everything (no range, an unknown unit, a malformed, multiple or
    long one, or an If-Range that does not hold). True: a range that cannot be
    satisfied (RFC 9110 section 14).
    """
    header = environ.get("HTTP_RANGE")
    if not header or len(header) > _LONGEST_RANGE or environ["REQUEST_METHOD"] != "GET":
        return False
    condition = environ.get("HTTP_IF_RANGE")
    if condition is not None and condition.strip() != etag:
        # An exact date is as good as a tag; a weak tag or a later date is not.
        moment = None if '"' in condition else _seconds(condition)
        if moment is None or modified is None or moment != modified:
            return False
    match = _RANGE.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        return False
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else True
    if last and int(last) < int(first):
        return False
    if int(first) >= size:
        return True
    return int(first), min(int(last) + 1, size) if last else size


def content_type(filename: str) -> str:
    """The media type of a file by its ending; never one that a browser would run (STANDARDS F3, F4)."""
    return _TYPES.get(os.path.splitext(filename)[1].lower(), "application/octet-stream")


def stream(environ: Mapping[str, Any], content: Stream, *, filename: str, cache_control: str) -> Answer:
    """Content that comes in pieces, whole or the range asked for; whole too where that would be long in coming.

    Who looks for the metadata at the end of a wheel then reads all of it (uv), and gives up where nothing comes.
    """
    etag = f'"{content.tag}"' if content.tag else ""
    modified = int(content.modified.timestamp()) if content.modified else None
    headers = _file_headers(filename, etag, modified, cache_control)

    def body(start: int, stop: int | None) -> Iterable[bytes]:
        return _pieces(environ, content, start, stop)

    return _answer(environ, headers, content.size, etag, modified, body, content.soon)


def _answer(
    environ: Mapping[str, Any],
    headers: Headers,
    size: int | None,
    etag: str,
    modified: int | None,
    body: Callable[[int, int | None], bytes | BinaryIO | Iterable[bytes]],
    soon: Callable[[int], bool] | None = None,
) -> Answer:
    """304 if the client's copy is current, else what was asked for, from `body` in a half-open range, but for HEAD.

    ``None`` as the end of that is the end of the file.
    """
    if etag and unmodified(environ, etag, modified):
        return Answer(status="304 Not Modified", headers=unchanged_headers(headers))
    wanted = size is not None and wanted_range(environ, size, etag, modified)
    if wanted is True:
        return _unsatisfiable(size or 0)
    part, head = wanted or None, environ["REQUEST_METHOD"] == "HEAD"
    if soon is not None and size is not None and (part or head) and not soon(part[0] if part else size):
        part = None
    elif size is not None:
        headers.append(("Accept-Ranges", "bytes"))
    start, stop = part or (0, None)
    if size is not None:
        headers.append(("Content-Length", str((size if stop is None else stop) - start)))
    if part:
        headers.append(("Content-Range", f"bytes {start}-{part[1] - 1}/{size}"))
    status = "206 Partial Content" if part else "200 OK"
    return Answer(status, headers, b"" if head else body(start, stop))


def _pieces(environ: Mapping[str, Any], content: Stream, start: int, stop: int | None) -> Iterable[bytes]:
    hand_over: HandOver | None = environ.get("pypiserver_lite.hand_over")
    if hand_over is None or content.read_or_hand is None:
        pieces = iter(content.read(start, stop))
    else:
        pieces = iter(content.read_or_hand(start, stop, hand_over))
    # What fails before the first byte still gets a status of its own.
    return _sent(next(pieces, b""), pieces)


def _sent(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces. Raises ConnectionResetError, which servers take for the end of a connection and no fault of ours."""
    yield first
    try:
        yield from pieces
    except PypiServerLiteError as error:
        _log.error("broke off an answer: %s", observe.clean(error))
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


def local_file(environ: Mapping[str, str], content: LocalFile, *, filename: str, cache_control: str) -> Answer:
    """A file on disk, whole or the range asked for, as an open file that the server can send by itself.

    Raises Missing if it vanished or is no regular file any more, DiskFailed
    if it cannot be read.
    """
    try:
        handle = os.open(content.path, disk.READ)
    except OSError as error:
        if error.errno in disk.GONE:
            raise Missing(f"{filename} is not here any more") from error
        raise disk.unreadable(error) from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Missing(f"{filename} is not here any more")
        answer = _local_answer(environ, handle, facts, content.tag, filename, cache_control)
    except OSError as error:
        os.close(handle)
        raise disk.unreadable(error) from error
    except BaseException:
        os.close(handle)
        raise
    if not hasattr(answer.body, "read"):
        os.close(handle)
    return answer


def _local_answer(
    environ: Mapping[str, str],
    handle: int,
    facts: os.stat_result,
    tag: str | None,
    filename: str,
    cache_control: str,
) -> Answer:
    size, modified = facts.st_size, max(0, min(int(facts.st_mtime), _LAST_SECOND))
    etag = f'"{tag}"' if tag else f'"{facts.st_mtime_ns:x}-{size:x}-{facts.st_ino:x}"'
    headers = _file_headers(filename, etag, modified, cache_control)
    return _answer(environ, headers, size, etag, modified, lambda *part: _piece(handle, size, *part))


def _piece(handle: int, size: int, start: int, stop: int | None) -> bytes | BinaryIO | Slice:
    length = (size if stop is None else stop) - start
    if length <= _AT_ONCE:
        # Few calls of the system: each lets other threads in, and costs more in waiting for them than by itself.
        if start:
            os.lseek(handle, start, os.SEEK_SET)
        data = os.read(handle, length)
        if len(data) == length:
            return data
        os.lseek(handle, 0, os.SEEK_SET)
    # Whoever sends a file that has become too short notices it, and breaks the connection.
    file = open(handle, "rb", buffering=0)  # noqa: SIM115 - the server closes it once it is sent
    return file if length == size else Slice(file, start, start + length)


def handed_over(rule: Sendfile, content: LocalFile, *, filename: str, cache_control: str) -> Answer | None:
    """An answer that tells the web server in front to send the file; ``None`` if `rule` does not reach it.

    Validators, ranges and lengths are then that server's business: it has
    the file, and drops or overrules what we would say of it.
    """
    target = _called_in_front(rule, content.path)
    if target is None:
        return None
    headers = [
        *_file_headers(filename, "", None, cache_control),
        # nginx and Apache's mod_xsendfile decode it; so no name can end the header or begin a query.
        (rule.header, quote(os.fsencode(target), safe="/+!~:")),
        ("Content-Length", "0"),
    ]
    return Answer(status="200 OK", headers=headers)


def _called_in_front(rule: Sendfile, path: Path) -> str | None:
    if not rule.mappings:
        return str(path)
    for prefix, folder in rule.mappings:
        if path.is_relative_to(folder):
            return f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}"
    return None


def _file_headers(filename: str, etag: str, modified: int | None, cache_control: str) -> Headers:
    headers = [
        ("Content-Type", content_type(filename)),
        ("Cache-Control", cache_control),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if etag:
        headers.append(("ETag", etag))
    if modified is not None:
        headers.append(("Last-Modified", _date(modified)))
    return headers


def _unsatisfiable(size: int) -> Answer:
    text = f"the file has {size} bytes; the range lies outside\n".encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Range", f"bytes */{size}"),
        ("Content-Length", str(len(text))),
    ]
    return Answer(status="416 Range Not Satisfiable", headers=headers, body=text)


class Slice:
    """A part of an open file that looks like a file of its own, so that every server's file wrapper sends just that."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._start = start
        self._stop = stop
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that is left of the part."""
        left = self._stop - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left)) if left > 0 else b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the part, as a file does."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._stop}[whence]
        return self._file.seek(base + offset) - self._start

    def tell(self) -> int:
        """Where in the part the next byte comes from."""
        return self._file.tell() - self._start

    def close(self) -> None:
        """Close the file the part belongs to."""
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(1 << 16):
            yield block

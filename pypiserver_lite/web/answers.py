"""Answers over HTTP: validators, ranges, compression, caching headers and refusals, decided here and nowhere else.

Follows RFC 9110 (conditional requests, ranges) and RFC 9111 (caching).
"""

from __future__ import annotations

import email.utils
import errno
import functools
import gzip
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from .. import disk, observe
from ..config.values import Sendfile
from ..errors import (
    Busy,
    Conflict,
    Denied,
    DiskFailed,
    Invalid,
    Late,
    Loop,
    Missing,
    NoSpace,
    NotAcceptable,
    PypiServerLiteError,
    ReadOnly,
    TooLarge,
    TooMany,
    Unavailable,
)
from ..model import HandOver, LocalFile, Stream

Headers = list[tuple[str, str]]
More = tuple[tuple[str, str], ...]
_log = logging.getLogger(__name__)

_AT_ONCE = 64 * 1024  # bytes: reading a short file costs less than having it sent
_GZIP_FROM = 1000  # bytes; below, a packet is a packet


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


class Answer(NamedTuple):
    """A status line, headers and a body: bytes, an open file to be sent from where it stands, or pieces."""

    status: str
    headers: Headers
    body: bytes | BinaryIO | Iterable[bytes] = b""


class Page:
    """A rendered page, ready to be sent in any encoding.

    The ETag is a digest of the bytes; the compressed form has its own, since
    a strong validator names one sequence of bytes (RFC 9110 section 8.8.3).
    """

    __slots__ = ("_common", "_digest", "_packed", "plain")

    def __init__(
        self, body: bytes, content_type: str, *, cache_control: str, vary: str, more: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._digest = hashlib.sha256(body).hexdigest()[:32]
        self._common = _common(content_type, cache_control, vary, tuple(more))
        self._packed: Ready | None = None
        self.plain = Ready([*self._common, ("ETag", f'"{self._digest}"')], body)

    @property
    def weight(self) -> int:
        """Bytes this page takes in memory, nearly."""
        return len(self.plain.body) * 2 + 2000

    def answer(self, environ: Mapping[str, Any], more: More = ()) -> Answer:
        """The page in the encoding this client likes, or 304; `more` as `Ready.answer` has it."""
        ready = self.encoded(environ.get("HTTP_ACCEPT_ENCODING", ""))
        return ready.answer(environ.get("HTTP_IF_NONE_MATCH"), more)

    def encoded(self, accept_encoding: str) -> Ready:
        """The page in the form this client understands best; compressed when first asked for."""
        # Clients send one of a few headers; a long one is no client's, and not worth keeping.
        accepts = _accepts_gzip if len(accept_encoding) <= 200 else accepts_gzip
        if len(self.plain.body) < _GZIP_FROM or not accepts(accept_encoding):
            return self.plain
        if self._packed is None:
            # mtime=0: the same page has the same bytes, in every process.
            packed = gzip.compress(self.plain.body, 6, mtime=0)
            headers = [*self._common, ("Content-Encoding", "gzip"), ("ETag", f'"{self._digest}-gzip"')]
            self._packed = Ready(headers, packed)
        return self._packed


@functools.lru_cache(maxsize=256)
def _common(content_type: str, cache_control: str, vary: str, more: tuple[tuple[str, str], ...]) -> Headers:
    """The headers that a page shares with others: the same objects, so that answering any page finds them at hand."""
    fixed = [("Content-Type", content_type), ("Cache-Control", cache_control), ("Vary", vary)]
    return [*fixed, ("X-Content-Type-Options", "nosniff"), *(more or _policy(content_type))]


def _policy(content_type: str) -> Headers:
    """What a browser may do with a page that is nothing but links: follow them."""
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return [("Content-Security-Policy", nothing)] if "html" in content_type else []


class Ready:
    """One encoding of a page with its headers, so complete that answering is a comparison."""

    __slots__ = ("_headers", "_made", "body", "etag")

    def __init__(self, headers: Headers, body: bytes) -> None:
        self._headers, self.body = headers, body
        self.etag = dict(headers)["ETag"]
        self._made = self._make(())

    def answer(self, if_none_match: str | None, more: More = ()) -> Answer:
        """200 with the bytes, or 304 if `if_none_match` names them.

        `more` headers are true of this moment; the answers with them are kept for who comes with the very same object.
        """
        made = self._made
        if made[0] is not more:
            made = self._made = self._make(more)
        if if_none_match is not None and (if_none_match == self.etag or matches(if_none_match, self.etag)):
            return made[2]
        return made[1]

    def _make(self, more: More) -> tuple[More, Answer, Answer]:
        headers = [*self._headers, ("Content-Length", str(len(self.body))), *more]
        whole = Answer(status="200 OK", headers=headers, body=self.body)
        return more, whole, Answer(status="304 Not Modified", headers=[*_kept(self._headers), *more])


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client understands gzip (RFC 9110 section 12.5.3)."""
    if "gzip" not in accept_encoding:
        return False
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters) is None
    return False


_accepts_gzip = functools.lru_cache(maxsize=256)(accepts_gzip)


def matches(header: str, etag: str) -> bool:
    """Whether an If-None-Match field names `etag`, compared weakly (RFC 9110 section 13.1.2)."""
    if header.strip() == "*":
        return True
    tags = re.findall(r'(?:W/)?("[^"]*")', header[:4000])
    return etag.removeprefix("W/") in tags


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

    False: everything (no range, an unknown unit, a malformed or multiple
    one, or an If-Range that does not hold). True: a range that cannot be
    satisfied (RFC 9110 section 14).
    """
    header = environ.get("HTTP_RANGE")
    if not header or environ["REQUEST_METHOD"] != "GET":
        return False
    condition = environ.get("HTTP_IF_RANGE")
    if condition is not None and condition.strip() != etag:
        # An exact date is as good as a tag; a weak tag or a later date is not.
        moment = None if '"' in condition else _seconds(condition)
        if moment is None or modified is None or moment != modified:
            return False
    match = re.fullmatch(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", header, re.IGNORECASE | re.ASCII)
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
    """Content that comes in pieces, whole or the range asked for."""
    etag = f'"{content.tag}"' if content.tag else ""
    modified = int(content.modified.timestamp()) if content.modified else None
    headers = _file_headers(filename, etag, modified, cache_control, ranges=content.size is not None)
    if etag and unmodified(environ, etag, modified):
        return Answer(status="304 Not Modified", headers=_kept(headers))
    if content.size is None:
        return Answer(status="200 OK", headers=headers, body=_unless_head(environ, content, 0, None))
    part = wanted_range(environ, content.size, etag, modified)
    if part is True:
        return _unsatisfiable(content.size)
    start, stop = part or (0, content.size)
    headers.append(("Content-Length", str(stop - start)))
    if part:
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{content.size}"))
    status = "206 Partial Content" if part else "200 OK"
    return Answer(status=status, headers=headers, body=_unless_head(environ, content, start, stop if part else None))


def _unless_head(environ: Mapping[str, Any], content: Stream, start: int, stop: int | None) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "HEAD":
        return ()
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
    except BaseException:
        os.close(handle)
        raise
    if not hasattr(answer.body, "read"):
        os.close(handle)
    return answer


def handed_over(rule: Sendfile, content: LocalFile, *, filename: str, cache_control: str) -> Answer | None:
    """An answer that tells the web server in front to send the file; ``None`` if `rule` does not reach it.

    Validators, ranges and lengths are then that server's business: it has
    the file, and drops or overrules what we would say of it.
    """
    target = _called_in_front(rule, content.path)
    if target is None:
        return None
    headers = [
        *_file_headers(filename, "", None, cache_control, ranges=False),
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


def _local_answer(
    environ: Mapping[str, str],
    handle: int,
    facts: os.stat_result,
    tag: str | None,
    filename: str,
    cache_control: str,
) -> Answer:
    size, modified = facts.st_size, max(int(facts.st_mtime), 0)
    etag = f'"{tag}"' if tag else f'"{facts.st_mtime_ns:x}-{size:x}-{facts.st_ino:x}"'
    headers = _file_headers(filename, etag, modified, cache_control, ranges=True)
    if unmodified(environ, etag, modified):
        return Answer(status="304 Not Modified", headers=_kept(headers))
    part = wanted_range(environ, size, etag, modified)
    if part is True:
        return _unsatisfiable(size)
    start, stop = part or (0, size)
    headers.append(("Content-Length", str(stop - start)))
    if part:
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else _piece(handle, start, stop, size)
    return Answer(status="206 Partial Content" if part else "200 OK", headers=headers, body=body)


def _piece(handle: int, start: int, stop: int, size: int) -> bytes | BinaryIO | Slice:
    if stop - start <= _AT_ONCE:
        # Few calls of the system: each lets other threads in, and costs more in waiting for them than by itself.
        if start:
            os.lseek(handle, start, os.SEEK_SET)
        data = os.read(handle, stop - start)
        if len(data) == stop - start:
            return data
        os.lseek(handle, 0, os.SEEK_SET)
    # Whoever sends a file that has become too short notices it, and breaks the connection.
    file = open(handle, "rb", buffering=0)  # noqa: SIM115 - the server closes it once it is sent
    return file if stop - start == size else Slice(file, start, stop)


def _file_headers(filename: str, etag: str, modified: int | None, cache_control: str, *, ranges: bool) -> Headers:
    headers = [
        ("Content-Type", content_type(filename)),
        ("Cache-Control", cache_control),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if ranges:
        headers.append(("Accept-Ranges", "bytes"))
    if etag:
        headers.append(("ETag", etag))
    if modified is not None:
        headers.append(("Last-Modified", _date(modified)))
    return headers


def _kept(headers: Headers) -> Headers:
    """Of the headers of a 200, those that a 304 repeats (RFC 9110 section 15.4.5)."""
    return [header for header in headers if header[0] in ("ETag", "Vary", "Cache-Control")]


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


def reason(text: str) -> str:
    """A text as a reason phrase: one line of printable ASCII, at most 150 characters (RFC 9112 section 4)."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:150] or "Refused"


def prefers_html(accept: str) -> bool:
    """Whether it is a browser that asks: it names HTML first, and other things after it.

    Old installers ask for HTML too, but for nothing else; they want short plain words when something is wrong.
    """
    first, _, rest = accept.partition(",")
    return first.strip().lower() == "text/html" and bool(rest)


STATUS: Mapping[type[PypiServerLiteError], int] = {
    Invalid: 400,
    TooLarge: 413,
    NotAcceptable: 406,
    Missing: 404,
    Conflict: 409,
    Denied: 403,
    TooMany: 429,
    Unavailable: 502,
    Late: 504,
    Busy: 503,
    ReadOnly: 503,
    DiskFailed: 503,
    NoSpace: 507,
    Loop: 508,
    PypiServerLiteError: 500,
}

REALM = "pypiserver-lite"
"""What ``WWW-Authenticate`` calls this server (RFC 7617)."""

_PHRASES = {301: "Moved Permanently", 302: "Found"}


def content(body: bytes, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """A body that is made for each request."""
    common = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Answer(status="200 OK", headers=[*common, *headers], body=body)


def text(words: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """A line of plain text."""
    return content((words + "\n").encode("utf-8", "replace"), "text/plain; charset=utf-8", headers)


def as_json(value: object) -> Answer:
    """A value as JSON."""
    return content(json.dumps(value).encode(), "application/json")


def redirect(address: str, code: int) -> Answer:
    """Elsewhere: 301 for good, 302 for now. `address` is relative where it is ours."""
    answer = text(f"see {address}", [("Location", address)])
    return Answer(status=f"{code} {_PHRASES[code]}", headers=answer.headers, body=answer.body)


def refusal(error: PypiServerLiteError) -> Answer:
    """The answer that says what is wrong and what to do: plain text, and in short the reason phrase.

    twine shows only the reason phrase, flit only plain text.
    """
    code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers: Headers = []
    if isinstance(error, Denied) and error.challenge:
        code = 401
        headers.append(("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"'))
    if isinstance(error, (TooMany, Busy)):
        headers.append(("Retry-After", str(error.retry_after if isinstance(error, TooMany) else 1)))
    if isinstance(error, NotAcceptable):
        headers.append(("Vary", "Accept, Accept-Encoding"))
    answer = text(str(error), headers)
    return Answer(status=f"{code} {reason(str(error))}", headers=answer.headers, body=answer.body)

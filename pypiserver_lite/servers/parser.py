"""One HTTP/1 request as it arrives (RFC 9112), read strictly.

A message that two readers could understand differently is refused, for the
second reader may be a proxy in front of us: lengths given twice or in two
ways, odd spellings of numbers, folded lines, bare line ends. Every part is
bounded, and reading costs time linear in what was sent.
"""

from __future__ import annotations

import errno
import functools
import io
import re
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import unquote_to_bytes, urlsplit

MAX_TARGET = 8192
"""Bytes of a request target; no client of an index comes near."""
MAX_FIELDS = 200
"""Header lines; a browser behind two proxies sends about thirty."""
MAX_CONTROL = 4096
"""Bytes of a chunk's size line or of a trailer line."""
SPOOL_IN_MEMORY = 512 * 1024
"""Bytes of a body kept in memory; a longer one goes to a file in TMPDIR."""

_USUAL_NAME = 64
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]{1,32}")
_HARMLESS = bytes({*range(0x20, 0x100), *b"\t\r\n"} - {0x7F})
_NO_HOST = re.compile(r"[\s,/@\\?#<>\"]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE = re.compile(r"https?://[^/?#]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer of the server itself, instead of one of the application."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def plain(code: int, text: str) -> Answer:
    """An answer in ``text/plain`` with one sentence for the person at the other end."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Answer(f"{code} {HTTPStatus(code).phrase}", headers, f"{text}\n".encode())


class Refused(Exception):
    """The request cannot be read on; `answer` is what the client is told before the connection closes."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.answer = plain(code, text)


class Spool:
    """A body that waits for its end: in memory while short, then in an unnamed file in TMPDIR."""

    def __init__(self) -> None:
        self.size = 0
        self._memory: io.BytesIO | None = io.BytesIO()
        self._file: IO[bytes] = self._memory

    def write(self, data: bytes) -> None:
        """Append. Raises OSError when TMPDIR cannot take it."""
        self.size += len(data)
        if self._memory is not None and self.size > SPOOL_IN_MEMORY:
            self._file = tempfile.TemporaryFile(buffering=64 * 1024)  # noqa: SIM115 - closed by close()
            self._file.write(self._memory.getvalue())
            self._memory = None
        self._file.write(data)

    def rewind(self) -> IO[bytes]:
        """The whole body, to be read from its start."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Forget the body."""
        try:
            self._file.close()
        except OSError:
            # A full disk fails the last flush too. The descriptor is freed all the same, and the bytes are not wanted.
            self._file = io.BytesIO()


class FixedBody:
    """A body of a length told in advance."""

    def __init__(self, length: int) -> None:
        self.spool = Spool()
        self.remaining = length
        self.completed = False

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; the rest comes back."""
        mine, rest = data[: self.remaining], data[self.remaining :]
        self.spool.write(mine)
        self.remaining -= len(mine)
        self.completed = not self.remaining
        return rest


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1); extensions and trailers are read over."""

    def __init__(self, limit: int | None) -> None:
        self.spool = Spool()
        self.completed = False
        self._limit = limit
        self._remaining = 0
        self._line = b""
        self._expect = "size"
        self._trailer_lines = 0

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; the rest comes back. Raises Refused."""
        position = 0
        while position < len(data) and not self.completed:
            if self._remaining:
                piece = data[position : position + self._remaining]
                self.spool.write(piece)
                position += len(piece)
                self._remaining -= len(piece)
                continue
            end = data.find(b"\n", position, position + MAX_CONTROL) + 1 or min(len(data), position + MAX_CONTROL)
            self._line += data[position:end]
            position = end
            if self._line.endswith(b"\n"):
                line, self._line = self._line, b""
                if not line.endswith(b"\r\n"):
                    raise Refused(400, "a chunk of the body is not framed as RFC 9112 asks")
                self._control(line[:-2])
            elif len(self._line) >= MAX_CONTROL:
                raise Refused(400, "a line between the chunks of the body is too long")
        return data[position:]

    def _control(self, line: bytes) -> None:
        if self._expect == "end":
            if line:
                raise Refused(400, "a chunk of the body is longer than its size says")
            self._expect = "size"
        elif self._expect == "size":
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise Refused(400, "the size of a chunk of the body is not a hexadecimal number")
            self._remaining = int(match[1], 16)
            self._expect = "end" if self._remaining else "trailer"
            if self._limit is not None and self.spool.size + self._remaining > self._limit:
                raise too_large(self._limit)
        elif line:
            self._trailer_lines += 1
            if self._trailer_lines > MAX_FIELDS:
                raise Refused(400, "the body has too many trailer lines")
        else:
            self.completed = True


def _cgi_name(name: str) -> str | None:
    """A field's name as WSGI spells it; ``None`` for one that no application may see. Raises Refused."""
    if not _TOKEN.fullmatch(name):
        raise Refused(400, "a header line is malformed")
    key = name.upper()
    if "_" not in key:
        return key.replace("-", "_")
    # CGI's variables cannot tell it from the one with dashes.
    if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
        raise Refused(400, "a header line about the body's length is misspelled")
    return None


# Names are few, unless somebody makes them up: the short ones are kept, so that nobody can fill the memory.
_usual_cgi_name = functools.lru_cache(maxsize=512)(_cgi_name)


def too_large(limit: int) -> Refused:
    """The refusal of a body above `limit` bytes."""
    return Refused(413, f"the body is larger than the {limit} bytes this server accepts")


class Request:
    """A request, fed with what the socket gives.

    `feed` takes bytes until the request is `completed`, or, where a body
    follows, until `headers_finished` for the first time: the caller may then
    refuse before the body is read, or go on feeding. The other
    attributes are what was read; `environ` is what a task made of them.
    """

    def __init__(self, max_header: int, max_body: int | None, scheme: str = "http") -> None:
        self.completed = False
        self.headers_finished = False
        self.error: Answer | None = None
        self.headers: dict[str, str] = {}
        self.command = self.path = self.request_uri = self.query = ""
        self.version = "1.0"
        self.url_scheme = scheme
        self.keep_alive = False
        self.expects_continue = False
        self.body: FixedBody | ChunkedBody | None = None
        self.environ: dict[str, Any] | None = None
        self._max_header = max_header
        self._max_body = max_body
        self._head = b""

    @property
    def started(self) -> bool:
        """Whether anything but blank lines came."""
        return bool(self._head) or self.headers_finished or self.completed

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to this request; the rest comes back. What goes wrong ends up in `error`."""
        try:
            return self._feed(data)
        except Refused as refusal:
            self.error = refusal.answer
        except OSError as error:
            self.error = _no_spool(error)
        self.completed = True
        return b""

    def _feed(self, data: bytes) -> bytes:
        if self.headers_finished:
            assert self.body is not None
            rest = self.body.feed(data)
            if self.body.completed:
                self.completed = True
                # From here on it is a body of a known length, and nobody behind us needs to know chunks.
                self.headers["CONTENT_LENGTH"] = str(self.body.spool.size)
            return rest
        # Blank lines before a request are what some clients send after a body (RFC 9112 section 2.2).
        head = (self._head + data) if self._head else data.lstrip(b"\r\n")
        if head[:1] == b"\x16":
            raise Refused(400, "this port speaks http, not https")
        end = head.find(b"\r\n\r\n")
        if (end if end >= 0 else len(head)) > self._max_header or head.find(b"\r\n", 0, MAX_TARGET + 64) < 0:
            self._check_size(head, end)
        if end < 0:
            self._head = head
            return b""
        self._head = b""
        self._parse(head[:end])
        self.headers_finished = True
        self.completed = self.body is None
        return head[end + 4 :]

    def _check_size(self, head: bytes, end: int) -> None:
        if head.find(b"\r\n", 0, MAX_TARGET + 64) < 0 and len(head) >= MAX_TARGET + 64:
            raise Refused(414, "the address in the request is too long")
        if (end if end >= 0 else len(head)) > self._max_header:
            raise Refused(431, f"the request's header is larger than the {self._max_header} bytes this server accepts")

    def _parse(self, head: bytes) -> None:
        # Whole-header checks that never look at single bytes in Python: a header is most of what a request costs.
        ends = head.count(b"\r\n")
        if head.translate(None, _HARMLESS) or not ends == head.count(b"\r") == head.count(b"\n"):
            raise Refused(400, "the request's header holds control characters or bare line ends")
        if b"\r\n " in head or b"\r\n\t" in head:
            raise Refused(400, "the request's header has a folded line")
        if ends > MAX_FIELDS:
            raise Refused(431, f"the request has more than {MAX_FIELDS} header lines")
        first, *lines = head.decode("latin-1").split("\r\n")
        self._parse_request_line(first)
        for line in lines:
            self._parse_field(line)
        self._parse_host()
        connection = self.headers.get("CONNECTION")
        words = [word.strip().lower() for word in connection.split(",")] if connection else ()
        self.keep_alive = "close" not in words and (self.version == "1.1" or "keep-alive" in words)
        self._parse_framing()
        if self.body is not None and self.version == "1.1":
            self.expects_continue = self.headers.get("EXPECT", "").lower() == "100-continue"

    def _parse_request_line(self, line: str) -> None:
        parts = line.split(" ")
        if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or not parts[1] or "\t" in line:
            raise Refused(400, "the first line is not an HTTP/1 request")
        self.command, target, version = parts
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            known = re.fullmatch(r"HTTP/[0-9]\.[0-9]", version)
            raise Refused(505 if known else 400, "this server speaks HTTP/1.1 and HTTP/1.0")
        if len(target) > MAX_TARGET:
            raise Refused(414, "the address in the request is too long")
        self.version, self.request_uri = version[5:], target
        if not target.isascii():
            raise Refused(400, "the address in the request holds characters that must be percent-encoded")
        if _ABSOLUTE.match(target):
            try:
                url = urlsplit(target)
            except ValueError as error:
                raise Refused(400, "the address in the request is malformed") from error
            path, self.query = url.path or "/", url.query
        else:
            path, _, self.query = target.partition("#")[0].partition("?")
        if not path.startswith("/") and (self.command, target) != ("OPTIONS", "*"):
            raise Refused(400, "the address in the request must begin with a slash")
        self.path = unquote_to_bytes(path).decode("latin-1") if "%" in path else path

    def _parse_field(self, line: str) -> None:
        name, colon, value = line.partition(":")
        if not colon:
            raise Refused(400, "a header line is malformed")
        key = _usual_cgi_name(name) if len(name) <= _USUAL_NAME else _cgi_name(name)
        if key is None:
            return
        value = value.strip(" \t")
        if key in self.headers:
            if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING", "HOST"):
                raise Refused(400, f"the header line {name.title()} appears twice")
            value = f"{self.headers[key]}, {value}"
        self.headers[key] = value

    def _parse_host(self) -> None:
        host = self.headers.get("HOST")
        if host is None and self.version == "1.1":
            raise Refused(400, "the request names no Host (RFC 9112 section 3.2)")
        if host and _NO_HOST.search(host):
            raise Refused(400, "the request's Host is malformed")

    def _parse_framing(self) -> None:
        coding = self.headers.pop("TRANSFER_ENCODING", None)
        length = self.headers.get("CONTENT_LENGTH")
        if coding is not None:
            if self.version != "1.1":
                raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
            if length is not None:
                raise Refused(400, "a request has either Content-Length or Transfer-Encoding, not both")
            if coding.lower() != "chunked":
                raise Refused(501, "of the transfer encodings, this server knows chunked only")
            self.body = ChunkedBody(self._max_body)
        elif length is not None:
            if not _LENGTH.fullmatch(length) or not length.isascii():
                raise Refused(400, "Content-Length is not a plain number")
            if self._max_body is not None and int(length) > self._max_body:
                raise too_large(self._max_body)
            if int(length):
                self.body = FixedBody(int(length))

    def get_body_stream(self) -> IO[bytes]:
        """The body, from its start; empty while it has not come yet."""
        return self.body.spool.rewind() if self.body is not None and self.body.completed else io.BytesIO()

    def close(self) -> None:
        """Forget the body, and the environ, which leads back here."""
        self.environ = None
        if self.body is not None:
            self.body.spool.close()


def _no_spool(error: OSError) -> Answer:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return plain(507, "the disk that holds uploads while they arrive is full")
    return plain(503, "this server cannot store an upload while it arrives")

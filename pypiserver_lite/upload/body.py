"""The body of a request, read once: within bounds, as a form if it is one, whose parts are handed on as they come."""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from ..errors import Invalid, TooLarge

MAX_PARTS = 5000
MAX_TEXT_FORM = 2**20
"""Bytes of a form that holds no file and is read whole."""
MAX_HEADER_LINE = 4096
MAX_HEADERS = 8
_CHUNK = 256 * 2**10
# Any printable text, more than RFC 2046 allows: a line break in it would break the search for it.
_BOUNDARY = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")
_REGISTERED = re.compile(rb'\nContent-Disposition: form-data; name="([^"\r\n]{1,200})"\n\n(.*)', re.DOTALL)


class Readable(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class Parts(Protocol):
    """Who takes the parts of a form."""

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins."""

    def data(self, data: bytes) -> None:
        """Some bytes of the part begun last."""

    def end(self) -> None:
        """The part is whole."""

    def add(self, name: str, value: str) -> None:
        """A text field, whole."""


class RequestBody:
    """A request's body that is exactly as long as announced, if it was, and not longer than `limit`, if there is one.

    Whatever the server does: some would wait for more. Raises TooLarge, before
    reading if the body is announced to be.
    """

    def __init__(self, stream: Readable, length: int | None, limit: int | None) -> None:
        self._stream, self._length, self._limit = stream, length, limit
        self._read = 0
        self._check(length or 0)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises TooLarge, and Invalid where the body breaks off."""
        if self._length is not None:
            size = min(size, self._length - self._read)
        try:
            data = self._stream.read(size) if size > 0 else b""
        except OSError as error:
            raise Invalid("the request body broke off; send it again") from error
        self._read += len(data)
        self._check(self._read)
        if not data and self._length is not None and self._read < self._length:
            raise Invalid("the request body is shorter than its Content-Length; send it again")
        return data

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise TooLarge(f"this index takes at most {self._limit} bytes at once (--max-upload)")


def read_form(body: RequestBody, content_type: str | None, form: Parts) -> None:
    """Hand on the parts of a form, as they come. Raises Invalid if it is none, and TooLarge."""
    kind, options = parse_options_header((content_type or "")[:1024])
    if kind == "multipart/form-data":
        _read_multipart(body, options.get("boundary", ""), form)
    elif kind == "application/x-www-form-urlencoded":
        _read_urlencoded(body, form)
    else:
        raise Invalid("Content-Type: send the form as multipart/form-data, as twine and curl -F do")


def _read_multipart(body: RequestBody, boundary: str, form: Parts) -> None:
    if not _BOUNDARY.fullmatch(boundary):
        raise Invalid("Content-Type: multipart/form-data needs a boundary of 1 to 200 printable characters")
    opening, begin = f"\n--{boundary}\n".encode(), body.read(_CHUNK)
    while opening.startswith(begin) and (more := body.read(_CHUNK)):
        begin += more
    if begin.startswith(opening):
        _read_registered(_whole(body, begin), boundary.encode(), form)
        return
    parser = PushMultipartParser(
        boundary, max_header_size=MAX_HEADER_LINE, max_header_count=MAX_HEADERS, max_segment_count=MAX_PARTS
    )
    try:
        while not parser.closed:
            # An empty chunk closes the parser, which raises if the last boundary has not been seen.
            chunk, begin = begin or body.read(_CHUNK), b""
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    form.begin(event.name or "", event.filename)
                elif event is None:
                    form.end()
                else:
                    form.data(event)
    except ParserLimitReached as error:
        raise Invalid("the form has too many parts, or a part's header is too long") from error
    except MultipartError as error:
        raise Invalid(f"the body is not a whole multipart/form-data: {error.args[0]}") from error


def _read_registered(data: bytes, boundary: bytes, form: Parts) -> None:
    """Read what the `register` of distutils and setuptools sends: line feeds alone end its lines (RFC 2046 says CRLF).

    Nothing else is taken so: a form that another server reads differently must not change anything.
    """
    first, *parts, last = data.split(b"\n--" + boundary, MAX_PARTS)
    found = list(map(_REGISTERED.fullmatch, parts))
    try:
        fields = [(part[1].decode(), part[2].decode()) for part in found if part is not None]
    except UnicodeDecodeError as error:
        raise Invalid("the form is not UTF-8; send all text so") from error
    actions = {value for name, value in fields if name == ":action"}
    if first or last != b"--\n" or None in found or not actions <= {"submit", "verify"}:
        raise Invalid("the body is not a whole multipart/form-data: its lines end with a line feed alone")
    for name, value in fields:
        form.add(name, value)


def _whole(body: RequestBody, begin: bytes = b"") -> bytes:
    """All of a form without a file. Raises TooLarge."""
    data = bytearray(begin)
    while chunk := body.read(_CHUNK):
        data += chunk
        if len(data) > MAX_TEXT_FORM:
            raise TooLarge(f"a form without a file may have {MAX_TEXT_FORM} bytes; files go as multipart/form-data")
    return bytes(data)


def _read_urlencoded(body: RequestBody, form: Parts) -> None:
    data = _whole(body)
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARTS)
    except ValueError as error:
        raise Invalid("the URL-encoded form has too many fields, or is not percent-encoded UTF-8") from error
    for name, value in pairs:
        form.add(name, value)

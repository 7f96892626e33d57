"""What an upstream sends: counted, whole, and no more than expected."""

from __future__ import annotations

import http.client
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import urllib3

from ..errors import Unavailable


class Body:
    """A file on its way: iterate to get its bytes, then close. Gives up what it holds when it is gone.

    Raises Unavailable if `response` is not the part from byte `asked` on, nor the whole.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, pieces: Iterator[bytes], asked: int) -> None:
        self._pieces = pieces
        self._held = ExitStack()
        self._lock = threading.Lock()
        self.start = 0
        """Where in the file the first byte lies."""
        self.size: int | None = None
        """Bytes of the whole file, if the upstream says so."""
        headers = response.headers
        etag = field(headers.get("ETag"))
        self.validator = etag if etag and etag.startswith('"') else None
        """What names these very bytes (a strong ETag), for If-Range."""
        length = number(headers.get("Content-Length"))
        if response.status == 200:
            self.size = length
            return
        part = headers.get("Content-Range", "").strip()
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", part, re.ASCII)
        if match is None or int(match[1]) != asked or (length is not None and int(match[2]) + 1 - asked != length):
            raise Unavailable("the upstream sent another part of a file than the one asked for")
        self.start = asked
        self.size = None if match[3] == "*" else int(match[3])

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def holds(self, held: ExitStack) -> None:
        """Close these when it is closed: the answer, and its place at the upstream."""
        self._held = held

    def close(self) -> None:
        """Give up what has not come; harmless when closed already."""
        with self._lock:
            held = self._held.pop_all()
        held.close()

    def __del__(self) -> None:
        self.close()


@contextmanager
def closing(response: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """At the end of a block, give the connection back if the answer came to its end, or close it."""
    try:
        yield
    finally:
        left = response.length_remaining
        # The text of a refusal is short, and not worth a new connection.
        if not response.closed and (left == 0 or (response.status >= 300 and left is not None and left < 2**14)):
            try:
                response.read(2**14, decode_content=False)
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
                response.close()
        if response.closed:
            response.release_conn()
        else:
            response.close()


def joined(pieces: Iterator[bytes], limit: int, on_size: Callable[[int], object] | None = None) -> bytes:
    """All of it, `limit` bytes at most; `on_size` is told how many will be held, before they are.

    Raises Unavailable for more, and what `on_size` raises.
    """
    whole = bytearray()  # which is one block, not many: the system's library gives such a one back
    try:
        for piece in pieces:
            size = len(whole) + len(piece)
            if size > limit:
                raise Unavailable("the upstream's answer is too long")
            if on_size is not None:
                on_size(size)
            whole += piece
        return bytes(whole)
    finally:
        whole.clear()  # or an error would hold it


def unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What a gzip stream (RFC 1952) holds, never more than a megabyte at a time."""
    unpacker = zlib.decompressobj(31)
    try:
        for piece in pieces:
            while piece:
                yield unpacker.decompress(piece, 2**20)
                piece = unpacker.unconsumed_tail
            if unpacker.unused_data:
                raise Unavailable("the upstream's answer goes on after its end")
    except zlib.error as error:
        raise Unavailable("the upstream's answer cannot be unpacked") from error
    if not unpacker.eof:
        raise Unavailable("the upstream's answer ends too early")


def field(value: str | None) -> str | None:
    """A header field that may be sent back: short and plain, or nothing."""
    return value if value and re.fullmatch(r"[\x20-\x7e]{1,500}", value) else None


def number(value: str | None) -> int | None:
    """A number of bytes in a header field, or nothing. Raises Unavailable if it is there and no such number."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", value.strip(), re.ASCII) is None:
        raise Unavailable(f"the upstream states a Content-Length that is no number of bytes: {value[:40]!a}")
    return int(value)

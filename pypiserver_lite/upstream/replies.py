"""What an upstream sends: counted, whole, and no more than expected."""

from __future__ import annotations

import http.client
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import urllib3

from ..errors import Late, Loop, Missing, Unavailable
from .calls import Call
from .rate import Rate, Traffic

_MOST_MEMBERS = 1000
_SLOWEST = 500  # bytes a second; nobody is served by waiting for fewer
_BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


class Refused(Unavailable):
    """A server lets nobody in here, or not us."""


@dataclass(slots=True)
class Reply:
    """An answer whose body has not come yet; as a block, it is over at the end.

    Its body is counted in `traffic`. Where nothing comes for `read` seconds, or hardly anything, it is given up.
    """

    response: urllib3.BaseHTTPResponse
    url: str
    """Where it came from in the end."""
    whose: str
    """Who gave it, for messages."""
    call: Call
    read: float
    rate: Rate
    traffic: Traffic

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        """Give the connection back if the answer came to its end, or close it."""
        response = self.response
        left = response.length_remaining
        # The text of a refusal is short, and not worth a new connection.
        if not response.closed and (left == 0 or (response.status >= 300 and left is not None and left < 2**14)):
            try:
                response.read(2**14, decode_content=False)
            except _BROKEN:
                response.close()
        if response.closed:
            response.release_conn()
        else:
            response.close()

    @property
    def status(self) -> int:
        """Its status code."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """One of its fields, if it is there."""
        value: str | None = self.response.headers.get(name)
        return value

    @property
    def coding(self) -> str:
        """How the body is packed, if it is."""
        coding = (self.header("Content-Encoding") or "").strip().lower()
        # RFC 9110 section 8.4.1.3
        return {"identity": "", "x-gzip": "gzip"}.get(coding, coding)

    def check_file(self, *, packed: bool = False) -> None:
        """Raises Missing unless this is a file, or a part of one; Unavailable, Late, Loop if nobody can say.

        It may say that gzip `packed` it where its bytes are taken as they come.
        """
        if self.status in (404, 410):
            raise Missing("the upstream lists this file, but does not have it")
        if self.status not in (200, 206):
            raise self.refusal()
        if self.coding and not (packed and self.coding == "gzip"):
            raise Unavailable("the upstream packed a file that must come as it is")

    def refusal(self) -> Unavailable:
        """What a status means that is none of those hoped for."""
        if self.status == 508:
            return Loop(f"{self.whose} says that two indexes point at each other")
        if self.status in (401, 403):
            return Refused(f"{self.whose} lets us in only with other credentials (status {self.status})")
        if self.status == 504:
            return Late(f"{self.whose} waits for somebody else (status 504)")
        return Unavailable(f"{self.whose} answered with status {self.status}")

    def pieces(self, *, paced: bool = False) -> Iterator[bytes]:
        """The body as it comes. If it is `paced`, only the first bytes need come within the call's time.

        Raises Unavailable unless it ends where it should, and Late.
        """
        waited, came, begun = 0.0, 0, False
        try:
            while True:
                before = time.monotonic()
                data = self.response.read1(self.rate.piece, decode_content=False)
                # Not what passes outside: a client may be slow, and a rate may be kept.
                waited += time.monotonic() - before
                if not data:
                    break
                self.traffic.received(len(data))
                came += len(data)
                if paced and not begun:
                    begun, waited = True, 0.0
                    self.call.unlimit(self.read)
                if waited > self.read:
                    if came < waited * _SLOWEST:
                        raise Late(f"{self.whose} sends too slowly")
                    waited, came = 0.0, 0
                if paced:
                    self.rate.take(len(data))
                yield data
        except _BROKEN as error:
            if self.call.late or isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
                raise Late(f"{self.whose} did not answer in time") from error
            raise Unavailable(f"{self.whose} broke off in the middle of an answer") from error
        if self.response.length_remaining:
            raise Unavailable(f"{self.whose} broke off in the middle of an answer")


class Transfer:
    """The file of a `reply`, on its way, or the part of it from byte `asked` on; closed by whoever has it.

    It gives up what it has `held` when it is closed or gone. Raises Unavailable if it is another part.
    """

    def __init__(self, reply: Reply, asked: int, held: ExitStack, *, paced: bool = True) -> None:
        self._held = ExitStack()
        self._lock = threading.Lock()
        self._pieces = reply.pieces(paced=paced)
        self.giver = ""
        """Which of several addresses of an upstream gave it; for who asked them to say."""
        self.start = 0
        """Where in the file the first byte lies."""
        self.size = length = number(reply.header("Content-Length"))
        """Bytes of the whole file, if the upstream says so."""
        etag = field(reply.header("ETag"))
        self.validator = etag if etag and etag.startswith('"') else None
        """What names these very bytes (a strong ETag), for If-Range."""
        if reply.status != 200:
            part = (reply.header("Content-Range") or "").strip()
            match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", part, re.ASCII)
            if match is None or int(match[1]) != asked or (length is not None and int(match[2]) + 1 - asked != length):
                raise Unavailable("the upstream sent another part of a file than the one asked for")
            self.start = asked
            self.size = None if match[3] == "*" else int(match[3])
        self._held = held.pop_all()

    def pieces(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """The half-open range of the file, whatever part of it came; then it is closed.

        Raises Unavailable if it ends before `stop`, and what `Reply.pieces` does.
        """
        try:
            at = self.start
            for piece in self._pieces:
                wanted = piece[max(start - at, 0) : None if stop is None else max(stop - at, 0)]
                at += len(piece)
                if wanted:
                    yield wanted
                if stop is not None and at >= stop:
                    return
            if stop is not None:
                raise Unavailable("the upstream broke off in the middle of a file")
        finally:
            self.close()

    def close(self) -> None:
        """Give up what has not come; harmless when closed already."""
        with self._lock:
            held = self._held.pop_all()
        held.close()

    def __del__(self) -> None:
        self.close()


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
    """What a gzip stream (RFC 1952) holds, which has up to a thousand members; never more than a megabyte at a time."""
    members, unpacker = 1, zlib.decompressobj(31)
    try:
        for piece in pieces:
            while piece:
                if unpacker.eof:
                    members, unpacker = members + 1, zlib.decompressobj(31)
                if members > _MOST_MEMBERS:  # which may be empty, so that what they hold bounds nothing
                    raise Unavailable("the upstream's answer is packed in too many parts")
                yield unpacker.decompress(piece, 2**20)
                piece = unpacker.unconsumed_tail or unpacker.unused_data
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

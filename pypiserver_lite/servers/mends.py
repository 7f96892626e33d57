"""The mends of waitress: what its public hooks leave open, and nothing that it does by itself.

waitress reads requests, keeps connections, runs the threads and sends the answers. Its hooks (``channel_class``,
``task_class``, ``parser_class``, ``recv``, ``send``, ``readable``, ``maintenance``) are used where it leaves something
open, and the version is pinned to the minor one because they are not promised to stay:

- `Request`: a message that a proxy in front may read differently is refused (RFC 9112), and what makes waitress's own
  patterns slow never reaches them; a body above the limit, or of somebody who may not send one, is answered from the
  header and thrown away as it comes, because a client that is still sending cannot hear a closed connection; a full
  disk is an answer.
- `Task`: 204, 304, HEAD and chunked answers keep the connection, for installers ask hundreds of times; a page leaves
  together with its header, and a large one is not copied for each of those who read it slowly.
- `FileBody`: a file that is shorter than announced breaks the connection instead of shortening the announcement.
- `GrowingBody`: a file that is still coming is sent by the loop as it grows, and nobody waits for it or its reader.
- `Channel`: the next request of a connection waits, without a worker, until the answer before it is sent; one fast
  reader of a large file does not keep the others waiting; a client that sends or takes less than `LEAST_RATE` is
  closed, also while a worker waits for it; what the disk has no room for is cut, not left out.
- `Workers`: half of them at most work on what changes something, which may wait for the disk, and for others who change
  the same folder; the rest of it waits in order, without a worker, and pages need not. They start when they are needed,
  for there may be hundreds, and taking turns costs: each finds the processor's caches cold.
- `Listener`: at the limit of connections those give way that are missed least.

Given up for that: a page costs what a function that returns its bytes costs on waitress; ``--server granian`` is the
fast one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import waitress.channel
from waitress import receiver, wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer, ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, build_http_date

from ..errors import PypiServerLiteError
from ..model import Followable
from .options import LEAST_RATE, Options
from .proxies import TrustedProxies
from .wrapped import LINGER_BYTES

IDENT = "pypiserver-lite"
GIVES_WAY_RATE = 5_000
"""Bytes a second, for every second that it lasts, below which a client may have to give way to another at the limit of
connections; at first it has `GIVES_WAY_AFTER` seconds. Who is between two requests gives way before."""
GIVES_WAY_AFTER = 2
ASKS_WITHIN = 0.5
"""Seconds that a new connection has for its first request before it is one that asks nothing."""
TURN_BYTES = 2 * 1024 * 1024
"""Sent at most for one connection before the others get their turn."""
WHOLE_BYTES = 64 * 1024
"""A body up to this size leaves together with its header."""
UNSENT_BYTES = 128 * 1024
"""What the system takes of an answer before the network does; more would hide how slowly a client reads."""
PART_BYTES = 512 * 1024
"""What is written goes into buffers of about this size; what a slow client leaves beyond it goes to a file."""
_LOOKS = 3
"""The pace of a client is told from so many last looks at it, a second apart."""
_CONTROL_BYTES = 4096
_BETWEEN_BYTES, _CHUNK_BYTES = 32 * 1024, 32
"""What may stand between the chunks of a body: some, and a byte in so many. Each chunk costs what a kilobyte does."""
_MOST_LINES = 200  # of a header: each costs more than its bytes do
_USUAL_HEAD = 2000  # characters
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = "Transfer-Encoding: chunked\r\n"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_DISK = b"the disk that holds uploads while they arrive is full, or broken\n"

_HARMLESS = bytes({*range(0x20, 0x100), *b"\t\r\n"} - {0x7F})
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]{1,32} [!-~]+ HTTP/1\.[01]")
_FRAMING = re.compile(rb"\n(?:content.length|transfer.encoding)[^\r]*", re.IGNORECASE)
_ONE_FRAMING = re.compile(rb"\n(?:content-length: *[0-9]{1,18}|transfer-encoding: *chunked) *", re.IGNORECASE)
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n)*\r\n")
_NO_HOST = re.compile(r"[\s,/@\\?#<>\"]")

_logger = logging.getLogger(__name__)
logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that a request waits for a worker is no news

# waitress's own patterns for a chunk's size, and what may follow it, allow a line feed at the end and any length.
receiver.ONLY_HEXDIG_RE = re.compile(rb"[0-9A-Fa-f]{1,15}\Z")
receiver.CHUNK_EXT_RE = re.compile(receiver.CHUNK_EXT_RE.pattern.removesuffix(b"$") + rb"\Z")
# The clock on the wall may be set while a connection lasts.
waitress.channel.time = SimpleNamespace(time=time.monotonic)


class Refusal(Error):  # type: ignore[misc] # waitress ships no types
    """An answer of the application to a request whose body it does not want, where waitress expects an error."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self._answer = status, headers, body

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, header fields and body."""
        return self._answer


class Nowhere(OverflowableBuffer):  # type: ignore[misc] # waitress ships no types
    """The buffer of a body that nobody wants; its length is what came, of which so much before."""

    def __init__(self, before: int) -> None:
        super().__init__(0)
        self._given = before

    def __len__(self) -> int:
        return self._given

    def append(self, s: bytes) -> None:
        """Forget `s`."""
        self._given += len(s)


class Chunks(receiver.ChunkedReceiver):  # type: ignore[misc] # waitress ships no types
    """A body in chunks whose lines between them are bounded, at a cost that grows with its length alone."""

    error: Error | None
    _between = 0
    """Bytes between the chunks so far."""

    def received(self, data: bytes) -> int:
        """Take what belongs to the body of `data`, in small pieces: every chunk copies the rest of its piece."""
        taken: int = 0
        while taken < len(data) and not self.completed and self.error is None:
            before = len(self)
            some: int = super().received(data[taken : taken + _CONTROL_BYTES])
            taken += some
            self._between += some - (len(self) - before)
            if self._between > _BETWEEN_BYTES + len(self) // _CHUNK_BYTES:
                self.error = BadRequest("the body comes in chunks too small")
            elif len(self.control_line) + len(self.trailer) > _CONTROL_BYTES:
                self.error = BadRequest("a line between the chunks of the body is too long")
            elif self.completed and self.trailer.strip(b"\r") and not _FIELDS.fullmatch(self.trailer):
                self.error = BadRequest("what follows the last chunk are no header fields")
        return taken


class Request(HTTPRequestParser):  # type: ignore[misc] # waitress ships no types
    """One request as it arrives; what follows it on the connection ends up in `rest`."""

    path = command = ""  # which are asked for also where the first line could not be read
    rest = b""
    body_rcv: Any
    error: Error | None
    expect_continue: bool
    asking = False
    """Whether a worker is to ask the application about the body."""
    expects = False
    """Whether the client waits for a word before it sends the body."""
    unwanted = False
    """Whether the answer, an `error`, is due although the body still comes."""

    def __init__(self, adj: Adjustments, channel: Channel) -> None:
        super().__init__(adj)
        self._channel = channel

    @property
    def begun(self) -> bool:
        """Whether anything of it has come but blank lines."""
        return bool(self.header_plus or self.headers_finished)

    def received(self, data: bytes) -> int:
        """Take what belongs to this request; how many bytes are done with."""
        taken: int = 0
        if not self.begun:
            if data[:2] == b"\x16\x03":
                self.error, self.completed = BadRequest("this port speaks http, not https"), True
                return len(data)
            taken = len(data) - len(data.lstrip(b"\r\n"))  # all at once: waitress makes a request of each
        while taken < len(data) and not self.completed:
            in_header = not self.headers_finished
            try:
                taken += super().received(data[taken:])
            except OSError as error:
                _logger.error("the disk that holds bodies while they arrive (TMPDIR): %s", error.strerror)
                self.refuse(Refusal("507 Insufficient Storage", [_TEXT], _DISK))
                self.unwanted = self.unwanted and not self.chunked  # the end of which cannot be found any more
                break
            if self.empty:
                if self.unwanted and self.completed:
                    self._channel.will_close = self.connection_close or self.body_rcv.error is not None
                elif self.body_bytes_received > LINGER_BYTES:
                    self._channel.will_close = True
                return taken
            if in_header and self.headers_finished and not self.completed:
                self._decide()
            elif self.chunked and not self.completed and len(self.body_rcv) > self._channel.server.max_body:
                self.refuse(_too_large(self._channel.server.max_body))
        self.rest = data[taken:]
        return len(data)

    def discard(self) -> None:
        """Go on as a request that is none: what comes of the body is forgotten."""
        self.completed, self.empty = False, True

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header strictly. Raises ParsingError with what is wrong."""
        head = header_plus.replace(b"\t", b" ") if b"\t" in header_plus else header_plus
        if head.count(b"\n") > _MOST_LINES:
            raise ParsingError(f"the header has more than {_MOST_LINES} lines")
        if not _REQUEST_LINE.fullmatch(head, 0, head.find(b"\r\n")):
            raise ParsingError("the first line is not a request of HTTP/1.1 or 1.0")
        # Folded lines are read differently by different servers; waitress's patterns are quadratic in spaces.
        if head.translate(None, _HARMLESS) or b"\r\n " in head or b" " * 64 in head:
            raise ParsingError("the header holds control characters, folded lines or rows of spaces")
        framing = _FRAMING.findall(head)
        if len(framing) > 1 or (framing and not _ONE_FRAMING.fullmatch(framing[0])):
            raise ParsingError("the length of the body is told twice, or not plainly (RFC 9112 section 6)")
        try:
            super().parse_header(head)
        except ValueError as error:
            raise ParsingError("the address in the request is malformed") from error
        if self.proxy_netloc and "HOST" in self.headers:
            self.headers["HOST"] = self.proxy_netloc  # RFC 9112 section 3.2.2
        host = self.headers.get("HOST")
        if (host is None and self.version == "1.1") or (host and _NO_HOST.search(host)):
            raise ParsingError("the request names no Host, or a malformed one (RFC 9112 section 3.2)")
        if "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        if not self.path.startswith("/"):
            if self.path and (self.command, self.path) != ("OPTIONS", "*"):
                raise ParsingError("the address in the request must begin with a slash")
            self.path = self.path or "/"
        if self.chunked:
            self.body_rcv = Chunks(self.body_rcv.buf)
        elif self.body_rcv is None:
            self.expect_continue = False

    def _decide(self) -> None:
        """Whether the body is wanted, now that the header is there: a matter for a worker, as it may take long."""
        # waitress would say "100 Continue" by itself.
        self.expects, self.expect_continue = self.expect_continue, False
        if self.content_length > self._channel.server.max_body:
            self.refuse(_too_large(self._channel.server.max_body))
        else:
            self.asking = self.completed = True

    def refuse(self, error: Error) -> None:
        """Answer with `error`, whatever still comes of the body."""
        came = len(self.body_rcv)
        with contextlib.suppress(OSError):  # a full disk fails the last flush too
            self.body_rcv.buf.close()
        self.body_rcv.buf = Nowhere(came)
        self.error, self.completed = error, True
        # Who asks before sending a body sends none now, or does: only the end of the connection is clear.
        self.unwanted = not self.expects


def _too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"the body is larger than the {limit} bytes this server accepts")


class FileBody(ReadOnlyFileBasedBuffer):  # type: ignore[misc] # waitress ships no types
    """``wsgi.file_wrapper``: a file, from where it is seeked to, for as many bytes as Content-Length says."""

    def prepare(self, size: int | None = None) -> int:
        """Get ready to send `size` bytes, however long the file is."""
        rest: int = super().prepare(None)
        self.remain = rest if size is None else size
        return self.remain

    def get(self, numbytes: int = -1, skip: bool = False) -> bytes:
        """The next bytes. Raises OSError, which closes the connection, where the file has ended before its time."""
        data: bytes = super().get(numbytes, skip)
        if not data and self.remain:
            raise OSError(errno.EIO, "a file became shorter while it was being sent")
        return data


class GrowingBody(ReadOnlyFileBasedBuffer):  # type: ignore[misc] # waitress ships no types
    """The bytes from `at` to `end` of a file that still grows, as far as they are there: the loop sends them."""

    def __init__(self, file: Followable, at: int, end: int) -> None:
        self._file: Followable | None = file
        self._start = self._at = at
        self.remain = end - at
        self.began = time.monotonic()

    @property
    def dry(self) -> bool:
        """Whether nothing can be sent before the file grows."""
        file = self._file  # a worker that sent the last of it may close it now
        try:
            return file is not None and self.remain > 0 and file.ready(self._at) <= 0
        except PypiServerLiteError:
            return False  # `get` tells

    def pace(self, now: float) -> float:
        """Bytes a second that were sent, whoever was the slow one."""
        return (self._at - self._start) / max(now - self.began, 1)

    def get(self, numbytes: int = -1, skip: bool = False) -> bytes:
        """The next bytes, none if they are not there yet. Raises OSError, which closes the connection, if none come."""
        file = self._file
        if file is None or not self.remain:
            return b""
        try:
            size = min(file.ready(self._at), self.remain)
        except PypiServerLiteError as error:
            raise OSError(errno.EIO, str(error)) from error
        if size <= 0:
            return b""
        data = file.read(size if numbytes < 0 else min(size, numbytes), self._at)
        if not data:
            raise OSError(errno.EIO, "a file became shorter while it was being sent")
        if skip:
            self.skip(len(data))
        return data

    def skip(self, numbytes: int, allow_prune: bool = False) -> None:
        """These bytes are sent."""
        self._at += numbytes
        self.remain -= numbytes

    def close(self) -> None:
        """Let go of the file."""
        self._file, self.remain = None, 0


class _Bodiless:
    """What both kinds of answers know of HEAD."""

    request: Request
    wrote_header = False

    @property
    def has_body(self) -> bool:
        """Whether bytes may follow the header; an answer to HEAD has all of its fields."""
        allowed: bool = super().has_body  # type: ignore[misc] # of waitress's tasks
        return allowed and not (self.wrote_header and self.request.command == "HEAD")


class Task(_Bodiless, WSGITask):  # type: ignore[misc] # waitress ships no types
    """Calls the application and writes its answer."""

    content_bytes_written = 0

    def get_environment(self) -> dict[str, Any]:
        """The WSGI environ (PEP 3333), as a trusted proxy wants it understood."""
        environ: dict[str, Any] = super().get_environment()
        environ["wsgi.file_wrapper"] = FileBody
        environ["pypiserver_lite.hand_over"] = self._hand_over
        self.channel.server.proxies.translate(environ)
        return environ

    def _hand_over(self, file: Followable, at: int, end: int) -> GrowingBody:
        """The rest of an answer that began in pieces, as its last one."""
        file.watch(self.channel.server.wake)
        return GrowingBody(file, at, end)

    def build_response_header(self) -> bytes:
        """The header as bytes. The connection lives on wherever the answer tells its own end."""
        if self.channel.server.draining or "close" in self.request.headers.get("CONNECTION", "").lower():
            self.set_close_on_finish()
        if self.version == "1.0" or self.close_on_finish:
            head: bytes = super().build_response_header()
            return head
        length = None
        if super().has_body:
            self.chunked_response = self.content_length is None and self.request.command != "HEAD"
            length = _CHUNKED if self.content_length is None else f"Content-Length: {self.content_length}\r\n"
        return head_of(self.status, tuple(self.response_headers), length) + _date(int(self.start_time))

    def write(self, data: bytes | GrowingBody) -> None:
        """Write a piece of the body, and the header before the first; both at once where that is all.

        The last piece may be a file, which the loop sends; so it does a page that is long.
        """
        file: FileBody | GrowingBody | None = data if isinstance(data, GrowingBody) else None
        if self.complete and not self.wrote_header:
            head = self.build_response_header()
            self.wrote_header = True
            if isinstance(data, bytes) and self.content_length == len(data) and self.has_body:
                if len(data) <= WHOLE_BYTES:
                    self.content_bytes_written = len(data)
                    self.channel.write_soon(head + data)
                    return
                file = FileBody(io.BytesIO(data))  # which has no bytes of its own, nor gets any on the disk
                file.prepare()
            self.channel.write_soon(head)
        if file is not None:
            self.content_bytes_written += len(file)
            self.channel.write_soon(file)
        elif data:
            super().write(data)


def head_of(status: str, fields: tuple[tuple[str, str], ...], length: str | None) -> bytes:
    """A header without its date, with `length`, the line that tells it; most answers have one like others before.

    A long one is kept for nobody: it repeats what a client wrote.
    """
    usual = sum([len(value) for _, value in fields]) <= _USUAL_HEAD
    return remembered_head(status, fields, length) if usual else _made_head(status, fields, length)


def _made_head(status: str, fields: tuple[tuple[str, str], ...], length: str | None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields if name.lower() != "content-length")
    return f"HTTP/1.1 {status}\r\n{lines}{length or ''}Server: {IDENT}\r\n".encode("latin-1")


remembered_head = functools.lru_cache(maxsize=512)(_made_head)


@functools.lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return f"Date: {build_http_date(second)}\r\n\r\n".encode()


class ErrorAnswer(_Bodiless, ErrorTask):  # type: ignore[misc] # waitress ships no types
    """Writes what a request has as its `error`."""

    def set_close_on_finish(self) -> None:
        """Close, unless the rest of a body still comes: closing would take the answer from a client that sends.

        At the end of the body it is closed then, where it would be now.
        """
        if not self.request.unwanted:
            super().set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc] # waitress ships no types
    """One connection."""

    task_class = Task
    error_task_class = ErrorAnswer
    sendbuf_len: int
    current_outbuf_count: int

    def __init__(self, server: Listener, sock: socket.socket, addr: Any, adj: Adjustments, map: Any = None) -> None:
        self.parser_class = functools.partial(Request, channel=self)
        self._ahead = b""
        self._restart(time.monotonic())
        self._turn = TURN_BYTES
        super().__init__(server, sock, addr, adj, map=map)
        self.sendbuf_len = min(self.sendbuf_len, 2 * UNSENT_BYTES)

    def _restart(self, now: float) -> None:
        """From now on it is the client that is waited for."""
        self._since, self._moved = now, 0
        self._looks = deque([(now, 0)], maxlen=_LOOKS)

    @property
    def idle(self) -> bool:
        """Nothing has been asked, and nothing is still to be sent."""
        asks = self.requests or self._ahead or (self.request is not None and self.request.begun)
        return not (asks or self.total_outbufs_len or self.close_when_flushed)

    def asks_nothing(self, now: float) -> bool:
        """Whether this connection is between two requests, or has had its time for the first."""
        return self.idle and (self.last_activity > self.creation_time or now - self.last_activity > ASKS_WITHIN)

    @property
    def working(self) -> bool:
        """Whether it is the application that is waited for, or an upstream, and not the client."""
        return self._dry or (bool(self.requests) and not self.total_outbufs_len)

    @property
    def _dry(self) -> bool:
        """Whether all is sent that can be before a file grows."""
        first = self.outbufs[0]
        return isinstance(first, GrowingBody) and first.dry

    def readable(self) -> bool:
        """Whether more may come: not before what came already is taken up, nor does its end."""
        # In this order: a worker puts bytes there before it lets go of the request before them.
        closes = self.will_close or self.close_when_flushed
        return not (closes or self.requests or self.total_outbufs_len or self._ahead)

    def writable(self) -> bool:
        """Whether there is something to send now."""
        if self.will_close:
            return True
        return bool(self.total_outbufs_len or self.close_when_flushed) and not self._dry

    def pace(self, now: float) -> float:
        """Bytes a second that the client has sent or taken of late, without those that only filled the system's."""
        since, moved = self._looks[0]
        filled = 2 * UNSENT_BYTES if self.total_outbufs_len and not moved else 0
        return (self._moved - moved - filled) / max(now - since, 1)

    def overdue(self, now: float) -> bool:
        """Whether this connection has had all the time it gets; asked about once a second."""
        patience: int = self.adj.channel_timeout
        waited = now - self._since
        if self.idle or self.working or (waited > patience and self._moved >= LEAST_RATE * waited):
            self._restart(now)
        self._looks.append((now, self._moved))
        if self.working:
            self.last_activity = now  # or who waited for long would have no time to take what comes then
            return False
        return now - self.last_activity > patience or now - self._since > patience + 1

    def gives_way(self, now: float) -> bool:
        """Whether the client is so slow, for the time it has had, that another may take its place.

        So may who waits for a file that comes as slowly: an upstream must not fill all places.
        """
        first = self.outbufs[0]
        if isinstance(first, GrowingBody) and first.dry:
            lasted = now - first.began
            return lasted > GIVES_WAY_AFTER and first.pace(now) < GIVES_WAY_RATE * lasted
        lasted = now - self._since
        return not self.working and lasted > GIVES_WAY_AFTER and self.pace(now) < GIVES_WAY_RATE * lasted

    def _asked(self, request: Request) -> Error | None:
        """What the application has against a body of this request, as an answer."""
        asks = self.server.asks
        try:
            refusal = asks(Task(self, request).get_environment()) if asks else None
        except Exception:
            _logger.exception("an error while deciding on %s", ascii(request.path)[:200])
            return Error("the server met an unexpected error")
        return None if refusal is None else Refusal(*refusal)

    def take_up(self) -> bool:
        """Go on with what came behind the request that was answered, once the answer is sent. Whether that is over."""
        if not self.connected or self.will_close or self.close_when_flushed:
            return True
        if not HTTPChannel.readable(self):
            return False
        ahead, self._ahead = self._ahead, b""
        self.received(ahead)
        return True

    def service(self) -> None:
        """Answer a request."""
        request = self.requests[0]
        self._ahead, request.rest = request.rest, b""
        if self._ahead:
            self.server.behind.append(self)
        if request.asking:
            request.asking = False
            error = self._asked(request)
            if error is None:
                self._go_on(request)
                return
            request.refuse(error)
        if request.unwanted:
            request.discard()
            with self.requests_lock:  # the loop lets go of this request under it
                self.request = request
        super().service()

    def _go_on(self, request: Request) -> None:
        """Read the body of a request that is wanted."""
        request.completed = False
        with self.requests_lock:
            self.request = request
            if request.expects:
                # The loop sends it: as soon as no request is worked on, it flushes without asking for the lock.
                with self.outbuf_lock:
                    self.outbufs[-1].append(_CONTINUE)
                    self.current_outbuf_count += len(_CONTINUE)
                    self.total_outbufs_len += len(_CONTINUE)
            request.expects = False
            self.requests.pop(0)
        if self.connected:
            self.server.pull_trigger()
        else:
            request.close()

    def handle_expt_event(self) -> None:
        """Close: urgent data (RFC 6093) means nothing in HTTP, and stays what the system tells of until it is read."""
        self.handle_close()

    def handle_close(self) -> None:
        """Close at once, and let go of a body that was half received: it may have a file on the disk."""
        super().handle_close()
        if not self.requests and self.request is not None:
            self.request.close()
            self.request = None

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        data: bytes = super().recv(size)
        self._moved += len(data)
        return data

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what the connection takes; 0 where it takes nothing, or has had its turn."""
        if self._turn <= 0:
            return 0
        sent: int = super().send(data, do_close)
        self._turn -= sent
        self._moved += sent
        return sent

    def write_soon(self, data: bytes | FileBody | GrowingBody) -> int:
        """Have `data` sent, from a worker; how many bytes that are."""
        sent = self._send_at_once(data) if isinstance(data, bytes) else 0
        if sent:
            if sent == len(data):
                return sent
            data = data[sent:]
        # A buffer keeps what it has sent until the next one: of a stream that would be sixteen megabytes a client. One
        # that has gone over to a file costs no memory, and another would cost a descriptor.
        if self.current_outbuf_count >= PART_BYTES and not self.outbufs[-1].overflowed:
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        try:
            return sent + int(super().write_soon(data))
        except OSError as error:
            _logger.error("the disk that holds answers until they are taken (TMPDIR): %s", error.strerror)
            self.will_close = True  # or what comes next would follow a hole
            self.server.pull_trigger()
            raise waitress.channel.ClientDisconnected from error

    def _send_at_once(self, data: bytes) -> int:
        """How many bytes of `data` the connection takes now: none while others wait before them."""
        # Most answers fit. They need no buffer, and a loop that sees one wants to send it too, again and again.
        with self.outbuf_lock:
            if self.total_outbufs_len or not self.connected:
                return 0
            self._turn = TURN_BYTES
            try:
                sent = self.send(data[: self.sendbuf_len], do_close=False)
            except OSError:
                return 0  # it comes again from the buffer, where the loop closes the connection
            if sent:
                self.last_activity = time.monotonic()
            return sent

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send what waits, for one turn. Whether anything went out."""
        self._turn = TURN_BYTES
        return bool(super()._flush_some(do_close))


class _Posting(NamedTuple):
    """A connection whose request is worked on, and what is to be done then."""

    channel: Channel
    done: Callable[[], None]

    def service(self) -> None:
        """Answer the request."""
        try:
            self.channel.service()
        finally:
            self.done()

    def cancel(self) -> None:
        """Answer nobody any more."""
        self.channel.cancel()


class Workers(ThreadedTaskDispatcher):  # type: ignore[misc] # waitress ships no types
    """Up to so many `threads` that answer requests, half of them those with POST; the others of these wait in order."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._most, self._short = threads, False
        self._free = max(1, threads // 2)
        self._waiting: deque[Channel] = deque()

    def start_new_thread(self, target: Callable[..., None], thread_no: int) -> None:
        """Start a thread; where the system has none left, those that are there go on, and the next request tries."""
        try:
            super().start_new_thread(target, thread_no)
        except RuntimeError:
            if len(self.threads) == 1:
                raise  # nobody would answer
            self.threads.discard(thread_no)
            self.active_count -= 1  # which whoever calls this adds
            if not self._short:
                _logger.warning("this machine has no thread left: %d answer requests", len(self.threads))
            self._short = True

    def add_task(self, task: Channel) -> None:
        """Answer a connection's request when its turn comes."""
        request = task.requests[0]
        if request.command != "POST" or request.asking or request.unwanted or request.error:
            self._put(task)
            return
        with self.lock:
            self._waiting.append(task)
        self._next(0)

    def _put(self, task: Channel | _Posting) -> None:
        """Have the next thread that is free, or one more, answer a request."""
        super().add_task(task)
        with self.lock:
            threads = len(self.threads) - self.stop_count
            wanted = len(self.queue) > threads - self.active_count and threads < self._most
        if wanted:
            self.set_thread_count(threads + 1)

    def _next(self, freed: int = 1) -> None:
        with self.lock:
            self._free += freed
            if not self._free or not self._waiting:
                return
            self._free -= 1
            channel = self._waiting.popleft()
        self._put(_Posting(channel, self._next))

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End the threads; true if nothing was left for them to do."""
        with self.lock:
            self._most = 0
            self.queue.extend(self._waiting)
            self._waiting.clear()
        return bool(super().shutdown(cancel_pending, timeout))


class Listener(TcpWSGIServer):  # type: ignore[misc] # waitress ships no types
    """One listening socket and what its connections share."""

    channel_class = Channel

    def __init__(
        self,
        sock: socket.socket,
        options: Options,
        adj: Adjustments,
        workers: Workers,
        map: dict[int, Any],
    ) -> None:
        self.proxies = TrustedProxies(options.trusted_proxy)
        self.max_body = sys.maxsize if options.max_body is None else options.max_body
        self.asks: Callable[[dict[str, Any]], Any] | None = None
        self.draining = False
        self.behind: deque[Channel] = deque()
        """Connections with bytes that wait until an answer is sent."""
        self.next_channel_cleanup: float = 0
        info = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(None, map, True, sock, workers, adj, info, bind_socket=False)

    def set_reuse_addr(self) -> None:
        """`listen` has done what is right for the platform."""

    def fix_addr(self, addr: Any) -> Any:
        """The peer's address, IPv4 as IPv4 also on a socket for both."""
        return (addr[0].removeprefix("::ffff:"), *addr[1:]) if "." in addr[0] else addr

    def look_after(self) -> None:
        """Before each turn of the loop: take up what waits, and about once a second close what is overdue."""
        for _ in range(len(self.behind)):
            channel = self.behind.popleft()
            if not channel.take_up():
                self.behind.append(channel)
        now = time.monotonic()
        if now >= self.next_channel_cleanup:
            self.next_channel_cleanup = now + 1
            self.maintenance(now)

    def readable(self) -> bool:
        """Whether another connection may come."""
        full = len(self._map) >= self.adj.connection_limit
        return self.accepting and (not full or self._expendable(time.monotonic()) is not None)

    def maintenance(self, now: float) -> None:
        """Close the connections that are overdue."""
        for channel in list(self.active_channels.values()):
            if channel.overdue(now):
                channel.handle_close()  # at once, for `will_close` waits until the client takes something

    def handle_accept(self) -> None:
        """Take a connection, in place of another if there are too many."""
        full = len(self._map) >= self.adj.connection_limit
        super().handle_accept()
        channel = self._expendable(time.monotonic()) if full else None
        if channel is not None:
            channel.handle_close()

    def _expendable(self, now: float) -> Channel | None:
        """Who is missed least: whoever has asked nothing for longest, else the slowest of those that are too slow."""
        channels = [channel for channel in self._map.values() if isinstance(channel, Channel)]
        idle = [channel for channel in channels if channel.asks_nothing(now)]
        if idle:
            return min(idle, key=lambda channel: channel.last_activity)
        slow = [channel for channel in channels if channel.gives_way(now)]
        return min(slow, key=lambda channel: channel.pace(now), default=None)

    def wake(self) -> None:
        """Have the loop look at its connections; harmless once they are closed. Safe in any thread."""
        with contextlib.suppress(OSError):
            if not self.trigger._closed:
                self.pull_trigger()

    def stop_accepting(self) -> None:
        """Take the connections that wait, and close the listening socket; its connections live on."""
        for _ in range(self.adj.backlog):
            before = len(self._map)
            self.handle_accept()
            if len(self._map) <= before:
                break
        wasyncore.dispatcher.close(self)

"""One answer on waitress: the application is called (PEP 3333), and its answer written as HTTP/1 (RFC 9112).

Takes the place of waitress's tasks, which close the connection after 204, 304, HEAD and chunked answers, take an
OSError of the application for one of the socket, and shorten a promised length to what came.
"""

from __future__ import annotations

import abc
import functools
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from typing import Any
from wsgiref.util import is_hop_by_hop

from .bodies import FileBody, ReadyBody

SMALL = 64 * 1024
"""Bodies up to this size leave together with their header, in one segment where it fits."""

_UNPREFIXED = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE"))
_USUAL_VALUE = 256
# RFC 9110 sections 5.1, 5.5 and 8.6, RFC 9112 section 4
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_STATUS = re.compile(r"[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?", re.ASCII)

_logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=4)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"


def _field(name: str, value: str) -> tuple[str, str]:
    """A header field's name in lower case, and its line. Raises ValueError for one that no application may send."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"{name!a}: {value!a} is no header field")
    lower = name.lower()
    if is_hop_by_hop(lower):
        raise ValueError(f"the header field {name} is the server's business (PEP 3333)")
    if lower == "content-length" and not _LENGTH.fullmatch(value):
        raise ValueError(f"a Content-Length of {value!a} is no number of bytes")
    return lower, "".join((name, ": ", value))


# Most fields of most answers are the same. Long ones are not kept, so that they do not fill the memory.
_usual_field = functools.lru_cache(maxsize=1024)(_field)


@functools.lru_cache(maxsize=64)
def _may_tell_length(status: str) -> bool:
    """Whether an answer of this status has a length (RFC 9112 section 6.3, RFC 9110 section 8.6). Raises ValueError."""
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!a} is no status")
    return not status.startswith(("1", "204", "304"))


class _Task(abc.ABC):
    """Writes an answer's header and body, and knows whether the connection lives on."""

    def __init__(self, channel: Any, request: Any) -> None:
        self.channel, self.request = channel, request
        self.close_on_finish = False
        self.wrote_header = False
        self._lines: list[str] = []
        self._names: list[str] = []
        self._has_body = self._may_tell_length = True
        self._length: int | None = None
        self._written = 0
        self._surplus = self._chunked = False

    def service(self) -> None:
        """Do it all."""
        self.execute()
        if not self.wrote_header:
            self.write(b"")
        if self._chunked:
            self.channel.write_soon(b"0\r\n\r\n")

    @abc.abstractmethod
    def execute(self) -> None:
        """Find out what the answer is, and write it."""

    def begin(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """What stands in the header, which is written with the first piece of the body.

        Raises ValueError for what would break the answer, TypeError for what is no text.
        """
        self._may_tell_length = _may_tell_length(status)
        self._has_body = self._may_tell_length and self.request.command != "HEAD"
        lines, names, length = [f"HTTP/{self.request.version} {status}"], [], None
        for name, value in headers:
            lower, line = _usual_field(name, value) if len(value) <= _USUAL_VALUE else _field(name, value)
            if lower == "content-length":
                length = int(value)
            else:
                names.append(lower)
                lines.append(line)
        self._lines, self._names, self._length = lines, names, length

    def write(self, data: bytes) -> None:
        """Write a piece of the body, and the header before the first."""
        head = b"" if self.wrote_header else self._header()
        if not self._has_body:
            data = b""
        elif data and self._chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        elif self._length is not None:
            data = self._within(data, self._length)
        whole = len(data) <= SMALL
        first = head + data if whole else head
        self.wrote_header = True
        if first:
            self.channel.write_soon(first)
        if not whole:
            # A whole page is the application's own object, perhaps kept for others: no need to copy it.
            ready = isinstance(data, bytes) and len(data) == self._length
            self.channel.write_soon(ReadyBody(data) if ready else data)

    def _within(self, data: bytes, length: int) -> bytes:
        """As much of a piece as the length that was announced leaves room for."""
        room = length - self._written
        if len(data) > room:
            if not self._surplus:
                _logger.warning("the application wrote more than the Content-Length of %d it announced", length)
            self._surplus = True
            data = data[:room]
        self._written += len(data)
        return data

    def _header(self) -> bytes:
        if not self._lines:
            raise RuntimeError("start_response was not called before the body")
        request, server, lines = self.request, self.channel.server, self._lines
        if self._length is not None:
            if self._may_tell_length:
                lines.append(f"Content-Length: {self._length}")
        elif self._has_body and request.version == "1.1":
            self._chunked = True
            lines.append("Transfer-Encoding: chunked")
        elif self._has_body:
            self.close_on_finish = True
        if not request.keep_alive or server.draining:
            self.close_on_finish = True
        if self.close_on_finish:
            lines.append("Connection: close")
        elif request.version == "1.0":
            lines.append("Connection: keep-alive")
        if "server" not in self._names:
            lines.append(f"Server: {server.adj.ident}")
        if "date" not in self._names:
            lines.append(_date(int(time.time())))
        lines.append("\r\n")
        return "\r\n".join(lines).encode("latin-1")


class RequestTask(_Task):
    """Calls the application."""

    def environ(self) -> dict[str, Any]:
        """The WSGI environ (PEP 3333); the same dictionary early, without the body, and later with it."""
        request = self.request
        environ: dict[str, Any] | None = request.environ
        if environ is None:
            environ = request.environ = self._new_environ()
            self.channel.server.proxies.translate(environ)
        environ["wsgi.input"] = request.get_body_stream()
        if request.body is not None and request.completed:
            environ["CONTENT_LENGTH"] = request.headers["CONTENT_LENGTH"]
        environ["wsgi.file_wrapper"] = functools.partial(FileBody, wanted=lambda: self._has_body)
        return environ

    def _new_environ(self) -> dict[str, Any]:
        channel, request = self.channel, self.request
        address, port = channel.addr[:2]
        environ = {
            "REQUEST_METHOD": request.command,
            "SCRIPT_NAME": "",
            # More slashes than one at its beginning would be a host's name to whoever makes an address of it.
            "PATH_INFO": f"/{request.path.lstrip('/')}" if request.path.startswith("//") else request.path,
            "QUERY_STRING": request.query,
            "REQUEST_URI": request.request_uri,
            "SERVER_NAME": channel.server.server_name,
            "SERVER_PORT": str(channel.server.effective_port),
            "SERVER_PROTOCOL": f"HTTP/{request.version}",
            "SERVER_SOFTWARE": channel.server.adj.ident,
            "REMOTE_ADDR": address,
            "REMOTE_HOST": address,
            "REMOTE_PORT": str(port),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.url_scheme,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for key, value in request.headers.items():
            environ[key if key in _UNPREFIXED else f"HTTP_{key}"] = value
        return environ

    def execute(self) -> None:
        """Call the application and write what it returns. Its errors come out as they are."""
        body = self.channel.server.application(self.environ(), self._start_response)
        sent_later = False
        try:
            sent_later = isinstance(body, FileBody) and self._leave_to_loop(body)
            if not sent_later:
                self._write_all(body)
        finally:
            if not sent_later and hasattr(body, "close"):
                body.close()

    def _start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info and self.wrote_header:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it would hold this frame, which holds it
        if self._lines and not exc_info:
            raise RuntimeError("start_response was called a second time without exc_info")
        self.begin(status, headers)
        return self.write

    def _leave_to_loop(self, body: FileBody) -> bool:
        """Have the loop send a file, if there is anything to send and nothing was written before it."""
        size = 0 if self.wrote_header else body.prepare(self._length)
        if not size:
            return False
        self._length = size
        self.write(b"")
        self.channel.write_soon(body)
        return True

    def _write_all(self, body: Iterable[bytes]) -> None:
        short = isinstance(body, (list, tuple)) and len(body) <= 1
        for piece in body:
            if short and self._length is None and not self.wrote_header:
                self._length = len(piece)
            if piece:
                self.write(piece)
                if not self._has_body or self._surplus:
                    return  # nobody gets what may follow
        if not self._has_body:
            return
        if short and self._length is None and not self.wrote_header:
            self._length = 0
        if self._length is not None and self._written != self._length:
            self.close_on_finish = True
            _logger.warning(
                "the application wrote %d bytes of the Content-Length of %d it announced", self._written, self._length
            )


class AnswerTask(_Task):
    """Sends the answer in ``request.error`` and closes."""

    def execute(self) -> None:
        """Write it all."""
        answer = self.request.error
        self.begin(answer.status, [*answer.headers, ("Content-Length", str(len(answer.body)))])
        self.close_on_finish = True
        self.write(answer.body)

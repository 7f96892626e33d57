"""One answer on waitress: the application is called (PEP 3333), and its answer written as HTTP/1 (RFC 9112).

Takes the place of waitress's tasks, which close the connection after 204, 304, HEAD and chunked answers, take an
OSError of the application for one of the socket, and shorten a promised length to what came.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from email.utils import formatdate
from typing import Any
from wsgiref.util import is_hop_by_hop

from .bodies import FileBody, ReadyBody

SMALL = 64 * 1024
"""Bodies up to this size leave together with their header, in one segment where it fits."""

_UNPREFIXED = {"CONTENT_LENGTH": "CONTENT_LENGTH", "CONTENT_TYPE": "CONTENT_TYPE"}

_logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=4)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"


@functools.lru_cache(maxsize=1024)
def _field(name: str, value: str) -> tuple[str, str]:
    """A header field's name in lower case, and its line. Raises ValueError for one that no application may send."""
    line = f"{name}: {value}"
    if not isinstance(name, str) or not isinstance(value, str) or "\r" in line or "\n" in line:
        raise ValueError(f"{line!a} is no header field")
    lower = name.lower()
    if is_hop_by_hop(lower):
        raise ValueError(f"the header field {name} is the server's business (PEP 3333)")
    return lower, line


class _Task:
    """Writes an answer's header and body, and knows whether the connection lives on."""

    def __init__(self, channel: Any, request: Any) -> None:
        self.channel, self.request = channel, request
        self.close_on_finish = False
        self.wrote_header = False
        self._status = ""
        self._fields: list[tuple[str, str]] = []
        self._has_body = True
        self._length: int | None = None
        self._written = 0
        self._chunked = False

    def service(self) -> None:
        """Do it all."""
        self.execute()
        if not self.wrote_header:
            self.write(b"")
        if self._chunked:
            self.channel.write_soon(b"0\r\n\r\n")

    def execute(self) -> None:
        """Find out what the answer is, and write it."""
        raise NotImplementedError

    def begin(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """What stands in the header; it is written with the first piece of the body. Raises ValueError."""
        if "\r" in status or "\n" in status:
            raise ValueError(f"{status!a} is no status")
        self._fields = [_field(name, value) for name, value in headers]
        self._status = status
        # RFC 9112 section 6.3
        self._has_body = self.request.command != "HEAD" and not status.startswith(("1", "204", "304"))
        self._length = next((int(line[15:]) for kind, line in self._fields if kind == "content-length"), None)

    def write(self, data: bytes) -> None:
        """Write a piece of the body, and the header before the first."""
        head = b""
        if not self.wrote_header:
            head = self._header()
            self.wrote_header = True
        if not data or not self._has_body:
            self.channel.write_soon(head)
            return
        length = self._length
        if self._chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        elif length is not None:
            if len(data) > length - self._written:
                _logger.warning("the application wrote more than the Content-Length of %d it announced", length)
                data = data[: length - self._written]
            self._written += len(data)
        if len(data) <= SMALL:
            self.channel.write_soon(head + data)
            return
        self.channel.write_soon(head)
        # A whole page is the application's own object, perhaps kept for others: no need to copy it.
        self.channel.write_soon(ReadyBody(data) if isinstance(data, bytes) and len(data) == length else data)

    def _header(self) -> bytes:
        if not self._status:
            raise RuntimeError("start_response was not called before the body")
        request, server, length = self.request, self.channel.server, self._length
        lines = [f"HTTP/{request.version} {self._status}"]
        kinds = set()
        for kind, line in self._fields:
            kinds.add(kind)
            if kind != "content-length" or request.command == "HEAD":
                lines.append(line)
        if self._has_body:
            if length is not None:
                lines.append(f"Content-Length: {length}")
            elif request.version == "1.1":
                self._chunked = True
                lines.append("Transfer-Encoding: chunked")
            else:
                self.close_on_finish = True
        if not request.keep_alive or server.draining:
            self.close_on_finish = True
        if self.close_on_finish:
            lines.append("Connection: close")
        elif request.version == "1.0":
            lines.append("Connection: keep-alive")
        if "server" not in kinds:
            lines.append(f"Server: {server.adj.ident}")
        if "date" not in kinds:
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
        if request.body is not None:
            environ["wsgi.input"] = request.get_body_stream()
            if request.completed:
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
            "wsgi.input": request.get_body_stream(),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for key, value in request.headers.items():
            environ[_UNPREFIXED.get(key) or f"HTTP_{key}"] = value
        return environ

    def execute(self) -> None:
        """Call the application and write what it returns. Its errors come out as they are."""
        body = self.channel.server.application(self.environ(), self._start_response)
        sent_later = False
        try:
            sent_later = isinstance(body, FileBody) and self._hand_over(body)
            if not sent_later:
                self._write_all(body)
        finally:
            if not sent_later and hasattr(body, "close"):
                body.close()

    def _start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info and self.wrote_header:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._status and not exc_info:
            raise RuntimeError("start_response was called a second time without exc_info")
        self.begin(status, headers)
        return self.write

    def _hand_over(self, body: FileBody) -> bool:
        """Leave the sending of a file to the loop, if there is anything to send."""
        size = body.prepare(self._length)
        if not size:
            return False
        self._length = size
        self.write(b"")
        self.channel.write_soon(body)
        return True

    def _write_all(self, body: Iterable[bytes]) -> None:
        for number, piece in enumerate(body):
            if not number and self._length is None and isinstance(body, Sized) and len(body) == 1:
                self._length = len(piece)
            if piece:
                self.write(piece)
        if self._has_body and self._length is not None and self._written != self._length:
            self.close_on_finish = True
            _logger.warning(
                "the application wrote %d bytes of the Content-Length of %d it announced", self._written, self._length
            )


class AnswerTask(_Task):
    """Sends the answer in ``request.error`` and closes."""

    def execute(self) -> None:
        """Write it all."""
        answer = self.request.error
        fields = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
        self.begin(answer.status, [*fields, ("Content-Length", str(len(answer.body)))])
        self.close_on_finish = True
        self.write(answer.body)

"""One answer on waitress: what is written for it, and whether the connection lives on."""

from __future__ import annotations

import functools
import time
from email.utils import formatdate
from typing import Any

from waitress.task import Task, WSGITask

from .bodies import FileBody, ReadyBody

SMALL = 64 * 1024
"""Bodies up to this size leave together with their header, in one segment where it fits."""


@functools.lru_cache(maxsize=4)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


class _Writer(Task):  # type: ignore[misc] # waitress ships no types
    """Writes header and body. Unlike waitress's, it keeps the connection after 204, 304, HEAD and chunked answers."""

    wrote_header: bool = False
    _length: int | None = None

    @property
    def has_body(self) -> bool:
        """Whether this answer may have a body (RFC 9112 section 6.3)."""
        return self.request.command != "HEAD" and not self.status.startswith(("1", "204", "304"))

    @property
    def content_length(self) -> int | None:
        """Bytes of the body that the application announced; None for an answer without one."""
        return self._length if self.has_body else None

    @content_length.setter
    def content_length(self, length: int | None) -> None:
        self._length = length

    def service(self) -> None:
        """Do it all. Unlike waitress's, an OSError of the application is an error like any other."""
        self.start()
        self.execute()
        self.finish()

    def build_response_header(self) -> bytes:
        """The status line and the header, ready to send."""
        has_body, length = self.has_body, self._length
        lines = [f"HTTP/{self.version} {self.status}"]
        dated = named = False
        for name, value in self.response_headers:
            lower = name.lower()
            if lower in ("content-length", "connection"):
                if lower == "content-length" and self.request.command == "HEAD":
                    lines.append(f"Content-Length: {value}")
                continue
            dated = dated or lower == "date"
            named = named or lower == "server"
            lines.append(f"{name}: {value}")
        if has_body and length is not None:
            lines.append(f"Content-Length: {length}")
        elif has_body and self.version == "1.1":
            self.chunked_response = True
            lines.append("Transfer-Encoding: chunked")
        elif has_body:
            self.close_on_finish = True
        if not self.request.keep_alive or self.channel.server.draining:
            self.close_on_finish = True
        if self.close_on_finish:
            lines.append("Connection: close")
        elif self.version == "1.0":
            lines.append("Connection: keep-alive")
        if not named:
            lines.append(f"Server: {self.channel.server.adj.ident}")
        if not dated:
            lines.append(f"Date: {_date(int(self.start_time))}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def write(self, data: bytes) -> None:
        """Write a piece of the body, and the header before the first."""
        if not self.complete:
            raise RuntimeError("start_response was not called before the body")
        head = b""
        if not self.wrote_header:
            head = self.build_response_header()
            self.wrote_header = True
        if not data or not self.has_body:
            self.channel.write_soon(head)
            return
        length = self._length
        if self.chunked_response:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        elif length is not None:
            if len(data) > length - self.content_bytes_written:
                self.logger.warning("the application wrote more than the Content-Length of %d it announced", length)
                data = data[: length - self.content_bytes_written]
            self.content_bytes_written += len(data)
        if len(data) <= SMALL:
            self.channel.write_soon(head + data)
            return
        self.channel.write_soon(head)
        # A whole page is the application's own object, perhaps kept for others: no need to copy it.
        self.channel.write_soon(ReadyBody(data) if isinstance(data, bytes) and len(data) == length else data)


class RequestTask(_Writer, WSGITask):  # type: ignore[misc] # waitress ships no types
    """Calls the application."""

    def __init__(self, channel: Any, request: Any) -> None:
        super().__init__(channel, request)
        self.start_time = time.time()

    def get_environment(self) -> dict[str, Any]:
        """The WSGI environ (PEP 3333); the same dictionary early, without the body, and later with it."""
        request = self.request
        environ: dict[str, Any] | None = getattr(request, "environ", None)
        if environ is None:
            environ = super().get_environment()
            assert environ is not None
            self.channel.server.proxies.translate(environ)
            request.environ = environ
        if request.body is not None:
            environ["wsgi.input"] = request.get_body_stream()
            if request.completed:
                environ["CONTENT_LENGTH"] = request.headers["CONTENT_LENGTH"]
        environ["wsgi.file_wrapper"] = functools.partial(FileBody, wanted=lambda: self.has_body)
        return environ


class AnswerTask(_Writer):
    """Sends the answer in ``request.error`` and closes."""

    complete = True

    def execute(self) -> None:
        """Write it all."""
        answer = self.request.error
        self.status = answer.status
        self.response_headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
        if self.request.command == "HEAD":
            self.response_headers.append(("Content-Length", str(len(answer.body))))
        self.content_length = len(answer.body)
        self.close_on_finish = True
        self.write(answer.body)

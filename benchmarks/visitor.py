"""A small client that does what an installer must, and notes when bytes come.

It reads pages, follows their links and checks the digests of small files. What
that costs is added to everybody's times, as it is when an installer asks.
"""

from __future__ import annotations

import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
_PATIENCE = 60.0
_REDIRECTS = (301, 302, 303, 307, 308)


class Failed(Exception):
    """A server did not give what it was asked for; the text says what it did."""


@dataclass(frozen=True)
class Received:
    """One answer. Times are seconds since the request."""

    url: str
    status: int
    size: int
    first: float
    """When the first byte of the body came."""
    done: float
    body: bytes
    """Only if it was to be kept."""


class Visitor:
    """Keeps one connection to each server, and asks one thing at a time."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._space = bytearray(2**18)

    def close(self) -> None:
        """Close all connections."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def get(self, url: str, *, keep: bool = True) -> Received:
        """GET an address on this machine, and where it redirects to. Raises OSError."""
        began = time.monotonic()
        for _ in range(4):
            fields, answer = self._once(url, began, keep)
            if answer.status not in _REDIRECTS:
                break
            url = urljoin(url, fields["location"])
        return answer

    def _once(self, url: str, began: float, keep: bool) -> tuple[dict[str, str], Received]:
        parts = urlsplit(url)
        port = parts.port or 80
        connection = self._sockets.get(port)
        if connection is None:
            connection = self._sockets[port] = socket.create_connection(("127.0.0.1", port), _PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {ACCEPT}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            came = connection.recv(2**16)
            if not came:
                self._sockets.pop(port).close()
                raise ConnectionError("closed before it answered")
            head += came
        head, _, start = head.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split(" ")[1])
        body = _Body(connection, start, self._space, began, keep=keep)
        whole = body.read(fields)
        if not whole or fields.get("connection", "").lower() == "close":
            self._sockets.pop(port).close()
        answer = Received(url, status, body.size, body.first or time.monotonic() - began, 0.0, bytes(body.kept))
        return fields, Received(answer.url, status, body.size, answer.first, time.monotonic() - began, answer.body)


class _Body:
    """The body of one answer as it comes."""

    def __init__(self, connection: socket.socket, start: bytes, space: bytearray, began: float, *, keep: bool) -> None:
        self._connection, self._start, self._space, self._began, self._keep = connection, start, space, began, keep
        self.size = 0
        self.first = 0.0
        self.kept = bytearray()

    def read(self, fields: dict[str, str]) -> bool:
        """Everything; whether the connection can be used again."""
        if "chunked" in fields.get("transfer-encoding", ""):
            while length := int(self._line().partition(b";")[0], 16):
                self._take(length)
                self._line()
            self._line()
            return True
        if "content-length" in fields:
            self._take(int(fields["content-length"]))
            return True
        while came := self._some(2**18):
            self._note(came)
        return False

    def _take(self, length: int) -> None:
        while length:
            came = self._some(length)
            if not came:
                raise ConnectionError("broke off")
            self._note(came)
            length -= len(came)

    def _note(self, came: memoryview) -> None:
        self.first = self.first or time.monotonic() - self._began
        self.size += len(came)
        if self._keep:
            self.kept += came

    def _some(self, most: int) -> memoryview:
        if self._start:
            came, self._start = self._start[:most], self._start[most:]
            return memoryview(came)
        space = memoryview(self._space)
        return space[: self._connection.recv_into(space[:most])]

    def _line(self) -> bytes:
        while b"\n" not in self._start:
            came = self._connection.recv(2**16)
            if not came:
                raise ConnectionError("broke off")
            self._start += came
        line, _, self._start = self._start.partition(b"\n")
        return line.strip()


def listed(answer: Received, filename: str) -> tuple[str, str]:
    """Address and sha256 of a file on a page, in JSON or HTML. Raises Failed."""
    if answer.status != 200:
        raise Failed(f"status {answer.status} for {answer.url}: {answer.body[:100]!r}")
    if answer.body.startswith(b"{"):
        for file in json.loads(answer.body)["files"]:
            if file["filename"] == filename:
                return urljoin(answer.url, file["url"]), file["hashes"]["sha256"]
    for match in re.finditer(r'href="([^"#]*)#sha256=([0-9a-f]{64})"', answer.body.decode()):
        if match[1].endswith(f"/{filename}") or match[1] == filename:
            return urljoin(answer.url, match[1]), match[2]
    raise Failed(f"{answer.url} does not list {filename} with its digest")


def together(count: int, work: Callable[[Visitor], None]) -> None:
    """Let so many visitors work at once, each with connections of its own. Raises Failed for the first failure."""
    failures: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run() -> None:
        visitor = Visitor()
        try:
            work(visitor)
        except (OSError, Failed, ValueError, LookupError, threading.BrokenBarrierError) as error:
            failures.put(f"{type(error).__name__}: {error}")
        finally:
            visitor.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise Failed(f"{failures.get()} (and {failures.qsize()} more)")

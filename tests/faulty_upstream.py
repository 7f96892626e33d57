"""A package index on a real socket that does what it is told, also the things no index should."""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import hashlib
import json
import re
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class Stored:
    """A resource that is there."""

    body: bytes
    content_type: str = "application/octet-stream"
    etag: str | None = None
    modified: str | None = None
    ranges: bool = True
    gzip: bool = False
    chunked: bool = False
    delay: float = 0.0
    speed: float | None = None
    """Bytes per second; ``None``: at once."""
    extra: dict[str, str] = field(default_factory=dict)


Fault = Callable[["Handler"], None]


class FaultyUpstream(socketserver.ThreadingTCPServer):
    """Serves `stored` by path, unless a fault is set for the path; remembers every request."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self._tls = tls
        self.stored: dict[str, Stored] = {}
        self.faults: dict[str, list[Any]] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.live: set[socket.socket] = set()
        self.forgotten: set[socket.socket] = set()
        self.password: str | None = None
        """The Authorization field to insist on."""
        self._lock = threading.Lock()

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection, encrypted where the upstream speaks TLS."""
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake comes with the first read, in the connection's own thread.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def base(self) -> str:
        """Its root."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/"

    @property
    def url(self) -> str:
        """Its index."""
        return f"{self.base}simple/"

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(request)

    def paths(self, method: str = "GET") -> list[str]:
        """What was asked for, in order."""
        return [request.path for request in self.requests if request.method == method]

    def count(self, path: str) -> int:
        """How often `path` was asked for."""
        return self.paths().count(path)

    def fault(self, path: str, fault: Fault, times: int = 10**9) -> None:
        """From now on answer `path` with a fault, so many times."""
        self.faults[path] = [fault, times]

    def forget(self) -> None:
        """What is sent on the connections that are open now reaches nobody any more, as behind some firewalls."""
        self.forgotten |= self.live

    def heal(self) -> None:
        """No more faults."""
        self.faults.clear()

    def fault_for(self, path: str) -> Fault | None:
        """What is wrong with this answer, once less often from now on."""
        with self._lock:
            for known in (path, "*"):
                if self.faults.get(known, [None, 0])[1] > 0:
                    self.faults[known][1] -= 1
                    fault: Fault = self.faults[known][0]
                    return fault
        return None

    def add(
        self,
        project: str,
        filename: str,
        data: bytes,
        *,
        hashes: dict[str, str] | None = None,
        size: bool = True,
        metadata: bytes | None = None,
        url: str | None = None,
        **facts: Any,
    ) -> str:
        """Put a file there and list it on its project's JSON page; its path. `facts` are further keys of the entry."""
        path = f"/files/{filename}"
        digest = hashlib.sha256(data).hexdigest()
        self.stored[path] = Stored(data, etag=f'"{digest[:16]}"')
        entry: dict[str, Any] = {"filename": filename, "url": url or f"../..{path}"}
        entry["hashes"] = {"sha256": digest} if hashes is None else hashes
        if size:
            entry["size"] = len(data)
        if metadata is not None:
            self.stored[path + ".metadata"] = Stored(metadata)
            entry["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
        entry.update({name.replace("_", "-"): value for name, value in facts.items()})
        page = f"/simple/{project}/"
        files = json.loads(self.stored[page].body)["files"] if page in self.stored else []
        files = [known for known in files if known["filename"] != filename] + [entry]
        self.page(project, files)
        return path

    def page(self, project: str, files: list[dict[str, Any]], **facts: Any) -> None:
        """Put a JSON page there."""
        body = json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": []}).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        self.stored[f"/simple/{project}/"] = Stored(body, JSON, etag, **facts)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FaultyUpstream

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections += 1
        self.server.live.add(self.connection)

    def finish(self) -> None:
        """The connection has ended."""
        self.server.live.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        """All requests of a connection, until either side closes it."""
        try:
            super().handle()
        except (OSError, ValueError):  # the client, or the end of the test, closed the connection
            self.close_connection = True

    def do_GET(self) -> None:
        """The fault that is due, or what is stored."""
        if self.connection in self.server.forgotten:
            while self.connection.recv(2**16):
                pass
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.note(Request(self.command, self.path, headers))
        path = self.path.partition("?")[0]
        fault = self.server.fault_for(path)
        if fault is not None:
            fault(self)
        elif self.server.password is not None and headers.get("authorization") != self.server.password:
            self.answer(401, b"who are you?")
        elif path in self.server.stored:
            self.store(self.server.stored[path], headers)
        else:
            self.answer(404, b"nothing here")

    do_HEAD = do_GET

    def store(self, stored: Stored, headers: dict[str, str]) -> None:
        """Answer with what is stored, as the request wants it."""
        time.sleep(stored.delay)
        fields = {"Content-Type": stored.content_type, **stored.extra}
        if stored.etag:
            fields["ETag"] = stored.etag
        if stored.modified:
            fields["Last-Modified"] = stored.modified
        unchanged = stored.etag and headers.get("if-none-match") == stored.etag
        if unchanged or (stored.modified and headers.get("if-modified-since") == stored.modified):
            return self.answer(304, b"", fields)
        body = stored.body
        if stored.gzip and "gzip" in headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            fields["Content-Encoding"] = "gzip"
        if stored.chunked:
            return self.chunks([body[at : at + 5000] for at in range(0, len(body), 5000)], fields)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if stored.ranges:
            fields["Accept-Ranges"] = "bytes"
            if asked and headers.get("if-range") in (None, stored.etag):
                start = int(asked[1]) if asked[1] else max(len(body) - int(asked[2]), 0)
                stop = min(int(asked[2]) + 1, len(body)) if asked[1] and asked[2] else len(body)
                fields["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
                return self.answer(206, body[start:stop], fields, speed=stored.speed)
        return self.answer(200, body, fields, speed=stored.speed)

    def answer(
        self, status: int, body: bytes, fields: dict[str, str] | None = None, *, speed: float | None = None
    ) -> None:
        """A whole answer; `speed` in bytes a second."""
        self.send_response_only(status)
        for name, value in {"Date": email.utils.formatdate(usegmt=True), **(fields or {})}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if speed is None:
            self.wfile.write(body)
            return
        step = max(int(speed / 50), 1)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            time.sleep(step / speed)

    def chunks(self, parts: list[bytes], fields: dict[str, str] | None = None, *, end: bool = True) -> None:
        """An answer in chunks, without its end if not `end`."""
        self.send_response_only(200)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.cut()

    def raw(self, data: bytes) -> None:
        """These bytes, and the end of the connection."""
        self.wfile.write(data)
        self.cut()

    def cut(self) -> None:
        """Close the connection here and now."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def upstream(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[FaultyUpstream]:
    """An upstream that runs for the length of a block; with `tls` it speaks https."""
    server = FaultyUpstream(port, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for connection in list(server.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def status(code: int, body: bytes = b"no") -> Fault:
    """Answers with a status."""
    return lambda handler: handler.answer(code, body, {"Content-Type": "text/plain"})


def redirect(to: str) -> Fault:
    """Sends elsewhere."""
    return lambda handler: handler.answer(302, b"", {"Location": to})


def page(body: bytes, content_type: str = JSON, **fields: str) -> Fault:
    """Answers with another page."""
    return lambda handler: handler.answer(200, body, {"Content-Type": content_type, **fields})


def hang(seconds: float = 3.0) -> Fault:
    """Accepts the request and says nothing."""

    def fault(handler: Handler) -> None:
        time.sleep(seconds)
        handler.cut()

    return fault


def after(seconds: float, then: Fault) -> Fault:
    """Another fault, a while later."""

    def fault(handler: Handler) -> None:
        time.sleep(seconds)
        then(handler)

    return fault


def drip(body: bytes, seconds: float, content_type: str = JSON) -> Fault:
    """Sends a byte now and then, so that no single read takes too long."""

    def fault(handler: Handler) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n".encode())
        handler.wfile.write(f"Content-Length: {len(body)}\r\n\r\n".encode())
        for at in range(len(body)):
            handler.wfile.write(body[at : at + 1])
            time.sleep(seconds)

    return fault


def drip_header(seconds: float) -> Fault:
    """Sends a header field now and then, and never a body."""

    def fault(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(90):
            handler.wfile.write(f"X-{number}: x\r\n".encode())
            time.sleep(seconds)

    return fault


def truncate(body: bytes, at: int, content_type: str = JSON, **fields: str) -> Fault:
    """Promises the whole body, sends its beginning, and breaks off."""

    def fault(handler: Handler) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        handler.raw(head.encode() + body[:at])

    return fault


def stall(body: bytes, at: int, seconds: float, **fields: str) -> Fault:
    """Promises the whole body, sends its beginning, and then nothing."""

    def fault(handler: Handler) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body[:at])
        time.sleep(seconds)
        handler.cut()

    return fault


def cut_chunks(parts: list[bytes], content_type: str = JSON) -> Fault:
    """A chunked body without its end."""
    return lambda handler: handler.chunks(parts, {"Content-Type": content_type}, end=False)


def garbage() -> Fault:
    """Answers with what is no HTTP."""
    return lambda handler: handler.raw(b"\x00\x01\x02 not HTTP at all\r\n\r\n")


def reset() -> Fault:
    """Closes the connection without a word."""
    return lambda handler: handler.cut()


def bomb(size: int) -> Fault:
    """A small gzip stream that unpacks to `size` bytes."""
    packed = gzip.compress(bytes(size), 9)
    return page(packed, **{"Content-Encoding": "gzip"})

"""A forward proxy on a real socket, which counts, insists on a password, or refuses."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Asked:
    """What the proxy was asked for."""

    method: str
    target: str
    headers: dict[str, str]


class ForwardProxy(socketserver.ThreadingTCPServer):
    """Tunnels (CONNECT) and forwards requests to whatever `names` says, by ``HOST:PORT``, and to nothing else."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, names: Mapping[str, int], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._tls = tls
        self.names = names
        self.asked: list[Asked] = []
        self.password: str | None = None
        """The Proxy-Authorization field to insist on."""
        self.refusal: int | None = None
        """The status that everybody gets."""
        self.silent = threading.Event()
        """Set: accept, and say nothing."""
        self.delay = 0.0
        """Seconds before anything is done."""
        self.nonsense: bytes | None = None
        """What everybody gets in the place of an answer."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection, encrypted where the proxy speaks TLS."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ForwardProxy

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """All requests of a connection, until either side closes it."""
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def _goal(self, authority: str) -> socket.socket | None:
        """A connection to what was asked for; without one the client has its answer."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers))
        time.sleep(self.server.delay)
        while self.server.silent.is_set():
            self.server.silent.wait(0.1)
            if self.connection.recv(1) == b"":
                return None
        if self.server.nonsense is not None:
            self.wfile.write(self.server.nonsense)
            self.close_connection = True
            return None
        status = self.server.refusal
        if self.server.password is not None and headers.get("proxy-authorization") != self.server.password:
            status = 407
        if status is None and authority not in self.server.names:
            status = 502
        if status is not None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return socket.create_connection(("127.0.0.1", self.server.names[authority]))

    def do_CONNECT(self) -> None:
        """A tunnel."""
        goal = self._goal(self.path)
        if goal is None:
            return
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with goal:
            back = threading.Thread(target=_pump, args=(goal, self.connection), daemon=True)
            back.start()
            _pump(self.connection, goal)
            back.join()

    def do_GET(self) -> None:
        """A request passed on."""
        parts = urlsplit(self.path)
        goal = self._goal(f"{parts.hostname}:{parts.port or 80}")
        if goal is None:
            return
        self.close_connection = True
        fields = [f"{k}: {v}" for k, v in self.headers.items() if not k.lower().startswith(("proxy-", "connection"))]
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with goal:
            lines = [f"{self.command} {path} HTTP/1.1", *fields, "Connection: close", "", ""]
            goal.sendall("\r\n".join(lines).encode("latin-1"))
            goal.shutdown(socket.SHUT_WR)
            _pump(goal, self.connection)

    do_HEAD = do_GET


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxy(names: Mapping[str, int], tls: ssl.SSLContext | None = None) -> Iterator[ForwardProxy]:
    """A proxy that runs for the length of a block; with `tls` it speaks https."""
    server = ForwardProxy(names, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.silent.clear()
        server.shutdown()
        server.server_close()
        thread.join()

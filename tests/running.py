"""A server over a tiny application of the tests' own: in a thread, or as a program of its own.

Run as a program, this file is that application on a server: it reads its
options as JSON and prints the port.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pypiserver_lite import servers
from pypiserver_lite.servers import Options
from pypiserver_lite.servers.waitress import Service

MIB = 1024 * 1024
INSTALLED = {name for name in servers.SERVERS if find_spec(name) is not None}
"""The servers that are there."""
PAGE = b"x" * 300_000
LARGE = bytes(range(256)) * 4 * 8192


class App:
    """Says what it was asked; refuses bodies of whoever names a wrong password."""

    def __init__(self, big: Path | None = None) -> None:
        self.big = big
        self.bodies: list[bytes] = []
        self.early = 0
        self.go_on = threading.Event()

    def refuse_early(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes] | None:
        """What the server asks before it takes a body."""
        self.early += 1
        assert environ["wsgi.input"].read() == b""
        if environ.get("HTTP_AUTHORIZATION") == "crash":
            raise RuntimeError("an error of the application")
        if environ.get("HTTP_AUTHORIZATION") == "slow":
            self.go_on.wait(20)
        if environ.get("HTTP_AUTHORIZATION") == "wrong":
            fields = [("Content-Type", "text/plain"), ("WWW-Authenticate", 'Basic realm="x"')]
            return "401 Unauthorized", fields, b"no\n"
        return None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer by the method that the path names."""
        if environ.get("HTTP_AUTHORIZATION") == "wrong":  # only where nothing asks early
            start_response("401 Unauthorized", [("Content-Length", "3")])
            return [b"no\n"]
        path = environ["PATH_INFO"].removeprefix("/")
        answer: Callable[[dict[str, Any], Any], Iterable[bytes]] = getattr(self, path or "echo", self.echo)
        return answer(environ, start_response)

    def echo(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The environment and the length of the body, as JSON."""
        body = environ["wsgi.input"].read()
        self.bodies.append(body)
        said = {key: value for key, value in environ.items() if isinstance(value, str)}
        said["body"] = str(len(body))
        text = json.dumps(said).encode()
        start_response("200 OK", [("Content-Length", str(len(text)))])
        return [text]

    def page(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """A page of 300 kB."""
        start_response("200 OK", [("Content-Length", str(len(PAGE)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [PAGE]

    def large(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """A page of 8 MiB."""
        start_response("200 OK", [("Content-Length", str(len(LARGE)))])
        return [LARGE]

    def unchanged(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """304."""
        start_response("304 Not Modified", [("ETag", '"x"')])
        return []

    def empty(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """204."""
        start_response("204 No Content", [])
        return []

    def stream(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Two pieces, of a length that is not told."""
        start_response("200 OK", [])
        yield b"one"
        yield b"two"

    def endless(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """200 MiB in pieces."""
        start_response("200 OK", [])
        for _ in range(200):
            yield bytes(MIB)

    def numbered(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Numbered lines, slowly."""
        start_response("200 OK", [])
        for number in range(400):
            time.sleep(0.0005)
            yield b"%07d\n" % number * 5000

    def broken(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """An error before the answer."""
        raise RuntimeError("secret path")

    def twice(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """An answer that begins twice."""
        start_response("200 OK", [("X-First", "1")])
        try:
            raise RuntimeError("after all")
        except RuntimeError:
            start_response("503 Not Now", [], sys.exc_info() if environ["QUERY_STRING"] == "excused" else None)
        return [b"not now"]

    def written(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """By `write`, then as usual."""
        start_response("200 OK", [("Content-Length", "6")])(b"one")
        return [b"two"]

    def hurried(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """A trickle, then a flood."""
        start_response("200 OK", [])
        for _ in range(25):
            time.sleep(0.1)
            yield b"trickle\n"
        for _ in range(2000):
            time.sleep(0.001)
            yield bytes(16384)

    def too_late(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """An error after the first bytes."""
        start_response("200 OK", [])(b"one")
        try:
            raise RuntimeError("after all")
        except RuntimeError:
            start_response("503 Not Now", [], sys.exc_info())
        return [b"two"]

    def short(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Less than was promised."""
        start_response("200 OK", [("Content-Length", "10")])
        return [b"one"]

    def torn(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """An error in the middle."""
        start_response("200 OK", [])
        yield b"one"
        raise RuntimeError("in the middle")

    def file(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """A part of the large file, by the server's own wrapper."""
        assert self.big is not None
        query = dict(part.split("=") for part in environ["QUERY_STRING"].split("&") if part)
        file = self.big.open("rb")
        file.seek(int(query.get("start", "0")))
        length = query.get("length", str(self.big.stat().st_size))
        start_response("200 OK", [("Content-Length", length)])
        if environ["REQUEST_METHOD"] == "HEAD":
            file.close()
            return []
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    def wait(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Nothing until `go_on` is set."""
        self.go_on.wait(20)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def slow(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Thirty bytes in a second."""
        start_response("200 OK", [("Content-Length", "30")])
        for _ in range(10):
            time.sleep(0.1)
            yield b"abc"


class Running:
    """A service in a thread."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        self.service = Service(Options(**{"port": 0, "grace": 1, **options}))
        self.host, self.port = self.service.host, self.service.port
        self.thread = threading.Thread(target=self.service.run, args=(app,), daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection((self.host, self.port), timeout=10)

    def raw(self, data: bytes) -> bytes:
        """All that comes back for `data`, until the server closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def client(self) -> http.client.HTTPConnection:
        """A client of its own."""
        return http.client.HTTPConnection(self.host, self.port, timeout=20)

    def get(self, path: str = "/", **fields: str) -> tuple[int, bytes]:
        """Status and body of a GET, on a connection of its own."""
        client = self.client()
        client.request("GET", path, headers=fields)
        answer = client.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            client.close()

    def stop(self) -> None:
        """End at once, and see that it ends."""
        if isinstance(self.app, App):
            self.app.go_on.set()
        self.service.stop()
        self.service.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_head(connection: socket.socket) -> bytes:
    """A header, and not a byte more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, data
        data += piece
    return data


Start = Callable[..., Running]


POST = b"POST / HTTP/1.1\r\nHost: here\r\n"


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def pieces(total: int) -> Iterator[bytes]:
    """A body in pieces."""
    piece = bytes(MIB)
    for _ in range(total // MIB):
        yield piece


class Zeros(io.RawIOBase):
    """A file of zeros that is not in memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` zeros, or all that are left."""
        count = min(self.left, size if size >= 0 else self.left)
        self.left -= count
        return bytes(count)


class Process:
    """This file as a program."""

    def __init__(self, server: str = "waitress", **options: Any) -> None:
        arguments = json.dumps({"server": server, "port": 0, **options})
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(servers.__file__).parents[2])])
        self.process = subprocess.Popen(
            [sys.executable, __file__, arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server did not start"
        self.port = int(line)

    def workers(self) -> list[int]:
        """The processes that it started; on Linux."""
        return [
            int(word) for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> socket.socket:
        """A connection on which `data` was sent."""
        connection = self.connect()
        connection.sendall(data)
        return connection

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self, within: float) -> int:
        """The exit code. Raises TimeoutExpired."""
        return self.process.wait(within)


def main(arguments: dict[str, Any]) -> None:
    """Serve with these options, and print the port."""
    server = arguments.pop("server")
    ignored = arguments.pop("ignored", [])
    for number in (signal.SIGHUP, signal.SIGINT) if os.name == "posix" else ():
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)  # whoever started the tests
    if limit := arguments.pop("file_limit", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if few := arguments.pop("few_files", None):
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for name in ("tls_cert", "tls_key"):
        if name in arguments:
            arguments[name] = Path(arguments[name])
    arguments["trusted_proxy"] = tuple(arguments.get("trusted_proxy", ()))
    servers.run(
        server,
        servers.Serving(
            make_app=App,
            make_again=App,
            options=Options(**arguments),
            ready=lambda host, port: print(port, flush=True),
        ),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

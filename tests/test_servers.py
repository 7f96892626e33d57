"""What the servers promise, over real sockets, with a tiny application of the tests' own.

Run as a program, this file is that application on a server: it reads its
options as JSON and prints the port.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import io
import json
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import live
import pytest
import requests

from pypiserver_lite import servers
from pypiserver_lite.errors import ConfigError
from pypiserver_lite.servers import Options
from pypiserver_lite.servers.mends import Channel, Task, head_of, remembered_head
from pypiserver_lite.servers.options import listen
from pypiserver_lite.servers.proxies import TrustedProxies
from pypiserver_lite.servers.waitress import Service

MIB = 1024 * 1024
INSTALLED = {name for name in servers.SERVERS if find_spec(name) is not None}
PAGE = b"x" * 300_000


class App:
    """Says what it was asked; refuses bodies of whoever names a wrong password."""

    def __init__(self, big: Path | None = None) -> None:
        self.big = big
        self.bodies: list[bytes] = []
        self.early = 0
        self.go_on = threading.Event()

    def refuse_early(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes] | None:
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
        if environ.get("HTTP_AUTHORIZATION") == "wrong":  # only where nothing asks early
            start_response("401 Unauthorized", [("Content-Length", "3")])
            return [b"no\n"]
        path = environ["PATH_INFO"].removeprefix("/")
        answer: Callable[[dict[str, Any], Any], Iterable[bytes]] = getattr(self, path or "echo", self.echo)
        return answer(environ, start_response)

    def echo(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        self.bodies.append(body)
        said = {key: value for key, value in environ.items() if isinstance(value, str)}
        said["body"] = str(len(body))
        text = json.dumps(said).encode()
        start_response("200 OK", [("Content-Length", str(len(text)))])
        return [text]

    def page(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(len(PAGE)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [PAGE]

    def unchanged(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("304 Not Modified", [("ETag", '"x"')])
        return []

    def empty(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    def stream(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"one"
        yield b"two"

    def endless(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        for _ in range(200):
            yield bytes(MIB)

    def numbered(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        for number in range(400):
            time.sleep(0.0005)
            yield b"%07d\n" % number * 5000

    def broken(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("secret path")

    def twice(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise RuntimeError("after all")
        except RuntimeError:
            start_response("503 Not Now", [], sys.exc_info() if environ["QUERY_STRING"] == "excused" else None)
        return [b"not now"]

    def written(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "6")])(b"one")
        return [b"two"]

    def hurried(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        for _ in range(25):
            time.sleep(0.1)
            yield b"trickle\n"
        for _ in range(2000):
            time.sleep(0.001)
            yield bytes(16384)

    def too_late(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])(b"one")
        try:
            raise RuntimeError("after all")
        except RuntimeError:
            start_response("503 Not Now", [], sys.exc_info())
        return [b"two"]

    def short(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return [b"one"]

    def torn(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"one"
        raise RuntimeError("in the middle")

    def file(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
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
        self.go_on.wait(20)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def slow(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
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
        return socket.create_connection((self.host, self.port), timeout=10)

    def raw(self, data: bytes) -> bytes:
        """All that comes back for `data`, until the server closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=20)

    def get(self, path: str = "/", **fields: str) -> tuple[int, bytes]:
        client = self.client()
        client.request("GET", path, headers=fields)
        answer = client.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            client.close()

    def stop(self) -> None:
        if isinstance(self.app, App):
            self.app.go_on.set()
        self.service.stop()
        self.service.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_head(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, data
        data += piece
    return data


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin(**options: Any) -> Running:
        big = tmp_path / "big"
        if not big.exists():
            big.write_bytes(bytes(range(256)) * 4096 * 32)  # 32 MiB
        running.append(Running(App(big), **options))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(App(tmp_path_factory.mktemp("shared") / "big"), max_body=20 * MIB)
    yield running
    running.stop()


# One message, one meaning (SECURITY-CHECKLIST 5)

POST = b"POST / HTTP/1.1\r\nHost: here\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"
MALFORMED = {
    "both lengths": (400, POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "length twice": (400, POST + b"Content-Length: 0\r\nContent-Length: 39\r\n\r\n"),
    "same length twice": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "length list": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "coding twice": (400, CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding list": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "empty coding": (400, POST + b"Transfer-Encoding:\r\n\r\n"),
    "odd coding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n"),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\nConnection: keep-alive\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding in 1.2": (400, b"POST / HTTP/1.2\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "plus": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "minus": (400, POST + b"Content-Length: -3\r\n\r\nabc"),
    "inner space": (400, POST + b"Content-Length: 1 0\r\n\r\nabc"),
    "underscore in number": (400, POST + b"Content-Length: 1_0\r\n\r\nabc"),
    "underscore in name": (400, POST + b"Content_Length: 10\r\n\r\nabc"),
    "hexadecimal": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\nabc"),
    "other digits": (400, POST + b"Content-Length: \xb2\r\n\r\nabc"),
    "endless number": (400, POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc"),
    "space before colon": (400, POST + b"Content-Length : 3\r\n\r\nabc"),
    "folded": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "bare newline": (400, b"GET / HTTP/1.1\nHost: here\r\nContent-Length: 3\n\r\n\r\n"),
    "bare return": (400, b"GET / HTTP/1.1\r\nHost: here\rX: y\r\n\r\n"),
    "null": (400, b"GET / HTTP/1.1\r\nHost: here\r\nX: a\x00b\r\n\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\nHost: here\r\nnonsense\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "odd host": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "no version": (400, b"GET /\r\n\r\n"),
    "odd version": (400, b"GET / HTTP/11\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: here\r\n\r\n"),
    "small method": (400, b"get / HTTP/1.1\r\nHost: here\r\n\r\n"),
    "no slash": (400, b"GET index HTTP/1.1\r\nHost: here\r\n\r\n"),
    "broken address": (400, b"GET http://[/ HTTP/1.1\r\nHost: here\r\n\r\n"),
    "raw bytes": (400, b"GET /\xff HTTP/1.1\r\nHost: here\r\n\r\n"),
    "https": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "http2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "endless address": (431, b"GET /" + b"a" * 70000),
    "large header": (431, b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 70000 + b"\r\n\r\n"),
    "endless header": (431, b"GET / HTTP/1.1\r\nHost: here\r\n" + b"X: aaaaaaa\r\n" * 7000),
    "chunk size": (400, CHUNKED + b"xyz\r\n"),
    "signed chunk": (400, CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk newline": (400, CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    "double newline": (400, CHUNKED + b"3\n\r\nabc\r\n0\r\n\r\n"),
    "chunk overrun": (400, CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n"),
    "endless chunk line": (400, CHUNKED + b"0" * 9000),
    "endless trailer": (400, CHUNKED + b"0\r\n" + b"a: b\r\n" * 3000),
    "request for a trailer": (400, CHUNKED + b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "null in a trailer": (400, CHUNKED + b"0\r\na: \0\r\n\r\n"),
    "odd host in the address": (400, b"GET http://me@there/ HTTP/1.1\r\nHost: here\r\n\r\n"),
    "row of spaces": (400, b"GET / HTTP/1.1\r\nHost: here\r\nX:" + b" " * 60000 + b"x\r\n\r\n"),
    "address that is slow to read": (400, b"GET http://" + b"1" * 60000 + b" x HTTP/1.1\r\nHost: here\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_an_ambiguous_or_oversized_request_is_refused_and_what_follows_is_never_read_as_one(
    shared: Running, case: str
) -> None:
    status, data = MALFORMED[case]
    with shared.connect() as connection:
        connection.sendall(data + (b"" if case == "https" or "endless" in case else SMUGGLED))
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
        except ConnectionResetError:
            assert status == 431  # who is still sending a header when the connection closes may not hear why
            return
        text = answer.read()
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = connection.recv(10)
    assert answer.status == status, text
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert (answer.getheader("Connection") or "").startswith("close")
    assert answer.getheader("Server") == "pypiserver-lite"
    assert len(text) < 200 and b"Traceback" not in text and b"<" not in text
    assert rest == b""


def test_a_header_full_of_spaces_is_read_in_linear_time(shared: Running) -> None:
    began = time.monotonic()
    with shared.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nX:" + b" " * 60000 + b"\x00\r\n\r\n")
        assert b" 400 " in read_head(connection)
    assert shared.get()[0] == 200
    assert time.monotonic() - began < 2


def test_ordinary_oddities_are_understood(shared: Running) -> None:
    def said(data: bytes) -> dict[str, str]:
        with shared.connect() as connection:
            connection.sendall(data)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            result: dict[str, str] = json.loads(answer.read())
            return result

    first = said(b"\r\n\r\nGET /a%20b?c=%64 HTTP/1.1\r\nhost: here\r\nx-a: 1\r\nX-A:2\r\nX_A: 3\r\n\r\n")
    assert (first["PATH_INFO"], first["QUERY_STRING"], first["HTTP_X_A"]) == ("/a b", "c=%64", "1, 2")
    assert said(b"GET http://here/x?y HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/x"
    assert said(b"GET http://there:99/x HTTP/1.1\r\nHost: here\r\n\r\n")["HTTP_HOST"] == "there:99"
    assert said(b"GET http://here HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/"
    assert said(b"GET //x HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/x"
    assert said(b"GET /y HTTP/1.0\r\n\r\n")["PATH_INFO"] == "/y"


# Early refusals (STANDARDS A7, T15)


def pieces(total: int) -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(total // MIB):
        yield piece


class Zeros(io.RawIOBase):
    """A file of zeros that is not in memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = min(self.left, size if size >= 0 else self.left)
        self.left -= count
        return bytes(count)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_200_mb_with_a_wrong_password_gets_its_401(start: Start, chunked: bool) -> None:
    running = start()
    client = running.client()
    fields = {"Authorization": "wrong"} | ({} if chunked else {"Content-Length": str(200 * MIB)})
    client.request("POST", "/", body=pieces(200 * MIB), headers=fields, encode_chunked=chunked)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (401, b"no\n")
    assert answer.getheader("WWW-Authenticate")
    client.request("GET", "/page")
    assert client.getresponse().read() == PAGE
    client.close()
    assert running.app.early == 1 and running.app.bodies == []
    assert running.get()[0] == 200


def test_a_refused_multipart_upload_of_requests_gets_its_401(start: Start) -> None:
    running = start()
    url = f"http://127.0.0.1:{running.port}/"
    files = {"content": ("ours-1.0.whl", os.urandom(30 * MIB))}
    answer = requests.post(
        url, data={":action": "file_upload"}, files=files, headers={"Authorization": "wrong"}, timeout=20
    )
    assert (answer.status_code, answer.text) == (401, "no\n")
    answer = requests.post(url, data={":action": "file_upload"}, files=files, timeout=20)
    assert answer.status_code == 200
    assert len(running.app.bodies[0]) > 30 * MIB


def test_a_body_nobody_wants_is_read_to_its_end_however_early_it_is_refused(start: Start) -> None:
    running = start()
    workers = running.service._workers
    add_task = workers.add_task

    def add_and_wait(task: Any) -> None:  # as on a busy machine: the worker is done before the loop goes on
        add_task(task)
        time.sleep(0.1)

    workers.add_task = add_and_wait
    with running.connect() as connection:
        connection.sendall(POST + b"Content-Length: 9\r\nAuthorization: wrong\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 401 ")
        assert connection.recv(3) == b"no\n"
        connection.sendall(b"nobody's\nGET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_piece_of_a_body_that_looks_like_the_begin_of_tls_is_a_piece_of_the_body(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"\x16\x03\x01 a body")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_in_chunks_may_end_anywhere_between_two_pieces(shared: Running) -> None:
    for at in range(1, 12):
        sent = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        with shared.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(sent[:-at])
            time.sleep(0.02)
            connection.sendall(sent[-at:])
            assert read_head(connection).startswith(b"HTTP/1.1 200 "), at


def test_those_who_wait_for_100_continue_hear_it_once_and_then_their_answer(start: Start) -> None:
    running, stop = start(), threading.Event()

    def keep_busy() -> None:
        client = running.client()
        while not stop.is_set():
            client.request("GET", "/page")
            client.getresponse().read()
        client.close()

    def upload(turns: int) -> None:
        for _ in range(turns):
            with running.connect() as connection:
                connection.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
                assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
                connection.sendall(b"abc")
                assert read_head(connection).startswith(b"HTTP/1.1 200 ")

    busy = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(upload, [150] * 4))
    finally:
        stop.set()
        for thread in busy:
            thread.join()


def test_who_hangs_up_instead_of_waiting_for_100_continue_leaves_no_trace(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = start()
    for _ in range(200):
        with running.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert running.get("/page") == (200, PAGE)
    assert not caplog.records


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_refusal_reaches_who_sends_all_of_a_body_first(start: Start, version: bytes) -> None:
    """As nginx does, which speaks HTTP/1.0 unless it is told otherwise."""
    running = start()
    body = bytes(20 * MIB)
    for _ in range(5):
        with running.connect() as connection:
            head = (
                b"POST / HTTP/%s\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\nAuthorization: wrong\r\n\r\n"
            )
            connection.sendall(head % (version, len(body)) + body)
            assert read_all(connection).partition(b" ")[2].startswith(b"401 ")


@pytest.mark.parametrize("asked", [b"Content-Length: 25000000", b"Transfer-Encoding: chunked"])
def test_a_refused_head_has_no_body(shared: Running, asked: bytes) -> None:
    with shared.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nAuthorization: wrong\r\n" + asked + b"\r\n\r\n")
        assert read_head(connection).startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 413 "))
        connection.sendall(b"0\r\n\r\n" if asked.endswith(b"chunked") else bytes(25_000_000))
        connection.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 204 ")


def test_blank_lines_before_a_request_cost_next_to_nothing(shared: Running) -> None:
    began = time.process_time()
    with shared.connect() as connection:
        connection.sendall(b"\r\n" * 8_000_000)
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert time.process_time() - began < 4  # a request of each took ten times as long


def test_what_a_client_sent_before_it_stopped_sending_is_answered(start: Start) -> None:
    running = start()
    running.app.go_on.clear()
    with running.connect() as connection:
        # The answer is late, so that the end has come before the second body is taken up.
        connection.sendall(POST + b"Content-Length: 3\r\nAuthorization: slow\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        running.app.go_on.set()
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_stop_answers_what_was_sent_before_it(start: Start) -> None:
    running = start(grace=20)
    asked = b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as several:
        slow, *others = (several.enter_context(running.connect()) for _ in range(60))
        slow.sendall(POST + b"Content-Length: 3\r\nAuthorization: slow\r\n\r\nabc")
        while not running.app.early:
            time.sleep(0.01)
        for connection in others:
            connection.sendall(asked)
        running.service.stop()
        time.sleep(0.1)
        running.app.go_on.set()  # only now it is decided that the body is wanted, which is there already
        for connection in (slow, *others):
            assert read_head(connection).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 "))
        running.thread.join(10)
        assert not running.thread.is_alive()


def test_a_refusal_comes_instead_of_100_continue(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nAuthorization: wrong\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


def test_an_accepted_body_is_asked_for_with_100_continue(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert shared.app.bodies[-1] == b"abc"


def test_expect_on_a_request_without_a_body_does_not_hang(shared: Running) -> None:
    assert shared.get("/", Expect="100-continue")[0] == 200


def test_deciding_may_take_long_and_keeps_nobody_waiting(start: Start) -> None:
    running = start()
    for more in (b"", b"Expect: 100-continue\r\n"):
        running.app.go_on.clear()
        with running.connect() as connection:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAuthorization: slow\r\n"
            connection.sendall(head + more + b"\r\n" + (b"" if more else b"abc"))
            assert running.get("/page") == (200, PAGE)
            running.app.go_on.set()
            if more:
                assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
                connection.sendall(b"abc")
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert running.app.bodies[-2:] == [b"abc", b"abc"]


def test_an_error_while_deciding_is_a_500_and_stores_nothing(shared: Running) -> None:
    client = shared.client()
    client.request("POST", "/", body=b"x" * 100_000, headers={"Authorization": "crash"})
    answer = client.getresponse()
    assert answer.status == 500 and b"error of the application" not in answer.read()
    client.close()


def test_chunked_bodies_arrive_whole_however_they_are_cut(shared: Running) -> None:
    body = os.urandom(2 * MIB)
    client = shared.client()
    cuts = [1, 2, 17, 8192, 65536, 1_000_000, len(body)]
    parts = [body[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]
    client.request("POST", "/", body=iter(parts), encode_chunked=True)
    answer = client.getresponse()
    said = json.loads(answer.read())
    assert shared.app.bodies[-1] == body
    assert said["CONTENT_LENGTH"] == str(len(body)) and "HTTP_TRANSFER_ENCODING" not in said
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()
    with shared.connect() as connection:
        for byte in POST + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert shared.app.bodies[-1] == b"abcd"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_gets_its_413(shared: Running, chunked: bool) -> None:
    client = shared.client()
    fields = {} if chunked else {"Content-Length": str(100 * MIB)}
    before = len(shared.app.bodies)
    client.request("POST", "/", body=pieces(100 * MIB), headers=fields, encode_chunked=chunked)
    answer = client.getresponse()
    assert answer.status == 413 and b"larger than the 20971520 bytes" in answer.read()
    client.close()
    assert len(shared.app.bodies) == before


def test_a_body_of_just_the_limit_is_accepted(shared: Running) -> None:
    client = shared.client()
    client.request("POST", "/", body=Zeros(20 * MIB), headers={"Content-Length": str(20 * MIB)})
    assert client.getresponse().status == 200
    client.close()


# Connections


@pytest.mark.parametrize(
    "asked",
    [
        *("GET /unchanged", "GET /empty", "GET /stream", "GET /page", "GET /file"),
        *("POST /", "HEAD /page", "HEAD /stream", "HEAD /file"),
    ],
)
def test_the_connection_lives_on(start: Start, asked: str) -> None:
    method, path = asked.split()
    running = start()
    client = running.client()
    client.connect()
    mine = client.sock
    for _ in range(3):
        client.request(method, path, body=b"abc" if method == "POST" else None)
        answer = client.getresponse()
        body = answer.read()
        assert answer.getheader("Connection") is None
        assert bool(body) == (method != "HEAD" and path not in ("/unchanged", "/empty"))
        if path in ("/page", "/file"):
            length = len(PAGE) if path == "/page" else 32 * MIB
            assert answer.getheader("Content-Length") == str(length)
        assert client.sock is mine
    client.close()


def test_pipelined_requests_are_answered_in_order(shared: Running) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    get = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /page HTTP/1.0\r\n\r\n"
    answers = shared.raw(get + post + get + post + last)
    assert answers.count(b" 200 OK\r\n") == 5 and answers.endswith(PAGE)
    paths = [json.loads(part.partition(b"\r\n\r\n")[2])["body"] for part in answers.split(b"HTTP/1.1 ")[1:-1]]
    assert paths == ["0", "3", "0"]


@pytest.mark.parametrize("wait", [0.0, 0.002])
@pytest.mark.parametrize(("path", "length"), [(b"/page", len(PAGE)), (b"/empty", 0)])
def test_bytes_that_come_before_their_turn_are_taken_up_after_it(
    start: Start, path: bytes, length: int, wait: float
) -> None:
    running = start(threads=4)
    asked = b"GET " + path + b" HTTP/1.1\r\nHost: here\r\n\r\n"

    def talk() -> None:
        with running.connect() as connection:
            connection.sendall(asked)
            for _ in range(100):
                # Half of the next request is there while this one is being answered.
                connection.sendall(asked[:20])
                time.sleep(wait)
                read_head(connection)
                left = length
                while left:
                    left -= len(connection.recv(left))
                connection.sendall(asked[20:])

    with ThreadPoolExecutor(8) as clients:
        for done in [clients.submit(talk) for _ in range(8)]:
            done.result(60)


def test_a_list_of_what_the_connection_should_do_is_understood(shared: Running) -> None:
    answer = shared.raw(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close\r\n\r\n")  # until it closes
    assert answer.endswith(PAGE) and b"Connection: close\r\n" in answer


def test_headers_that_clients_make_long_are_not_kept() -> None:
    before = remembered_head.cache_info().currsize
    for length in (10, 100_000):
        assert head_of("301 Moved", (("Location", "x" * length),), None).count(b"x") == length
    assert remembered_head.cache_info().currsize == before + 1


def test_http_1_0_keeps_the_connection_only_when_asked(shared: Running) -> None:
    assert b"Connection: close" in shared.raw(b"GET /page HTTP/1.0\r\n\r\n")
    with shared.connect() as connection:
        connection.sendall(b"HEAD /page HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert b"Connection: Keep-Alive" in read_head(connection)
        connection.sendall(b"GET /empty HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in read_all(connection)


def test_an_error_of_the_application_is_a_short_500_and_service_goes_on(shared: Running) -> None:
    for _ in range(3):
        status, text = shared.get("/broken")
        assert status == 500 and b"secret" not in text
    assert shared.get()[0] == 200


def test_what_write_has_sent_and_what_follows_are_one_body(shared: Running) -> None:
    client = shared.client()
    for _ in range(2):  # the connection is in order afterwards
        client.request("GET", "/written")
        assert client.getresponse().read() == b"onetwo"
    client.close()


def test_an_answer_begins_once_unless_an_error_excuses_it(shared: Running) -> None:
    assert shared.get("/twice")[0] == 500
    answer = shared.raw(b"GET /twice?excused HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 503 Not Now\r\n") and answer.endswith(b"\r\n\r\nnot now")
    assert b"X-First" not in answer


def test_applications_are_called_as_pep_3333_says() -> None:
    """Whatever the standard library's checker finds wrong, an AssertionError of its own, would be a 500."""
    complaints: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            body = environ["wsgi.input"].read(1000)
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        except AssertionError as error:
            complaints.append(str(error))
            raise
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    running = Running(validator(application))
    try:
        client = running.client()
        for method, body in (("GET", None), ("POST", b"twelve bytes"), ("HEAD", None), ("GET", None)):
            client.request(method, "/a%20b//c?d=e", body=body, headers={"X-Some": "thing"})
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, body or b""), complaints
        client.close()
    finally:
        running.stop()


@pytest.mark.parametrize("asked", ["/torn", "/too_late", "/short"])
def test_an_answer_torn_in_the_middle_never_looks_whole(shared: Running, asked: str) -> None:
    client = shared.client()
    client.request("GET", asked)
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()


def test_a_stream_that_takes_long_is_not_taken_for_a_silent_client(start: Start) -> None:
    running = start(idle_timeout=2)
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /hurried HTTP/1.0\r\n\r\n")
        body = read_head(connection)
        while body.count(b"trickle") < 25:
            body += connection.recv(4096)
        time.sleep(1.5)  # shorter than the time-out, long enough for a look at who is silent
        body += read_all(connection)
    assert len(body.partition(b"\r\n\r\n")[2]) == 25 * 8 + 2000 * 16384


def test_a_stream_reaches_a_slow_client_whole_and_in_order(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Channel.handle_write

    def late(self: Channel) -> None:
        time.sleep(0.01)  # so that a worker finds room on the connection while older bytes wait for the loop
        now(self)

    monkeypatch.setattr(Channel, "handle_write", late)
    running = start(threads=1)
    with running.connect() as connection:
        connection.sendall(b"GET /numbered HTTP/1.0\r\n\r\n")
        read_head(connection)
        body = b""
        for _ in range(300):
            time.sleep(0.001)
            body += connection.recv(40_000)
        body += read_all(connection)
    assert body == b"".join(b"%07d\n" % number * 5000 for number in range(400))


# Files


def test_a_range_of_a_file_is_exactly_that(start: Start) -> None:
    running = start()
    assert running.app.big is not None
    whole = running.app.big.read_bytes()
    assert running.get("/file?start=1000&length=70000") == (200, whole[1000:71000])
    assert running.get("/file?start=5&length=1") == (200, whole[5:6])
    assert running.get("/file") == (200, whole)


def test_a_file_is_sent_without_a_worker(start: Start) -> None:
    running = start(threads=1)
    stalled = [running.connect() for _ in range(5)]
    for connection in stalled:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
    for connection in stalled:
        read_head(connection)
    began = time.monotonic()
    assert running.get()[0] == 200
    assert time.monotonic() - began < 1
    assert len(read_all(stalled[0])) == 32 * MIB
    for connection in stalled:
        connection.close()


def test_a_file_shorter_than_promised_is_cut_visibly(start: Start) -> None:
    running = start()
    client = running.client()
    client.request("GET", "/file?start=33554400&length=100")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.getresponse().read()
    client.close()
    assert running.get()[0] == 200


# Slow, silent and many


def test_fifty_slow_clients_disturb_nobody(start: Start) -> None:
    running = start(threads=2)
    slow = [running.connect() for _ in range(60)]
    for number, connection in enumerate(slow):
        if number % 3 == 0:
            connection.sendall(b"GET / HTTP/1.1\r\nHo")
        elif number % 3 == 1:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    for _ in range(20):
        began = time.monotonic()
        assert running.get()[0] == 200
        assert time.monotonic() - began < 1
    for connection in slow:
        connection.close()


def test_what_does_not_come_in_time_is_closed(start: Start) -> None:
    running = start(idle_timeout=1)
    with running.connect() as silent, running.connect() as header, running.connect() as body, running.connect() as drip:
        header.sendall(b"GET / HT")
        body.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        drip.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(8):  # never silent for long, yet never done
            time.sleep(0.1)
            drip.sendall(b"X")
        assert read_all(silent) == b""
        assert read_all(header) == b""
        assert read_all(body) == b""
        assert read_all(drip) == b""


def test_a_client_that_stops_taking_a_stream_frees_its_worker(start: Start) -> None:
    running = start(idle_timeout=1, threads=1)
    with running.connect() as stalled:
        stalled.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        read_head(stalled)
        assert running.get()[0] == 200


def test_at_the_limit_of_connections_those_that_ask_nothing_give_way(start: Start) -> None:
    running = start(connection_limit=20)
    with contextlib.ExitStack() as spare:
        for number in range(50):
            connection = spare.enter_context(running.connect())
            if number % 2:
                connection.sendall(b"GET / HT")
        for _ in range(10):
            assert running.get()[0] == 200


def test_below_the_limit_of_connections_nobody_gives_way(start: Start) -> None:
    running = start(connection_limit=20)
    with contextlib.ExitStack() as many:
        connections = [many.enter_context(running.connect()) for _ in range(15)]
        for _ in range(10):
            assert running.get()[0] == 200
        for connection in connections:
            connection.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_head(connection).startswith(b"HTTP/1.1 204 ")


# What the mends are for


def test_no_answer_on_a_kept_connection_is_late(start: Start) -> None:
    """Files one after the other on connections that live on, as pip asks for them; 20,000 in ``benchmarks``."""
    running = start(threads=4, idle_timeout=60)
    lengths = [100_000, 3_000_000, 700_000, 2_000_000]

    def fetch(seed: int) -> float:
        longest = 0.0
        client = running.client()
        for number in range(100):
            length = lengths[(seed + number) % 4]
            began = time.monotonic()
            client.request("GET", f"/file?length={length}")
            assert len(client.getresponse().read()) == length
            longest = max(longest, time.monotonic() - began)
        client.close()
        return longest

    with ThreadPoolExecutor(4) as clients:
        # A lost wake-up lasts until the time-out.
        assert max(clients.map(fetch, range(4))) < 20


def test_a_worker_that_is_slow_to_hand_back_stalls_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Task.finish

    def late(self: Task) -> None:
        finish(self)
        time.sleep(0.02)

    monkeypatch.setattr(Task, "finish", late)
    running = start(idle_timeout=60)
    client = running.client()
    for path in ["/page", "/file?length=2000000", "/empty"] * 5:
        client.request("GET", path)
        client.getresponse().read()
    client.close()


def test_those_who_ask_twice_and_do_not_read_hold_no_worker(start: Start) -> None:
    running = start(threads=4)
    with contextlib.ExitStack() as greedy:
        for _ in range(16):
            connection = greedy.enter_context(running.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(
                b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" * 50
            )
        for _ in range(20):
            assert running.get("/page") == (200, PAGE)


@pytest.mark.parametrize("piece", [20, 2400])
@pytest.mark.parametrize("kind", ["readers", "bodies", "askers"])
def test_at_the_limit_of_connections_the_slowest_and_those_between_two_requests_give_way(
    start: Start, kind: str, piece: int
) -> None:
    running = start(connection_limit=40, threads=4)
    stop = threading.Event()
    asked = {
        "readers": b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n",
        "bodies": POST + b"Content-Length: 1000000\r\n\r\n",
        "askers": b"GET /empty HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"x" * piece),
    }[kind]

    def trickle() -> None:
        while not stop.wait(0.1):
            with contextlib.suppress(OSError), running.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(asked)
                while not stop.wait(0.2):
                    if kind == "bodies":
                        connection.sendall(b"x" * piece)
                    elif not connection.recv(piece):
                        break
                    elif kind == "askers":
                        connection.sendall(asked)

    clients = [threading.Thread(target=trickle) for _ in range(60)]
    for client in clients:
        client.start()
    time.sleep(1)  # until they have all places; that they have is not what is tested
    try:
        for _ in range(10):
            assert running.get("/page") == (200, PAGE)
    finally:
        stop.set()
        for client in clients:
            client.join()


@pytest.mark.parametrize("asked", [b"GET /file HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n"])
def test_who_moves_too_few_bytes_is_let_go(start: Start, asked: bytes) -> None:
    running = start(idle_timeout=1)
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(asked + b"Host: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(60):
                time.sleep(0.1)  # never silent for a second, yet never done
                if asked.startswith(b"POST"):
                    connection.sendall(b"x")
                else:
                    connection.recv(10)
            assert len(read_all(connection)) < 32 * MIB - 600
            assert asked.startswith(b"GET"), "its body was waited for"


def test_a_body_that_broke_off_leaves_nothing_on_the_disk(start: Start) -> None:
    def spools() -> int:
        links = [os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry)]
        return sum(link.endswith("(deleted)") for link in links)

    running = start()
    before = spools()
    gc.disable()  # nobody comes to collect what refers to itself
    try:
        for _ in range(5):
            with running.connect() as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(2 * MIB))
                while spools() == before:
                    time.sleep(0.01)
            while running.service._channels():
                time.sleep(0.01)
            assert spools() == before
    finally:
        gc.enable()


def test_a_reset_after_expect_is_nothing_to_tell(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    for _ in range(20):
        with running.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert running.get()[0] == 200
    assert caplog.records == []


# Proxies


def test_forwarded_lines_count_from_trusted_proxies_only(start: Start) -> None:
    fields = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "index.example.com",
        "X-Forwarded-Prefix": "/pypi/",
        "Forwarded": "for=1.2.3.4",
    }
    trusted: tuple[str, ...]
    for trusted in ((), ("10.0.0.1", "192.168.0.0/16")):
        said = json.loads(start(trusted_proxy=trusted).get("/", **fields)[1])
        assert said["REMOTE_ADDR"] == "127.0.0.1" and said["wsgi.url_scheme"] == "http" and said["SCRIPT_NAME"] == ""
        assert not [key for key in said if "FORWARDED" in key]
    for trusted in (("10.0.0.1", "127.0.0.1"), ("127.0.0.0/8",), ("*",)):
        said = json.loads(start(trusted_proxy=trusted).get("/", **fields)[1])
        assert said["REMOTE_ADDR"] == "203.0.113.9" and said["wsgi.url_scheme"] == "https"
        assert said["HTTP_HOST"] == "index.example.com" and said["SCRIPT_NAME"] == "/pypi"
        assert not [key for key in said if "FORWARDED" in key]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"FOR": "[2001:db8::1]:77"}, {"REMOTE_ADDR": "2001:db8::1"}),
        ({"FOR": "192.0.2.1:77"}, {"REMOTE_ADDR": "192.0.2.1"}),
        ({"FOR": "192.0.2.1, 10.1.1.1"}, {"REMOTE_ADDR": "192.0.2.1"}),
        ({"FOR": "192.0.2.1, unknown"}, {"REMOTE_ADDR": "10.0.0.1"}),
        ({"FOR": ""}, {"REMOTE_ADDR": "10.0.0.1"}),
        ({"FOR": ":"}, {"REMOTE_ADDR": "10.0.0.1"}),
        ({"PROTO": "javascript"}, {"wsgi.url_scheme": "http"}),
        ({"PROTO": "http, https"}, {"wsgi.url_scheme": "https"}),
        ({"HOST": "a b/c"}, {"HTTP_HOST": "here", "SCRIPT_NAME": ""}),
        ({"HOST": "there/pypi"}, {"HTTP_HOST": "there", "SCRIPT_NAME": "/pypi"}),  # pypiserver's recipe for nginx
        ({"HOST": "there:443/a/pypi/"}, {"HTTP_HOST": "there:443", "SCRIPT_NAME": "/a/pypi"}),
        ({"HOST": "there/pypi", "PREFIX": "/index"}, {"HTTP_HOST": "there", "SCRIPT_NAME": "/index"}),
        ({"HOST": "there//evil"}, {"HTTP_HOST": "there", "SCRIPT_NAME": ""}),
        ({"HOST": "there/"}, {"HTTP_HOST": "there", "SCRIPT_NAME": ""}),
        ({"HOST": "there", "PORT": "8443"}, {"HTTP_HOST": "there:8443", "SERVER_PORT": "8443"}),
        ({"HOST": "there:99"}, {"HTTP_HOST": "there:99", "SERVER_PORT": "99"}),
        ({"PREFIX": "//evil"}, {"SCRIPT_NAME": ""}),
        ({"PREFIX": "/a/b/"}, {"SCRIPT_NAME": "/a/b"}),
    ],
)
def test_a_malformed_forwarded_line_counts_as_not_sent(fields: dict[str, str], expected: dict[str, str]) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_HOST": "here", "wsgi.url_scheme": "http", "SCRIPT_NAME": ""}
    environ |= {f"HTTP_X_FORWARDED_{key}": value for key, value in fields.items()}
    TrustedProxies(["10.0.0.0/8"]).translate(environ)
    assert {key: environ[key] for key in expected} == expected


# Starting


def test_a_port_in_use_or_a_foreign_host_is_one_clear_line(start: Start) -> None:
    running = start()
    with pytest.raises(ConfigError, match=f"--port: {running.port} on 127.0.0.1 is taken"):
        listen("127.0.0.1", running.port)
    for host in ("203.0.113.77", "no such host", "nowhere.invalid", "x" * 70):
        with pytest.raises(ConfigError, match="--host"):
            listen(host, 0)
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        TrustedProxies(["example.com"])


def test_options_a_server_cannot_keep_are_refused() -> None:
    def run(server: str, **options: Any) -> None:
        servers.run(server, App, None, Options(port=0, **options), lambda host, port: None)

    with pytest.raises(ConfigError, match=r"--workers.*granian or gunicorn"):
        run("waitress", workers=2)
    with pytest.raises(ConfigError, match=r"--tls-cert.*granian"):
        run("waitress", tls_cert=Path("a"), tls_key=Path("b"))
    with pytest.raises(ConfigError, match="give both"):
        run("granian" if "granian" in INSTALLED else "waitress", tls_cert=Path("a"))
    with pytest.raises(ConfigError, match="none of waitress"):
        run("apache")
    for missing in set(servers.SERVERS) - set(INSTALLED):
        with pytest.raises(ConfigError, match="pip install"):
            run(missing)


@pytest.mark.parametrize("host", ["::1", "localhost", "::"])
def test_ipv6_and_names_are_listened_on(start: Start, host: str) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    running = start(host=host)
    addresses = {"::1": ["::1"], "localhost": ["localhost", "127.0.0.1"], "::": ["::1", "127.0.0.1"]}[host]
    for address in addresses:
        client = http.client.HTTPConnection(address, running.port, timeout=5)
        client.request("GET", "/")
        said = json.loads(client.getresponse().read())
        assert said["REMOTE_ADDR"] in ("::1", "127.0.0.1")
        client.close()


# Stopping, in a process of its own


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

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> socket.socket:
        connection = self.connect()
        connection.sendall(data)
        return connection

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self, within: float) -> int:
        return self.process.wait(within)


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(server: str = "waitress", **options: Any) -> Process:
        started.append(Process(server, **options))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_finishes_what_is_under_way_and_exits_0(process: Callable[..., Process], number: int) -> None:
    server = process(grace=10)
    idle = server.connect()
    answering = server.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    sending = server.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    read_head(answering)
    began = time.monotonic()
    server.signal(number)
    assert read_all(idle) == b""
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    sending.sendall(b"def")
    answer = read_all(sending)
    assert b" 200 OK" in answer and b"Connection: close" in answer
    assert read_all(answering) == b"abc" * 10
    assert server.ended(5) == 0
    assert time.monotonic() - began < 5
    for connection in (idle, answering, sending):
        connection.close()


def test_what_outlasts_the_grace_period_is_cut_visibly(process: Callable[..., Process]) -> None:
    server = process(grace=0)
    answering = server.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    read_head(answering)
    server.signal()
    assert len(read_all(answering)) < 30
    assert server.ended(5) == 0
    answering.close()


def test_a_second_signal_stops_at_once(process: Callable[..., Process]) -> None:
    server = process(grace=60)
    waiting = server.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)
    server.signal()
    time.sleep(0.3)
    assert server.process.poll() is None
    server.signal()
    assert server.ended(5) == 0
    waiting.close()


def test_a_refused_body_is_never_stored_and_a_full_spool_is_survived(process: Callable[..., Process]) -> None:
    server = process(file_limit=4 * MIB)  # no file of this process can grow beyond it, the spool in TMPDIR neither

    def post(size: int, **fields: str) -> int:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("POST", "/", body=pieces(size), headers={"Content-Length": str(size), **fields})
        try:
            return client.getresponse().status
        finally:
            client.close()

    assert post(100 * MIB, Authorization="wrong") == 401
    assert post(8 * MIB) == 507
    assert post(2 * MIB) == 200


# The other servers

others = pytest.mark.parametrize(
    "server",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed"))
        for name in ("granian", "gunicorn")
    ],
)


@others
@pytest.mark.parametrize("workers", [1, 2])
def test_another_server_serves_uploads_and_stops(process: Callable[..., Process], server: str, workers: int) -> None:
    running = process(server, workers=workers, threads=4, trusted_proxy=["127.0.0.1"])
    url = f"http://127.0.0.1:{running.port}"
    assert requests.get(f"{url}/page", timeout=10).content == PAGE
    said = requests.post(url, data=bytes(5 * MIB), headers={"X-Forwarded-For": "192.0.2.7"}, timeout=10).json()
    assert said["body"] == str(5 * MIB) and said["REMOTE_ADDR"] == "192.0.2.7"
    said = requests.post(url, data=iter([b"abc", b"def"]), timeout=10).json()
    assert said["body"] == "6"
    for body in (Zeros(100 * MIB), pieces(100 * MIB)):
        client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        fields = {"Authorization": "wrong"} | ({"Content-Length": str(100 * MIB)} if isinstance(body, Zeros) else {})
        client.request("POST", "/", body=body, headers=fields, encode_chunked=not isinstance(body, Zeros))
        assert client.getresponse().status == 401
        client.close()
    with pytest.raises(ConfigError, match="--port"):
        listen("127.0.0.1", running.port)
    running.signal()
    assert running.ended(15) == 0


@others
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_that_nobody_reads_does_not_end_the_connection(
    process: Callable[..., Process], server: str, method: str
) -> None:
    """Or a proxy in front would lose the answers of others to one client."""
    running = process(server)
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    for _ in range(3):
        client.request(method, "/page", body=bytes(500_000))
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200 and answer.getheader("Connection", "").lower() != "close"
        client.request("GET", "/page")
        assert client.getresponse().read() == PAGE
    client.close()
    running.signal()
    assert running.ended(15) == 0


@pytest.mark.skipif("granian" not in INSTALLED, reason="granian is not installed")
def test_no_worker_of_granian_outlives_the_process_that_started_it(process: Callable[..., Process]) -> None:
    running = process("granian", workers=2)
    assert requests.get(f"http://127.0.0.1:{running.port}/page", timeout=10).content == PAGE
    running.signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            running.connect().close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif("granian" not in INSTALLED, reason="granian is not installed")
def test_granian_speaks_tls_and_http_2(process: Callable[..., Process], tmp_path: Path) -> None:
    cert, key = live.certificate(tmp_path, "localhost", "127.0.0.1")
    running = process("granian", tls_cert=str(cert), tls_key=str(key))
    assert requests.get(f"https://127.0.0.1:{running.port}/page", verify=str(cert), timeout=10).content == PAGE
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"
    running.signal()
    assert running.ended(15) == 0
    with pytest.raises(ConfigError, match="--tls-cert"):
        servers.run(
            "granian",
            App,
            "test_servers:App",
            Options(port=0, tls_cert=key, tls_key=key),
            lambda host, port: None,
        )


def main(arguments: dict[str, Any]) -> None:
    server = arguments.pop("server")
    if limit := arguments.pop("file_limit", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for name in ("tls_cert", "tls_key"):
        if name in arguments:
            arguments[name] = Path(arguments[name])
    arguments["trusted_proxy"] = tuple(arguments.get("trusted_proxy", ()))
    options = Options(**arguments)
    servers.run(server, App, "test_servers:App", options, lambda host, port: print(port, flush=True))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

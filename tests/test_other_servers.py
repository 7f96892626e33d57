"""What is promised of granian and gunicorn too: nobody keeps another waiting, and they end when they are told to."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
import requests
from builders import make_wheel
from running import INSTALLED, LARGE, MIB, PAGE, POST, App, Process, Zeros, pieces, read_all, read_head

from pypiserver_lite import servers
from pypiserver_lite.errors import ConfigError
from pypiserver_lite.servers import Options, Serving
from pypiserver_lite.servers.options import listen

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


def _waiting(running: Process, sent: bytes, count: int = 40) -> list[socket.socket]:
    connections = [running.send(sent) for _ in range(count)]
    time.sleep(1)
    return connections


def _served(running: Process, *connections: socket.socket) -> None:
    """Pages and uploads are, and then the connections that wait are closed."""
    url = f"http://127.0.0.1:{running.port}"
    assert requests.get(f"{url}/page", timeout=10).content == PAGE
    assert requests.post(url, data=bytes(5 * MIB), timeout=10).json()["body"] == str(5 * MIB)
    for connection in connections:
        connection.settimeout(40)
        with contextlib.suppress(ConnectionResetError):
            read_all(connection)
        connection.close()


@others
@pytest.mark.parametrize("authorization", ["none", "wrong"])
def test_bodies_that_do_not_come_keep_nobody_waiting_and_end(
    process: Callable[..., Process], server: str, authorization: str
) -> None:
    running = process(server, threads=2, idle_timeout=10)
    stuck = _waiting(running, POST + f"Authorization: {authorization}\r\nContent-Length: 1000\r\n\r\n<a>".encode())
    _served(running, *stuck)
    running.signal()
    assert running.ended(15) == 0


@others
def test_a_body_that_comes_byte_by_byte_ends_too(process: Callable[..., Process], server: str) -> None:
    running = process(server, threads=2, idle_timeout=2)
    with running.send(POST + b"Content-Length: 100000\r\n\r\n") as connection:
        deadline = time.monotonic() + 60
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                connection.sendall(b"x")
                time.sleep(0.1)


@others
def test_who_asks_little_and_who_waits_for_us_is_not_slow(
    process: Callable[..., Process], server: str, packages: Path
) -> None:
    with faulty.upstream() as upstream:
        upstream.fault("/simple/far/", faulty.after(8, faulty.status(404)))
        flags: dict[str, Any] = {"server": server, "idle_timeout": 1, "fallback_url": upstream.url}
        with live.serve(packages=[packages], fallback_mode="proxy", **flags) as running:
            assert live.ask(running, "/simple/far/").status == 404
    client = http.client.HTTPConnection("127.0.0.1", process(server, idle_timeout=4).port, timeout=20)
    client.connect()
    connection = client.sock
    for _ in range(40):
        client.request("GET", "/empty")
        assert client.getresponse().read() == b"" and client.sock is connection
        time.sleep(0.5)
    client.close()


@others
def test_beyond_as_many_bodies_as_may_wait_the_next_is_told_so(process: Callable[..., Process], server: str) -> None:
    running = process(server, threads=2, connection_limit=80, idle_timeout=60)
    stuck = _waiting(running, POST + b"Content-Length: 1000\r\n\r\n<a>", 20)
    more = _waiting(running, POST + b"Content-Length: 1000\r\n\r\n<a>", 40)  # who do not close when they are refused
    url = f"http://127.0.0.1:{running.port}"
    assert requests.get(f"{url}/page", timeout=10).content == PAGE
    refused = requests.post(url, data=b"abc", timeout=10)
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    for _ in range(2):  # one of the forty may be waiting for a place
        stuck.pop().close()
    deadline = time.monotonic() + 20
    while requests.post(url, data=b"abc", timeout=10).status_code == 503:
        assert time.monotonic() < deadline
    for connection in (*stuck, *more):
        connection.close()


@others
def test_files_that_are_not_taken_keep_nobody_waiting_but_other_files(
    server: str, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "big", payload=os.urandom(30 * MIB))
    make_wheel(packages, "small")
    big, small = "/packages/big-1.0-py3-none-any.whl", "/packages/small-1.0-py3-none-any.whl"
    with contextlib.ExitStack() as several:
        flags: dict[str, Any] = {"server": server, "threads": 2, "connection_limit": 80, "idle_timeout": 60}
        running = several.enter_context(live.serve(packages=[packages], **flags))
        stuck = []
        for _ in range(20):
            stuck.append(several.enter_context(socket.create_connection((running.host, running.port), timeout=20)))
            stuck[-1].sendall(f"GET {big} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert stuck[-1].recv(12) == b"HTTP/1.1 200"
        for path in ("/simple/", "/simple/small/", "/health"):
            assert live.ask(running, path).status == 200
        for path in (big, small):
            answer = live.ask(running, path)
            assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
        stuck[0].close()
        deadline = time.monotonic() + 20
        while live.ask(running, small).status == 503:
            assert time.monotonic() < deadline
        for connection in stuck:
            connection.close()
        whole = [live.ask(running, path, Range="bytes=1000000-29000000") for path in [big] * 20]
        assert {(answer.status, len(answer.body)) for answer in whole} == {(206, 28_000_001)}


@others
@pytest.mark.parametrize("body", [b"", b"x"])
def test_large_pages_that_are_not_taken_keep_nobody_waiting_but_other_large_pages(
    process: Callable[..., Process], server: str, body: bytes
) -> None:
    running = process(server, threads=2, connection_limit=80, idle_timeout=60)
    url = f"http://127.0.0.1:{running.port}"
    large = functools.partial(requests.get, f"{url}/large", data=body, timeout=20)
    with contextlib.ExitStack() as several:
        stuck = []
        for _ in range(20):
            stuck.append(several.enter_context(running.connect()))
            stuck[-1].sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert stuck[-1].recv(12) == b"HTTP/1.1 200"
        assert requests.get(f"{url}/empty", timeout=10).status_code == 204
        refused = large()
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
        stuck[0].close()
        deadline = time.monotonic() + 20
        while large().status_code == 503:
            assert time.monotonic() < deadline
    assert large().content == LARGE


@pytest.mark.skipif("gunicorn" not in INSTALLED, reason="gunicorn is not installed")
@pytest.mark.parametrize("sent", [b"GET /page HTT", b"\x16\x03\x01", b"GET /empty HTTP/1.0\r\n\r\n"])
def test_neither_half_a_head_nor_a_client_that_does_not_close_holds_gunicorn(
    process: Callable[..., Process], sent: bytes
) -> None:
    running = process("gunicorn", threads=2, connection_limit=80, idle_timeout=20)
    _served(running, *_waiting(running, sent, 70))  # more than there are threads


@pytest.mark.skipif("gunicorn" not in INSTALLED, reason="gunicorn is not installed")
def test_gunicorn_waits_no_longer_for_tls(process: Callable[..., Process], tmp_path: Path) -> None:
    cert, key = live.certificate(tmp_path, "localhost", "127.0.0.1")
    running = process("gunicorn", threads=2, idle_timeout=10, tls_cert=str(cert), tls_key=str(key))
    stuck = _waiting(running, b"\x16\x03\x01")
    url = f"https://127.0.0.1:{running.port}"
    assert requests.get(f"{url}/page", verify=str(cert), timeout=5).content == PAGE
    said = requests.post(url, data=bytes(5 * MIB), verify=str(cert), timeout=20).json()
    assert said["body"] == str(5 * MIB)
    context = ssl.create_default_context(cafile=str(cert))
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as begun:
        begun.settimeout(40)
        begun.sendall(b"GET /page HTT")
        assert begun.recv(1) == b""
    for connection in stuck:
        connection.settimeout(40)
        with contextlib.suppress(ConnectionResetError):
            read_all(connection)
        connection.close()


@others
def test_a_body_that_may_end_in_two_places_ends_its_connection(process: Callable[..., Process], server: str) -> None:
    running = process(server)
    body = b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with running.send(POST + b"Transfer-Encoding: gzip, chunked" + body) as connection:
        assert read_all(connection).startswith(b"HTTP/1.1 501 ")
    with running.send(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked" + body) as connection:
        # Granian keeps the length from us and goes by the chunks alone, as RFC 9112 section 6.1 allows.
        expected = b"HTTP/1.1 200 " if server == "granian" else b"HTTP/1.1 400 "
        assert read_all(connection).startswith(expected)


@others
def test_settings_reach_the_processes_of_a_server_as_they_are(server: str, packages: Path) -> None:
    for name in ("team:a", "team", "ä b"):
        make_wheel(packages / name, f"of-{len(name)}")
    with live.serve(packages=[packages / "team:a", packages / "ä b"], server=server) as running:
        listed = live.ask(running, "/simple/", Accept="application/vnd.pypi.simple.v1+json").body
        assert [project["name"] for project in json.loads(listed)["projects"]] == ["of-3", "of-6"]


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


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no such list of children here")


@linux
@pytest.mark.skipif("granian" not in INSTALLED, reason="granian is not installed")
def test_who_takes_nothing_is_ended_also_after_descriptors_ran_out(process: Callable[..., Process]) -> None:
    resource = pytest.importorskip("resource")
    running = process("granian", idle_timeout=1)
    (worker,) = running.workers()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    time.sleep(3)  # in which it looks at its connections more than once, or tries to
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    with running.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as stuck:
        read_head(stuck)
        count = len(os.listdir(f"/proc/{worker}/fd"))
        deadline = time.monotonic() + 60
        while len(os.listdir(f"/proc/{worker}/fd")) >= count:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(read_all(stuck)) < len(LARGE)


@linux
@pytest.mark.parametrize("server", sorted(INSTALLED))
def test_every_server_may_open_a_file_for_each_connection(process: Callable[..., Process], server: str) -> None:
    running = process(server, few_files=150, connection_limit=100)
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    assert int(re.findall(r"Max open files +([0-9]+)", limits)[0]) >= 2 * 100


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("server", sorted(INSTALLED))
def test_signals_that_are_ignored_stay_so(process: Callable[..., Process], server: str) -> None:
    """As ``nohup`` has it for SIGHUP, and a shell's ``&`` for SIGINT, for all processes of a group."""
    running = process(server, ignored=[signal.SIGHUP, signal.SIGINT])
    url = f"http://127.0.0.1:{running.port}"
    assert requests.get(f"{url}/page", timeout=10).content == PAGE
    for number in (signal.SIGINT, signal.SIGHUP):
        for one in (running.process.pid, *(running.workers() if Path("/proc/self/task").exists() else ())):
            os.kill(one, number)
    for _ in range(20):
        assert requests.get(f"{url}/page", timeout=10).content == PAGE
        time.sleep(0.1)
    running.signal()
    assert running.ended(15) == 0


@linux
@others
def test_a_worker_that_is_killed_is_replaced_with_a_line_of_the_log(server: str, packages: Path) -> None:
    make_wheel(packages, "ours")
    with live.serve(packages=[packages], server=server, workers=2) as running:
        assert live.ask(running, "/simple/").status == 200
        assert running.process is not None
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        deadline = time.monotonic() + 30
        while len(workers := children.read_text().split()) < 2:
            assert time.monotonic() < deadline
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        while not re.search(r"Unexpected exit from worker|was sent SIGKILL", running.log()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while True:
            with contextlib.suppress(OSError):
                if live.ask(running, "/simple/ours/").status == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _http_2(connection: socket.socket, *fields: tuple[bytes, bytes]) -> bytes:
    """The type of each frame that comes back for a GET with these header fields, until its header or the end."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">IBBI", len(payload), kind, flags, stream)[1:] + payload

    asked = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/empty"),
        (b":authority", b"localhost"),
        *fields,
    ]
    # Literals without an index; each text is shorter than 127 bytes (RFC 7541).
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in asked)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
    seen, stream = b"", connection.makefile("rb")
    while len(head := stream.read(9)) == 9 and head[3] != 1:
        seen += head[3:4]
        stream.read(int.from_bytes(head[:3], "big"))
    return seen + (stream.read(1) if len(head) == 9 else b"")


@pytest.mark.skipif("granian" not in INSTALLED, reason="granian is not installed")
def test_without_tls_granian_speaks_http_1(process: Callable[..., Process]) -> None:
    with process("granian").connect() as connection, contextlib.suppress(ConnectionResetError):
        assert b"\x89" not in _http_2(connection)


@pytest.mark.skipif("granian" not in INSTALLED, reason="granian is not installed")
def test_granian_speaks_tls_and_http_2(process: Callable[..., Process], tmp_path: Path) -> None:
    cert, key = live.certificate(tmp_path, "localhost", "127.0.0.1")
    running = process("granian", tls_cert=str(cert), tls_key=str(key), max_header=8192)
    assert requests.get(f"https://127.0.0.1:{running.port}/page", verify=str(cert), timeout=10).content == PAGE
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"
        assert _http_2(connection).endswith(b"\x89")  # 204, by its number in the table of header fields
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        assert not _http_2(connection, *[(b"x", b"y" * 100)] * 120).endswith(b"\x89")
    running.signal()
    assert running.ended(15) == 0
    with pytest.raises(ConfigError, match="--tls-cert"):
        options = Options(port=0, tls_cert=key, tls_key=key)
        serving = Serving(make_app=App, make_again=App, options=options, ready=lambda host, port: None)
        servers.run("granian", serving)

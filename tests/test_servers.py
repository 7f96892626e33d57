"""What every server promises: proxies that are trusted, addresses to listen on, options, stopping."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import INSTALLED, MIB, POST, App, Process, Start, pieces, read_all, read_head

from pypiserver_lite import servers
from pypiserver_lite.errors import ConfigError
from pypiserver_lite.servers import Options, Serving
from pypiserver_lite.servers.options import listen
from pypiserver_lite.servers.proxies import TrustedProxies


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
    environ = forwarded(fields)
    assert {key: environ[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("fields", "asked", "path"),
    [
        ({"HOST": "there/pypi"}, "/pypi/simple/", "/simple/"),  # pypiserver's recipe for nginx leaves it there
        ({"HOST": "there/pypi"}, "/pypi", ""),
        ({"HOST": "there/pypi"}, "/pypiserver/json", "/pypiserver/json"),
        ({"HOST": "there/pypi"}, "/simple/", "/simple/"),
        ({"HOST": "there", "PREFIX": "/packages"}, "/packages/x.whl", "/packages/x.whl"),  # who says so took it away
    ],
)
def test_a_prefix_is_taken_from_the_path_where_the_proxy_left_it(fields: dict[str, str], asked: str, path: str) -> None:
    assert forwarded(fields, asked)["PATH_INFO"] == path


def forwarded(fields: dict[str, str], path: str = "/") -> dict[str, str]:
    """The environment of a request with such fields from a trusted proxy."""
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_HOST": "here", "wsgi.url_scheme": "http", "SCRIPT_NAME": ""}
    environ |= {"PATH_INFO": path, **{f"HTTP_X_FORWARDED_{key}": value for key, value in fields.items()}}
    TrustedProxies(["10.0.0.0/8"]).translate(environ)
    return environ


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
        servers.run(server, Serving(make_app=App, options=Options(port=0, **options), ready=lambda host, port: None))

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

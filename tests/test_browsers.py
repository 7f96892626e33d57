"""What a page of somebody else's cannot make a visitor's browser do here (Fetch Metadata, RFC 6454)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forms
import live
import pytest
from builders import make_wheel
from wsgi_client import Client

import pypiserver_lite

REMOVAL = forms.action("remove_pkg", name="ours", version="1.0")
FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://index.example.test"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example.test"},
    {"Origin": "http://index.example.test:8080"},
    {"Origin": "http://index.example.test.evil.example.test"},
    {"Origin": "https://index.example.test:80"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://index.example.test"},
    {"Origin": "http://index.example.test"},
    {"Origin": "http://index.example.test:80"},
    {"Origin": "HTTPS://Index.Example.Test"},  # TLS may end in front of us
    {"Referer": "http://evil.example.test/"},
]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "packages", "ours")
    return tmp_path / "packages"


@pytest.mark.parametrize("path", ["/", "/legacy/", "/simple/"])
def test_a_change_that_another_site_asks_for_is_not_made(packages: Path, tmp_path: Path, path: str) -> None:
    app = pypiserver_lite.make_app(packages, passwords=".", authenticate=".", cache_dir=tmp_path)
    client = Client(app)

    def post(headers: dict[str, str], status: int) -> None:
        fields = {"Host": "index.example.test", "Content-Type": forms.TYPE, **headers}
        answer = client.request(path, method="POST", headers=fields, body=REMOVAL, status=status)
        assert status == 200 or "another site" in answer.text
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()}
        environ |= {"REQUEST_METHOD": "POST", "PATH_INFO": path, "CONTENT_LENGTH": str(len(REMOVAL))}
        refused = app.refuse_early(environ)  # before a byte of the body is read, where the server asks
        assert (refused is None) == (status == 200)

    for headers in FOREIGN:
        post(headers, 403)
    assert len(list(packages.glob("*.whl"))) == 1
    for headers in OWN:
        post(headers, 200)
        make_wheel(packages, "ours")
    app.close()


def test_a_length_that_is_no_number_is_refused_before_the_body(packages: Path, tmp_path: Path) -> None:
    app = pypiserver_lite.make_app(packages, passwords=".", authenticate=".", cache_dir=tmp_path)
    refused = app.refuse_early({"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_LENGTH": "x"})
    assert refused is not None and refused[0].startswith("400 ")
    app.close()


def test_a_change_behind_a_proxy_is_compared_with_what_the_browser_sees(packages: Path) -> None:
    fields: dict[str, Any] = {"X_Forwarded_Host": "index.example.test", "X_Forwarded_Proto": "https"}
    for proxy, status in (("127.0.0.1", 200), ("127.0.0.99", 403)):
        with live.serve(packages=[packages], trusted_proxy=proxy, **forms.OPEN) as server:
            answer = forms.post(server, REMOVAL, Origin="https://index.example.test", **fields)
            assert answer.status == status
            assert forms.post(server, REMOVAL, Origin="https://evil.example.test", **fields).status == 403


LOCAL = (
    "127.0.0.1",
    "127.0.0.1:80",
    "127.8.9.1",
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "[::1]:80",
    "a.localhost",
)
ELSEWHERE = (
    "evil.example.test",
    "evil.example.test:80",
    "localhost.example.test",
    "10.0.0.1",
    "127.0.0.1.nip.test",
    "x" * 999,
)


def answers(server: live.Server, host: str, path: str = "/simple/", method: str = "GET") -> int:
    """The status of a request to this Host."""
    with live.connect(server) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize("kind", ["waitress", pytest.param("granian", marks=pytest.mark.clients)])
def test_a_server_on_a_loopback_address_answers_to_local_names_only(packages: Path, kind: str) -> None:
    with live.serve(packages=[packages], allow_host=None, server=kind) as server:
        for _ in range(2):
            assert {answers(server, host) for host in LOCAL} == {200}
            for path in ("/simple/", "/simple/ours/", "/packages/ours-1.0-py3-none-any.whl", "/health", "/"):
                assert {answers(server, host, path) for host in ELSEWHERE} == {400}, path
        assert answers(server, "evil.example.test", "/", "POST") == 400
        # No browser leaves it out, which HTTP/1.0 allows; HTTP/1.1 does not.
        for protocol, status in (("1.0", b"200"), ("1.1", b"400")):
            asked = f"GET /simple/ HTTP/{protocol}\r\nConnection: close\r\n\r\n".encode()
            assert live.raw(server, asked).split()[1] == status
        with live.connect(server) as connection:
            connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: evil.example.test\r\nConnection: close\r\n\r\n")
            said = connection.makefile("rb").read()
        assert b"--allow-host" in said and b"ours" not in said
    words = ["--allow-host", "index.example.test", "--server-base-url", "https://base.test:8443/python/"]
    with live.serve(*words, packages=[packages], allow_host="other.test") as server:
        assert {answers(server, host) for host in (*LOCAL, "index.example.test:80", "Other.test", "base.test")} == {200}
        assert {answers(server, host) for host in ELSEWHERE} == {400}


def test_other_servers_answer_to_any_name(packages: Path, tmp_path: Path) -> None:
    with live.serve(packages=[packages], allow_host=None, trusted_proxy="127.0.0.99") as server:
        assert answers(server, "index.example.test") == 200  # the proxy's business
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path)  # the host's business
    assert json.loads(Client(app).get("/simple/ours/", Host="x.test", Accept=JSON).body)["name"] == "ours"
    app.close()


JSON = "application/vnd.pypi.simple.v1+json"

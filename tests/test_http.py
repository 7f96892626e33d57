"""What a client meets on the wire: addresses, negotiation, validators, ranges (STANDARDS sections 2, 3, 6, 7, 8)."""

from __future__ import annotations

import base64
import email.utils
import gc
import hashlib
import json
import os
import re
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import bottle
import live
import pytest
from builders import make_sdist, make_wheel
from wsgi_client import Answer, Client

import pypiserver_lite
from pypiserver_lite.errors import Denied, Missing
from pypiserver_lite.model import LocalFile
from pypiserver_lite.web import files

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


WHEEL = "/packages/ours_thing-1.0-py3-none-any.whl"
ANN: dict[str, Any] = {"Authorization": "Basic " + base64.b64encode(b"ann:right").decode()}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    make_wheel(folder, "Ours.Thing", "1.0", "Requires-Python: >=3.8,<4")
    make_sdist(folder, "Ours.Thing", "1.0")
    make_wheel(folder, "ours-thing", "2.0+local.1")
    return folder


@pytest.fixture
def client(packages: Path, tmp_path: Path) -> Iterator[Client]:
    app = pypiserver_lite.make_app(
        packages, cache_dir=tmp_path / "cache", fallback_url="http://upstream.invalid/simple/"
    )
    yield Client(app)
    app.close()


def get(client: Client, path: str, status: int = 200, **headers: str) -> Answer:
    return client.get(path, status, **headers)


@pytest.mark.parametrize("path", ["/simple/", "/+simple/", "/%2Bsimple/", "/simple/ours-thing/", "/packages/", "/"])
def test_head_says_what_get_says(client: Client, path: str) -> None:  # U6, U13
    get(client, "/simple/ours-thing/")  # the home page shows more once a project has been read
    answer = get(client, path)
    head = client.head(path)
    assert head.body == b""
    assert sorted(head.headerlist) == sorted(answer.headerlist)
    assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("path", "location", "status"),
    [
        ("/simple", "simple/", 301),  # U3
        ("/simple/ours-thing", "ours-thing/", 301),
        ("/simple/Ours.Thing", "ours-thing/", 301),
        ("/simple/Ours.Thing/", "../ours-thing/", 301),  # U4
        ("/+simple/ours_thing/", "../ours-thing/", 301),
        ("/packages", "packages/", 301),
        ("/ours-thing/", "../simple/ours-thing/", 302),
        ("/ours-thing", "simple/ours-thing/", 302),
        ("/simple/elsewhere/", "http://upstream.invalid/simple/elsewhere/", 302),  # U15
    ],
)
def test_redirects_are_relative_and_lead_to_the_page(client: Client, path: str, location: str, status: int) -> None:
    assert client.get(path, status).headers["Location"] == location


@pytest.mark.parametrize(
    "path",
    [
        "/simple/%00/",
        "/simple/..%2f..%2fetc/",
        "/simple/-x-/",
        "/simple/a%FFb/",
        "/simple/a%5Cb/",
        "/packages/../secret.txt",
        "/packages/secret.txt",
        "/packages/.hidden-1.0.tar.gz",
        "/packages/%2e%2e/%2e%2e/etc/passwd",
        "/packages/ours_thing-9.0-py3-none-any.whl",
        "/packages/ours_thing-1.0.tar.gz.asc",
        "/packages/ours_thing-1.0.tar.gz.yanked",
        "/packages//etc/passwd",
        "/nothing/here/at/all",
        "/favicon.ico",
        "/no such",
        "/pypi/nobody/json",
        "/" + "a" * 5000 + "/",
    ],
)
def test_what_is_not_here_is_not_found(client: Client, packages: Path, path: str) -> None:  # U5, U9, U11, F14
    (packages.parent / "secret.txt").write_text("treasure")
    (packages / "secret.txt").write_text("treasure")
    make_sdist(packages, "hidden", "1.0", filename=".hidden-1.0.tar.gz")
    for method in ("GET", "HEAD"):
        answer = client.request(path, method=method, status=None)
        assert answer.status == 404
        assert answer.content_type == "text/plain"
        assert b"treasure" not in answer.body


def test_unknown_project_without_fallback_is_not_found(packages: Path, tmp_path: Path) -> None:  # U5
    client = Client(pypiserver_lite.make_app(packages, cache_dir=tmp_path, disable_fallback=True))
    assert client.get("/simple/elsewhere/", 404).content_type == "text/plain"


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/simple/"), ("DELETE", "/packages/ours_thing-1.0.tar.gz"), ("POST", "/health")]
)
def test_a_wrong_method_names_the_right_ones(client: Client, method: str, path: str) -> None:  # U7
    answer = client.request(path, method=method, status=405)
    assert "GET" in answer.headers["Allow"]
    assert answer.content_type == "text/plain"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/html"),
        ("*/*", "text/html"),
        (JSON, JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (HTML, HTML),
        (f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON),
        (f"{JSON};q=0.2, text/html;q=0.9", "text/html"),
        ("TEXT/HTML ,, ", "text/html"),
    ],
)
@pytest.mark.parametrize("path", ["/simple/", "/simple/ours-thing/"])
def test_the_client_chooses_the_form(
    client: Client, path: str, accept: str | None, content_type: str
) -> None:  # U2, G1-G8, G10
    answer = client.get(path, Accept=accept) if accept else client.get(path)
    assert answer.content_type == content_type
    assert "Accept" in [name.strip() for name in answer.headers["Vary"].split(",")]


def test_an_exact_format_beats_accept(client: Client) -> None:  # G9
    assert get(client, f"/simple/?format={JSON}", Accept="text/html").content_type == JSON
    assert get(client, "/simple/?format=application/vnd.pypi.simple.v1%2Bjson").content_type == JSON
    get(client, "/simple/?format=image/png", status=406)


def test_nothing_acceptable_is_406_in_plain_text(client: Client) -> None:  # G7, G10
    answer = get(client, "/simple/", status=406, Accept="image/png")
    assert answer.content_type == "text/plain" and "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize("path", ["/simple/", "/simple/ours-thing/"])
def test_a_page_is_not_sent_twice(client: Client, path: str) -> None:  # P1, P2, P3, P4, P7
    seen = set()
    for accept, encoding in [(JSON, ""), (HTML, ""), ("text/html", ""), (JSON, "gzip")]:
        answer = get(client, path, Accept=accept, Accept_Encoding=encoding)
        tag = answer.headers["ETag"]
        assert tag.startswith('"') and tag.endswith('"')
        seen.add(tag)
        assert answer.headers["Cache-Control"] == "no-cache"
        for header in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = get(client, path, status=304, Accept=accept, Accept_Encoding=encoding, If_None_Match=header)
            assert again.body == b""
            for name in ("ETag", "Vary", "Cache-Control"):
                assert again.headers[name] == answer.headers[name]
        get(
            client,
            path,
            Accept=accept,
            If_None_Match='"other"',
            If_Modified_Since=email.utils.formatdate(4e9, usegmt=True),
        )
    assert len(seen) >= 2


def test_big_pages_are_compressed_for_those_who_ask(client: Client, packages: Path) -> None:  # P2, P9
    for number in range(30):
        make_wheel(packages, "ours-thing", f"3.{number}")
    plain = get(client, "/simple/ours-thing/", Accept=JSON)
    packed = get(client, "/simple/ours-thing/", Accept=JSON, Accept_Encoding="gzip, deflate")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.unpacked == plain.body
    refused = get(client, "/simple/ours-thing/", Accept=JSON, Accept_Encoding="gzip;q=0, identity")
    assert "Content-Encoding" not in refused.headers


def test_cache_control_is_the_operators(packages: Path, tmp_path: Path) -> None:  # P7, P10
    client = Client(pypiserver_lite.make_app(packages, cache_dir=tmp_path, cache_control=60))
    assert client.get("/simple/").headers["Cache-Control"] == "no-cache"
    assert client.get(WHEEL).headers["Cache-Control"] == "max-age=60"


@pytest.mark.parametrize(
    ("settings", "control"),
    [
        ({}, "max-age=31536000, immutable"),
        ({"overwrite": True}, "no-cache"),
        ({"passwords": ".", "authenticate": "."}, "no-cache"),  # anybody may remove a file and publish another
        ({"passwords": "htpasswd"}, "no-cache"),
        ({"passwords": "htpasswd", "cache_control": 60}, "max-age=60"),
        ({"passwords": "htpasswd", "authenticate": "download,list,update"}, "private, no-cache"),
        ({"passwords": "htpasswd", "authenticate": "download,update", "cache_control": 60}, "private, max-age=60"),
    ],
)
def test_a_file_is_kept_for_ever_only_where_it_cannot_change(
    packages: Path, tmp_path: Path, settings: dict[str, object], control: str
) -> None:  # F16
    if settings.get("passwords") == "htpasswd":
        settings = {**settings, "passwords": live.write_htpasswd(tmp_path / "htpasswd", ann="right")}
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path, **settings)
    client = Client(app)
    lists = "private, no-cache" if "list" in str(settings.get("authenticate")) else "no-cache"
    for _ in range(3):  # from what was kept, too
        for path in (WHEEL, WHEEL + ".metadata"):
            assert client.get(path, **ANN).headers["Cache-Control"] == control
        for path in ("/simple/", "/simple/ours-thing/", "/packages/", "/ours-thing/json", "/project/ours-thing/"):
            page = client.get(path, **ANN)
            assert page.headers["Cache-Control"] == lists, path
            again = client.get(path, 304, If_None_Match=page.headers["ETag"], **ANN)
            assert again.headers["Cache-Control"] == lists, path
    app.close()


def test_a_change_is_seen_by_the_next_request(client: Client, packages: Path) -> None:  # P6, F16
    before = get(client, "/simple/ours-thing/", Accept=JSON)
    added = make_wheel(packages, "ours-thing", "9.0")
    after = get(client, "/simple/ours-thing/", Accept=JSON, If_None_Match=before.headers["ETag"])
    assert added.name in after.text
    make_wheel(packages, "ours-thing", "9.0", payload=b"changed")
    changed = get(client, "/simple/ours-thing/", Accept=JSON, If_None_Match=after.headers["ETag"])
    digests = {file["filename"]: file["hashes"]["sha256"] for file in changed.json["files"]}
    assert digests[added.name] == hashlib.sha256(added.read_bytes()).hexdigest()
    added.unlink()
    assert get(client, "/simple/ours-thing/", Accept=JSON).body == before.body
    make_wheel(packages, "newcomer", "1.0")
    assert "newcomer" in get(client, "/simple/").text


@pytest.mark.parametrize("name", ["ours_thing-1.0-py3-none-any.whl", "ours_thing-1.0.tar.gz"])
def test_a_file_is_its_bytes(client: Client, packages: Path, name: str) -> None:  # F1-F5, F12, F13
    answer = get(client, f"/packages/{name}", Accept_Encoding="gzip, deflate")
    assert answer.body == (packages / name).read_bytes()
    assert answer.content_length == len(answer.body)
    assert answer.content_type in ("application/zip", "application/gzip")
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    head = client.head(f"/packages/{name}")
    assert sorted(head.headerlist) == sorted(answer.headerlist)
    get(client, f"/packages/{name}", status=304, If_None_Match=answer.headers["ETag"])
    get(client, f"/packages/{name}", status=304, If_Modified_Since=answer.headers["Last-Modified"])
    get(client, f"/packages/{name}", If_None_Match='"x"', If_Modified_Since=answer.headers["Last-Modified"])


def test_a_small_file_that_is_kept_is_never_another_one(client: Client, packages: Path) -> None:  # F1, F16
    path = packages / "ours_thing-1.0.tar.gz"
    data = path.read_bytes()
    os.utime(path, (1e9, 1e9))  # old enough to be kept
    first, second = (get(client, f"/packages/{path.name}") for _ in range(2))
    assert first.body == second.body == data and first.headerlist == second.headerlist
    assert client.head(f"/packages/{path.name}").headerlist == first.headerlist
    assert get(client, f"/packages/{path.name}", 206, Range="bytes=0-3").body == data[:4]
    get(client, f"/packages/{path.name}", 304, If_None_Match=first.headers["ETag"])
    path.write_bytes(bytes(reversed(data)))  # of the same size
    changed = get(client, f"/packages/{path.name}", If_None_Match=first.headers["ETag"])
    assert changed.body == bytes(reversed(data))
    path.unlink()
    get(client, f"/packages/{path.name}", 404)


def test_names_with_plus_and_epoch_are_found_as_they_are_linked(client: Client, packages: Path) -> None:  # U8, N5
    make_wheel(packages, "epochal", "1!2.0+x.1")
    page = get(client, "/simple/epochal/", Accept=JSON)
    (file,) = page.json["files"]
    assert page.follow(file["url"]).body == (packages / file["filename"]).read_bytes()
    assert get(client, "/packages/epochal-1!2.0+x.1-py3-none-any.whl").body == page.follow(file["url"]).body


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-20", -20, None), ("bytes=5-999999999", 5, None)],
)
def test_a_range_is_that_part(
    client: Client, packages: Path, header: str, start: int, stop: int | None
) -> None:  # F6, F7
    data = (packages / "ours_thing-1.0.tar.gz").read_bytes()
    answer = get(client, "/packages/ours_thing-1.0.tar.gz", status=206, Range=header)
    assert answer.body == data[start:stop]
    assert answer.content_length == len(answer.body)
    first = start % len(data)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(data)}"


def test_a_suffix_longer_than_the_file_is_the_file(client: Client, packages: Path) -> None:  # F6
    data = (packages / "ours_thing-1.0.tar.gz").read_bytes()
    assert get(client, "/packages/ours_thing-1.0.tar.gz", status=206, Range="bytes=-99999999").body == data


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0"])
def test_a_range_outside_is_416_with_the_size(client: Client, packages: Path, header: str) -> None:  # F8
    size = (packages / "ours_thing-1.0.tar.gz").stat().st_size
    answer = get(client, "/packages/ours_thing-1.0.tar.gz", status=416, Range=header)
    assert answer.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "header",
    [
        *["lines=0-9", "bytes=a-b", "bytes=9-2", "bytes=-", "bytes=0-1,4-5", "bytes", "", "bytes=" + "9" * 500],
        "bytes=" + " " * 1000 + "0-4",  # 60,000 spaces would cost the pattern seconds
    ],
)
def test_odd_ranges_get_everything(client: Client, packages: Path, header: str) -> None:  # F9, F10
    data = (packages / "ours_thing-1.0.tar.gz").read_bytes()
    assert get(client, "/packages/ours_thing-1.0.tar.gz", Range=header).body == data


def test_head_ignores_a_range(client: Client) -> None:  # F9
    assert client.head("/packages/ours_thing-1.0.tar.gz", Range="bytes=0-9").status == 200


def test_if_range_guards_a_resumed_download(client: Client, packages: Path) -> None:  # F11
    path = "/packages/ours_thing-1.0.tar.gz"
    answer = get(client, path)
    for good in (answer.headers["ETag"], answer.headers["Last-Modified"]):
        get(client, path, status=206, Range="bytes=5-", If_Range=good)
    late = email.utils.formatdate(os.stat(packages / "ours_thing-1.0.tar.gz").st_mtime + 90, usegmt=True)
    for bad in ('"other"', "W/" + answer.headers["ETag"], late, "nonsense"):
        assert get(client, path, Range="bytes=5-", If_Range=bad).body == answer.body


def test_metadata_is_what_the_wheel_holds(client: Client, packages: Path) -> None:  # D1-D3, D5
    page = get(client, "/simple/ours-thing/", Accept=JSON).json
    announced = {file["filename"]: file.get("core-metadata") for file in page["files"]}
    assert not announced["ours_thing-1.0.tar.gz"]
    name = "ours_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(packages / name) as archive:
        expected = archive.read("ours_thing-1.0.dist-info/METADATA")
    answer = get(client, f"/packages/{name}.metadata")
    assert answer.body == expected
    assert announced[name] == {"sha256": hashlib.sha256(expected).hexdigest()}
    assert answer.content_type == "text/plain"
    get(client, f"/packages/{name}.metadata", status=304, If_None_Match=answer.headers["ETag"])
    assert client.head(f"/packages/{name}.metadata").content_length == len(expected)
    get(client, "/packages/ours_thing-1.0.tar.gz.metadata", status=404)


def test_an_unreadable_wheel_harms_nobody_else(client: Client, packages: Path) -> None:  # D4, U12
    (packages / "ours_thing-4.0-py3-none-any.whl").write_bytes(b"no zip at all")
    page = get(client, "/simple/ours-thing/", Accept=JSON).json
    assert len(page["files"]) == 4
    get(client, "/packages/ours_thing-4.0-py3-none-any.whl.metadata", status=404)


def test_the_json_api_knows_the_latest_release(client: Client) -> None:
    facts = get(client, "/ours-thing/json").json
    assert facts["info"]["version"] == "2.0+local.1"
    assert set(facts["releases"]) == {"1.0", "2.0+local.1"}
    assert get(client, "/pypi/ours-thing/json").json["info"]["name"] == "ours-thing"
    assert len(get(client, "/pypi/ours-thing/1.0.0/json").json["urls"]) == 2
    get(client, "/pypi/ours-thing/7/json", status=404)


@pytest.mark.parametrize("path", ["/ours-thing/json", "/pypi/ours-thing/json", "/pypi/ours-thing/1.0/json"])
def test_links_of_the_json_api_lead_to_the_files(client: Client, path: str) -> None:
    answer = get(client, path)
    for file in answer.json["urls"]:
        assert file["url"].startswith("http://127.0.0.1/packages/")
        assert client.get(file["url"].removeprefix("http://127.0.0.1")).content_length == file["size"]


def test_the_page_of_all_files_links_every_one(client: Client, packages: Path) -> None:
    page = get(client, "/packages/")
    for path in packages.glob("ours*"):
        link = re.search(rf'<a href="([^"]+)">{re.escape(path.name)}</a>', page.text)
        assert link and page.follow(link[1]).body == path.read_bytes()


def rpc(method: str, *texts: str) -> bytes:
    values = "".join(f"<param><value><string>{text}</string></value></param>" for text in texts)
    return f"<methodCall><methodName>{method}</methodName><params>{values}</params></methodCall>".encode()


def test_xml_rpc_finds_projects(client: Client) -> None:
    answer = client.post("/RPC2", rpc("search", "thing"), "text/xml")
    assert "<string>ours-thing</string>" in answer.text and "2.0+local.1" in answer.text
    assert "ours-thing" in client.post("/RPC2", rpc("list_packages"), "text/xml").text
    assert "2.0+local.1" in client.post("/RPC2", rpc("package_releases", "Ours.Thing"), "text/xml").text
    assert "fault" in client.post("/RPC2", rpc("system.shutdown"), "text/xml").text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no xml",
        b"<a/>",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><methodCall><methodName>&x;</methodName></methodCall>',
        b'<?xml version="1.0" encoding="no-such"?><methodCall/>',
        b"<methodCall>" + b"<value>" * 3000 + b"</value>" * 3000 + b"</methodCall>",
    ],
)
def test_odd_xml_is_refused(client: Client, body: bytes) -> None:
    assert client.post("/RPC2", body, "text/xml", 400).content_type == "text/plain"


def test_too_much_xml_is_refused(client: Client) -> None:
    client.post("/RPC2", b" " * 70_000, "text/xml", 413)


def test_health_answers_monitoring(client: Client) -> None:
    assert get(client, "/health").text == "Ok"  # pypiserver's word
    assert get(client, "/health", Accept="application/json").json["projects"] == 1


def test_health_tells_strangers_nothing(packages: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path, passwords=passwords, authenticate=["list", "update"])
    client = Client(app)
    asked: dict[str, Any] = {"Accept": "application/json"}
    assert client.get("/health").text == "Ok"
    assert client.get("/health", **asked).json == {"status": "ok"}
    assert client.get("/health", **asked, **ANN).json["projects"] == 1
    app.close()


def test_the_short_way_answers_what_bottle_would(packages: Path, tmp_path: Path) -> None:
    apps = [pypiserver_lite.make_app(packages, cache_dir=tmp_path) for _ in range(2)]
    clients = [Client(app) for app in apps]
    clients[1].application.add_hook("before_request", lambda: None)  # hooks are Bottle's to call
    big = make_wheel(packages, "big", "1.0", payload=os.urandom(200_000))
    paths = ["/simple/", "/simple/ours-thing/", "/simple/Ours.Thing", "/packages/", "/ours-thing/json", "/project/big/"]
    paths += [WHEEL, WHEEL + ".metadata", WHEEL + ".asc", f"/packages/{big.name}", f"/packages/big/{big.name}"]
    paths += ["/packages/none-1.0.tar.gz", "/packages/../a", "/packages//a", WHEEL + "?a=b", "/RPC2", "/x/y/z"]
    forms = [{"Accept": accept} for accept in (JSON, HTML, "text/html", "*/*", "image/png")]
    ranges = [{"Range": f"bytes={part}"} for part in ("5-9", "-70000", "999999-")]
    for path in paths:
        for headers in [{}, *forms, {"Accept-Encoding": "gzip"}, *ranges, {"If-None-Match": "*"}]:
            for method in ("GET", "HEAD"):
                one, again, other = (
                    asked.request(path, method=method, headers=headers, status=None) for asked in (clients[0], *clients)
                )
                assert (one.status, one.body) == (again.status, again.body) == (other.status, other.body), path
                assert sorted(one.headerlist) == sorted(again.headerlist) == sorted(other.headerlist), (path, headers)
    for app in apps:
        app.close()


def test_whatever_a_subclass_has_in_place_is_asked_every_time(packages: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    class Ours(pypiserver_lite.PypiServerLite):
        closed = False

        def admit(self, action: str, environ: Any) -> Any:
            if self.closed and environ.get("HTTP_X_SECRET") != "yes":
                raise Denied("not today")
            asked.append(action)
            return super().admit(action, environ)

        def simple_project(self, name: str) -> Any:
            asked.append(name)
            if bottle.request.query.get("as") == "text":
                bottle.response.set_header("X-Said", "by us")
                return "our own words"
            if bottle.request.query.get("as") == "tea":
                bottle.abort(418, "a teapot")
            return super().simple_project(name)

        def package(self, path: str) -> Any:
            asked.append(path)
            return super().package(path)

    app = Ours(packages, cache_dir=tmp_path)
    client = Client(app)
    for _ in range(3):
        asked.clear()
        client.get("/simple/ours-thing/")
        client.get(WHEEL)
        client.get("/simple/")
        assert asked == ["list", "ours-thing", "download", WHEEL.rsplit("/", 1)[1], "list"]
        said = client.get("/simple/ours-thing/?as=text")
        assert (said.text, said.headers["X-Said"]) == ("our own words", "by us")
        client.get("/simple/ours-thing/?as=tea", 418)
    Ours.closed = True
    for path in ("/simple/", "/simple/ours-thing/", WHEEL, "/packages/", "/ours-thing/json", "/project/ours-thing/"):
        client.get(path, 403)
        client.get(path, X_Secret="yes")
    Ours.closed = False
    app.get("/simple/ours-thing/", callback=lambda: "put in place later")
    assert client.get("/simple/ours-thing/").text == "put in place later"
    app.close()


def test_nothing_that_clients_write_is_kept(packages: Path, tmp_path: Path) -> None:
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path, disable_fallback=True)
    client = Client(app)
    paths = ("/simple/", "/simple/ours-thing/", "/packages/", "/ours-thing/json", "/project/ours-thing/", WHEEL)

    def ask(number: int) -> None:
        long = f"text/html, x/{number:060000}"
        for path in paths:
            host = f"h{number}.example.test"
            client.get(path, Accept=long, Accept_Encoding=f"gzip, {long}", Host=host, If_None_Match=f'"{long}"')
        client.get(f"/simple/{number:060000}/", 404)
        client.get(f"/packages/{number:060000}", 404)
        client.get(f"/search?q={number:060000}")

    for number in range(3):
        ask(number)
    gc.collect()
    tracemalloc.start()
    for number in range(3, 120):
        ask(number)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 8 * 2**20  # of some 60 MB that came; what is kept by path has a bound of its own
    app.close()


@pytest.mark.parametrize("path", ["/packages/", "/ours-thing/json", "/pypi/ours-thing/1.0/json", "/simple/"])
def test_what_was_made_is_kept_until_something_changes(client: Client, packages: Path, path: str) -> None:  # P6
    def sent() -> bytes:
        environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_ACCEPT": JSON}
        setup_testing_defaults(environ)
        (body,) = client.application(environ, lambda status, headers: None)
        return bytes(body)

    assert sent() is sent()  # not made again
    first = get(client, path, Accept=JSON)
    get(client, path, 304, Accept=JSON, If_None_Match=first.headers["ETag"])
    name = "newcomer" if path == "/simple/" else "ours-thing"
    made = make_wheel(packages, name, "1.0", tags="cp311-cp311-linux_x86_64")
    later = get(client, path, Accept=JSON, If_None_Match=first.headers["ETag"])
    assert (name if path == "/simple/" else made.name) in later.text
    made.unlink()
    gone = get(client, path, Accept=JSON, If_None_Match=later.headers["ETag"])
    assert made.name not in gone.text and "newcomer" not in gone.text


def test_every_html_page_says_what_a_browser_may_do_with_it(client: Client) -> None:
    paths = ("/", "/simple/", "/simple/ours-thing/", "/packages/", "/search", "/project/ours-thing/", "/project/no/")
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    for path in (*paths, "/nothing/here/at/all", "/project/no such/", "/RPC2"):
        for accept in (browser, "text/html", HTML):
            answer = client.get(path, None, Accept=accept)
            if "html" in answer.content_type:
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
    assert client.get("/nothing/here/at/all", 404, Accept=browser).content_type == "text/html"


def test_hooks_of_a_host_see_every_request(packages: Path, tmp_path: Path) -> None:
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path)
    app.add_hook("after_request", lambda: bottle.response.set_header("X-Seen", "yes"))
    client = Client(app)
    for _ in range(3):
        assert client.get("/simple/").headers["X-Seen"] == "yes"


def test_protected_pages_ask_each_time(packages: Path, tmp_path: Path) -> None:  # A1, A2, A5, P10
    from passlib.hash import sha256_crypt

    passwords = tmp_path / "htpasswd"
    passwords.write_text("ann:" + sha256_crypt.using(rounds=1000).hash("secret") + "\n")
    client = Client(
        pypiserver_lite.make_app(
            packages, cache_dir=tmp_path, passwords=passwords, authenticate=["list", "download", "update"]
        )
    )
    login = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
    wheel = "/packages/ours_thing-1.0-py3-none-any.whl"
    paths = ["/", "/simple", "/simple/", "/simple/ours-thing/", "/simple/nobody/", "/+simple/", "/packages/", wheel]
    paths += [wheel + ".metadata", wheel + ".asc", "/packages/nobody-1.0.tar.gz", "/ours-thing/json", "/ours-thing/"]
    client.request("/simple/", headers=login)
    for _ in range(2):
        for path in paths:
            for method in ("GET", "HEAD"):
                answer = client.request(path, method=method, status=401)
                assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
            # 429 once this address has guessed too often.
            assert client.get(path, None, Authorization="Basic YW5uOndyb25n").status in (401, 429)
        page = client.request("/simple/", headers=login)
        assert "public" not in page.headers["Cache-Control"]
        client.request(wheel, headers=login)
    client.get("/health")


def test_every_answer_carries_a_date_and_no_other_name_for_a_file(packages: Path) -> None:  # P5, P8, F15
    wheel = "/packages/ours_thing-1.0-py3-none-any.whl"
    with live.serve(packages=[packages]) as server:
        page = live.ask(server, "/simple/ours-thing/", Accept=JSON)
        answers = [live.ask(server, path) for path in ("/", "/simple/", "/simple", "/simple/nobody/", wheel, "/health")]
        answers.append(live.ask(server, "/simple/ours-thing/", Accept=JSON, If_None_Match=page.headers["etag"]))
        answers += [live.ask(server, wheel, "HEAD"), live.ask(server, "/", "POST")]
    assert {answer.status for answer in answers} == {200, 301, 304, 403, 404}
    for answer in answers:
        assert email.utils.parsedate_to_datetime(answer.headers["date"])
        assert "content-disposition" not in answer.headers  # the address names the file
    assert "last-modified" not in page.headers  # an ETag is enough, and exact


def test_json_is_what_json_clients_expect(client: Client) -> None:  # J1-J8, J13
    page = get(client, "/simple/ours-thing/", Accept=JSON)
    assert page.json["meta"]["api-version"].startswith("1.")
    assert page.json["versions"] == ["1.0", "2.0+local.1"]
    assert b"tracks" not in page.body
    assert json.loads(get(client, "/simple/", Accept=JSON).body)["projects"][0]["name"] == "ours-thing"


def test_a_link_put_in_place_of_a_file_that_was_looked_up_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(Missing):
        files.local_file(
            {"REQUEST_METHOD": "GET"}, LocalFile(path=tmp_path / "link"), filename="link", cache_control="no-cache"
        )


@pytest.mark.parametrize("year", [1600, 2300])
def test_a_file_from_another_age_is_served_like_any_other(packages: Path, tmp_path: Path, year: int) -> None:
    old = make_wheel(packages, "old", "1.0")
    moment = int(
        (datetime(year, 1, 1, tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    )
    os.utime(old, ns=(moment * 10**9, moment * 10**9))
    client = Client(pypiserver_lite.make_app(packages, cache_dir=tmp_path, disable_fallback=True))
    for path in (
        "/simple/old/",
        f"/packages/{old.name}",
        f"/packages/{old.name}.metadata",
        "/project/old/",
        "/old/json",
    ):
        client.get(path)

"""Publishing from a page: the same checks and words as for any upload, each file by itself."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import html5lib
import live
import pytest
from builders import listed, make_sdist, make_wheel
from forms import END, OPEN, TYPE, file, text
from visitors import BROWSER, Visitor
from wsgi_client import Answer

from pypiserver_lite import PypiServerLite, make_app


@pytest.fixture
def app(packages: Path, tmp_path: Path) -> PypiServerLite:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    return make_app(packages, passwords=passwords, disable_fallback=True, cache_dir=tmp_path / "c", max_upload="1MB")


@pytest.fixture
def ann(app: PypiServerLite) -> Visitor:
    visitor = Visitor(app)
    visitor.sign_in("ann", "right")
    return visitor


@pytest.fixture
def built(tmp_path: Path) -> list[Path]:
    return [make_wheel(tmp_path / "dist", "ours", "1.0"), make_sdist(tmp_path / "dist", "ours", "1.0")]


def token(visitor: Visitor) -> str:
    found = re.search(r'name="csrf" value="([^"]*)"', visitor.get("/-/upload").text.partition("<main")[2])
    assert found is not None
    return found[1]


def send(visitor: Visitor, *parts: bytes, status: int | None = 200, csrf: str | None = None, **headers: str) -> Answer:
    body = text("csrf", token(visitor) if csrf is None else csrf) + b"".join(parts) + END
    return visitor.send("/-/upload", status, body, {"Content-Type": TYPE, **headers})


def part(path: Path, name: str = "") -> bytes:
    return file("content", path.read_bytes(), name or path.name)


def test_several_files_are_published_at_once(ann: Visitor, built: list[Path], packages: Path) -> None:
    page = ann.get("/-/upload")
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert re.search(r"A file has at most 1\.0 MB\.\s*<noscript>So have all files of one upload together", page.text)
    page = send(ann, *map(part, built))
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert page.text.count("stored") == 2
    assert [path for path in listed(packages) if not path.startswith(".")] == sorted(path.name for path in built)
    ann.get("/project/" + page.text.partition('href="../project/')[2].partition('"')[0])
    assert "these very bytes were here already" in send(ann, part(built[0])).text


def test_one_that_is_refused_keeps_no_other_out(ann: Visitor, built: list[Path], packages: Path) -> None:
    wrong = file("content", b"no wheel", "broken-1.0-py3-none-any.whl")
    odd = file("content", b"x", "notes.txt")
    page = send(ann, wrong, part(built[0]), odd, part(built[1], "other-1.0.tar.gz"), status=400)
    assert page.text.count("stored") == 1 and page.text.count('class="mark"') == 3
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert [path for path in listed(packages) if not path.startswith(".")] == [built[0].name]
    assert not list(packages.glob(".pypiserver-lite-*"))  # nothing is left of the others


def test_what_is_here_is_not_replaced(ann: Visitor, tmp_path: Path, packages: Path) -> None:
    before = make_wheel(packages, "ours", "1.0").read_bytes()
    other = make_wheel(tmp_path / "dist", "ours", "1.0", "Summary: another")
    facts = send(ann, part(other), status=409, Accept="application/json").json["files"]
    assert [(one["filename"], one["taken"]) for one in facts] == [(other.name, False)]
    assert (packages / other.name).read_bytes() == before


def test_the_page_says_what_becomes_of_a_file_that_is_here(packages: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    other = make_wheel(tmp_path / "dist", "ours", "1.0", "Summary: another")
    for overwrite in (False, True):
        before = make_wheel(packages, "ours", "1.0").read_bytes()
        settings = {"disable_fallback": True, "cache_dir": tmp_path / "c", "overwrite": overwrite}
        with closing(make_app(packages, passwords=passwords, **settings)) as app:
            ann = Visitor(app)
            ann.sign_in("ann", "right")
            page = ann.get("/-/upload").text
            send(ann, part(other), status=200 if overwrite else 409)
        assert ((packages / other.name).read_bytes() != before) is overwrite
        assert ("never replaced" in page, "takes its place" in page) == (not overwrite, overwrite)
    script = re.search(r'src="([^"]*upload[^"]*)"', page)
    assert script is not None and "stays as it is" not in ann.get(urljoin("/-/upload", script[1])).text


def test_a_script_hears_json_and_brings_the_token_in_a_header(ann: Visitor, built: list[Path]) -> None:
    body = part(built[0]) + END
    headers = {"Content-Type": TYPE, "Accept": "application/json", "Sec-Fetch-Mode": "cors"}
    ann.send("/-/upload", 403, body, headers)
    answer = ann.send("/-/upload", 200, body, {**headers, "X-CSRF-Token": token(ann)})
    link = "../project/ours/1.0/"
    assert answer.json == {"files": [{"filename": built[0].name, "taken": True, "said": "stored", "link": link}]}
    ann.cookies.clear()
    over = ann.send("/-/upload", 403, body, {**headers, "X-CSRF-Token": "x"})
    assert "sign in again" in over.text and "WWW-Authenticate" not in over.headers


def test_a_form_without_the_token_publishes_nothing(
    app: PypiServerLite, ann: Visitor, built: list[Path], packages: Path
) -> None:
    for csrf in ("", "x" * 43):
        send(ann, part(built[0]), csrf=csrf, status=403)
        send(ann, csrf=csrf, status=403)
    late = part(built[0]) + text("csrf", token(ann)) + END  # the token has to come first
    ann.send("/-/upload", 403, late, {"Content-Type": TYPE})
    send(ann, part(built[0]), status=403, **{"Sec-Fetch-Site": "cross-site"})
    stranger = Visitor(app)
    assert stranger.send("/-/upload", 303, part(built[0]) + END, {"Content-Type": TYPE}).headers["Location"]
    assert [path for path in listed(packages) if not path.startswith(".")] == []
    assert not list(packages.glob(".pypiserver-lite-*"))


def test_nobody_chose_a_file(ann: Visitor) -> None:
    assert "Choose a file" in send(ann, file("content", b"", ""), status=400).text
    ann.send("/-/upload", 400, b"csrf=x", {"Content-Type": "text/plain"})


def test_a_form_is_as_large_as_an_upload_may_be(ann: Visitor, app: PypiServerLite) -> None:
    large = file("content", b"x" * 2**20, "ours-1.0.tar.gz")
    assert "--max-upload" in send(ann, large, status=413).text
    early: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": "/-/upload", "CONTENT_LENGTH": "2000000"}
    cookie = "; ".join(f"{name}={value}" for name, value in ann.cookies.items())
    refused = app.refuse_early({**early, "HTTP_COOKIE": cookie, "wsgi.url_scheme": "http"})
    assert refused is not None and refused[0].startswith("413")
    small = {**early, "CONTENT_LENGTH": "200000", "HTTP_COOKIE": cookie, "wsgi.url_scheme": "http"}
    assert app.refuse_early(small) is None


def test_where_everybody_may_publish_nobody_signs_in_for_it(packages: Path, tmp_path: Path, built: list[Path]) -> None:
    anybody = Visitor(make_app(packages, **OPEN, cache_dir=tmp_path / "c"))
    assert "stored" in send(anybody, part(built[0])).text
    closed = Visitor(make_app(packages, cache_dir=tmp_path / "c"))
    closed.get("/-/upload", 403)
    assert "-/upload" not in closed.get("/").text and "-/upload" in anybody.get("/").text


@pytest.mark.parametrize("server", ["waitress", "granian", "gunicorn"])
def test_every_server_takes_large_files_of_a_session_and_refuses_others_early(tmp_path: Path, server: str) -> None:
    if server != "waitress":
        pytest.importorskip(server)
    large = make_wheel(tmp_path / "dist", "large", "1.0", payload=bytes(3_000_000))
    (tmp_path / "packages").mkdir()
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    flags: dict[str, Any] = {"passwords": passwords, "server": server}
    with live.serve(packages=[tmp_path / "packages"], **flags) as running:
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": BROWSER}
        signed = live.ask(running, "/-/sign-in", "POST", body=b"user=ann&password=right", **kind)
        cookie = signed.headers["set-cookie"].partition(";")[0]
        page = live.ask(running, "/-/upload", Cookie=cookie, Accept=BROWSER).text
        found = re.search(r'name="csrf" value="([^"]*)"', page.partition("<main")[2])
        assert found is not None
        body = text("csrf", found[1]) + part(large) + END
        sent = {"Content-Type": TYPE, "Accept": BROWSER}
        assert live.ask(running, "/-/upload", "POST", body=body, Cookie=cookie, **sent).status == 200
        assert (tmp_path / "packages" / large.name).read_bytes() == large.read_bytes()
        away = live.ask(running, "/-/upload", "POST", body=body, **sent)
        assert (away.status, away.headers.get("location")) == (303, "../-/sign-in?next=-/upload")
        assert live.ask(running, "/-/tokens/new", "POST", body=body, Cookie=cookie, **sent).status == 413

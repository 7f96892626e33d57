"""One address for everything: proxy and cache through the whole server, with real clients and a real upstream."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_wheel, metadata
from remotes import GZIP

from pypiserver_lite import ConfigError, PypiServerLite, make_app, site
from pypiserver_lite.config import load
from pypiserver_lite.upstream import hops

JSON = "application/vnd.pypi.simple.v1+json"
with_uv = pytest.param("uv", marks=pytest.mark.clients)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[faulty.FaultyUpstream]:
    """A public index with a library of theirs, and a newer version of a name of ours."""
    with faulty.upstream() as server:
        for name, version in (("their-lib", "1.0"), ("their-lib", "2.0"), ("ours", "99.0"), ("acme-secret", "1.0")):
            wheel = make_wheel(tmp_path / "public", name, version)
            server.add(name, wheel.name, wheel.read_bytes(), metadata=metadata(name, version))
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "private", "ours", "1.0", "Requires-Dist: their-lib")
    return tmp_path / "private"


def install(tool: str, shell: live.Shell, server: live.Server, target: Path, *more: str) -> live.Ran:
    if tool == "pip":
        return shell.pip("install", "--no-cache-dir", "--target", target, "--index-url", server.simple, "ours", *more)
    options = ["--no-cache", "--target", str(target), "--default-index", server.simple]
    return shell.uv("pip", "install", *options, "ours", *more)


@pytest.mark.parametrize("tool", ["pip", with_uv])
@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_clients_install_through_one_address(
    mode: str, tool: str, upstream: faulty.FaultyUpstream, folder: Path, shell: live.Shell, tmp_path: Path
) -> None:
    with live.serve(packages=[folder], fallback_url=upstream.url, fallback_mode=mode) as server:
        install(tool, shell, server, tmp_path / "cold").good()
        assert live.installed(tmp_path / "cold") == {"ours": "1.0", "their-lib": "2.0"}
        cold = len(upstream.requests)
        install(tool, shell, server, tmp_path / "warm").good()
        assert live.installed(tmp_path / "warm") == {"ours": "1.0", "their-lib": "2.0"}
        if mode == "cache":
            assert len(upstream.requests) == cold
    agents = {request.headers.get("user-agent", "") for request in upstream.requests}
    assert not [agent for agent in agents if tool in agent]  # the clients themselves never went there
    assert not [path for path in upstream.paths() if "ours" in path]  # U14: our name never left


@pytest.mark.parametrize("tool", ["pip", with_uv])
def test_what_was_fetched_once_installs_with_the_upstream_gone_even_after_a_restart(
    tool: str, upstream: faulty.FaultyUpstream, folder: Path, shell: live.Shell, tmp_path: Path
) -> None:
    flags: dict[str, Any] = {
        "fallback_url": upstream.url,
        "fallback_mode": "cache",
        "cache_dir": tmp_path / "cache",
        "cache_ttl": 0,
    }
    with live.serve(packages=[folder], **flags) as server:
        install(tool, shell, server, tmp_path / "first").good()
        upstream.fault("*", faulty.reset())
        install(tool, shell, server, tmp_path / "second").good()
        page = live.ask(server, "/simple/their-lib/", Accept=JSON)
        assert page.status == 200 and page.headers["warning"].startswith("110 ")
        assert live.ask(server, "/simple/their-lib/", Accept=JSON).headers["warning"].startswith("110 ")
    with live.serve(packages=[folder], **flags) as server:
        install(tool, shell, server, tmp_path / "third").good()
        assert live.installed(tmp_path / "third") == {"ours": "1.0", "their-lib": "2.0"}
        began = time.monotonic()
        answer = live.ask(server, "/simple/never-seen/")
        assert answer.status == 502 and answer.headers["content-type"].startswith("text/plain")
        assert time.monotonic() - began < 5
        assert live.ask(server, "/simple/ours/").status == 200


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_a_page_that_was_served_often_is_marked_once_its_upstream_fails(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    app = make_app(folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "c", cache_ttl=0)
    with live.in_thread(app) as server:
        for _ in range(3):
            fine = live.ask(server, "/simple/their-lib/", Accept=JSON)
            assert (fine.status, fine.headers.get("warning"), fine.headers.get("age")) == (200, None, None)
        upstream.fault("*", faulty.status(500))
        for conditional in ("", fine.headers["etag"], ""):
            stale = live.ask(server, "/simple/their-lib/", Accept=JSON, If_None_Match=conditional)
            assert stale.status == (304 if conditional else 200)
            assert stale.headers["warning"].startswith("110 ")
            assert stale.headers["age"].isdigit()


@pytest.mark.parametrize("mode", ["redirect", "proxy", "cache"])
def test_reserved_names_are_asked_of_nobody(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    app = make_app(
        folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "c", private=["Acme_*", "solo"]
    )
    with live.in_thread(app) as server:
        for name in ("acme-secret", "Acme.Secret", "acme_new-thing", "solo"):
            for path in (f"/simple/{name}/", f"/{name}/json", f"/packages/{name}-1.0.tar.gz"):
                answer = live.ask(server, path)
                while answer.status in (301, 302) and "://" not in answer.headers["location"]:
                    name = answer.headers["location"].strip("./").removeprefix("simple/").split("/")[0]
                    answer = live.ask(server, f"/simple/{name}/")
                assert answer.status == 404, path
        assert "--private" in live.ask(server, "/simple/solo/").text
        assert upstream.requests == []
        make_wheel(folder, "acme-secret", "0.1")
        assert "acme_secret-0.1" in live.ask(server, "/simple/acme-secret/").text
        assert upstream.requests == []


def test_names_of_folders_are_asked_of_nobody(
    upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:  # U14
    wheel = make_wheel(folder / "team-x", "nested", "1.0")
    upstream.add("odd", "odd-2-1.0.tar.gz", b"odd")  # by its name alone it might be odd-2's
    app = make_app(folder, fallback_url=upstream.url, fallback_mode="proxy", cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        assert live.ask(server, f"/packages/team-x/{wheel.name}").body == wheel.read_bytes()
        assert live.ask(server, "/packages/team-x/nested-2.0.tar.gz").status == 404
        assert upstream.requests == []
        assert live.ask(server, "/packages/odd/odd-2-1.0.tar.gz").body == b"odd"


def test_uploading_a_name_hides_the_upstreams_files_at_once(
    upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    app = make_app(folder, fallback_url=upstream.url, fallback_mode="cache", cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        assert "their_lib-2.0" in live.ask(server, "/simple/their-lib/", Accept=JSON).text
        assert live.ask(server, "/packages/their_lib-2.0-py3-none-any.whl").status == 200
        make_wheel(folder, "their-lib", "0.1")
        assert "their_lib-2.0" not in live.ask(server, "/simple/their-lib/", Accept=JSON).text
        assert live.ask(server, "/packages/their_lib-2.0-py3-none-any.whl").status == 404
        assert live.ask(server, "/packages/their-lib/their_lib-2.0-py3-none-any.whl.metadata").status == 404


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_several_upstreams_are_asked_in_order_and_one_that_fails_ends_the_search(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    with faulty.upstream() as second:
        for name in ("their-lib", "only-there"):
            wheel = make_wheel(tmp_path / "second", name, "77.0")
            second.add(name, wheel.name, wheel.read_bytes())
        urls = [upstream.url, second.url]
        app = make_app(folder, fallback_url=urls, fallback_mode=mode, cache_dir=tmp_path / "c", cache_ttl=0)
        with live.in_thread(app) as server:
            assert "77.0" not in live.ask(server, "/simple/their-lib/").text
            assert "77.0" in live.ask(server, "/simple/only-there/").text
            assert second.count("/simple/their-lib/") == 0
            upstream.fault("*", faulty.status(500))
            assert live.ask(server, "/simple/brand-new/").status == 502
            assert second.count("/simple/brand-new/") == 0


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_files_come_in_parts_and_whole_as_their_upstream_has_them(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    upstream.add("big", "big-1.0.tar.gz", data)
    app = make_app(folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        tags = set()
        for _ in range(2):
            part = live.ask(server, "/packages/big-1.0.tar.gz", Range="bytes=1000-1999")
            assert (part.status, part.body) == (206, data[1000:2000])
            assert part.headers["content-range"] == "bytes 1000-1999/300000"
            whole = live.ask(server, "/packages/big-1.0.tar.gz")
            assert whole.body == data and whole.headers["content-length"] == "300000"
            head = live.ask(server, "/packages/big-1.0.tar.gz", "HEAD")
            assert (head.body, head.headers["content-length"]) == (b"", "300000")
            assert live.ask(server, "/packages/big-1.0.tar.gz", Range="bytes=999999-").status == 416
            tags |= {part.headers["etag"], whole.headers["etag"], head.headers["etag"]}
        assert len(tags) == 1  # F11: a download that broke is resumed from the cache


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_no_range_is_promised_that_comes_only_after_all_before_it(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    path = upstream.add("big", "big-1.0.tar.gz", data)
    upstream.stored[path].ranges = False
    app = make_app(folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        head = live.ask(server, "/packages/big-1.0.tar.gz", "HEAD")
        assert head.headers["content-length"] == "300000"
        assert "accept-ranges" not in head.headers
        part = live.ask(server, "/packages/big-1.0.tar.gz", Range="bytes=-100")
        assert (part.status, part.body) == (200, data)
        assert "accept-ranges" not in part.headers and "content-range" not in part.headers


@pytest.mark.parametrize("facts", [{}, {"hashes": {}}, {"hashes": {}, "size": False}], ids=["known", "size", "nothing"])
@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_an_upstream_that_sends_no_byte_of_a_file_is_502(
    upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path, mode: str, facts: dict[str, Any]
) -> None:
    data = GZIP + bytes(1000)
    path = upstream.add("other-lib", "other_lib-1.0.tar.gz", data, **facts)
    app = make_app(folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "cache")
    with live.in_thread(app) as server:
        for fault in (faulty.reset(), faulty.truncate(data, 0)):
            upstream.fault(path, fault)
            assert live.ask(server, "/packages/other_lib-1.0.tar.gz").status == 502
        upstream.heal()
        assert live.ask(server, "/packages/other_lib-1.0.tar.gz").body == data


def test_an_answer_begins_before_pip_gives_up(upstream: faulty.FaultyUpstream, folder: Path) -> None:
    left: list[float] = []

    class Noting(PypiServerLite):
        def package(self, path: str) -> Any:
            left.append(hops.left())
            return super().package(path)

    upstream.add("other-lib", "other_lib-1.0.tar.gz", bytes(1000))
    with live.in_thread(Noting(folder, fallback_url=upstream.url, fallback_mode="proxy")) as server:
        assert live.ask(server, "/packages/other_lib-1.0.tar.gz").body == bytes(1000)
    assert 0 < left[0] <= 12


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_a_yank_upstream_is_passed_on(
    mode: str, upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:  # Y4
    upstream.add("bad", "bad-1.0.tar.gz", b"one", yanked="breaks <everything>")
    upstream.add("bad", "bad-2.0.tar.gz", b"two", yanked=True)
    upstream.add("bad", "bad-3.0.tar.gz", b"three", yanked=False)
    app = make_app(folder, fallback_url=upstream.url, fallback_mode=mode, cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        files = json.loads(live.ask(server, "/simple/bad/", Accept=JSON).body)["files"]
        assert [file["yanked"] for file in files] == ["breaks <everything>", True, False]
        page = live.ask(server, "/simple/bad/").text
        assert page.count("data-yanked") == 2 and 'data-yanked="breaks &lt;everything&gt;"' in page


def test_eight_clients_that_ask_for_one_file_cost_one_download(
    upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(2**20) * 50
    path = upstream.add("huge", "huge-1.0.tar.gz", data)
    app = make_app(folder, fallback_url=upstream.url, fallback_mode="cache", cache_dir=tmp_path / "c", threads=16)
    digests: list[str] = []

    def fetch(server: live.Server) -> None:
        digests.append(hashlib.sha256(live.ask(server, "/packages/huge-1.0.tar.gz").body).hexdigest())

    with live.in_thread(app) as server:
        clients = [threading.Thread(target=fetch, args=(server,)) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
    assert digests == [hashlib.sha256(data).hexdigest()] * 8
    assert upstream.count(path) == 1


def test_killed_while_caching_it_serves_the_whole_file_afterwards(
    upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(2**20) * 8
    path = upstream.add("slow", "slow-1.0.tar.gz", data)
    upstream.stored[path].speed = 2**23
    flags: dict[str, Any] = {"fallback_url": upstream.url, "fallback_mode": "cache", "cache_dir": tmp_path / "cache"}
    for _ in range(3):
        with live.serve(packages=[folder], **flags) as server, live.connect(server) as connection:
            connection.sendall(b"GET /packages/slow-1.0.tar.gz HTTP/1.1\r\nHost: example.test\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            live.kill(server)
    upstream.stored[path].speed = None
    with live.serve(packages=[folder], **flags) as server:
        assert live.ask(server, "/packages/slow-1.0.tar.gz").body == data
        assert live.ask(server, "/packages/slow-1.0.tar.gz").body == data
    assert not list((tmp_path / "cache" / "upstream" / "tmp").iterdir())  # swept at start


def test_two_servers_that_point_at_each_other_do_not_loop(folder: Path, tmp_path: Path) -> None:
    port = live.free_port()
    first = make_app(folder, fallback_url=f"http://127.0.0.1:{port}/simple/", fallback_mode="proxy")
    with live.in_thread(first) as server:
        flags: dict[str, Any] = {"port": port, "fallback_url": server.simple, "fallback_mode": "proxy"}
        with live.serve(packages=[folder], **flags) as second:
            for asked in (server, second):
                began = time.monotonic()
                assert live.ask(asked, "/simple/nobody-has-this/").status in (502, 508)
                assert time.monotonic() - began < 10
                assert live.ask(asked, "/simple/ours/").status == 200
            assert len([request for request in server.requests if "nobody" in request.path]) < 10


def test_upstream_passwords_are_shown_to_nobody(upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path) -> None:
    upstream.password = "Basic dXBsaW5rOnMzY3IzdC1wYXNz"
    url = upstream.url.replace("//", "//uplink:s3cr3t-pass@")
    with live.serve("-vv", packages=[folder], fallback_url=url, fallback_mode="cache") as server:
        seen = [live.ask(server, "/simple/their-lib/").text]
        assert "their_lib-2.0" in seen[0]
        upstream.fault("*", faulty.status(500))
        for path in ("/simple/new/", "/", "/health", "/simple/"):
            answer = live.ask(server, path, Accept="application/json, */*")
            seen.append(answer.text + str(answer.headers))
        seen.append(server.log())
    assert not [text for text in seen if "s3cr3t" in text or "dXBsaW5r" in text]
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not [data for data in kept if b"s3cr3t" in data or b"dXBsaW5r" in data]
    assert "s3cr3t" not in repr(load.from_settings({"fallback_url": url}))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"fallback_url": ["http://a.invalid/", "http://b.invalid/"]}, "--fallback-mode"),
        ({"fallback_url": "http://user:pass@a.invalid/"}, "--fallback-url"),
        ({"fallback_mode": "guess"}, "fallback_mode"),
        ({"fallback_url": "file:///etc/"}, "fallback_url"),
        ({"cache_size": "lots"}, "cache_size"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config: dict[str, object], named: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        site.build(load.from_settings({"packages": folder, **config}))
    assert "pass@" not in str(caught.value)


def test_traffic_is_counted_on_health(upstream: faulty.FaultyUpstream, folder: Path, tmp_path: Path) -> None:
    app = make_app(folder, fallback_url=upstream.url, fallback_mode="cache", cache_dir=tmp_path / "c")
    with live.in_thread(app) as server:
        for _ in range(2):
            live.ask(server, "/packages/their_lib-2.0-py3-none-any.whl")
        text = live.ask(server, "/health", Accept="application/json").text
    assert f'"requests": {len(upstream.requests)}' in text
    size = (tmp_path / "public" / "their_lib-2.0-py3-none-any.whl").stat().st_size
    assert f'"cached": {size}' in text


def test_the_cache_is_looked_after_from_the_command_line(
    upstream: faulty.FaultyUpstream, folder: Path, shell: live.Shell, tmp_path: Path
) -> None:
    (tmp_path / "requirements.txt").write_text("their-lib==1.0  # pinned\n")
    kept = {"PYPISERVER_LITE_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(live.SOURCE)}

    def cache(*words: str) -> live.Ran:
        return shell.python("-m", "pypiserver_lite", "cache", *words, **kept)

    options = ("--fallback-url", upstream.url, "-r", str(tmp_path / "requirements.txt"))
    assert "their_lib-1.0-py3-none-any.whl: fetched" in cache("warm", *options).good()
    assert "their_lib-1.0-py3-none-any.whl: cached" in cache("warm", *options).good()
    upstream.fault("*", faulty.reset())
    with live.serve(
        packages=[folder], fallback_url=upstream.url, fallback_mode="cache", cache_dir=tmp_path / "cache"
    ) as server:
        assert live.ask(server, "/packages/their_lib-1.0-py3-none-any.whl").status == 200
    assert " 3 entries" in cache("show").good()
    assert " 0 entries removed" in cache("prune").good()  # there is room
    assert " 3 entries removed" in cache("clear").good()
    assert " 0 entries" in cache("show").good()
    assert "requirements" in cache("warm").bad()


def test_filling_the_cache_asks_for_no_name_that_the_server_would_not_ask_for(
    upstream: faulty.FaultyUpstream, folder: Path, shell: live.Shell, tmp_path: Path
) -> None:
    (tmp_path / "requirements.txt").write_text("corp-lib==1.0\nours==1.0\nused-to-be==1.0\ntheir-lib==1.0\n")
    make_wheel(folder, "used-to-be", "1.0")
    kept = {"PYPISERVER_LITE_CACHE_DIR": str(tmp_path / "cache")}
    with live.serve(packages=[folder], cache_dir=tmp_path / "cache") as server:
        assert live.ask(server, "/simple/used-to-be/").status == 200
        next(folder.glob("used_to_be*.whl")).unlink()
        assert live.ask(server, "/simple/used-to-be/").status == 404
    words = ("--fallback-url", upstream.url, "-r", str(tmp_path / "requirements.txt"))
    by_variables = {"PYPISERVER_LITE_PACKAGES": str(folder), "PYPISERVER_LITE_PRIVATE": "corp-*"}
    for more, variables in (((), by_variables), (("--in", str(folder), "--private", "corp-*"), {})):
        upstream.requests.clear()
        env = {**kept, **variables, "PYTHONPATH": str(live.SOURCE)}
        done = shell.python("-m", "pypiserver_lite", "cache", "warm", *words, *more, **env)
        assert "corp-lib is reserved" in done.said and "their_lib-1.0-py3-none-any.whl: " in done.said
        assert {path for path in upstream.paths() if "their" not in path} == set()
    done = shell.python("-m", "pypiserver_lite", "cache", "warm", *words, "--in", str(tmp_path / "none"), **env)
    assert "does not exist" in done.bad()


def over_tls(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for this name, and a server's context that shows it."""
    folder.mkdir()
    cert, key = live.certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


def test_an_own_authority_is_trusted_only_when_named_and_only_for_its_names(folder: Path, tmp_path: Path) -> None:
    cert, context = over_tls(tmp_path / "right", "127.0.0.1")
    other, foreign = over_tls(tmp_path / "foreign", "other.example.test")
    wheel = make_wheel(tmp_path / "public", "their-lib", "1.0")
    with faulty.upstream(tls=context) as upstream, faulty.upstream(tls=foreign) as pretender:
        for one in (upstream, pretender):
            one.add("their-lib", wheel.name, wheel.read_bytes())
        for far, authority, status in ((upstream, cert, 200), (upstream, None, 502), (pretender, other, 502)):
            flags: dict[str, Any] = {"fallback_ca": authority} if authority else {}
            with live.serve(packages=[folder], fallback_url=far.url, fallback_mode="cache", **flags) as server:
                page = live.ask(server, "/simple/their-lib/", Accept=JSON)
                assert page.status == status, page.body
                if status == 200:
                    assert live.ask(server, f"/packages/{wheel.name}").body == wheel.read_bytes()
                else:
                    assert b"--fallback-ca" in page.body
    for unusable in (tmp_path / "none.pem", wheel):
        with pytest.raises(ConfigError, match="--fallback-ca"):
            make_app(folder, fallback_url=upstream.url, fallback_mode="proxy", fallback_ca=unusable)
    with pytest.raises(ConfigError, match="--fallback-host"):
        make_app(folder, fallback_url=upstream.url, fallback_mode="proxy", fallback_host="https://cdn.example.test/")


def test_an_upstream_may_keep_its_files_with_a_host_that_is_named(
    upstream: faulty.FaultyUpstream, folder: Path
) -> None:
    with faulty.upstream() as storage:
        path = next(path for path in upstream.stored if path.endswith("their_lib-2.0-py3-none-any.whl"))
        storage.stored["/blob"] = faulty.Stored(upstream.stored[path].body)
        upstream.fault(path, faulty.redirect(f"{storage.base}blob"))
        named: dict[str, Any] = {"fallback_host": f"127.0.0.1:{storage.port}"}
        nobody: dict[str, Any] = {}
        for flags, status in ((nobody, 502), (named, 200)):
            with live.serve(packages=[folder], fallback_url=upstream.url, fallback_mode="proxy", **flags) as server:
                answer = live.ask(server, "/packages/their_lib-2.0-py3-none-any.whl")
                assert answer.status == status
                assert status == 200 or b"--fallback-host" in answer.body

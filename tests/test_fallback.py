"""A name the folder has is answered from the folder alone; any other is looked for upstream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import live
import pytest
from builders import make_wheel

from pypiserver_lite import make_app

with_uv = pytest.param("uv", marks=pytest.mark.clients)
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Recording]:
    """The public index of these tests: a server of ours, remembering what it was asked."""
    folder = tmp_path_factory.mktemp("public")
    make_wheel(folder, "their-lib", "2.0")
    make_wheel(folder, "Odd_Name.lib", "1.0")
    make_wheel(folder, "ours", "99.0", payload=b"evil")  # somebody took our name
    make_wheel(folder, "ours-too", "99.0", payload=b"evil")
    app = make_app(folder, disable_fallback=True, cache_dir=tmp_path_factory.mktemp("facts"))
    with live.in_thread(app) as server:
        yield server


@pytest.fixture
def asked_upstream(upstream: live.Recording) -> live.Recording:
    """The same, with nothing asked yet."""
    upstream.forget()
    return upstream


@pytest.fixture(scope="module")
def ours(upstream: live.Recording, tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Recording]:
    """A private index in front of `upstream`."""
    folder = tmp_path_factory.mktemp("private")
    make_wheel(folder, "ours", "1.0", "Requires-Dist: their-lib", "Requires-Dist: odd.name-LIB")
    make_wheel(folder, "Ours_Too", "1.0")
    app = make_app(folder, fallback_url=upstream.simple, cache_dir=tmp_path_factory.mktemp("facts"))
    with live.in_thread(app) as server:
        yield server


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["their-lib", "no-such-thing", "a", "0", "x" * 60])
def test_unknown_project_is_redirected_for_now_to_the_upstreams_page(  # U15, U6
    name: str, method: str, ours: live.Recording, asked_upstream: live.Recording
) -> None:
    answer = live.ask(ours, f"/simple/{name}/", method, Accept=JSON)
    assert answer.status in (302, 303, 307)
    assert answer.headers["location"] == f"{asked_upstream.simple}{name}/"
    assert "public" not in answer.headers.get("cache-control", "")
    assert asked_upstream.asked() == []  # the client goes there, we do not


@pytest.mark.parametrize(
    "spelling", ["Their_Lib", "THEIR-LIB", "their.lib", "their__lib", "their%2Dlib", "Their%5FLib", "their-.lib"]
)
@pytest.mark.parametrize("slash", ["/", ""])
def test_every_spelling_ends_at_the_normalised_name_with_a_slash(  # U3, U4, U15, N1
    spelling: str, slash: str, ours: live.Recording, asked_upstream: live.Recording
) -> None:
    assert follow(ours, f"/simple/{spelling}{slash}") == f"{asked_upstream.simple}their-lib/"


@pytest.mark.parametrize("spelling", ["Ours-Too", "ours_too", "OURS.TOO", "ours%2Dtoo"])
def test_no_spelling_of_a_local_name_leads_upstream(  # N1, U14
    spelling: str, ours: live.Recording, asked_upstream: live.Recording
) -> None:
    assert follow(ours, f"/simple/{spelling}").startswith("/simple/ours-too/")
    assert asked_upstream.asked() == []


def follow(server: live.Server, path: str) -> str:
    """Where our own redirects lead to, at last: another server's address, or a path of ours that answers 200."""
    for _ in range(5):
        answer = live.ask(server, path, Accept="text/html")
        if answer.status == 200:
            return path
        assert 300 < answer.status < 309, answer
        target = urljoin(server.url.rstrip("/") + path, answer.headers["location"])
        if not target.startswith(server.url):
            return target
        path = "/" + target.removeprefix(server.url)
    raise AssertionError(f"a loop at {path}")


@pytest.mark.parametrize("query", ["?format=" + JSON.replace("+", "%2B"), "?x=1", "?", "?format=" + JSON])
def test_query_neither_breaks_nor_bends_the_redirect(
    query: str, ours: live.Recording, upstream: live.Recording
) -> None:
    answer = live.ask(ours, f"/simple/their-lib/{query}")
    assert answer.status in (302, 303, 307)
    assert answer.headers["location"].partition("?")[0] == f"{upstream.simple}their-lib/"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "-x",
            "x-",
            "_",
            "a%20b",
            "a%00b",
            "a%0d%0aLocation:%20x",
            "%2e%2e",
            "..%2f..",
            "a%2fb",
            "a%5cb",
            "%ff",
            "%c3%a9",
        ),
        *("a@b", "a:b", "a%3fb", "a%23b", "a%25b", "x" * 300, "%e2%84%aa"),
    ],
)
def test_what_is_no_name_is_not_found_and_goes_nowhere(  # N3, U11; no header injection
    name: str, ours: live.Recording, asked_upstream: live.Recording
) -> None:
    answer = live.ask(ours, f"/simple/{name}/")
    assert 400 <= answer.status < 500, answer
    assert "location" not in answer.headers
    assert asked_upstream.asked() == []


def test_file_of_an_unknown_project_is_not_found_here(ours: live.Recording, upstream: live.Recording) -> None:  # F14
    answer = live.ask(ours, "/packages/their_lib-2.0-py3-none-any.whl")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")


def test_disabled_fallback_makes_it_not_found(tmp_path: Path, packages: Path) -> None:  # U5
    make_wheel(packages, "ours", "1.0")
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(app) as server:
        answer = live.ask(server, "/simple/their-lib/", Accept=JSON)
        assert answer.status == 404
        assert "their-lib" in answer.text
        assert live.ask(server, "/simple/ours/", Accept=JSON).status == 200


def test_local_pages_never_touch_the_upstream(ours: live.Recording, asked_upstream: live.Recording) -> None:  # U14
    for path in ("/", "/simple/", "/simple/ours/", "/simple/ours-too/", "/packages/", "/ours/json", "/health"):
        assert live.ask(ours, path).status == 200, path
    assert asked_upstream.asked() == []


def test_uploaded_name_is_no_longer_redirected(tmp_path: Path, packages: Path, upstream: live.Recording) -> None:
    app = make_app(packages, fallback_url=upstream.simple, cache_dir=tmp_path / "facts")
    with live.in_thread(app) as server:
        assert live.ask(server, "/simple/their-lib/").status in (302, 303, 307)
        make_wheel(packages, "their-lib", "0.1")
        assert live.ask(server, "/simple/their-lib/").status == 200
        (packages / "their_lib-0.1-py3-none-any.whl").unlink()
        assert live.ask(server, "/simple/their-lib/").status == 404


@pytest.mark.parametrize(("folder", "sent"), [("ł", "%C5%82"), ("ä/b", "%C3%A4/b"), ("%41", "%41")])
def test_clients_are_sent_to_addresses_with_letters_beyond_ascii(
    folder: str, sent: str, packages: Path, tmp_path: Path
) -> None:
    app = make_app(packages, fallback_url=f"http://127.0.0.1:1/{folder}/simple", cache_dir=tmp_path / "facts")
    with live.in_thread(app) as server:
        answer = live.ask(server, "/simple/other/")
    assert answer.headers["location"] == f"http://127.0.0.1:1/{sent}/simple/other/"


def test_a_host_with_letters_beyond_ascii_is_refused_with_a_line(packages: Path, shell: live.Shell) -> None:
    words = ("-m", "pypiserver_lite", "run", "-p", "0", "--fallback-url", "http://ä:ö@bücher.test/", str(packages))
    ran = shell.python(*words, PYTHONPATH=str(live.SOURCE))
    assert ran.code == 2
    assert "--fallback-url" in ran.said and "xn--" in ran.said and "ö" not in ran.said and "Traceback" not in ran.said


@pytest.mark.parametrize("client", ["pip", with_uv])
def test_one_index_url_gives_ours_and_theirs(  # U14, U15
    client: str, ours: live.Recording, asked_upstream: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    ours.forget()
    install(client, shell, ours, tmp_path / "t", "ours").good()
    assert live.installed(tmp_path / "t") == {"ours": "1.0", "their-lib": "2.0", "Odd_Name.lib": "1.0"}
    assert not (tmp_path / "t" / "ours" / "payload.bin").exists()
    pages = {request.path: request for request in asked_upstream.requests if request.path.startswith("/simple/")}
    assert set(pages) == {"/simple/their-lib/", "/simple/odd-name-lib/"}
    assert all(JSON in page.headers["accept"] for page in pages.values())  # U15: Accept is repeated


@pytest.mark.parametrize("client", ["pip", with_uv])
def test_higher_version_upstream_never_replaces_ours(
    client: str, ours: live.Recording, asked_upstream: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    """Dependency confusion: a stranger's ours-too 99.0 waits upstream."""  # U14
    install(client, shell, ours, tmp_path / "t", "--upgrade", "ours_too").good()
    assert live.installed(tmp_path / "t") == {"Ours_Too": "1.0"}
    install(client, shell, ours, tmp_path / "u", "ours-too>=2").bad()
    assert asked_upstream.asked() == []


@pytest.mark.parametrize("client", ["pip", with_uv])
def test_without_upstream_the_dependency_is_missing(
    client: str, shell: live.Shell, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "ours", "1.0", "Requires-Dist: their-lib")
    with live.in_thread(make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")) as server:
        assert "their-lib" in install(client, shell, server, tmp_path / "t", "ours").bad()
    assert not (tmp_path / "t").exists() or not live.installed(tmp_path / "t")


def test_command_line_falls_back_too(
    packages: Path, asked_upstream: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    make_wheel(packages, "ours", "1.0", "Requires-Dist: their-lib")
    with live.serve(packages=[packages], fallback_url=asked_upstream.url + "simple") as server:
        install("pip", shell, server, tmp_path / "t", "ours").good()
        assert live.installed(tmp_path / "t") == {"ours": "1.0", "their-lib": "2.0"}
    with live.serve(
        packages=[packages], env={"PYPISERVER_LITE_DISABLE_FALLBACK": "1"}, disable_fallback=None
    ) as server:
        assert live.ask(server, "/simple/their-lib/").status == 404


def test_default_upstream_is_a_public_index_and_is_not_asked_by_us(packages: Path, tmp_path: Path) -> None:
    from distlib.index import DEFAULT_INDEX

    with live.in_thread(make_app(packages, cache_dir=tmp_path / "facts")) as server:
        answer = live.ask(server, "/simple/their-lib/")
    assert answer.status in (302, 303, 307)
    assert answer.headers["location"] == urljoin(DEFAULT_INDEX, "/simple/their-lib/")
    assert urlsplit(answer.headers["location"]).scheme == "https"


def install(client: str, shell: live.Shell, server: live.Server, target: Path, *what: str) -> live.Ran:
    """Install into a folder with this one index."""
    if client == "uv":
        return shell.uv("pip", "install", "--default-index", server.simple, "--target", target, *what)
    return shell.run(sys.executable, "-m", "pip", "install", "--index-url", server.simple, "--target", target, *what)

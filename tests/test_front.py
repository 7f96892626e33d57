"""Several indexes behind one door: where each is found, what is said of them, and who hears it."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import bottle
import faulty_upstream as faulty
import forms
import live
import pytest
from builders import make_wheel, metadata
from filed import asked, served, written
from test_embedding import links, needs_nginx, nginx, nothing, walk
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from wsgi_client import Client

from pypiserver_lite import ConfigError, make_app
from pypiserver_lite.config.indexes import check_name

SIMPLE = "application/vnd.pypi.simple.v1+json"
BROWSER = "text/html,*/*;q=0.8"
TEXT = """\
disable_fallback = true
title = "Acme <all>"
description = "Everything & more."
[index.prod]
packages = ["prod"]
title = "Production"
[index."team/dev"]
packages = ["dev"]
bases = ["prod"]
description = "What is being worked on."
"""
PLACES = ("/prod", "/team/dev")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "prod", "ours", "1.0")
    (tmp_path / "dev").mkdir()
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with asked(folder, TEXT) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/py"])
@pytest.mark.parametrize("place", PLACES)
def test_every_link_of_every_index_works_wherever_it_stands(folder: Path, prefix: str, place: str) -> None:
    with served(folder, TEXT) as app:
        site = DispatcherMiddleware(nothing, {prefix: app}) if prefix else app
        with live.in_thread(site) as server:
            walk(server, prefix + place)
            answer = live.ask(server, prefix + place)
            assert urljoin(server.url + (prefix + place)[1:], answer.headers["location"]).endswith(f"{place}/")
            home = live.ask(server, f"{prefix}{place}/", Accept="text/html").text
            assert f"{server.url[:-1]}{prefix}{place}/simple/" in home


@pytest.mark.filterwarnings("ignore::DeprecationWarning:bottle")
def test_it_may_be_mounted_in_another_bottle(folder: Path) -> None:
    site = bottle.Bottle()
    with served(folder, TEXT) as app:
        site.mount("/in/", app)
        with live.in_thread(site) as server:
            for place in PLACES:
                walk(server, f"/in{place}")


@pytest.mark.parametrize("base", ["/python/", "https://index.example/python/"])
@pytest.mark.parametrize("asked_below", [True, False])
def test_the_address_that_clients_see_is_shown_and_understood(folder: Path, base: str, asked_below: bool) -> None:
    prefix = "/python" if asked_below else ""
    with asked(folder, f'server_base_url = "{base}"\n{TEXT}') as client:
        seen = base if base.startswith("https:") else "http://127.0.0.1/python/"
        for place in PLACES:
            home = client.get(f"{prefix}{place}/", Accept="text/html").text
            assert f"{seen}{place[1:]}/simple/" in home
            facts = client.get(f"{prefix}{place}/pypi/ours/json").json
            assert facts["info"]["project_url"] == f"{seen}{place[1:]}/project/ours/"
            assert client.get(f"{prefix}{place}/simple/ours/").status == 200


@pytest.mark.clients
@needs_nginx
@pytest.mark.parametrize("tail", ["/", ""])
def test_every_link_works_behind_nginx(folder: Path, tail: str) -> None:
    text = TEXT if tail else f'server_base_url = "/team/py/"\n{TEXT}'
    with served(folder, text) as app, live.in_thread(app) as behind, nginx(behind.url[:-1] + tail) as server:
        for place in PLACES:
            walk(server, f"/team/py{place}")


@pytest.mark.parametrize("place", PLACES)
def test_an_index_is_found_by_each_of_its_addresses(client: Client, place: str) -> None:
    for path in ("simple/", "+simple/"):
        assert "ours" in client.get(f"{place}/{path}").text
        page = client.get(f"{place}/{path}ours/", Accept=SIMPLE)
        assert page.follow(page.json["files"][0]["url"]).status == 200
        assert client.head(f"{place}/{path}ours/").status == 200
        assert client.get(f"{place}/{path}Ours/", 301).headers["Location"] == "../ours/"
        assert client.get(f"{place}/{path[:-1]}", 301).headers["Location"] == path
    # The address of the index as an index URL, as people write it.
    assert client.get(f"{place}/ours/", 302).headers["Location"] == "../simple/ours/"
    assert client.get(f"{place}/%6furs/", 302).headers["Location"] == "../simple/ours/"
    odd = place.replace("d", "%64")
    assert client.get(f"{odd}/simple/ours/").status == 200
    for wrong in (f"{place}x/simple/", f"/x{place}/simple/ours/", f"{place}//simple/ours/", place.upper() + "/simple/"):
        assert client.get(wrong, None).status in (302, 404), wrong
    for path in ("search", "project/ours/", "packages/", "pypi/ours/json", "health"):
        assert client.get(f"{place}/{path}").status == 200


def test_an_upload_goes_to_the_folder_of_the_index_that_was_named(folder: Path) -> None:
    text = 'passwords = "."\nauthenticate = ["."]\n' + TEXT
    with asked(folder, text) as client:
        for number, path in enumerate(("/team/dev/", "/team/dev", "/team/dev/legacy/", "/team/dev/simple/")):
            wheel = make_wheel(folder / "made", "new", f"1.{number}")
            body = forms.upload(wheel.read_bytes(), wheel.name)
            client.post(path, body, "multipart/form-data; boundary=" + forms.BOUNDARY)
            assert (folder / "dev" / wheel.name).read_bytes() == wheel.read_bytes()
        assert not (folder / "prod" / wheel.name).exists()
        said = client.post("/", body, "multipart/form-data; boundary=" + forms.BOUNDARY, None)
        assert (said.status, "no folder of its own" in said.text) == (400, True)


def test_every_route_of_an_index_is_a_name_that_no_other_may_have(client: Client) -> None:
    app: Any = client.application
    first = {route.rule.split("/")[1] for route in app.app("/").routes if "<" not in route.rule.split("/")[1]}
    assert {"simple", "packages", "pypi", "-", "legacy"} <= first
    for word in first - {""}:
        assert check_name(word) is not None, word
        assert check_name(f"{word}/dev") is not None, word
    second = {route.rule.split("/")[2] for route in app.app("/").routes if route.rule.startswith("/<name>/")}
    for word in second - {""}:
        assert check_name(f"team/{word}") is not None, word


def test_the_home_page_lists_the_indexes_and_what_each_is_called(client: Client) -> None:
    home = client.get("/", Accept="text/html").text
    assert "<h1>Acme &lt;all&gt;</h1>" in home and "Everything &amp; more." in home
    assert re.search(r'<a href="prod/"><b>prod</b></a> Production', home)
    assert re.search(r'<a href="team/dev/"><b>team/dev</b></a>\s*<span[^>]*>What is being worked on', home)
    dev = client.get("/team/dev/", Accept="text/html").text
    assert '<a href="../../prod/">prod</a>' in dev and "<h2 id=" in dev and 'id="indexes"' not in dev
    assert "<title>Production</title>" in client.get("/prod/", Accept="text/html").text
    assert (
        ">team/dev</a>" in dev
        and '<a href="../../">All indexes</a>' in dev
        and ">Production</a>" in client.get("/prod/search", Accept="text/html").text
    )


def test_programs_read_the_same_as_devpi_says_it(folder: Path) -> None:
    with faulty.upstream() as upstream:
        address = upstream.url.replace("http://", "http://who:secret@")
        text = f'{TEXT}[index."root/pypi"]\nupstreams = ["far"]\ntitle = "PyPI"\n[upstream.far]\nurl = "{address}"\n'
        with asked(folder, text) as client:
            page = client.get("/", Accept="application/json")
            assert page.content_type == "application/json"
            assert "Accept" in page.headers["Vary"]
            assert page.json == {
                "type": "list:userconfig",
                "result": {
                    "": {
                        "username": "",
                        "indexes": {
                            "/": {
                                "type": "stage",
                                "volatile": False,
                                "bases": [],
                                "title": "Acme <all>",
                                "description": "Everything & more.",
                                "upstreams": [],
                            },
                            "prod": {
                                "type": "stage",
                                "volatile": False,
                                "bases": [],
                                "title": "Production",
                                "upstreams": [],
                            },
                        },
                    },
                    "team": {
                        "username": "team",
                        "indexes": {
                            "dev": {
                                "type": "stage",
                                "volatile": False,
                                "bases": ["prod"],
                                "description": "What is being worked on.",
                                "upstreams": [],
                            }
                        },
                    },
                    "root": {
                        "username": "root",
                        "indexes": {
                            "pypi": {
                                "type": "mirror",
                                "volatile": False,
                                "mirror_url": upstream.url,
                                "title": "PyPI",
                                "upstreams": [{"name": "far", "url": upstream.url, "mode": "cache"}],
                            }
                        },
                    },
                },
            }
            one = client.get("/root/pypi/", Accept="application/json").json
            assert one == {"type": "indexconfig", "result": page.json["result"]["root"]["indexes"]["pypi"]}
            for path in ("/", "/root/pypi/"):
                assert "secret" not in client.get(path, Accept="text/html").text


def test_an_index_tells_of_no_upstream_of_a_base_that_is_closed(folder: Path) -> None:
    live.write_htpasswd(folder / "few", bob="pw")
    text = (
        'disable_fallback = true\n[upstream.secret]\nurl = "http://secret.invalid/simple/"\nmode = "proxy"\n'
        '[upstream.open]\nurl = "http://open.invalid/simple/"\nmode = "proxy"\n'
        '[index.few]\nupstreams = ["secret"]\npasswords = "few"\nauthenticate = ["update", "list"]\n'
        '[index.over]\npackages = ["prod"]\nbases = ["few"]\nupstreams = ["open"]\n'
    )
    with asked(folder, text) as client:
        for path, accept in (
            ("/over/", "text/html"),
            ("/over/", "application/json"),
            ("/over/health", "application/json"),
        ):
            said = client.get(path, 200, Accept=accept).text
            assert "open" in said and "secret" not in said, path


def test_a_list_names_only_what_whoever_asks_may_list(folder: Path) -> None:
    live.write_htpasswd(folder / "all", ann="pw", bob="pw")
    live.write_htpasswd(folder / "few", bob="pw")
    text = (
        'disable_fallback = true\npasswords = "all"\nauthenticate = ["update"]\n'
        '[index.open]\npackages = ["prod"]\n'
        '[index.users]\nbases = ["open"]\nauthenticate = ["update", "list"]\n'
        '[index.few]\nbases = ["open"]\npasswords = "few"\nauthenticate = ["update", "list"]\n'
        '[index.over]\nbases = ["few", "open"]\n'
    )

    def login(user: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:pw".encode()).decode()

    def names(client: Client, user: str = "") -> set[str]:
        fields = {"Authorization": login(user)} if user else {}
        indexes = client.get("/", 200, Accept="application/json", **fields).json["result"][""]["indexes"]
        known = set(indexes)
        assert all(known.issuperset(index["bases"]) for index in indexes.values())
        assert indexes["over"]["bases"] == [base for base in ("few", "open") if base in known]
        own = client.get("/over/", 200, Accept="application/json", **fields).json["result"]
        assert own == indexes["over"]
        assert "few" not in client.get("/over/", 200, Accept="text/html", **fields).text
        home = client.get("/", 200, Accept="text/html", **fields).text
        assert set(re.findall(r"<b>(\w+)</b>", home)) == known - {"/"}
        return known - {"/"}

    with asked(folder, text) as client:
        assert names(client) == names(client, "ann") == {"open", "over"}
        assert client.get("/users/simple/", Authorization=login("ann")).status == 200
        client.get("/few/simple/", 401, Authorization=login("ann"))
        assert names(client, "ann") == {"open", "over", "users"}
        assert client.get("/few/simple/", Authorization=login("bob")).status == 200
        assert names(client, "bob") == {"open", "over", "few"}
        assert names(client) == {"open", "over"}
    locked = text.replace('authenticate = ["update"]', 'authenticate = ["update", "list"]', 1)
    with asked(folder, locked) as client:
        client.get("/", 401, Accept="application/json")
        # Who passed the gate that others have too may list those; one that differs is open, or has its own.
        assert names(client, "ann") == {"open", "over", "users"}


def test_a_logo_is_a_file_or_an_address_and_nothing_else_may_be_shown(folder: Path) -> None:
    (folder / "look").mkdir()
    (folder / "look" / "our logo.png").write_bytes(b"png")
    text = 'templates = "look"\nlogo = "our logo.png"\n' + TEXT + 'logo = "https://logos.example:8443/a/b.svg"\n'
    with asked(folder, text) as client:
        home = client.get("/", Accept="text/html")
        found = re.search(r'<img src="(-/our%20logo\.png\?v=[0-9a-f]+)"', home.text)
        assert found and client.get(f"/{found[1]}").body == b"png"
        assert "img-src 'self' data:;" in home.headers["Content-Security-Policy"]
        for path in ("/team/dev/", "/team/dev/search", "/team/dev/project/ours/", "/team/dev/project/none/"):
            page = client.get(path, None, Accept=BROWSER)
            assert '<img src="https://logos.example:8443/a/b.svg"' in page.text
            assert "img-src 'self' data: https://logos.example:8443;" in page.headers["Content-Security-Policy"]
        assert found[1] in client.get("/prod/", Accept="text/html").text  # as at the root, like the templates
    for wrong in (
        "missing.png",
        "http://logos.example/x.png",
        "https://a.example; script-src */x",
        "https:///x",
        "//x/y",
    ):
        with pytest.raises(ConfigError, match="logo"):
            make_app(config=written(folder, f'logo = "{wrong}"\n{TEXT}'))


def test_lines_of_the_log_name_the_whole_path(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with asked(folder, TEXT) as client:
        client.get("/team/dev/simple/none/", 404)
        assert "GET /team/dev/simple/none/ from 127.0.0.1" in caplog.messages
        assert any(line.startswith("404 Not Found GET /team/dev/simple/none/: ") for line in caplog.messages)
        (folder / "dev").rename(folder / "away")
        client.get("/team/dev/simple/ours/", 503)
        assert any("503 Service Unavailable GET /team/dev/simple/ours/" in line for line in caplog.messages)
    caplog.clear()
    caplog.set_level(logging.ERROR)
    (folder / "away").rename(folder / "dev")
    with asked(folder, TEXT) as client:
        client.get("/team/dev/simple/ours/")
        (folder / "dev").rename(folder / "away")
        client.get("/team/dev/simple/ours/", 503)
        assert any("/team/dev/simple/ours/" in line for line in caplog.messages)


def test_files_of_any_index_are_handed_over(folder: Path) -> None:
    with asked(folder, f'sendfile_header = "X-Sendfile"\n{TEXT}') as client:
        for place in PLACES:
            answer = client.get(f"{place}/packages/ours-1.0-py3-none-any.whl")
            assert answer.headers["X-Sendfile"] == str((folder / "prod" / "ours-1.0-py3-none-any.whl").resolve())
            assert answer.body == b""


CHAIN = """\
passwords = "htpasswd"
[upstream.far]
url = "{url}"
[index."root/pypi"]
upstreams = ["far"]
[index.prod]
packages = ["prod"]
bases = ["root/pypi"]
[index.dev]
packages = ["dev"]
bases = ["prod"]
"""


@pytest.fixture
def chained(folder: Path) -> Iterator[tuple[live.Server, faulty.FaultyUpstream]]:
    """A server of three steps: dev on prod on an upstream whose files are kept."""
    live.write_htpasswd(folder / "htpasswd", ann="pw")
    with faulty.upstream() as upstream:
        wheel = make_wheel(folder / "theirs", "theirs", "3.0")
        upstream.add("theirs", wheel.name, wheel.read_bytes(), metadata=metadata("theirs", "3.0"))
        config = written(folder, CHAIN.format(url=upstream.url))
        with live.serve(config=config, disable_fallback=False, cache_dir=folder / "cache") as server:
            yield server, upstream


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=pytest.mark.clients)])
@pytest.mark.parametrize("index", ["dev/simple/", "dev/+simple/", "dev/"])
def test_clients_install_from_three_steps_by_one_address(
    chained: tuple[live.Server, faulty.FaultyUpstream], folder: Path, shell: live.Shell, tool: str, index: str
) -> None:
    server, upstream = chained
    make_wheel(folder / "dev", "top", "1.0", "Requires-Dist: ours", "Requires-Dist: theirs")
    for again in ("a", "b"):
        target, url = folder / f"t-{again}", server.url + index
        if tool == "pip":
            shell.pip("install", "--index-url", url, "--target", target, "top").good()
        else:
            shell.uv("pip", "install", "--no-cache", "--default-index", url, "--target", target, "top").good()
        assert live.installed(target) == {"top": "1.0", "ours": "1.0", "theirs": "3.0"}
        upstream.fault("*", faulty.reset())  # the second time from what was kept
    assert not any("ours" in path or "top" in path for path in upstream.paths())


def test_the_line_that_devpi_documents_for_pip_works(
    chained: tuple[live.Server, faulty.FaultyUpstream], folder: Path, shell: live.Shell
) -> None:
    server, _ = chained
    shell.pip("install", "-i", f"{server.url}root/pypi/+simple/", "--target", folder / "t", "theirs").good()
    assert live.installed(folder / "t") == {"theirs": "3.0"}


@pytest.mark.clients
@pytest.mark.parametrize("tool", ["twine", "uv"])
def test_clients_publish_to_one_index(
    chained: tuple[live.Server, faulty.FaultyUpstream], folder: Path, shell: live.Shell, tool: str
) -> None:
    server, _ = chained
    wheel = make_wheel(folder / "dist", "new", "1.0", payload=os.urandom(100_000))
    if tool == "twine":
        options = ("--non-interactive", "--disable-progress-bar", "-u", "ann", "-p", "pw")
        shell.python("-m", "twine", "upload", *options, "--repository-url", f"{server.url}dev/", wheel).good()
    else:
        check = ("--check-url", f"{server.url}dev/simple/")
        shell.uv("publish", "-u", "ann", "-p", "pw", "--publish-url", f"{server.url}dev/", *check, wheel).good()
    page = json.loads(live.ask(server, "/dev/simple/new/", Accept=SIMPLE).body)
    assert page["files"][0]["hashes"]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert live.ask(server, "/prod/simple/new/").status == 404
    assert links(server, "/dev/simple/new/")


def test_the_example_of_simpleindex_works_as_the_readme_has_it(folder: Path, shell: live.Shell) -> None:
    readme = (live.SOURCE / "README.rst").read_text("utf-8")
    (block,) = re.findall(
        r"\.\. code-block:: toml\n\n((?:    .*\n|\n)*?)\n\.\. code-block", readme.split("From simpleindex\n")[1]
    )
    text = "\n".join(line[4:] for line in block.splitlines())
    for name in ("core", "web"):
        needs = ("Requires-Dist: uranusjr-core", "Requires-Dist: theirs") if name == "web" else ()
        make_wheel(folder / "site" / f"uranusjr-{name}", f"uranusjr-{name}", "2.0", *needs)
    with faulty.upstream() as upstream:
        wheel = make_wheel(folder / "theirs", "theirs", "3.0")
        upstream.add("theirs", wheel.name, wheel.read_bytes())
        config = folder / "site" / "configuration.toml"
        config.write_text(f'{text}\nurl = "{upstream.url}"\n')
        with live.serve(config=config, disable_fallback=False, host="127.0.0.1") as server:
            shell.pip("install", "-i", server.url, "--target", folder / "t", "uranusjr-web").good()
            assert live.installed(folder / "t") == {"uranusjr-core": "2.0", "uranusjr-web": "2.0", "theirs": "3.0"}
            assert live.ask(server, "/simple/uranusjr-none/").status == 404
        assert not any("uranusjr" in path for path in upstream.paths())

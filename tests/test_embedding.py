"""The index inside other things: a WSGI dispatcher, a subclass, two in one process, gunicorn, nginx at a sub-path."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import bottle
import live
import pytest
from builders import make_wheel
from logins import basic
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import pypiserver_lite
from pypiserver_lite import ConfigError, PypiServerLite, make_app
from pypiserver_lite.records import FILENAME, Records

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/vnd.pypi.simple.v1+json"
BROWSER = "text/html,*/*;q=0.8"
NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if key == "href" and value is not None]


def links(server: live.Server, path: str) -> list[str]:
    """Where the links of an HTML page lead, as paths of the server."""
    page = live.ask(server, path, Accept="text/html")
    assert page.status == 200, page
    parser = _Links()
    parser.feed(page.text)
    return ["/" + urljoin(server.url.rstrip("/") + path, link).removeprefix(server.url) for link in parser.found]


def walk(server: live.Server, prefix: str) -> None:
    """From the home page to a file by nothing but links, and by every redirect: all of it stays under `prefix`."""
    assert f"{prefix}/simple/" in links(server, f"{prefix}/")
    assert f"{prefix}/simple/ours/" in links(server, f"{prefix}/simple/")
    (found,) = links(server, f"{prefix}/simple/ours/")
    assert found.startswith(f"{prefix}/packages/ours-1.0-py3-none-any.whl#sha256=")
    assert live.ask(server, found.partition("#")[0]).status == 200
    page = live.ask(server, f"{prefix}/simple/ours/", Accept=JSON)
    (file,) = json.loads(page.body)["files"]
    where = "/" + urljoin(f"{server.url}{prefix[1:]}/simple/ours/", file["url"]).removeprefix(server.url)
    assert live.ask(server, where + ".metadata").status == 200
    for path in ("/simple", "/simple/ours", "/simple/OURS/", "/simple/OURS", "/ours/", "/ours", "/packages"):
        answer = live.ask(server, prefix + path)
        assert 300 < answer.status < 309, (path, answer)
        target = urljoin(f"{server.url}{prefix[1:]}{path}", answer.headers["location"])
        assert target.startswith(f"{server.url}{prefix[1:]}/"), (path, target)
        assert live.ask(server, "/" + target.removeprefix(server.url)).status in (200, 301, 302), (path, target)


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An application that has no page."""
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"not us\n"]


@pytest.mark.parametrize("prefix", ["/pypi", "/a/deep/place"])
def test_every_link_works_under_any_prefix(prefix: str, packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(DispatcherMiddleware(nothing, {prefix: app})) as server:
        walk(server, prefix)
        assert live.ask(server, "/simple/").text == "not us\n"
    app.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:bottle")
@pytest.mark.parametrize("kind", ["dispatcher", "bottle"])
def test_mount_point_without_slash_leads_to_the_home_page(packages: Path, tmp_path: Path, kind: str) -> None:
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    site: Any = bottle.Bottle() if kind == "bottle" else DispatcherMiddleware(nothing, {"/pypi": app})
    if kind == "bottle":
        site.mount("/pypi", app)
    with live.in_thread(site) as server:
        answer = live.ask(server, "/pypi")
        assert 300 < answer.status < 309
        assert urljoin(server.url + "pypi", answer.headers["location"]) == server.url + "pypi/"
        assert live.ask(server, "/pypi/").status == 200
    app.close()


def test_mount_point_without_slash_leads_to_the_home_page_of_a_subclass(packages: Path, tmp_path: Path) -> None:
    class Own(PypiServerLite):
        def root(self) -> object:
            return "<a href=simple/>"

    app = Own(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(DispatcherMiddleware(nothing, {"/pypi": app})) as server:
        assert live.ask(server, "/pypi").headers["location"] == "pypi/"
        assert live.ask(server, "/pypi/").text == "<a href=simple/>"
    app.close()


def test_pip_installs_and_the_home_page_shows_the_way_under_a_prefix(
    packages: Path, tmp_path: Path, shell: live.Shell
) -> None:
    make_wheel(packages, "ours", "1.0", "Requires-Dist: theirs")
    make_wheel(packages, "theirs", "1.0")
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(DispatcherMiddleware(nothing, {"/team/py": app})) as server:
        home = live.ask(server, "/team/py/").text
        index = f"{server.url}team/py/simple/"
        assert index in home
        shell.pip("install", "--index-url", index, "--target", tmp_path / "t", "ours").good()
    app.close()
    assert live.installed(tmp_path / "t") == {"ours": "1.0", "theirs": "1.0"}


@pytest.mark.clients
def test_twine_uploads_under_a_prefix(packages: Path, tmp_path: Path, shell: live.Shell) -> None:
    wheel = make_wheel(tmp_path / "dist", "ours", "1.0", payload=os.urandom(200_000))
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    app = make_app(packages, passwords=passwords, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(DispatcherMiddleware(nothing, {"/pypi": app})) as server:
        upload(shell, server.url + "pypi/", wheel).good()
    app.close()
    assert (packages / wheel.name).read_bytes() == wheel.read_bytes()


def upload(shell: live.Shell, url: str, wheel: Path) -> live.Ran:
    """Upload with twine as ``ann``."""
    options = ("--non-interactive", "--disable-progress-bar", "-u", "ann", "-p", "pw", "--repository-url", url)
    return shell.python("-m", "twine", "upload", *options, wheel)


def test_two_apps_in_one_process_know_nothing_of_each_other(tmp_path: Path) -> None:
    make_wheel(tmp_path / "one", "ours", "1.0")
    make_wheel(tmp_path / "two", "theirs", "1.0")
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    one = make_app(tmp_path / "one", disable_fallback=True, hash_algo="md5", cache_dir=tmp_path / "facts")
    two = make_app(
        tmp_path / "two",
        fallback_url="http://up.example/simple",
        passwords=passwords,
        authenticate=["update", "list"],
        cache_control=60,
        cache_dir=tmp_path / "facts",  # shared on purpose
    )
    login = "Basic YW5uOnB3"
    with live.in_thread(DispatcherMiddleware(one, {"/two": two})) as server:
        for _ in range(2):  # the second time from what was kept
            page = live.ask(server, "/simple/ours/", Accept=JSON)
            assert page.headers["cache-control"] == "no-cache"
            assert "md5" in json.loads(page.body)["files"][0]["hashes"]
            assert live.ask(server, "/simple/theirs/").status == 404
            assert live.ask(server, "/two/simple/theirs/").status == 401
            page = live.ask(server, "/two/simple/theirs/", Accept=JSON, Authorization=login)
            assert "md5" not in json.loads(page.body)["files"][0]["hashes"]
            assert page.headers["cache-control"] == "private, no-cache"
            assert (
                live.ask(server, "/two/packages/theirs-1.0-py3-none-any.whl").headers["cache-control"] == "max-age=60"
            )
            redirect = live.ask(server, "/two/simple/ours/", Authorization=login)
            assert redirect.headers["location"] == "http://up.example/simple/ours/"
    one.close()
    two.close()


@pytest.mark.parametrize("raised", [True, False])
def test_what_a_subclass_says_no_with_is_said(packages: Path, tmp_path: Path, raised: bool) -> None:
    class Choosy(PypiServerLite):
        def simple_project(self, name: str) -> Any:
            answer = bottle.HTTPError(403, "not for <you>", X_Why="choosy")
            if raised:
                raise answer
            return answer

    app = Choosy(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    app.get("/own/page", callback=lambda: bottle.abort(404, "no page today"))
    app.get("/own/bug", callback=lambda: 1 // 0)
    with live.in_thread(app) as server:
        for _ in range(2):
            answer = live.ask(server, "/simple/ours/")
            assert (answer.status, answer.text, answer.headers["x-why"]) == (403, "not for <you>\n", "choosy")
        assert "for &lt;you&gt;" in live.ask(server, "/simple/ours/", Accept=BROWSER).text
        assert live.ask(server, "/own/page").text == "no page today\n"
        # What Bottle itself says is no better than our words for it.
        assert live.ask(server, "/own/else/not").text == "nothing here\n"
        assert live.ask(server, "/own/bug").text == "a fault of ours; see the log\n"
    app.close()


class OurIndex(PypiServerLite):
    """An index with a home page and a route of its own."""

    def __init__(self, *packages: object, **settings: object) -> None:
        super().__init__(*packages, **settings)
        self.get("/our/status", callback=lambda: "all is well")

    def root(self) -> object:
        """Our home page."""
        return self.render("own", title="<Ours> & theirs", count=len(self.site.index.names()))


def test_subclass_has_its_own_home_page_templates_and_routes(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "own.tpl").write_text("<!doctype html><title>{{title}}</title><p>{{count}} here\n")
    app = OurIndex(packages, disable_fallback=True, templates=templates, cache_dir=tmp_path / "facts")
    with live.in_thread(app) as server:
        home = live.ask(server, "/")
        assert home.status == 200
        assert home.headers["content-type"].lower().startswith("text/html")
        assert "<title>&lt;Ours&gt; &amp; theirs</title><p>1 here" in home.text
        assert live.ask(server, "/our/status").text == "all is well"
        assert live.ask(server, "/simple/ours/").status == 200
        assert live.ask(server, "/", "HEAD").body == b""


def test_subclass_may_guard_and_change_any_page(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")

    class Closed(PypiServerLite):
        def simple_project(self, name: str) -> Any:
            if bottle.request.get_header("X-Secret") != "yes":
                raise pypiserver_lite.PypiServerLiteError("not today")
            return super().simple_project(name)

    class Maintained(PypiServerLite):
        def simple_names(self) -> Any:
            return bottle.HTTPResponse("back soon\n", 503, {"Retry-After": "60"})

    with live.in_thread(Maintained(packages, disable_fallback=True, cache_dir=tmp_path / "facts")) as server:
        assert live.ask(server, "/simple/").status == 503
        assert live.ask(server, "/simple/ours/").status == 200


def test_headers_of_a_subclass_are_sent_with_the_answer_of_ours_and_with_no_other(
    packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "ours", "1.0")

    class Marked(PypiServerLite):
        def simple_names(self) -> Any:
            answer = super().simple_names()
            answer.headers.append(("X-Mine", "names"))
            return answer

        def simple_project(self, name: str) -> Any:
            if "quietly" not in bottle.request.query:
                bottle.response.set_header("X-Mine", name)
                bottle.response.set_header("Cache-Control", "private")
                bottle.response.add_header("Vary", "X-Theirs")
                bottle.response.set_cookie("seen", "yes")
            return super().simple_project(name)

    app = Marked(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    with live.in_thread(app) as server:
        for _ in range(3):
            with urllib.request.urlopen(f"{server.url}simple/", timeout=10) as names:
                assert names.headers.get_all("X-Mine") == ["names"]
        for tag in ("", live.ask(server, "/simple/ours/").headers["etag"]):
            answer = live.ask(server, "/simple/ours/", If_None_Match=tag)
            assert answer.status == (304 if tag else 200)
            assert answer.headers["x-mine"] == "ours" and answer.headers["cache-control"] == "private"
            assert answer.headers["set-cookie"].startswith("seen=")
        again = live.ask(server, "/simple/ours/?quietly").headers
        assert again["cache-control"] != "private" and "x-mine" not in again and "set-cookie" not in again
        with urllib.request.urlopen(f"{server.url}simple/ours/", timeout=10) as project:
            assert project.headers.get_all("Vary") == ["Accept, Accept-Encoding", "X-Theirs"]
            assert project.headers.get_all("Content-Type") == ["text/html; charset=utf-8"]


def test_what_own_code_raises_of_ours_is_answered_as_we_do(packages: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")

    class Careful(PypiServerLite):
        def simple_names(self) -> Any:
            raise pypiserver_lite.PypiServerLiteError("not on Sundays")

        def report(self) -> str:
            self.admit("list", bottle.request.environ)
            return "secret"

    app = Careful(
        packages, disable_fallback=True, passwords=passwords, authenticate="list", cache_dir=tmp_path / "facts"
    )
    app.get("/own/report", callback=app.report)
    with live.in_thread(app) as server:
        for _ in range(2):
            answer = live.ask(server, "/simple/", Authorization="Basic YW5uOnB3")
            assert (answer.status, answer.text) == (500, "not on Sundays\n")
            answer = live.ask(server, "/own/report")
            assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Basic ")
            assert live.ask(server, "/own/report", Authorization="Basic YW5uOnB3").text == "secret"
    app.close()


def test_app_is_a_bottle_that_can_be_mounted_in_another(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    index = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    assert isinstance(index, bottle.Bottle)
    site = bottle.Bottle()
    site.get("/", callback=lambda: "the site")
    site.mount("/pypi/", index)
    with live.in_thread(site) as server:
        assert live.ask(server, "/").text == "the site"
        walk(server, "/pypi")
        assert server.url + "pypi/simple/" in live.ask(server, "/pypi/").text
    index.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:bottle")
def test_an_app_that_stands_in_several_places_knows_where_each_request_came(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    index = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    site, inner = bottle.Bottle(), bottle.Bottle()
    inner.mount("/py/", index)
    site.mount("/in/", inner)
    site.mount("/again/", index)
    with live.in_thread(DispatcherMiddleware(site, {"/b": index, "/c/d": index})) as server:
        for prefix in ("/in/py", "/again", "/b", "/c/d", "/in/py"):
            walk(server, prefix)
            for path in ("/", "/project/ours/"):
                assert f"{server.url}{prefix[1:]}/simple/" in live.ask(server, prefix + path, Accept="text/html").text
            # The style sheet of a page that says no, too.
            refused = live.ask(server, f"{prefix}/project/none/", Accept=BROWSER)
            parser = _Links()
            parser.feed(refused.text)
            assert parser.found
            for link in filter(lambda link: link[0] != "#", parser.found):
                target = "/" + urljoin(f"{server.url}{prefix[1:]}/project/none/", link).removeprefix(server.url)
                assert target.startswith(f"{prefix}/"), (prefix, target)
                assert live.ask(server, target).status == 200, target
    index.close()


def test_wrong_setting_is_refused_with_the_nearest_right_one(packages: Path) -> None:
    with pytest.raises(ConfigError, match="disable_fallback"):
        make_app(packages, disable_fallbak=True)
    with pytest.raises(ConfigError, match="does not exist"):
        make_app(packages / "nowhere")
    for odd in (5, b"packages", [packages, [packages]]):
        with pytest.raises(ConfigError, match="is not a path"):
            make_app(odd)
    # Nothing that is said is left out.
    with pytest.raises(ConfigError, match=r"index\.toml"):
        make_app(packages, config="index.toml")
    with pytest.raises(ConfigError, match="make_app"):
        PypiServerLite(packages, config="index.toml")
    with pytest.raises(ConfigError, match="twice"):
        make_app(packages, packages=packages)


def test_folders_may_be_listed(packages: Path, tmp_path: Path) -> None:
    app = make_app([packages, str(tmp_path)], disable_fallback=True, cache_dir=tmp_path / "facts")
    assert app.site.config.index.packages == (packages, tmp_path)
    app.close()


def test_importing_does_nothing(tmp_path: Path, shell: live.Shell) -> None:
    """No file, no thread, no setting read: also with an environment that could not be served."""
    code = "import threading, pypiserver_lite, pypiserver_lite.wsgi; print(threading.active_count())"
    environ = {"PYTHONPATH": str(live.SOURCE), "PYPISERVER_LITE_PACKAGES": str(tmp_path / "nowhere")}
    assert shell.python("-c", code, **environ).good() == "1\n"
    assert list(shell.home.rglob("*")) == []


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="gunicorn is not installed")
@pytest.mark.clients
def test_gunicorn_serves_the_importable_application(packages: Path, tmp_path: Path, shell: live.Shell) -> None:
    wheel = make_wheel(tmp_path / "dist", "ours", "1.0", "Requires-Dist: theirs", payload=os.urandom(200_000))
    make_wheel(packages, "theirs", "1.0")
    environ = live.bare_environ(
        tmp_path / "server",
        PYTHONPATH=str(live.SOURCE),
        PYPISERVER_LITE_PACKAGES=str(packages),
        PYPISERVER_LITE_PASSWORDS=str(live.write_htpasswd(tmp_path / "htpasswd", ann="pw")),
        PYPISERVER_LITE_DISABLE_FALLBACK="yes",
        PYPISERVER_LITE_CACHE_DIR=str(tmp_path / "facts"),
    )
    with gunicorn(shell, environ, tmp_path) as server:
        upload(shell, server.url, wheel).good()
        # P6: each process sees what the other has stored.
        for _ in range(6):
            assert live.ask(server, "/simple/ours/").status == 200
        shell.pip("install", "--index-url", server.simple, "--target", tmp_path / "t", "ours").good()
        assert live.ask(server, "/", "POST").status == 401
        assert "Traceback" not in server.log()
    assert live.installed(tmp_path / "t") == {"ours": "1.0", "theirs": "1.0"}
    assert (packages / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="gunicorn is not installed")
@pytest.mark.parametrize("more", [[], ["--preload", "--max-requests", "3"]], ids=" ".join)
def test_what_a_server_that_closes_nothing_was_told_is_on_record(
    packages: Path, tmp_path: Path, shell: live.Shell, more: list[str]
) -> None:
    wheel = make_wheel(packages, "ours", "1.0")
    environ = live.bare_environ(
        tmp_path / "server",
        PYTHONPATH=str(live.SOURCE),
        PYPISERVER_LITE_PACKAGES=str(packages),
        PYPISERVER_LITE_PASSWORDS=str(live.write_htpasswd(tmp_path / "htpasswd", ann="pw")),
        PYPISERVER_LITE_DISABLE_FALLBACK="yes",
        PYPISERVER_LITE_STATE_DIR=str(tmp_path / "state"),
    )
    with gunicorn(shell, environ, tmp_path, *more) as server:
        for _ in range(8):
            assert live.ask(server, f"/packages/{wheel.name}").status == 200
        assert live.ask(server, "/", "POST", Authorization=basic("ann", "no")).status == 401
    with closing(Records(tmp_path / "state" / FILENAME)) as records:
        assert records.counts.of_files("/", "ours") == {wheel.name: 8}
        assert [event.outcome for event in records.trail.find()] == ["refused"]


@contextmanager
def gunicorn(shell: live.Shell, environ: dict[str, str], folder: Path, *more: str) -> Iterator[live.Server]:
    """gunicorn with the importable application, which the environment describes."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--threads", "2", *more]
    # Newer ones open a socket in the user's folder for a tool that nobody runs here.
    help = shell.python("-m", "gunicorn", "--help").said
    command += ["--no-control-socket"] if "--no-control-socket" in help else []
    scratch = folder / "scratch"
    scratch.mkdir()
    listens = r"Listening at: http://127\.0\.0\.1:(?P<port>[0-9]+)"
    with live.spawn([*command, "pypiserver_lite.wsgi:application"], environ, listens, scratch) as server:
        yield server


CONFIG = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
worker_processes 1;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port};
    location /team/py/ {{
      proxy_pass {behind};
      {headers}
    }}
  }}
}}
"""


@contextmanager
def nginx(behind: str, headers: str = "") -> Iterator[live.Server]:
    """nginx on a free port, passing ``/team/py/`` to the address `behind`."""
    assert NGINX is not None
    with tempfile.TemporaryDirectory(prefix="pypiserver-lite-nginx-") as name:
        folder = Path(name)
        port = live.free_port()
        # Started by root, its workers would be somebody who may not enter this folder.
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIG.format(user=user, folder=folder, port=port, behind=behind, headers=headers)
        (folder / "nginx.conf").write_text(text)
        command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        # It never says its port; that a worker starts says that it listens.
        with live.spawn(command, live.bare_environ(folder / "home"), "start worker process", folder, port) as server:
            yield server


needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx)")


@needs_nginx
@pytest.mark.clients
def test_nginx_at_a_sub_path_without_being_told_of_us(packages: Path, tmp_path: Path, shell: live.Shell) -> None:
    wheel = make_wheel(tmp_path / "dist", "ours", "1.0", payload=os.urandom(2_000_000))
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    with live.serve(packages=[packages], passwords=passwords) as server, nginx(server.url) as front:
        upload(shell, front.url + "team/py/", wheel).good()
        assert (packages / wheel.name).read_bytes() == wheel.read_bytes()
        walk(front, "/team/py")
        index = front.url + "team/py/simple/"
        shell.pip("install", "--index-url", index, "--target", tmp_path / "t", "ours").good()
        assert live.ask(front, "/team/py/", "POST").status == 401
    assert live.installed(tmp_path / "t") == {"ours": "1.0"}


@needs_nginx
def test_trusted_nginx_lets_the_home_page_show_its_address(packages: Path, shell: live.Shell) -> None:
    make_wheel(packages, "ours", "1.0")
    headers = "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Prefix /team/py;"
    with (
        live.serve(packages=[packages], trusted_proxy="127.0.0.1") as server,
        nginx(server.url, headers) as front,
    ):
        home = live.ask(front, "/team/py/").text
        assert set(re.findall(r"http://[^\s<\"]+/simple/", home)) == {front.url + "team/py/simple/"}
        walk(front, "/team/py")

"""Signing in on a page: who gets a session, what ends it, and that nobody can use somebody else's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import bottle
import forms
import html5lib
import live
import pytest
from builders import make_wheel
from filed import served
from logins import basic
from visitors import BROWSER, Visitor
from wsgi_client import Client

from pypiserver_lite import PypiServerLite, make_app
from pypiserver_lite.dists import normalize
from pypiserver_lite.errors import Denied, NoSpace
from pypiserver_lite.records import Records, sign_outs
from pypiserver_lite.rights.htpasswd import delete_user, set_password
from pypiserver_lite.web.sessions import LASTS, Sessions

JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
"""What Java asks for by itself."""


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    return live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his")


@pytest.fixture
def app(packages: Path, passwords: Path, tmp_path: Path) -> PypiServerLite:
    make_wheel(packages, "acme-client", "1.0")
    return make_app(packages, passwords=passwords, authenticate="update,list,download", cache_dir=tmp_path / "c")


@pytest.fixture
def ann(app: PypiServerLite) -> Visitor:
    visitor = Visitor(app)
    visitor.sign_in("ann", "right")
    return visitor


def test_people_are_led_to_the_page_and_back_to_what_they_asked_for(app: PypiServerLite) -> None:
    visitor = Visitor(app)
    for path in ("/", "/search?q=a%20b&page=2", "/project/acme-client/1.0/", "/simple/acme-client/", "/packages/"):
        away = urljoin(path, visitor.get(path, 303).headers["Location"])
        page = visitor.get(away)
        html5lib.HTMLParser(strict=True).parse(page.text)
        assert page.headers["Cache-Control"] == "no-store"
        onward = visitor.sign_in("ann", "right", path=away).headers["Location"]
        assert urljoin(away, onward) == path
        visitor.get(path)
        visitor.cookies.clear()


def test_a_browser_opens_its_own_dialog_nowhere_though_it_does_not_say_that_it_navigates(app: PypiServerLite) -> None:
    visitor = Visitor(app)
    plain = {"Sec_Fetch_Mode": "", "Sec_Fetch_Site": ""}  # as over plain http in a network
    for path in (
        *("/simple/", "/simple/acme-client/", "/packages/", "/pypi/acme-client/json", "/-/api/audit?since=7d"),
        *("/packages/acme_client-1.0-py3-none-any.whl", "/packages/acme_client-1.0-py3-none-any.whl.metadata"),
    ):
        answer = visitor.get(path, 303, **plain)
        assert "WWW-Authenticate" not in answer.headers
        away = urljoin(path, answer.headers["Location"])
        assert urljoin(away, visitor.sign_in("ann", "right", path=away).headers["Location"]) == path
        visitor.cookies.clear()
        for accept in ("*/*", JAVA):  # a script, and a program that sends its login after a 401 alone
            assert "Basic" in visitor.get(path, 401, Accept=accept, **plain).headers["WWW-Authenticate"]


def test_programs_keep_their_401_and_its_challenge(app: PypiServerLite) -> None:
    client = Client(app)
    for path in ("/", "/simple/", "/simple/acme-client/", "/packages/x-1.0.tar.gz", "/pypi/acme-client/json"):
        for accept in ("*/*", "text/html", "application/vnd.pypi.simple.v1+json, text/html;q=0.1"):
            assert "Basic" in client.get(path, 401, Accept=accept).headers["WWW-Authenticate"]
    # Whoever sends a login hears what is wrong with it.
    client.get("/", 401, Accept=BROWSER, Authorization="Basic YW5uOmZhbHNl")


def test_what_is_here_and_what_is_not_leads_to_the_page_alike(app: PypiServerLite) -> None:
    visitor = Visitor(app)
    for path in ("/project/acme-client/", "/project/nobody/", "/packages/acme_client-1.0-py3-none-any.whl", "/-x-/"):
        assert visitor.get(path, 303).headers["Location"].endswith("-/sign-in?next=" + quote(quote(path[1:])))


def test_the_cookie_is_for_this_server_and_for_no_script(ann: Visitor) -> None:
    name, *attributes = ann.set_cookie.split("; ")
    assert set(attributes) == {f"Max-Age={LASTS}", "Path=/", "HttpOnly", "SameSite=Strict"}
    assert re.fullmatch(r"pypiserver-lite-[0-9a-f]{8}=[A-Za-z0-9._-]+", name)
    assert "ann" not in ann.get("/-/sign-in", 303).headers["Location"]


@pytest.mark.parametrize(("base", "path"), [("https://index.example/py/", "/py/"), ("/py/", "/py/")])
def test_the_cookie_is_for_where_the_server_stands(packages: Path, passwords: Path, base: str, path: str) -> None:
    settings: dict[str, Any] = {"passwords": passwords, "server_base_url": base, "cache_dir": packages.parent / "c"}
    visitor = Visitor(make_app(packages, **settings))
    visitor.sign_in("ann", "right")
    assert f"; Path={path};" in visitor.set_cookie
    assert ("; Secure" in visitor.set_cookie) == base.startswith("https:")


def test_signed_in_pages_say_so_and_nobody_keeps_them(ann: Visitor) -> None:
    for path in ("/", "/search?q=", "/project/acme-client/"):
        page = ann.get(path)
        assert "<bdi>ann</bdi>" in page.text and "Sign out" in page.text
        assert page.headers["Cache-Control"] == "no-store" and "Cookie" in page.headers["Vary"]
        html5lib.HTMLParser(strict=True).parse(page.text)
    page = ann.get("/project/none/", 404)
    assert "Sign out" in page.text and page.headers["Cache-Control"] == "no-store"
    ann.get("/packages/acme_client-1.0-py3-none-any.whl")


def test_where_everybody_may_look_only_the_pages_of_who_signed_in_are_theirs_alone(
    packages: Path, passwords: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "acme-client", "1.0")
    app = make_app(packages, passwords=passwords, cache_dir=tmp_path / "c")
    ann, nobody = Visitor(app), Visitor(app)
    ann.sign_in("ann", "right")
    for path in ("/", "/search?q=", "/project/acme-client/"):
        assert "Sign in" in nobody.get(path).text and "Sign out" in ann.get(path).text
        assert nobody.get(path).headers["Cache-Control"] == "no-cache"
        assert ann.get(path).headers["Cache-Control"] == "no-store"  # Back shows it to nobody after the sign-out
        assert "Cookie" in nobody.get(path).headers["Vary"] and "ann" not in nobody.get(path).text.replace(
            "channel", ""
        )


def test_signing_out_ends_it(app: PypiServerLite, ann: Visitor) -> None:
    page = ann.get("/").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    ann.post("/-/sign-out", 403, {"csrf": "another"})
    ann.get("/")
    copy, other = dict(ann.cookies), Visitor(app)
    other.sign_in("ann", "right")
    ann.post("/-/sign-out", 303, {"csrf": token[1]})
    assert ann.cookies == {}
    ann.get("/", 303)
    ann.cookies = copy
    ann.get("/", 303)
    ann.post("/-/tokens/new", 303, {"csrf": token[1], "name": "thief"})
    other.get("/")  # in another browser


def test_a_sign_out_holds_in_every_process_and_after_a_restart(tmp_path: Path, passwords: Path) -> None:
    make_wheel(tmp_path / "packages", "acme-client", "1.0")
    flags: dict[str, Any] = {"packages": [tmp_path / "packages"], "passwords": passwords, "authenticate": "update,list"}
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": BROWSER}
    with live.serve(**flags) as one, live.serve(**flags) as other:
        answer = live.ask(one, "/-/sign-in", "POST", body=b"user=ann&password=right", **fields)
        cookie = answer.headers["set-cookie"].partition(";")[0]
        page = live.ask(other, "/", Accept=BROWSER, Cookie=cookie)
        token = re.search(rb'name="csrf" value="([^"]+)"', page.body)
        assert token is not None
        assert live.ask(one, "/-/sign-out", "POST", body=b"csrf=" + token[1], Cookie=cookie, **fields).status == 303
        assert live.ask(other, "/", Accept=BROWSER, Cookie=cookie).status == 303
    with live.serve(**flags) as again:
        assert live.ask(again, "/", Accept=BROWSER, Cookie=cookie).status == 303


def test_a_sign_out_that_cannot_be_put_on_record_says_so(
    app: PypiServerLite, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = re.search(r'name="csrf" value="([^"]+)"', ann.get("/").text)
    assert form is not None
    monkeypatch.setattr(sign_outs, "_MOST", 0)
    copy = dict(ann.cookies)
    page = ann.post("/-/sign-out", 200, {"csrf": form[1]})
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert "a copy of its cookie may hold" in page.text and ann.cookies == {} and "Sign out</button>" not in page.text
    ann.cookies = copy
    ann.get("/", 303)  # in this process it is over all the same


def test_wrong_passwords_are_told_and_throttled_as_any_other_login(app: PypiServerLite) -> None:
    visitor, client = Visitor(app), Client(app)
    page = visitor.sign_in("ann", "wr<ong", 403)
    assert (
        "Wrong user name or password" in page.text
        and 'value="ann"' in page.text
        and "ong" not in page.text.replace("Wrong", "")
    )
    token = "pypl_" + "x" * 43
    assert token not in visitor.sign_in(token, "", 403).text
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert "WWW-Authenticate" not in page.headers  # which opens the browser's own dialog
    for number in range(9):
        visitor.sign_in("ann", f"guess {number}", 403)
    assert int(visitor.sign_in("ann", "right", 429).headers["Retry-After"]) > 0
    assert client.get("/simple/", 429, Authorization="Basic YW5uOnJpZ2h0").status == 429
    visitor.sign_in("bob", "his")
    for user, password in (("", "x"), ("ann:right", ""), ("x" * 300, "y"), ("nobody", "right")):
        Visitor(app).sign_in(user, password, 403 if user == "nobody" or len(user) > 255 else 400)


def test_another_password_or_none_ends_all_sessions_of_that_user_alone(
    app: PypiServerLite, ann: Visitor, passwords: Path
) -> None:
    bob = Visitor(app)
    bob.sign_in("bob", "his")
    set_password(passwords, "ann", "another")
    ann.get("/", 303)
    bob.get("/")
    ann.sign_in("ann", "another")
    delete_user(passwords, "bob")
    bob.get("/", 303)
    ann.get("/")


@pytest.mark.parametrize("onward", ["//evil.example/", "https://evil.example/", "/\\evil.example", "\\\\evil.example"])
def test_a_sign_in_leads_nowhere_else(app: PypiServerLite, onward: str) -> None:
    visitor = Visitor(app)
    place = visitor.sign_in("ann", "right", path=f"/-/sign-in?next={quote(onward, safe='')}").headers["Location"]
    assert urljoin("https://here.example/-/sign-in", place).startswith("https://here.example/")
    for place in ("../x", "a/../../x", "..", "%2e%2e/x", "a/.%2E/../x", "/x", "a\nb"):
        visitor = Visitor(app)
        answer = visitor.sign_in("ann", "right", path=f"/-/sign-in?next={quote(place, safe='')}")
        assert answer.headers["Location"] == "../"


def test_another_sites_page_signs_nobody_in_or_out(app: PypiServerLite, ann: Visitor) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    Visitor(app).post("/-/sign-in", 403, {"user": "ann", "password": "right"}, foreign)
    ann.post("/-/sign-out", 403, {}, foreign)
    ann.get("/")


def test_a_link_of_another_site_leads_to_the_page_as_who_is_signed_in_sees_it(
    app: PypiServerLite, ann: Visitor
) -> None:
    # It comes without the cookie: the page has the browser ask again, once.
    stranger = Visitor(app)
    page = stranger.get("/-/sign-in?next=project/x/", Sec_Fetch_Site="cross-site")
    assert page.headers["Refresh"] == "0; url=sign-in?again=1&next=project%2Fx%2F"
    assert ann.get("/-/sign-in?again=1&next=project%2Fx%2F", 303).headers["Location"] == "../project/x/"
    assert "Refresh" not in stranger.get("/-/sign-in?again=1&next=project%2Fx%2F", Sec_Fetch_Site="cross-site").headers
    assert "Refresh" not in stranger.get("/-/sign-in").headers
    # Without TLS browsers do not say.
    client = Client(app)
    for before in ("http://wiki.example/page", "http://index.example/", "http://["):
        answer = client.get("/-/sign-in", Accept=BROWSER, Host="index.example:8080", Referer=before)
        assert "Refresh" in answer.headers
    for before in ("http://index.example:8080/", "", "about:blank", "x"):
        answer = client.get("/-/sign-in", Accept=BROWSER, Host="index.example:8080", Referer=before)
        assert "Refresh" not in answer.headers


def test_a_change_by_session_needs_the_token_of_a_form(app: PypiServerLite, ann: Visitor, packages: Path) -> None:
    form = {":action": "remove_pkg", "name": "acme-client", "version": "1.0"}
    assert "not of your sign-in" in ann.post("/", 403, form).text
    token = re.search(r'name="csrf" value="([^"]+)"', ann.get("/").text)
    assert token is not None
    bob = Visitor(app)
    bob.sign_in("bob", "his")
    bob.post("/", 403, form, {"X-CSRF-Token": token[1]})
    assert list(packages.glob("*.whl"))
    ann.post("/", 200, form, {"X-CSRF-Token": token[1]})
    assert not list(packages.glob("*.whl"))


def test_a_route_of_ones_own_changes_nothing_for_another_sites_page(app: PypiServerLite, ann: Visitor) -> None:
    done: list[str] = []

    def change() -> str:
        user = app.admit("update", bottle.request.environ)
        done.append("" if user is None else user.name)
        return "done"

    app.post("/mine", callback=change)
    for site in ("same-site", "cross-site"):
        assert "another site" in ann.post("/mine", 403, {}, {"Sec-Fetch-Site": site}).text
    ann.post("/mine", 403, {}, {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:1"})
    assert done == []
    ann.post("/mine", 200, {})
    assert done == ["ann"]


def test_indexes_with_the_same_users_share_a_sign_in_and_others_do_not(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "one", ann="right")
    live.write_htpasswd(tmp_path / "other", ann="right")
    (tmp_path / "a").mkdir()
    text = (
        'passwords = "one"\nauthenticate = ["list", "update"]\ndisable_fallback = true\npackages = ["a"]\n'
        '[index.prod]\nbases = ["/"]\n[index."team/dev"]\nbases = ["/"]\npasswords = "other"\n'
    )
    with served(tmp_path, text) as app:
        ann = Visitor(app)
        away = urljoin("/prod/", ann.get("/prod/", 303).headers["Location"])
        assert away == "/prod/-/sign-in"
        ann.sign_in("ann", "right", path=away)
        assert "; Path=/;" in ann.set_cookie
        ann.get("/prod/")
        ann.get("/")
        ann.get("/team/dev/", 303)
        ann.sign_in("ann", "right", path="/team/dev/-/sign-in")
        assert len(ann.cookies) == 2
        ann.get("/team/dev/")
        ann.get("/prod/")


def test_a_sign_in_holds_in_every_process_of_one_place(tmp_path: Path, passwords: Path) -> None:
    make_wheel(tmp_path / "packages", "acme-client", "1.0")
    flags: dict[str, Any] = {"packages": [tmp_path / "packages"], "passwords": passwords, "authenticate": "update,list"}
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": BROWSER}
    with live.serve(**flags) as one, live.serve(**flags) as other:
        answer = live.ask(one, "/-/sign-in", "POST", body=b"user=ann&password=right", **fields)
        assert answer.status == 303
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert live.ask(other, "/", Accept=BROWSER, Cookie=cookie).status == 200
        assert live.ask(other, "/", Accept=BROWSER).status == 303
    with live.serve(**flags) as again:
        assert live.ask(again, "/", Accept=BROWSER, Cookie=cookie).status == 200


def test_where_nobody_can_log_in_there_is_no_page(packages: Path, tmp_path: Path) -> None:
    visitor = Visitor(make_app(packages, cache_dir=tmp_path))
    visitor.get("/-/sign-in", 404)
    assert "ign in" not in visitor.get("/").text


class Lines:
    """A password file in memory, a clock, and the sessions of its users."""

    def __init__(self) -> None:
        self.now, self.lines = 1e9, {"ann": "hash"}
        self.sessions = self.made(b"secret")

    def made(self, secret: bytes, place: str = "/htpasswd") -> Sessions:
        return Sessions(lambda: secret, self.lines.get, place, clock=lambda: self.now)


def test_a_session_ends_after_its_time_and_none_begins_in_the_future() -> None:
    book = Lines()
    cookie = f"a=b; {book.sessions.cookie}={book.sessions.begin('ann')}; c=d"
    assert (session := book.sessions.of(cookie)) is not None and session.user == "ann"
    book.now += LASTS - 1
    assert book.sessions.of(cookie) == session
    book.now += 1
    assert book.sessions.of(cookie) is None
    book.now -= LASTS + 1
    assert book.sessions.of(cookie) is None


def test_only_a_cookie_of_this_secret_and_this_file_counts() -> None:
    book = Lines()
    value = book.sessions.begin("ann")
    name = book.sessions.cookie
    assert book.made(b"secret").of(f"{name}={value}") == book.sessions.of(f"{name}={value}")  # another process
    assert book.made(b"another").of(f"{name}={value}") is None
    other = book.made(b"secret", "/other")
    assert other.cookie != name and other.of(f"{other.cookie}={value}") is None
    for broken in ("", value[:-1], value + "A", "x" * 5000, value.partition(".")[0], "." + value, 'W10.""'):
        assert book.sessions.of(f"{name}={broken}") is None
    for header in ("", name, f"x{name}={value}", f"{name}x={value}", f"{name}-={value}", "\u00ff=\u00fe"):
        assert book.sessions.of(header) is None


def test_a_cookie_that_does_not_hold_is_in_nobodys_way() -> None:
    book = Lines()
    old, new = (f"{book.sessions.cookie}={value}" for value in ("x" * 50, book.sessions.begin("ann")))
    for header in (f"{old}; {new}", f"{new}; {old}", f"a=b; {old}; {old}; {old}; {new}"):
        assert (session := book.sessions.of(header)) is not None and session.user == "ann"
    assert book.sessions.of("; ".join([old] * 4 + [new])) is None  # nobody has so many, and each costs something


def test_the_token_of_a_form_belongs_to_one_session() -> None:
    book = Lines()
    tokens = set()
    for _ in range(2):
        session = book.sessions.of(f"{book.sessions.cookie}={book.sessions.begin('ann')}")
        assert session is not None
        tokens.add(session.form_token)
    assert len(tokens) == 2
    with pytest.raises(Denied):
        book.sessions.begin("nobody")


def test_pages_of_ones_own_that_know_nothing_of_signing_in_go_on_as_they_are(
    packages: Path, passwords: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "acme-client", "1.0")
    own = tmp_path / "own"
    own.mkdir()
    (own / "layout.tpl").write_text(
        "<!DOCTYPE html>\n<title>{{title}}</title>\n<main>{{root}} of Acme\n{{!base}}</main>\n"
    )
    (own / "project.tpl").write_text(
        '% rebase("layout", title=name)\n<h1>{{name}} {{version}} {{about.text("name")}}</h1>\n'
    )
    settings: dict[str, Any] = {"passwords": passwords, "admin": ["ann"], "templates": own, "cache_dir": tmp_path / "c"}
    ann = Visitor(make_app(packages, disable_fallback=True, **settings))
    ann.sign_in("ann", "right")
    assert "<h1>acme-client 1.0" in ann.get("/project/acme-client/").text
    for path in ("/", "/search", "/-/admin/", "/-/admin/trail", "/-/tokens/new", "/-/upload"):
        assert "of Acme" in ann.get(path).text
    assert "anked" in ann.submit("/-/change/yank/acme-client/1.0").text


class _Slow:
    """An application whose clients send a body half before something happens, and half after it."""

    def __init__(self, app: PypiServerLite, then: Callable[[], object]) -> None:
        self._app, self._then = app, then

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"]
        first = body.read(int(environ["CONTENT_LENGTH"]) // 2)

        def rest(size: int) -> Iterator[bytes]:
            yield first
            self._then()
            while piece := body.read(size):
                yield piece

        environ["wsgi.input"] = _Pieces(rest(10_000))
        return self._app(environ, start_response)


class _Pieces:
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def read(self, size: int) -> bytes:
        self._left = self._left or next(self._pieces, b"")
        piece, self._left = self._left[:size], self._left[size:]
        return piece


@pytest.mark.parametrize("way", ["token", "password", "session"])
def test_what_is_sent_by_who_is_nobody_any_more_is_not_published(
    app: PypiServerLite, passwords: Path, way: str
) -> None:
    made, secret = app.site.records.tokens.create("stolen", by="bob", user="bob")
    bob = Visitor(app)
    bob.sign_in("bob", "his")
    field = re.search(r'name="csrf" value="([^"]*)"', bob.get("/-/tokens").text)
    assert field is not None
    login = {
        "token": {"Authorization": basic("__token__", secret)},
        "password": {"Authorization": basic("bob", "his")},
        "session": {"Cookie": "; ".join("=".join(each) for each in bob.cookies.items()), "X-CSRF-Token": field[1]},
    }[way]

    def end() -> None:
        if way == "token":
            app.site.records.tokens.revoke(made.id)
        else:
            delete_user(passwords, "bob")

    def send(version: str, then: Callable[[], object], status: int) -> None:
        body = forms.upload(forms.wheel("acme-new", version), f"acme_new-{version}-py3-none-any.whl")
        client = Client(_Slow(app, then))
        client.request("/", method="POST", status=status, body=body, headers={"Content-Type": forms.TYPE, **login})

    send("1.0", int, 200)
    send("2.0", end, 403 if way == "session" else 401)
    project = app.site.store.project(normalize("acme-new"))
    assert project is not None and [str(file.version) for file in project.files] == ["1.0"]


def test_processes_agree_on_cookies_once_their_secret_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    with closing(Records(path, every=0)) as one, closing(Records(path, every=0)) as other:
        path.mkdir()  # so that nothing can be written
        ways = [Sessions(partial(records.secret, "sessions"), {"ann": "line"}.get, "file") for records in (one, other)]
        apart = [way.begin("ann") for way in ways]
        assert ways[0].of(f"{ways[0].cookie}={apart[1]}") is None
        path.rmdir()
        together = [way.begin("ann") for way in ways]
        for way in ways:
            assert all(way.of(f"{way.cookie}={cookie}") for cookie in together)


def test_nobody_fills_the_memory_by_signing_out(tmp_path: Path) -> None:
    with closing(Records(None)) as records:
        for number in range(200):
            records.sign_outs.add(f"ann{number}", "ann", 2**40)
        with pytest.raises(NoSpace, match="200 times"):
            records.sign_outs.add("ann200", "ann", 2**40)
        records.sign_outs.add("bob", "bob", 2**40)
        assert records.sign_outs.has("ann0") and records.sign_outs.has("bob") and not records.sign_outs.has("ann200")

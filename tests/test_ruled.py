"""Who may do what where rules differ by user, project and index: all routes, methods, users, projects and indexes."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import forms
import pytest
from builders import make_wheel
from ruled import (
    OWN,
    OWNED,
    PROD,
    PROJECTS,
    ROOT,
    USERS,
    Ruled,
    basic,
    may_change,
    may_download,
    may_list,
    ruled,
    wheel_of,
)
from wsgi_client import Answer

from pypiserver_lite.dists import normalize
from pypiserver_lite.errors import Conflict, Denied
from pypiserver_lite.jobs.owning import owned
from pypiserver_lite.model import User
from pypiserver_lite.records import FILENAME

INDEXES = (ROOT, PROD, OWN)
ABSENT = ("absent-tool", "secret-none", "acme-none", "pub-none")
"""Names that nobody has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ruled]:
    with ruled(tmp_path_factory.mktemp("ruled")) as server:
        yield server


def spelled(name: str) -> list[str]:
    """Paths that are about a project."""
    odd, wheel = name.replace("-", "_.").title(), wheel_of(name)
    form = "?format=application/vnd.pypi.simple.v1%2Bjson"
    return [
        *(f"/simple/{name}/", f"/simple/{name}", f"/simple/{odd}/", f"/+simple/{name}/", f"/simple/{name}/{form}"),
        *(f"/pypi/{name}/json", f"/pypi/{odd}/json", f"/pypi/{name}/1.0/json", f"/pypi/{name}/9/json"),
        *(f"/{name}/json", f"/{name}", f"/{name}/", f"/project/{name}/", f"/project/{odd}/", f"/project/{name}"),
        *(f"/project/{name}/1.0/", f"/project/{name}/9/", f"/-/api/explain?name={name}", f"/search?q={name}"),
        *(f"/-/api/explain?name={odd}&version=1.0&python=3.12", f"/simple/%{ord(name[0]):x}{name[1:]}/"),
        *(f"/packages/{wheel}{side}" for side in ("", ".metadata", ".asc", ".provenance")),
        *(f"/packages/{name}/{wheel}", f"/packages/a/b/{wheel}", f"/packages/{wheel.title()}"),
    ]


def like(name: str) -> str:
    """A name that nobody has, and that no rule tells from another."""
    return next((absent for absent in ABSENT if absent.split("-")[0] == name.split("-")[0]), ABSENT[0])


FIELDS: list[dict[str, str]] = [
    {},
    {"Accept": "text/html,*/*;q=0.8"},
    {"Accept": "application/vnd.pypi.simple.v1+json", "If_None_Match": "*", "Range": "bytes=0-0"},
]


def told(answer: Answer, name: str) -> tuple[object, ...]:
    """All that an answer says, but for the name that was asked for, in whatever spelling."""
    parts = "[-_.]+".join(map(re.escape, name.split("-")))

    def plain(text: str) -> str:
        text = re.sub(rf"%{ord(name[0]):x}(?={re.escape(name[1:])})", name[0], text)
        return re.sub(parts, "NAME", text, flags=re.IGNORECASE)

    fields = [(key, plain(value)) for key, value in answer.headerlist if key not in ("content-length", "etag", "date")]
    return answer.status, fields, plain(answer.body.decode("utf-8", "replace"))


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_what_somebody_may_not_see_is_not_there(server: Ruled, user: str, index: str) -> None:
    """Of each project and each way to ask for it: it is there, or it looks like one that nobody has."""
    for name, fields in itertools.product(PROJECTS[index], FIELDS):
        for path, same in zip(spelled(name), spelled(like(name)), strict=True):
            right = "download" if path.startswith("/packages/") else "list"
            sees = (may_list if right == "list" else may_download)(user, name, index)
            for method in ("GET", "HEAD"):
                answer = server.ask(index, path, user, method, headers=fields)
                if sees:
                    assert answer.status in (200, 206, 301, 302, 303, 304, 404), (user, path, answer)
                    whole = server.ask(index, path, "root", method, headers=fields)
                    assert answer.status == whole.status, (user, path)
                    continue
                absent = server.ask(index, same, user, method, headers=fields)
                assert told(answer, name) == told(absent, like(name)), (user, path)
                assert answer.status != 200 or "search" in path or "explain" in path, (user, path)
                if path.startswith("/search") or path.endswith(".Whl"):
                    continue  # that is about no project
                if user == "nobody" and answer.status not in (301, 302, 303):
                    assert answer.status == 401, (path, answer)
                    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_no_route_names_what_somebody_may_not_see(server: Ruled, user: str, index: str) -> None:
    app = server.app.app(index)
    hidden = [name for name in PROJECTS[index] if not may_list(user, name, index) and name != "secret-tool"]
    if not may_list(user, "secret-tool", index) and index == OWN:
        hidden.append("sum-of-secret-tool")  # its name alone is told by what needs it
    marks = [mark for name in hidden for mark in (name, f"sum-of-{name}", wheel_of(name))]
    paths = {re.sub(r"<name>", "pub-lib", route.rule) for route in app.routes if route.method == "GET"}
    paths = {re.sub(r"<version>", "1.0", re.sub(r"<act>", "yank", path)) for path in paths}
    paths = {re.sub(r"<[^>]*>", "x", path) for path in paths}
    queries = {f"/search?q={mark[:6]}" for mark in ("secret-tool", "acme-core", "sum-of-", "thing")}
    assert len(paths) > 20
    every = [*FIELDS, {"Accept": "application/json"}]
    for path, fields in itertools.product(sorted(paths | queries | {"/health"}), every):
        answer = server.ask(index, path, user, headers=fields)
        assert answer.status < 500
        text = answer.body.decode("utf-8", "replace") + str(answer.headerlist)
        assert [mark for mark in marks if mark in text] == [], (user, path)
    calls = ["<methodCall><methodName>list_packages</methodName><params/></methodCall>"]
    calls += ["<methodCall><methodName>list_packages_with_serial</methodName><params/></methodCall>"]
    calls += [_call("search", "<struct><member><name>name</name><value>o</value></member></struct>")]
    calls += [_call("changelog_since_serial", "<int>0</int>")]
    for call, path in itertools.product(calls, ("/RPC2", "/pypi", "/pypi/")):
        answer = server.ask(index, path, user, "POST", body=call.encode(), headers={"Content_Type": "text/xml"})
        assert [mark for mark in marks if mark in answer.text] == [], (user, call)


def _call(name: str, *values: str) -> str:
    params = "".join(f"<param><value>{value}</value></param>" for value in values)
    return f"<methodCall><methodName>{name}</methodName><params>{params}</params></methodCall>"


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_lists_have_exactly_what_may_be_listed(server: Ruled, user: str, index: str) -> None:
    listed = [name for name in PROJECTS[index] if may_list(user, name, index)]
    answer = server.ask(index, "/simple/", user, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    if not listed:
        assert answer.status == (401 if user == "nobody" else 403)
        return
    assert [project["name"] for project in answer.json["projects"]] == listed
    assert "private" in answer.headers["Cache-Control"]
    page = server.ask(index, "/simple/", user, headers={"Accept": "text/html"}).text
    assert re.findall(r"<a href=\"([^\"/]+)/\"", page) == listed
    files = server.ask(index, "/packages/", user).text
    assert re.findall(r">([^<]+)\.whl<", files) == [wheel_of(name)[:-4] for name in listed]
    call = _call("list_packages").encode()
    names = server.ask(index, "/RPC2", user, "POST", body=call, headers={"Content_Type": "text/xml"}).text
    assert re.findall(r"<string>([^<]+)</string>", names) == listed
    hits = server.ask(index, "/search?q=", user, headers={"Accept": "text/html,*/*"}).text
    assert re.findall(r'href="project/([^"/]+)/"', hits) == listed
    for name in listed:
        call = _call("package_releases", f"<string>{name}</string>").encode()
        assert "1.0" in server.ask(index, "/RPC2", user, "POST", body=call, headers={"Content_Type": "text/xml"}).text
    assert f">{len(listed)} project" in server.ask(index, "/", user, headers={"Accept": "text/html,*/*"}).text


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_who_may_list_and_not_download_is_told_so(server: Ruled, user: str, index: str) -> None:
    for name in PROJECTS[index]:
        for side in ("", ".metadata", ".asc", ".provenance"):
            answer = server.ask(index, f"/packages/{wheel_of(name)}{side}", user)
            if may_download(user, name, index):
                assert answer.status == 200
                if not (index != OWN and name.startswith("pub-")):
                    assert "private" in answer.headers["Cache-Control"]
            else:
                reaches = any(may_download(user, other, index) for other in PROJECTS[index])
                assert answer.status == (401 if user == "nobody" else 404 if reaches else 403), (name, answer)


def post(server: Ruled, index: str, user: str, body: bytes, kind: str = forms.TYPE) -> Answer:
    return server.ask(index, "/", user, "POST", body=body, headers={"Content_Type": kind})


def urlencoded(**fields: str) -> bytes:
    return "&".join(f"{key.replace('action', ':action')}={value}" for key, value in fields.items()).encode()


SHORT = "application/x-www-form-urlencoded"


def state_of(server: Ruled) -> dict[str, bytes]:
    folders = ("packages", "prod", "own")
    return {f"{one}/{name}": data for one in folders for name, data in forms.files(server.folder / one).items()}


@pytest.mark.parametrize("user", USERS)
def test_exactly_what_may_be_changed_is_changed(tmp_path: Path, user: str) -> None:
    """Each change of each project in each index, in both kinds of form: done, or refused and not done."""
    with ruled(tmp_path) as server:
        for index in INDEXES:
            for name in OWNED[index]:
                _changes(server, index, user, name)


def _changes(server: Ruled, index: str, user: str, name: str) -> None:
    data = forms.wheel(name, "2.0")

    def tried(action: str, answer: Answer, before: dict[str, bytes], same: Answer | None = None) -> bool:
        """Whether it was done; `same` is what is said of the same for a name that nobody has."""
        allowed = may_change(user, action, name, index)
        where = user, index, name, action
        if allowed:
            assert answer.status == 200, (where, answer)
            return True
        assert answer.status in ((401,) if user == "nobody" else (403, 404)), (where, answer)
        assert state_of(server) == before, where
        if same is not None and not may_list(user, name, index):
            assert told(answer, name) == told(same, like(name)), where
        return False

    same = None
    whose = user.removesuffix("-upload")  # of a token to upload with: its user, who may see what is free
    if not may_change(user, "upload", name, index) and not may_list(whose, name, index):
        form = forms.upload(forms.wheel(like(name), "2.0"), wheel_of(like(name), "2.0"))
        same = post(server, index, user, form)
    before = state_of(server)
    if tried("upload", post(server, index, user, forms.upload(data, wheel_of(name, "2.0"))), before, same):
        assert server.ask(index, f"/packages/{wheel_of(name, '2.0')}", "root").status == 200
    else:
        post(server, index, "root", forms.upload(data, wheel_of(name, "2.0")))

    def long(action: str, name: str = name) -> Answer:
        return post(server, index, user, forms.action(action, name=name, version="2.0"))

    def short(action: str, name: str = name) -> Answer:
        return post(server, index, user, urlencoded(action=action, name=name.upper(), version="2.0"), SHORT)

    for ask in (long, short):
        for action in ("yank", "unyank"):
            before, same = state_of(server), ask(action, like(name))
            tried("yank", ask(action), before, same)
            if action == "yank":
                post(server, index, "root", forms.action("yank", name=name, version="2.0"))
        post(server, index, "root", forms.action("unyank", name=name, version="2.0"))
        before, same = state_of(server), ask("remove_pkg", like(name))
        if tried("remove", ask("remove_pkg"), before, same):
            post(server, index, "root", forms.upload(data, wheel_of(name, "2.0")))


@pytest.mark.parametrize("user", USERS)
def test_a_push_needs_rights_at_both_its_ends(tmp_path: Path, user: str) -> None:
    with ruled(tmp_path) as server:
        for source, target in itertools.permutations(INDEXES, 2):
            for name in OWNED[source]:
                for kind in (SHORT, forms.TYPE):
                    fields = {"name": name, "version": "1.0", "to": target}
                    form = urlencoded(action="push", **fields) if kind == SHORT else forms.action("push", **fields)
                    before = state_of(server)
                    answer = post(server, source, user, form, kind)
                    where = user, source, target, name, answer
                    allowed = may_download(user, name, source) and may_change(user, "push", name, target)
                    if allowed and (kind == SHORT or answer.status == 200):
                        assert answer.status == 200, where
                        continue
                    # A long form needs a right to change where it is sent to.
                    assert answer.status in ((401,) if user == "nobody" else (403, 404)), where
                    assert state_of(server) == before, where


def test_the_first_who_publishes_a_project_owns_it(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:

        def send(user: str, name: str, version: str, index: str = ROOT) -> int:
            return post(server, index, user, forms.upload(forms.wheel(name, version), wheel_of(name, version))).status

        owners = server.app.site_of(ROOT).records.owners
        assert send("nobody", "new-thing", "1") == 401
        assert send("ci", "new-thing", "1") == 403  # a token of no user has what it says, and owns nothing
        assert send("bob", "new-thing", "1") == 200
        assert owners.of(ROOT, "new-thing") == {"bob"}
        assert [send(user, "new-thing", "2") for user in ("ann", "cat", "dan", "eve", "ann-acme")] == [403] * 5
        assert [send(user, "new-thing", "2") for user in ("bob", "root")] == [200, 200]
        assert owners.of(ROOT, "new-thing") == {"bob"}
        # Who may upload by another rule owns it as well, if they are first.
        assert send("ann-acme", "acme-new", "1") == 200 and owners.of(ROOT, "acme-new") == {"ann"}
        assert send("ci", "acme-newer", "1") == 200 and owners.of(ROOT, "acme-newer") == set()
        assert send("bob", "acme-newer", "2") == 403  # it has files, and is nobody's
        # What had files is not free, nor what a base has.
        assert post(server, ROOT, "root", forms.action("remove_pkg", name="acme-newer", version="1")).status == 200
        assert send("bob", "acme-newer", "2") == 403
        form = forms.action("remove_pkg", name="new-thing", version="1")
        assert post(server, ROOT, "bob", form).status == 200
        assert post(server, ROOT, "bob", forms.action("remove_pkg", name="new-thing", version="2")).status == 200
        assert send("eve", "new-thing", "3") == 403 and send("bob", "new-thing", "3") == 200
        assert send("bob", "other-thing", "3") == 403
        assert send("bob", "prod-new", "1", PROD) == 403  # there no rule speaks of owners
        # An upload that fails leaves no owner behind.
        broken = forms.upload(b"no wheel", wheel_of("broken", "1"))
        assert post(server, ROOT, "bob", broken).status == 400 and owners.of(ROOT, "broken") == set()
        assert send("cat", "broken", "1") == 200 and owners.of(ROOT, "broken") == {"cat"}


def test_a_push_makes_no_owner_of_who_may_not_upload(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        owners = server.app.site_of(ROOT).records.owners
        push = urlencoded(action="push", name="acme-own", version="1.0", to=PROD)
        assert post(server, OWN, "cat", push, SHORT).status == 200
        assert owners.of(PROD, "acme-own") == set()
        other = urlencoded(action="push", name="other-thing", version="1.0", to=OWN)
        assert post(server, ROOT, "cat", other, SHORT).status == 200
        assert owners.of(OWN, "other-thing") == {"cat"}


def test_an_upload_that_comes_to_nothing_leaves_no_owner_behind(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        (tmp_path / "packages" / wheel_of("broken", "1")).mkdir()
        form = forms.upload(forms.wheel("broken", "1"), wheel_of("broken", "1"))
        assert post(server, ROOT, "bob", form).status == 409
        (tmp_path / "packages" / wheel_of("broken", "1")).rmdir()
        assert post(server, ROOT, "cat", form).status == 200
        assert server.app.site_of(ROOT).records.owners.of(ROOT, "broken") == {"cat"}


@pytest.mark.parametrize("fails", [0, 1])
def test_of_two_first_uploads_of_a_user_at_once_the_one_that_fails_takes_nothing_away(
    tmp_path: Path, fails: int
) -> None:
    with ruled(tmp_path) as server:
        site, bob, name = server.app.site_of(ROOT), User(name="bob"), normalize("new-thing")
        owners, decision = site.records.owners, site.gate.allow(bob, "upload", name)
        uploads = [owned(site, bob, name, decision) for _ in range(2)]
        for upload in uploads:
            upload.__enter__()
        failed = Conflict("the other was first")
        uploads[fails].__exit__(Conflict, failed, None)
        assert owners.of(ROOT, name) == {"bob"}
        uploads[1 - fails].__exit__(None, None, None)
        assert owners.of(ROOT, name) == {"bob"} and not owners.join(ROOT, name, "bob")
        with owned(server.app.site_of(PROD), User(name="eve"), normalize("pub-lib"), decision):
            pass
        assert owners.of(PROD, "pub-lib") == set()  # it is hers in the base, and so here


def test_of_two_who_publish_a_new_project_at_one_time_one_does(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        site, name = server.app.site_of(ROOT), normalize("new-thing")
        users = User(name="bob"), User(name="cat")
        bob, cat = (owned(site, user, name, site.gate.allow(user, "upload", name)) for user in users)
        bob.__enter__()
        with pytest.raises(Denied, match="first"), cat:
            pytest.fail("both publish")
        bob.__exit__(None, None, None)
        assert site.records.owners.of(ROOT, name) == {"bob"}
        # What only an owner may, nobody does by a claim of theirs that failed meanwhile.
        site.records.owners.claim(ROOT, "next-thing", "bob")
        decision = site.gate.allow(User(name="bob"), "upload", normalize("next-thing"))
        site.records.owners.forget(ROOT, "next-thing", "bob")
        site.records.owners.claim(ROOT, "next-thing", "cat")
        with pytest.raises(Denied), owned(site, User(name="bob"), normalize("next-thing"), decision):
            pytest.fail("in a project of another")


def test_what_a_killed_server_left_of_an_upload_is_nobodys_after_a_while_unless_it_was_published(
    tmp_path: Path,
) -> None:
    with ruled(tmp_path) as server:

        def send(user: str, name: str, version: str) -> int:
            form = forms.upload(forms.wheel(name, version), wheel_of(name, version))
            return post(server, ROOT, user, form).status

        owners = server.app.site_of(ROOT).records.owners
        for name in ("left-thing", "kept-thing"):
            owners.claim(ROOT, name, "eve")
        make_wheel(tmp_path / "packages", "kept-thing", "1")
        assert [send("bob", name, "2") for name in ("left-thing", "kept-thing")] == [403, 403]
        with closing(sqlite3.connect(tmp_path / "state" / FILENAME)) as connection, connection:
            connection.execute("UPDATE owners SET moment = moment - 600000000 WHERE project LIKE '%-thing'")
        assert [send("bob", name, "2") for name in ("left-thing", "kept-thing")] == [200, 403]
        assert send("eve", "left-thing", "3") == 403 and send("eve", "kept-thing", "3") == 200
        assert owners.of(ROOT, "left-thing") == {"bob"} and owners.of(ROOT, "kept-thing") == {"eve"}


def test_monitoring_tells_each_what_they_may_list(server: Ruled) -> None:
    for user, index in itertools.product(USERS, INDEXES):
        facts = server.ask(index, "/health", user, headers={"Accept": "application/json"}).json
        listed = [name for name in PROJECTS[index] if may_list(user, name, index)]
        assert facts.get("projects", 0) == len(listed), (user, index)
        assert ("facts" in facts) == (len(listed) == len(PROJECTS[index])), (user, index)


def test_what_a_policy_hides_is_told_to_who_may_list_it(tmp_path: Path) -> None:
    policy = '[policy]\ndeny = ["acme-core", "pub-lib"]\n'
    with ruled(tmp_path, policy) as server:

        def told_of(user: str, name: str) -> str:
            return server.ask(ROOT, f"/packages/{wheel_of(name)}", user).text

        assert "hidden here by deny" in told_of("ann", "acme-core") and "hidden here by deny" in told_of(
            "dan", "pub-lib"
        )
        assert told_of("dan", "acme-core") == f"no file {wheel_of('acme-core')} here\n"


def test_settings_are_read_again_for_admins_alone(server: Ruled) -> None:
    for user in USERS:
        answer = server.ask(ROOT, "/-/api/reload", user, "POST")
        assert answer.status == {"nobody": 401, "root": 200}.get(user, 403), (user, answer)


def test_what_rules_say_holds_from_the_moment_they_are_read_again(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:

        def statuses(user: str) -> list[int]:
            paths = ("/simple/secret-tool/", f"/packages/{wheel_of('secret-tool')}", "/simple/pub-lib/")
            return [server.ask(ROOT, path, user).status for path in paths]

        assert statuses("bob") == [404, 404, 200] and statuses("cat") == [200, 200, 200]
        file = tmp_path / "index.toml"
        file.write_text(file.read_text().replace('who = ["bob"]', 'who = ["cat"]'))
        assert server.ask(ROOT, "/-/api/reload", "root", "POST").status == 200
        assert statuses("bob") == [200, 200, 200] and statuses("cat") == [404, 404, 200]
        file.write_text(file.read_text().replace('admin = ["root"]', 'admin = ["eve"]'))
        assert server.ask(ROOT, "/-/api/reload", "root", "POST").status == 200
        assert server.ask(ROOT, "/-/api/reload", "root", "POST").status == 403
        # Rules that cannot be used change nothing.
        file.write_text(file.read_text().replace('who = ["cat"]', 'who = ["@nobody-knows"]'))
        assert server.ask(ROOT, "/-/api/reload", "eve", "POST").status == 400
        assert statuses("cat") == [404, 404, 200]


def test_wrong_credentials_are_told_wherever_somebody_has_to_say_who_they_are(server: Ruled) -> None:
    secret = server.fine and "pypl_" + "x" * 43
    wrong = [
        basic("ann", "wrong"),
        basic("__token__", secret),
        basic(secret, ""),
        f"Bearer {secret}",
        "Bearer",
        "x",
    ]
    wrong += [basic("bob", _secret(server.logins["ann-upload"])), basic("__token__", "pypl_short"), "Basic !"]
    for login, path in itertools.product(wrong, ("/simple/", "/simple/pub-lib/", "/packages/x", "/search", "/")):
        answer = server.ask(ROOT, path, login=login)
        assert answer.status == 401, (login, path)
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert server.ask(ROOT, "/simple/acme-core/", login=server.fine).status == 200


def _secret(login: str) -> str:
    import base64

    return base64.b64decode(login.partition(" ")[2]).decode().partition(":")[2]


def test_a_wrong_login_is_on_record_with_the_client_that_sent_it(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        sent = [(f"{path} guess", path) for path in ("/simple/", "/-/api/me", "/-/tokens", "/-/change/yank/x/1")]
        sent += [("", "/-/api/tokens")]  # no more, for of one address no more are kept in a second
        for client, path in sent:
            server.ask(ROOT, "/simple/", "bob", headers={"User-Agent": "bobs-pip/1.0"})
            headers = {"User-Agent": client} if client else {}
            assert server.ask(ROOT, path, login=basic("ann", "guess"), headers=headers).status == 401
        records = server.app.site_of(ROOT).records
        records.flush()
        told = records.trail.find(action="login")[::-1]
        assert [event.client for event in told] == [client for client, _ in sent]


def test_a_token_ends_with_its_user_and_when_it_is_revoked(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        records = server.app.site_of(ROOT).records

        def status(user: str) -> int:
            return server.ask(ROOT, "/simple/acme-core/", user).status

        assert status("ann-acme") == 200
        token = next(token for token in records.tokens.list("ann") if token.name == "acme")
        records.tokens.revoke(token.id)
        assert status("ann-acme") == 401
        assert server.ask(ROOT, "/simple/acme-core/", login=server.fine).status == 200
        path = tmp_path / "htpasswd"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("ann:")))
        assert server.ask(ROOT, "/simple/acme-core/", login=server.fine).status == 401


def test_what_is_done_by_a_token_is_on_record_with_its_name(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        form = forms.upload(forms.wheel("acme-core", "2.0"), wheel_of("acme-core", "2.0"))
        assert post(server, ROOT, "ci", form).status == 200
        yank = forms.action("yank", name="acme-core", version="2.0")
        assert post(server, ROOT, "ann-acme", yank).status == 200
        assert post(server, ROOT, "ann-upload", yank).status == 404  # it may not list
        assert post(server, ROOT, "ann", yank).status == 200
        records = server.app.site_of(ROOT).records
        records.flush()
        told = {(event.action, event.outcome, event.who, event.token) for event in records.trail.find()}
        assert told == {
            ("upload", "done", "token:ci", "ci"),
            ("yank", "done", "ann", "acme"),
            ("yank", "refused", "ann", "upload"),
            ("yank", "done", "ann", ""),
        }


def test_other_indexes_are_named_to_who_may_list_something_there(server: Ruled) -> None:
    def named(user: str) -> set[str]:
        answer = server.ask(ROOT, "/", user, headers={"Accept": "application/json"})
        return set(next(iter(json.loads(answer.body)["result"].values()))["indexes"])

    assert named("nobody") == {"/", "prod"}
    for user in ("ann", "bob", "eve", "root", "ann-acme"):
        server.ask(OWN, "/simple/", user)
        assert named(user) == {"/", "prod", "own"}, user
    for user in ("ci", "ann-prod", "ann-upload"):
        assert named(user) == {"/", "prod"}, user


def test_those_who_see_the_same_share_what_is_made_for_them(server: Ruled) -> None:
    app = server.app.app(ROOT)
    seen = [
        app.seen_by(app.admit("list", {"HTTP_AUTHORIZATION": server.logins[user]})) for user in ("dan", "eve", "ci")
    ]
    assert seen[0] is seen[1] is seen[2] is not app
    assert app.seen_by(app.admit("list", {"HTTP_AUTHORIZATION": server.logins["ann"]})) is app
    assert app.seen_by(None) is not seen[0]


def test_who_may_only_yank_may_do_so_by_any_form(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        token = server.app.site_of(ROOT).records.tokens.create("yank", by="root", user=None, may=["yank"])[1]
        for form, kind in (
            (forms.action("yank", name="acme-own", version="1.0"), forms.TYPE),
            (urlencoded(action="unyank", name="acme-own", version="1.0"), SHORT),
        ):
            headers = {"Content_Type": kind}
            answer = server.ask(OWN, "/", method="POST", body=form, headers=headers, login=basic("__token__", token))
            assert answer.status == 200, answer


def test_search_and_the_newest_uploads_tell_of_what_may_be_listed_alone(tmp_path: Path) -> None:
    with ruled(tmp_path) as server:
        html = {"Accept": "text/html,*/*"}

        def hits(user: str) -> list[str]:
            text = server.ask(ROOT, "/search?q=sum-of", user, headers=html).text
            return re.findall(r'href="project/([^"/]+)/"', text)

        def newest(user: str) -> set[str]:
            text = server.ask(ROOT, "/", user, headers=html).text
            return set(re.findall(r'href="project/([^"/]+)/', text))

        while hits("root") != list(PROJECTS[ROOT]):  # files are read in the background
            time.sleep(0.05)
        for user in ("nobody", "eve", "bob", "ann", "ann-acme"):
            listed = [name for name in PROJECTS[ROOT] if may_list(user, name, ROOT)]
            assert hits(user) == listed
            assert newest(user) == set(listed)

"""Administration in the browser: the overview, the trail, users, tokens and names, each for who may see to them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import html5lib
import live
import pytest
from builders import make_wheel
from filed import served
from logins import basic
from packaging.utils import canonicalize_name
from visitors import Visitor
from wsgi_client import Answer, Client

from pypiserver_lite import make_app
from pypiserver_lite.web import Front

TEXT = """
passwords = "htpasswd"
admin = ["ann"]
disable_fallback = true
packages = ["dev"]
[index.prod]
packages = ["prod"]
[index.apart]
packages = ["apart"]
passwords = "others"
admin = ["ann"]
"""
OVERALL = ("users", "password", "delete?user=bob", "tokens")
EVERY = ("", "trail", "names", "names/gone", "owners/gone", "owners/gone/add")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Front]:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his")
    live.write_htpasswd(tmp_path / "others", ann="another", bob="her")
    make_wheel(tmp_path / "dev", "acme-client", "1.0")
    make_wheel(tmp_path / "dev", "gone", "1.0")
    for name in ("prod", "apart"):
        make_wheel(tmp_path / name, "gone", "1.0")
    with served(tmp_path, TEXT) as front:
        for site in front.sites.values():
            site.store.remove(site.store.names()[-1], "1.0")
        yield front


def visitor(app: Any, user: str, password: str, path: str = "/-/sign-in") -> Visitor:
    made = Visitor(app)
    made.sign_in(user, password, path=path)
    return made


@pytest.fixture
def ann(app: Front) -> Visitor:
    return visitor(app, "ann", "right")


@pytest.fixture
def bob(app: Front) -> Visitor:
    return visitor(app, "bob", "his")


def test_every_page_is_for_admins_alone(app: Front, ann: Visitor, bob: Visitor) -> None:
    for base, pages in (("/-/admin/", (*EVERY, *OVERALL)), ("/prod/-/admin/", EVERY)):
        for path in pages:
            html5lib.HTMLParser(strict=True).parse(ann.get(base + path).text)
            assert ann.get(base + path).headers["Cache-Control"] == "no-store"
            assert "may not administer" in bob.get(base + path, 403).text
            assert "-/sign-in" in Visitor(app).get(base + path, 303).headers["Location"]
            Client(app).get(base + path, 401)
    for path in OVERALL:
        ann.get(f"/prod/-/admin/{path}", 404)
    assert "Administration" in ann.get("/").text and "Administration" not in bob.get("/").text
    ann.get("/apart/-/admin/", 303)  # whoever is an admin there is somebody else


def test_the_overview_tells_what_is_here_and_what_was_done(app: Front, ann: Visitor, bob: Visitor) -> None:
    bob.submit("/-/change/yank/acme-client/1.0", reason="loses data")
    for _ in range(3):
        ann.get("/packages/acme_client-1.0-py3-none-any.whl")
    app.site_of("/").records.counts.count("/", "acme-client", "acme_client-1.0-py3-none-any.whl")
    page = ann.get("/-/admin/")
    for words in ("loses data", "<svg", "acme-client", "bytes", "free", "/prod/-/admin/".lstrip("/")):
        assert words in page.text
    assert "loses data" not in ann.get("/prod/-/admin/").text
    html5lib.HTMLParser(strict=True).parse(page.text)


def rows(page: Answer) -> list[str]:
    """The events on a page, what they are about alone."""
    return re.findall(r"<li>\s*<b>([a-z-]+)</b>", page.text)


def test_the_trail_is_chosen_by_filters_and_read_page_by_page(ann: Visitor, bob: Visitor) -> None:
    for _ in range(30):
        bob.submit("/-/change/yank/acme-client/1.0")
        bob.submit("/-/change/unyank/acme-client/1.0")
    first = ann.get("/-/admin/trail")
    assert len(rows(first)) == 50
    link = re.search(r'href="\.\./\.\./(-/admin/trail\?before=[0-9]+)"', first.text)
    assert link is not None
    rest = rows(ann.get("/" + link[1]))
    assert (rows(first) + rest).count("yank") == 30 and "Older ones" not in ann.get("/" + link[1]).text
    assert set(rows(ann.get("/-/admin/trail?action=unyank&user=bob&since=1h&project=Acme.Client&outcome=done"))) == {
        "unyank"
    }
    for query in ("user=nobody", "project=other", "index=prod", "outcome=failed", "action=remove"):
        assert rows(ann.get(f"/-/admin/trail?{query}")) == []
    assert rows(ann.get("/prod/-/admin/trail?index=/")) == []  # an index sees its own alone
    assert 'value="yesterday"' in ann.get("/-/admin/trail?since=yesterday", 400).text
    for query in ("since=yesterday", "action=burn", "before=x", "outcome=%00"):
        page = ann.get(f"/-/admin/trail?{query}", 400)
        assert 'role="alert"' in page.text
        html5lib.HTMLParser(strict=True).parse(page.text)


def test_a_name_once_had_is_released_after_a_page_that_says_what_that_means(app: Front, ann: Visitor) -> None:
    assert "gone" in ann.get("/-/admin/names").text
    assert "somebody else has published" in ann.get("/-/admin/names/gone").text
    ann.post("/-/admin/names/gone", 403, {})
    ann.submit("/-/admin/names/gone")
    assert app.site_of("/").kept() == () and app.site_of("prod").kept() == ("gone",)
    ann.get("/-/admin/names/gone", 404)
    ann.get("/-/admin/names/acme-client", 404)
    assert "release" in rows(ann.get("/-/admin/trail"))


def test_who_releases_a_name_hears_whether_it_is_looked_for_upstream(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    settings = """
passwords = "htpasswd"
admin = ["ann"]
packages = ["top"]
bases = ["below"]
private = ["secret-*"]
upstreams = ["elsewhere"]
[upstream.elsewhere]
url = "http://127.0.0.1:9/simple/"
mode = "redirect"
never = ["unasked-*"]
[index.below]
packages = ["below"]
"""
    reasons = {
        "secret": "is reserved for this index",
        "unasked": "this index has no upstream for it",
        "based": "an index that this one is based on has it",
        "kept": "in an index that this one is based on, kept-1 was here",
    }
    for name in (*reasons, "free"):
        for number in "12":
            make_wheel(tmp_path / "top", f"{name}-{number}", "1.0")
    for name in ("based-1", "based-2", "kept-1", "kept-2"):
        make_wheel(tmp_path / "below", name, "1.0")
    with served(tmp_path, settings) as front:
        top, below = (front.sites[name].store for name in ("/", "below"))
        for store, names in ((top, list(top.names())), (below, ["kept-1", "kept-2"])):
            for name in names:
                store.remove(canonicalize_name(name), "1.0")
        ann = visitor(front, "ann", "right")
        for name, reason in reasons.items():
            page = html.unescape(ann.submit(f"/-/admin/names/{name}-1").text)
            assert "still no upstream is asked" in page and reason in page, page
            login = {"Authorization": basic("ann", "right")}
            said = Client(front).request(f"/-/api/names/{name}-2", method="DELETE", headers=login).json["said"]
            assert "still no upstream is asked" in said and reason.replace("-1", "-2") in said
        assert "from now on free-1 is looked for upstream" in ann.submit("/-/admin/names/free-1").text.lower()


def test_what_users_may_is_said_with_all_its_limits(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his", cat="hers", dan="own", eve="both")
    (tmp_path / "dev").mkdir()
    settings = """
passwords = "htpasswd"
admin = ["ann"]
packages = ["dev"]
disable_fallback = true
[[rule]]
who = ["bob", "eve"]
may = ["upload"]
projects = ["acme-*"]
[[rule]]
who = ["cat"]
may = ["upload"]
[[rule]]
who = ["eve"]
may = ["push"]
projects = ["tools-*"]
[[rule]]
who = ["owner"]
may = ["remove"]
projects = ["acme-*"]
"""
    with served(tmp_path, settings) as front:
        headers = {"Authorization": basic("ann", "right")}
        users = Client(front).request("/-/api/users", headers=headers).json["users"]
    may = {user["name"]: user["may"] for user in users}
    owns = {"remove": "own acme-*"}
    assert set(may["ann"].values()) == {""} and may["dan"] == owns
    assert may["bob"] == {"upload": "acme-*", "push": "acme-*", **owns}
    assert may["cat"] == {"upload": "", "push": "", **owns}
    assert may["eve"] == {"upload": "acme-*", "push": "tools-*, acme-*", **owns}


def test_an_admin_sets_passwords_and_makes_and_deletes_users(
    app: Front, ann: Visitor, bob: Visitor, tmp_path: Path
) -> None:
    ann.post("/-/admin/password?user=bob", 403, {"password": "x", "again": "x"})
    assert "not the same" in ann.submit("/-/admin/password?user=bob", 400, password="new", again="now").text
    bob.get("/-/tokens")
    ann.submit("/-/admin/password?user=bob", password="new one", again="new one")
    bob.get("/-/tokens", 303)
    visitor(app, "bob", "new one")
    assert "can log in now" in ann.submit("/-/admin/password", user="cat & co", password="hers", again="hers").text
    visitor(app, "cat & co", "hers")
    assert "cat &amp; co" in ann.get("/-/admin/users").text
    page = ann.get("/-/admin/delete?user=" + quote("cat & co"))
    assert "cannot log in any more" in page.text.replace("\n", " ")
    for password, path, status in (("hers", "", 409), ("mine", "", 409), ("mine", "?user=catt", 404)):
        refused = ann.submit(f"/-/admin/password{path}", status, user="cat & co", password=password, again=password)
        html5lib.HTMLParser(strict=True).parse(refused.text)
    visitor(app, "cat & co", "hers")
    assert "catt" not in (tmp_path / "htpasswd").read_text()
    ann.submit("/-/admin/delete?user=" + quote("cat & co"))
    assert "cat" not in (tmp_path / "htpasswd").read_text()
    said = ann.submit("/-/admin/password?user=bob", password="new one", again="new one").text
    assert "The user bob has another password now" in said and "Bob" not in said  # names are as they are written
    for user in ("", "nobody", "cat & co"):
        ann.get("/-/admin/delete?user=" + quote(user), 404)
    for user, password in (("a:b", "x"), ("", "x"), ("dan", ""), ("dan", "x" * 100)):
        html5lib.HTMLParser(strict=True).parse(
            ann.submit("/-/admin/password", 400, user=user, password=password, again=password).text
        )
    done = rows(ann.get("/-/admin/trail"))
    assert (done.count("password"), done.count("user-delete")) == (3 + 4 + 3, 1)
    secrets = ["new one", *re.findall("(?m):(.+)$", (tmp_path / "htpasswd").read_text())]
    assert len(secrets) == 3
    for path in ("/-/admin/", "/-/admin/trail", "/-/admin/users", "/-/admin/password?user=bob", "/-/api/audit"):
        assert [secret for secret in secrets if secret in ann.get(path).text] == []


def secret(page: Answer) -> str:
    found = re.search(r"<pre data-copy>(pypl_[A-Za-z0-9_-]{43})</pre>", page.text)
    assert found is not None
    return found[1]


def test_everybody_makes_uses_and_revokes_their_own_tokens(app: Front, bob: Visitor) -> None:
    for path in ("/-/tokens", "/-/tokens/new"):
        html5lib.HTMLParser(strict=True).parse(bob.get(path).text)
        Client(app).get(path, 401)
    page = bob.submit("/-/tokens/new", 200, {"name": "ci", "may-yank": "1", "projects": "acme-*", "expires": "90d"})
    html5lib.HTMLParser(strict=True).parse(page.text)
    token = secret(page)
    client = Client(app)
    form = b":action=yank&name=acme-client&version=1.0"
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": basic("__token__", token)}
    client.request("/", method="POST", headers=kind, body=form)
    listed = bob.get("/-/tokens").text
    assert "ci" in listed and token not in listed
    assert "already" in bob.submit("/-/tokens/new", 409, name="ci").text
    number = re.search(r'href="[^"]*-/tokens/([0-9]+)"', listed)
    assert number is not None
    assert "refused from now on" in bob.get(f"/-/tokens/{number[1]}").text
    bob.submit(f"/-/tokens/{number[1]}")
    client.request("/", method="POST", headers=kind, body=form, status=401)
    bob.get(f"/-/tokens/{number[1]}", 404)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x", "projects": "a/b"},
        {"name": "x", "projects": ","},
        {"name": "x", "expires": "soon"},
        {"name": "x", "expires": "0"},
        {"name": "x<y"},
    ],
)
def test_a_token_that_cannot_be_is_refused_with_the_form_as_it_was(bob: Visitor, fields: dict[str, str]) -> None:
    page = bob.submit("/-/tokens/new", 400, {"may-upload": "1", **fields})
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert 'role="alert"' in page.text and 'name="may-upload" value="1" checked' in page.text


def test_nobody_makes_or_sees_a_token_of_somebody_else(app: Front, ann: Visitor, bob: Visitor) -> None:
    mine = secret(ann.submit("/-/tokens/new", name="mine"))
    assert "nly an admin" in bob.submit("/-/tokens/new", 403, name="x", user="ann").text
    assert "mine" not in bob.get("/-/tokens").text
    number = re.search(r'href="[^"]*-/tokens/([0-9]+)"', ann.get("/-/tokens").text)
    assert number is not None
    bob.get(f"/-/tokens/{number[1]}", 404)
    token = re.search(r'name="csrf" value="([^"]+)"', bob.get("/").text)
    assert token is not None
    bob.post(f"/-/tokens/{number[1]}", 404, {"csrf": token[1]})
    # Neither does a token, not even an admin's.
    for path in ("/-/tokens", "/-/tokens/new", f"/-/tokens/{number[1]}", "/-/admin/users", "/-/admin/tokens"):
        assert "use your password" in Client(app).get(path, 403, Authorization=basic("__token__", mine)).text

    Visitor(app).sign_in("ann", mine, 403)  # nor does it sign anybody in


def test_an_admin_makes_tokens_for_others_and_revokes_any(app: Front, ann: Visitor, bob: Visitor) -> None:
    ann.submit("/-/tokens/new", name="bobs", user="bob")
    assert "bobs" in bob.get("/-/tokens").text
    assert "no user" in ann.submit("/-/tokens/new", 404, name="x", user="nobody").text
    assert "has to say what it may" in ann.submit("/-/tokens/new", 400, name="robot", user="").text
    robot = secret(ann.submit("/-/tokens/new", 200, {"name": "robot", "user": "", "may-list": "1", "index-prod": "1"}))
    assert Client(app).get("/prod/simple/", Authorization=basic("__token__", robot)).status == 200
    page = ann.get("/-/admin/tokens").text
    assert "bobs" in page and "of no user" in page
    for number in re.findall(r'href="[^"]*-/tokens/([0-9]+)"', page):
        ann.submit(f"/-/tokens/{number}")
    assert "bobs" not in bob.get("/-/tokens").text


def test_a_token_of_a_user_elsewhere_is_not_one_of_the_user_of_that_name_here(app: Front, bob: Visitor) -> None:
    other = visitor(app, "bob", "her", "/apart/-/sign-in")
    token = secret(other.submit("/apart/-/tokens/new", 200, {"name": "elsewhere", "may-yank": "1"}))
    form = b":action=yank&name=acme-client&version=1.0"
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": basic("__token__", token)}
    Client(app).request("/", method="POST", headers=kind, body=form, status=403)
    assert "elsewhere" not in bob.get("/-/tokens").text and "elsewhere" in other.get("/apart/-/tokens").text
    assert "prod" not in other.get("/apart/-/tokens/new").text
    bob.submit("/-/tokens/new", name="here")
    assert "here<" not in other.get("/apart/-/tokens").text.replace("elsewhere", "")


def test_a_session_pushes_to_no_index_where_somebody_else_is_called_the_same(
    app: Front, ann: Visitor, tmp_path: Path
) -> None:
    page = ann.get("/-/change/push/acme-client/1.0").text
    assert "<option>prod" in page and "apart" not in page
    # By a login that the other index knows it would be another matter.
    answer = ann.submit("/-/change/push/acme-client/1.0", None, to="apart")
    assert answer.status in (303, 403) and not list((tmp_path / "apart").glob("acme*"))
    ann.submit("/-/change/push/acme-client/1.0", to="prod")


def test_without_a_place_for_records_pages_say_so_and_nothing_is_changed(tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    packages = tmp_path / "packages"
    make_wheel(packages, "ours", "1.0")
    state = tmp_path / "state"
    state.write_text("no folder")
    settings: dict[str, Any] = {
        "passwords": passwords,
        "admin": ["ann"],
        "state_dir": state,
        "cache_dir": tmp_path / "c",
    }
    ann = visitor(make_app(packages, disable_fallback=True, **settings), "ann", "right")
    html5lib.HTMLParser(strict=True).parse(ann.get("/-/admin/").text)
    page = ann.submit("/-/change/yank/ours/1.0", 503)
    assert "--state-dir" in page.text
    assert "--state-dir" in ann.submit("/-/tokens/new", 503, name="ci").text
    assert "--state-dir" in ann.submit("/-/admin/password?user=ann", 503, password="x", again="x").text
    assert not list(packages.glob("*.yanked"))


def test_the_overview_tells_how_upstreams_do_and_what_the_cache_saves(tmp_path: Path) -> None:
    make_wheel(tmp_path / "upstream", "theirs", "1.0", payload=bytes(100_000))
    (tmp_path / "packages").mkdir()
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    settings: dict[str, Any] = {"passwords": passwords, "admin": ["ann"], "cache_dir": tmp_path / "c"}
    with live.serve(packages=[tmp_path / "upstream"]) as upstream:
        app = make_app(tmp_path / "packages", fallback_url=upstream.simple, fallback_mode="cache", **settings)
        ann = visitor(app, "ann", "right")
        assert "not asked since the start" in ann.get("/-/admin/").text
        for _ in range(4):
            Client(app).get("/packages/theirs/theirs-1.0-py3-none-any.whl")
        app.close()  # what is written in the background is
        app = make_app(tmp_path / "packages", fallback_url=upstream.simple, fallback_mode="cache", **settings)
        ann = visitor(app, "ann", "right")
        Client(app).get("/packages/theirs/theirs-1.0-py3-none-any.whl")
        look = Client(app).get("/-/api/overview", Authorization=basic("ann", "right")).json
        assert look["cache"]["size"] > 100_000 and look["cache"]["entries"] >= 1 and look["hits"] == 1.0
        assert sum(day["count"] for day in look["downloads"]) == 5
        page = ann.get("/-/admin/").text
        assert f"127.0.0.1:{upstream.port}" in page and "Out of the cache" in page and "100 %" in page
    (health,) = Client(app).get("/-/api/overview", Authorization=basic("ann", "right")).json["upstreams"]
    assert health["name"] == "fallback"
    app.close()

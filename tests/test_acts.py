"""What is done to a release from its page: named before it happens, and only for who may."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urljoin

import html5lib
import live
import pytest
from builders import make_sdist, make_wheel
from filed import served
from forms import OPEN
from logins import basic
from visitors import Visitor
from wsgi_client import Answer

from pypiserver_lite import make_app
from pypiserver_lite.web import Front

RULES = """
passwords = "htpasswd"
disable_fallback = true
packages = ["dev"]
[[rule]]
who = ["*"]
may = ["list", "download"]
[[rule]]
who = ["ann"]
may = ["yank", "remove", "push"]
[[rule]]
who = ["bob"]
may = ["yank"]
projects = ["acme-*"]
[index.prod]
packages = ["prod"]
[index.above]
bases = ["/"]
"""
PAGE = "/project/acme-client/1.0/"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Front]:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his", cat="hers")
    make_wheel(tmp_path / "dev", "acme-client", "1.0")
    make_sdist(tmp_path / "dev", "acme-client", "1.0")
    make_wheel(tmp_path / "dev", "acme-client", "2.0")
    make_wheel(tmp_path / "dev", "other", "1.0")
    (tmp_path / "prod").mkdir()
    with served(tmp_path, RULES) as front:
        yield front


def visitor(app: Front, user: str, password: str) -> Visitor:
    made = Visitor(app)
    made.sign_in(user, password)
    return made


@pytest.fixture
def ann(app: Front) -> Visitor:
    return visitor(app, "ann", "right")


def offered(page: Answer) -> list[str]:
    """What a project's page offers to do, as addresses."""
    return [part.partition('"')[0] for part in page.text.split('href="../../../-/change/')[1:]]


def test_each_page_names_what_will_happen_and_what_it_happens_to(ann: Visitor) -> None:
    words = {
        "yank": "pass this release over",
        "push": "published in the other index too",
        "remove": "cannot be undone",
    }
    assert offered(ann.get(PAGE)) == [f"{act}/acme-client/1.0" for act in words]
    for act, said in words.items():
        page = ann.get(f"/-/change/{act}/acme-client/1.0")
        html5lib.HTMLParser(strict=True).parse(page.text)
        for part in (said, "acme_client-1.0.tar.gz", "acme_client-1.0-py3-none-any.whl"):
            assert part in page.text
        assert "acme_client-2.0" not in page.text and page.headers["Cache-Control"] == "no-store"
        assert "prod" in page.text or act != "push"


def test_a_release_is_yanked_with_a_reason_and_back(ann: Visitor) -> None:
    done = ann.submit("/-/change/yank/acme-client/1.0", reason="breaks <logins>")
    assert "Yanked acme_client-1.0" in done.text
    html5lib.HTMLParser(strict=True).parse(done.text)
    page = ann.get(PAGE)
    assert "breaks &lt;logins&gt;" in page.text and offered(page)[0] == "unyank/acme-client/1.0"
    assert "Unyanked" in ann.submit("/-/change/unyank/acme-client/1.0").text
    assert "yanked" not in ann.get(PAGE).text


def test_a_release_is_pushed_to_an_index_of_the_list_alone(ann: Visitor, tmp_path: Path) -> None:
    assert len(list((tmp_path / "prod").glob("*-1.0*"))) == 0
    assert "ushed acme_client-1.0" in ann.submit("/-/change/push/acme-client/1.0", to="prod").text
    assert len(list((tmp_path / "prod").glob("*-1.0*"))) == 2
    assert "There is no index" in ann.submit("/-/change/push/acme-client/1.0", 404, to="nowhere").text
    ann.submit("/-/change/push/acme-client/1.0", 400, to="")


def test_a_removal_says_that_it_is_the_last_and_leads_on_to_what_is_left(ann: Visitor, tmp_path: Path) -> None:
    assert "last release" not in ann.get("/-/change/remove/acme-client/1.0").text
    done = ann.submit("/-/change/remove/acme-client/1.0")
    assert not list((tmp_path / "dev").glob("acme_client-1.0*"))
    assert "/project/acme-client/" in done.text
    assert "last release" in ann.get("/-/change/remove/acme-client/2.0").text
    assert "Back to the project" not in ann.submit("/-/change/remove/acme-client/2.0").text
    ann.get("/-/change/remove/acme-client/2.0", 404)


def test_a_removal_says_what_can_still_be_installed(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    for name in ("based", "merged", "alone"):
        make_wheel(tmp_path / "top", name, "1.0")
    make_wheel(tmp_path / "below", "based", "1.0")
    make_wheel(tmp_path / "below", "alone", "2.0")
    settings = """
passwords = "htpasswd"
packages = ["top"]
bases = ["below"]
upstreams = ["elsewhere"]
[policy]
merge = ["merged"]
[upstream.elsewhere]
url = "http://127.0.0.1:9/simple/"
mode = "redirect"
[index.below]
packages = ["below"]
"""
    with served(tmp_path, settings) as front:
        top = visitor(front, "ann", "right")
        said = {name: top.get(f"/-/change/remove/{name}/1.0").text for name in ("based", "merged", "alone")}
    kept, lost, asked = "has files of this version too", "cannot install it from here", "Upstreams are asked"
    own = "no upstream is asked"
    told = {name: [words in text for words in (kept, lost, asked, own)] for name, text in said.items()}
    assert told == {
        "based": [True, False, False, True],
        "merged": [False, False, True, False],
        "alone": [False, True, False, True],
    }


def test_who_may_less_is_offered_less_and_refused_the_rest(app: Front, tmp_path: Path) -> None:
    bob, cat, nobody = visitor(app, "bob", "his"), visitor(app, "cat", "hers"), Visitor(app)
    assert offered(bob.get(PAGE)) == ["yank/acme-client/1.0"]
    assert offered(bob.get("/project/other/1.0/")) == offered(cat.get(PAGE)) == offered(nobody.get(PAGE)) == []
    for act, name in (("remove", "acme-client"), ("yank", "other")):
        assert "may not" in bob.get(f"/-/change/{act}/{name}/1.0", 403).text
    bob.get("/-/change/yank/nothing-here/1.0", 404)
    place = urljoin(
        "/-/change/yank/acme-client/1.0", nobody.get("/-/change/yank/acme-client/1.0", 303).headers["Location"]
    )
    back = nobody.sign_in("bob", "his", path=place).headers["Location"]
    assert urljoin(place, back) == "/-/change/yank/acme-client/1.0"
    assert len(list((tmp_path / "dev").iterdir())) >= 4


@pytest.mark.parametrize("act", ["yank", "remove", "push"])
def test_a_form_without_the_token_of_the_session_changes_nothing(
    app: Front, ann: Visitor, act: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*acme_client*"))
    form = {"to": "prod", "reason": ""}
    for token in ({}, {"csrf": ""}, {"csrf": "x" * 43}):
        assert "not of your sign-in" in ann.post(f"/-/change/{act}/acme-client/1.0", 403, {**form, **token}).text
    ann.post(f"/-/change/{act}/acme-client/1.0", 403, form, {"Sec-Fetch-Site": "cross-site"})
    Visitor(app).post(f"/-/change/{act}/acme-client/1.0", 303, form)
    assert sorted(tmp_path.rglob("*acme_client*")) == before


OTHERS = """
passwords = "htpasswd"
disable_fallback = true
packages = ["dev"]
[index.prod]
packages = ["prod"]
passwords = "others"
"""


def test_a_sign_in_at_another_index_pushes_nothing_there(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    live.write_htpasswd(tmp_path / "others", pam="right")
    make_wheel(tmp_path / "dev", "acme", "1.0")
    (tmp_path / "prod").mkdir()
    with served(tmp_path, OTHERS) as front:
        pam = Visitor(front)
        pam.sign_in("pam", "right", path="/prod/-/sign-in")
        fields = {":action": "push", "name": "acme", "version": "1.0", "to": "prod"}
        refused = [pam.post("/", 403, fields), pam.post("/-/change/push/acme/1.0", 403, {"to": "prod"})]
        # Nor by the form of a sign-in here, which the other index does not know.
        pam.sign_in("ann", "right")
        assert "push/acme" not in pam.get("/project/acme/").text
        refused.append(pam.submit("/-/change/push/acme/1.0", 403, to="prod"))
        assert all("sign-in at prod" in answer.text for answer in refused)
        assert list((tmp_path / "prod").rglob("*.whl")) == []
        # A program says who it is, and no browser says so for it.
        login = {"Authorization": basic("pam", "right")}
        assert Visitor(front).post("/", 200, fields, login).status == 200
        assert list((tmp_path / "prod").rglob("*.whl")) != []


OWNED = """
passwords = "htpasswd"
disable_fallback = true
packages = ["dev"]
state_dir = "state"
[[rule]]
who = ["*"]
may = ["list", "download"]
[[rule]]
who = ["owner"]
may = ["upload", "yank", "remove"]
indexes = ["/"]
[[rule]]
who = ["ann"]
may = ["yank"]
indexes = ["open"]
[[rule]]
who = ["owner"]
may = ["push"]
indexes = ["prod"]
[index.open]
packages = ["open"]
[index.prod]
packages = ["prod"]
"""


def test_projects_are_shown_to_who_signed_in_while_nobody_can_tell_who_owns_them(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    for name in ("dev", "open", "prod"):
        make_wheel(tmp_path / name, "acme", "1.0")
    with served(tmp_path, OWNED) as front:
        ann = visitor(front, "ann", "right")
        ann.get("/project/acme/")
        with closing(sqlite3.connect(tmp_path / "state" / "records.sqlite3")) as records:
            records.execute("DROP TABLE owners")
            records.commit()
        ann.get("/project/acme/")
        assert offered(ann.get("/project/acme/1.0/")) == []
        # What needs no owner is offered, also where the other index's rules ask for one.
        assert offered(ann.get("/open/project/acme/1.0/")) == ["yank/acme/1.0"]
        ann.get("/-/change/yank/acme/1.0", 503)


def test_only_what_is_here_can_be_changed(ann: Visitor) -> None:
    for path in ("yank/acme-client/9", "yank/nothing/1.0", "burn/acme-client/1.0", "yank/-x-/1.0"):
        ann.get(f"/-/change/{path}", 404)
    # What an index has from another is changed there.
    assert offered(ann.get("/above" + PAGE)) == []


def test_where_everybody_may_everybody_can(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    anybody = Visitor(make_app(packages, **OPEN, cache_dir=tmp_path / "c"))
    anybody.submit("/-/change/remove/ours/1.0")
    assert not list(packages.glob("*.whl"))

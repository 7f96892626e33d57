"""Who owns a project, as admins see and change it: in the browser, by programs and at the command line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import forms
import html5lib
import pytest
from ruled import PROD, ROOT, Ruled, ruled, wheel_of
from visitors import Visitor

from pypiserver_lite import cli
from pypiserver_lite.dists import normalize
from pypiserver_lite.records import FILENAME


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Ruled]:
    with ruled(tmp_path) as server:
        yield server


@pytest.fixture
def root(server: Ruled) -> Visitor:
    made = Visitor(server.app)
    made.sign_in("root", "right")
    return made


def owners(server: Ruled, index: str, project: str) -> frozenset[str]:
    """Who counts as an owner there."""
    return server.app.site_of(index).gate.owners(normalize(project)) or frozenset()


def post(server: Ruled, user: str, body: bytes) -> int:
    """The status of a change."""
    return server.ask(ROOT, "/", user, "POST", body=body, headers={"Content_Type": forms.TYPE}).status


def yank(server: Ruled, user: str) -> int:
    """The status of what owners alone may do."""
    return post(server, user, forms.action("yank", name="pub-lib", version="1.0"))


def reasons(server: Ruled) -> list[tuple[str, str, str, str, str]]:
    """What is on record of owners, the newest first."""
    events = server.app.site_of(ROOT).records.trail.find(action="owner")
    return [(event.who, event.index, event.project, event.outcome, event.reason) for event in events]


def test_an_admin_adds_and_removes_owners_after_a_page_that_says_what_that_means(server: Ruled, root: Visitor) -> None:
    assert 'href="../../-/admin/owners/pub-lib"' in root.get("/project/pub-lib/").text
    assert yank(server, "dan") == 403
    page = root.get("/-/admin/owners/pub-lib")
    assert ">eve<" in page.text and ">dan<" not in page.text
    asked = root.get("/-/admin/owners/pub-lib/add")
    assert "what rules let an owner do" in asked.text and "stays an owner" in asked.text
    assert "dan owns pub-lib" in root.submit("/-/admin/owners/pub-lib/add", user="dan").text
    assert owners(server, ROOT, "pub-lib") == {"dan", "eve"} and yank(server, "dan") == 200
    told = root.get("/-/admin/owners/pub-lib/remove?user=dan").text
    assert "dan may not do with pub-lib" in told and "Nobody else owns it" not in told
    done = root.submit("/-/admin/owners/pub-lib/remove?user=dan")
    assert "dan does not own pub-lib" in done.text and yank(server, "dan") == 403
    assert "Nobody else owns it" in root.get("/-/admin/owners/pub-lib/remove?user=eve").text
    root.submit("/-/admin/owners/pub-lib/remove?user=eve")
    empty = root.get("/-/admin/owners/pub-lib")
    assert "Nobody owns it." in empty.text and owners(server, ROOT, "pub-lib") == frozenset()
    for answer in (page, asked, done, empty):
        html5lib.HTMLParser(strict=True).parse(answer.text)
    assert reasons(server) == [
        ("root", ROOT, "pub-lib", "done", "remove eve"),
        ("root", ROOT, "pub-lib", "done", "remove dan"),
        ("root", ROOT, "pub-lib", "done", "add dan"),
    ]


def test_a_name_without_files_can_be_given_to_somebody(server: Ruled, root: Visitor) -> None:
    assert "Nobody owns it until now" in root.get("/-/admin/owners/New.Tool/add").text
    root.submit("/-/admin/owners/New.Tool/add", user="dan")
    upload = forms.upload(forms.wheel("new-tool"), wheel_of("new-tool"))
    assert post(server, "eve", upload) == 403 and post(server, "dan", upload) == 200


def test_pages_tell_of_owners_in_an_index_that_this_one_is_based_on(server: Ruled, root: Visitor) -> None:
    assert "an index that this one is based on counts" in root.get("/prod/-/admin/owners/pub-lib").text
    assert "does not count as an owner here any more" in root.get("/prod/-/admin/owners/pub-lib/add").text
    root.get("/prod/-/admin/owners/pub-lib/remove?user=eve", 404)
    root.submit("/prod/-/admin/owners/pub-lib/add", user="cat")
    assert owners(server, PROD, "pub-lib") == {"cat"} and owners(server, ROOT, "pub-lib") == {"eve"}
    assert "they count as its owners then" in root.get("/prod/-/admin/owners/pub-lib/remove?user=cat").text
    root.submit("/prod/-/admin/owners/pub-lib/remove?user=cat")
    assert owners(server, PROD, "pub-lib") == {"eve"}


def test_who_cannot_log_in_is_made_no_owner_and_whose_name_is_gone_can_be_removed(
    server: Ruled, root: Visitor, capsys: pytest.CaptureFixture[str]
) -> None:
    for user in ("zoe", "@release", "", "*", "ev\u00e9", "x" * 300):
        page = root.submit("/-/admin/owners/pub-lib/add", 404, user=user)
        assert "can log in" in page.text
        html5lib.HTMLParser(strict=True).parse(page.text)
    where = ["--config", str(server.folder / "index.toml")]
    assert cli.main(["owner", "add", "pub-lib", "zoe", *where]) == 1
    assert "can log in" in capsys.readouterr().err
    assert owners(server, ROOT, "pub-lib") == {"eve"}
    passwords = server.folder / "htpasswd"
    lines = passwords.read_text().splitlines(keepends=True)
    passwords.write_text("".join(line for line in lines if not line.startswith("eve:")))
    assert cli.main(["owner", "add", "pub-lib", "eve", *where]) == 1
    root.submit("/-/admin/owners/pub-lib/remove?user=eve")
    assert owners(server, ROOT, "pub-lib") == frozenset()
    root.get("/-/admin/owners/pub-lib/remove?user=eve", 404)
    assert cli.main(["owner", "remove", "pub-lib", "eve", *where]) == 1
    assert [reason for *_, reason in reasons(server)] == ["remove eve"]


PAGES = ("", "/add", "/remove?user=eve")


def test_nobody_but_an_admin_sees_or_changes_owners_and_no_token_does(server: Ruled, root: Visitor) -> None:
    eve, nobody = Visitor(server.app), Visitor(server.app)
    eve.sign_in("eve", "right")
    for path in PAGES:
        assert "may not administer" in eve.get(f"/-/admin/owners/pub-lib{path}", 403).text
        nobody.get(f"/-/admin/owners/pub-lib{path}", 303)
    assert "Owners</a>" not in eve.get("/project/pub-lib/").text
    _, secret = server.app.site_of(ROOT).records.tokens.create("all", by="root", user="root")
    server.logins["thief"] = f"Bearer {secret}"
    for path in PAGES:
        assert "use your password" in server.ask(ROOT, f"/-/admin/owners/pub-lib{path}", "thief").text
    for method, path in (("GET", ""), ("PUT", "/dan"), ("DELETE", "/eve")):
        for user, status in (("nobody", 401), ("eve", 403), ("thief", 403), ("ci", 403)):
            assert server.ask(ROOT, f"/-/api/owners/pub-lib{path}", user, method).status == status, (method, user)
    # A form of somebody else's making has no token of the session.
    for path, fields in (("/add", {"user": "dan"}), ("/remove?user=eve", {})):
        root.post(f"/-/admin/owners/pub-lib{path}", 403, fields)
        root.post(f"/-/admin/owners/pub-lib{path}", 403, {**fields, "csrf": "x" * 43})
    assert owners(server, ROOT, "pub-lib") == {"eve"}


def test_programs_see_and_change_owners(server: Ruled) -> None:
    def ask(method: str, path: str, status: int = 200, index: str = ROOT, **more: Any) -> Any:
        answer = server.ask(index, f"/-/api/owners/{path}", "root", method, **more)
        assert answer.status == status and answer.content_type == "application/json", answer
        return answer.json

    assert ask("GET", "Pub.Lib") == {"name": "pub-lib", "owners": ["eve"], "inherits": False}
    assert ask("GET", "pub-lib", index=PROD) == {"name": "pub-lib", "owners": [], "inherits": True}
    assert ask("PUT", "pub-lib/dan") == ask("PUT", "pub-lib/dan") == {"said": "from now on dan owns pub-lib"}
    assert ask("GET", "pub-lib")["owners"] == ["dan", "eve"] and yank(server, "dan") == 200
    assert "can log in" in ask("PUT", "pub-lib/zoe", 404)["error"]
    assert "does not own" in ask("DELETE", "pub-lib/dan")["said"]
    assert "does not own" in ask("DELETE", "pub-lib/dan", 404)["error"]
    kind = {"Content_Type": "application/json"}
    ask("PUT", "pub-lib/dan", 400, body=json.dumps({"user": "cat"}).encode(), headers=kind)
    ask("PUT", "-/dan", 404)
    assert owners(server, ROOT, "pub-lib") == {"eve"}


def test_where_nothing_can_be_recorded_owners_stay_as_they_are(server: Ruled, root: Visitor) -> None:
    with closing(sqlite3.connect(server.folder / "state" / FILENAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert 'role="alert"' in root.submit("/-/admin/owners/pub-lib/add", 503, user="dan").text
        assert 'role="alert"' in root.submit("/-/admin/owners/pub-lib/remove?user=eve", 503).text
    assert owners(server, ROOT, "pub-lib") == {"eve"}

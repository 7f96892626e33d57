"""The JSON API: what the pages of administration show and do, by the same rights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from builders import make_wheel
from filed import served, written
from logins import basic
from visitors import Visitor
from wsgi_client import Answer, Client

from pypiserver_lite.web import Front
from pypiserver_lite.web.openapi import document

TEXT = """
passwords = "htpasswd"
admin = ["ann"]
disable_fallback = true
packages = ["dev"]
[[rule]]
who = ["*"]
may = ["list", "download"]
[[rule]]
who = ["bob"]
may = ["yank"]
projects = ["acme-*"]
[index.prod]
packages = ["prod"]
"""
ANN, BOB = basic("ann", "right"), basic("bob", "his")
FOR_ADMINS = ("overview", "audit", "names", "users")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Front]:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his")
    make_wheel(tmp_path / "dev", "acme-client", "1.0")
    make_wheel(tmp_path / "dev", "other", "1.0")
    make_wheel(tmp_path / "prod", "gone", "1.0")
    with served(tmp_path, TEXT) as front:
        front.site_of("prod").store.remove(front.site_of("prod").store.names()[0], "1.0")
        yield front


@pytest.fixture
def ask(app: Front) -> Any:
    client = Client(app)

    def ask(method: str, path: str, status: int = 200, said: object = None, user: str = "") -> Any:
        headers = {"Authorization": user} if user else {}
        body = b"" if said is None else json.dumps(said).encode()
        headers |= {"Content-Type": "application/json"} if body else {}
        answer = client.request(path, method=method, status=status, headers=headers, body=body)
        assert answer.content_type == "application/json"
        return answer.json

    return ask


def test_what_is_for_admins_is_for_nobody_else(ask: Any) -> None:
    for path in FOR_ADMINS:
        assert "password" in ask("GET", f"/-/api/{path}", 401)["error"]
        assert "may not administer" in ask("GET", f"/-/api/{path}", 403, user=BOB)["error"]
        ask("GET", f"/-/api/{path}", user=ANN)
    for method, path in (("PUT", "users/bob"), ("DELETE", "users/bob"), ("DELETE", "names/gone")):
        ask(method, f"/-/api/{path}", 403, {"password": "x"}, user=BOB)
        ask(method, f"/-/api/{path}", 401, {"password": "x"})
    ask("GET", "/prod/-/api/users", 404, user=ANN)
    ask("GET", "/-/api/nothing", 404)


def test_who_asks_hears_what_they_may(ask: Any) -> None:
    assert ask("GET", "/-/api/me") == {"user": None, "token": None, "may": ["list", "download"]}
    assert ask("GET", "/-/api/me", user=BOB)["may"] == ["list", "download", "yank"]
    assert "admin" in ask("GET", "/-/api/me", user=ANN)["may"]
    ask("GET", "/-/api/me", 401, user=basic("ann", "wrong"))


def test_releases_are_changed_by_the_rights_of_their_projects(ask: Any, tmp_path: Path) -> None:
    place = "/-/api/projects/acme-client/1.0"
    assert "may not yank other" in ask("POST", "/-/api/projects/other/1.0/yank", 403, user=BOB)["error"]
    ask("POST", f"{place}/yank", 401, {"reason": "breaks"})
    assert "yanked" in ask("POST", f"{place}/yank", 200, {"reason": "breaks"}, user=BOB)["said"]
    assert ask("GET", place)["files"][0]["yanked"] == "breaks"
    ask("POST", f"{place}/unyank", user=BOB)
    assert ask("GET", place)["files"][0]["yanked"] is None
    ask("POST", f"{place}/remove", 403, user=BOB)
    assert "pushed" in ask("POST", f"{place}/push", 200, {"to": "prod"}, user=ANN)["said"]
    assert list((tmp_path / "prod").glob("*.whl"))
    ask("POST", f"{place}/push", 403, {"to": "prod"}, user=BOB)
    assert "removed" in ask("POST", f"{place}/remove", user=ANN)["said"]
    for path in (place, "/-/api/projects/nobody/1.0", "/-/api/projects/-/1.0"):
        ask("GET", path, 404)
    ask("POST", f"{place}/burn", 404, user=ANN)
    ask("POST", "/-/api/projects/other/1.0/yank", 400, {"reason": 1}, user=ANN)
    ask("POST", "/-/api/projects/other/1.0/yank", 400, {"why": "x"}, user=ANN)
    ask("POST", "/-/api/projects/other/1.0/yank", 400, ["x"], user=ANN)
    ask("POST", "/-/api/projects/other/1.0/yank", 400, {"reason": "\ud800"}, user=ANN)


def test_tokens_users_and_names(ask: Any, app: Front) -> None:
    made = ask("POST", "/-/api/tokens", 201, {"name": "ci", "may": ["yank"], "expires": "7d"}, user=BOB)
    token = basic("__token__", made["secret"])
    assert ask("GET", "/-/api/me", user=token) == {"user": "bob", "token": "ci", "may": ["list", "download", "yank"]}
    assert [one["name"] for one in ask("GET", "/-/api/tokens", user=BOB)["tokens"]] == ["ci"]
    assert "secret" not in json.dumps(ask("GET", "/-/api/tokens?all=1", user=ANN))
    ask("GET", "/-/api/tokens?all=1", 403, user=BOB)
    ask("GET", "/-/api/tokens", 401)
    ask("GET", "/-/api/tokens", 403, user=token)
    ask("DELETE", f"/-/api/tokens/{made['id']}", user=BOB)
    ask("GET", "/-/api/me", 401, user=token)
    ask("PUT", "/-/api/users/dan", 200, {"password": "new"}, user=ANN)
    assert ask("GET", "/-/api/me", user=basic("dan", "new"))["user"] == "dan"
    assert [one["name"] for one in ask("GET", "/-/api/users", user=ANN)["users"]] == ["ann", "bob", "dan"]
    ask("DELETE", "/-/api/users/dan", user=ANN)
    ask("DELETE", "/-/api/users/dan", 404, user=ANN)
    assert ask("GET", "/prod/-/api/names", user=ANN) == {"names": ["gone"]}
    ask("DELETE", "/prod/-/api/names/gone", user=ANN)
    assert app.site_of("prod").kept() == ()
    trail = ask("GET", "/-/api/audit?limit=3", user=ANN)
    assert [event["action"] for event in trail["events"]] == ["release", "user-delete", "password"]
    rest = ask("GET", f"/-/api/audit?before={trail['next']}", user=ANN)
    assert [event["action"] for event in rest["events"] if event["outcome"] == "done"] == [
        "token-revoke",
        "token-create",
    ]


def test_tokens_of_a_deleted_user_are_not_those_of_another_of_that_name(ask: Any, app: Front, tmp_path: Path) -> None:
    def made(name: str, **said: Any) -> str:
        return basic("__token__", ask("POST", "/-/api/tokens", 201, {"name": name, **said}, user=ANN)["secret"])

    tokens = [made("laptop", user="bob"), made("ci", user="bob", indexes=["prod"])]
    kept = [made("laptop"), made("bob", user=None, may=["list"])]
    ask("PUT", "/-/api/users/bob", 200, {"password": "new"}, user=ANN)
    for token in (*tokens, *kept):
        ask("GET", "/-/api/tokens", 403, user=token)
    ask("DELETE", "/-/api/users/bob", user=ANN)
    ask("PUT", "/-/api/users/bob", 200, {"password": "of another"}, user=ANN)
    for token in tokens:
        ask("GET", "/-/api/tokens", 401, user=token)
    for token in kept:
        ask("GET", "/-/api/tokens", 403, user=token)
    assert "user bob, whose tokens end: laptop ci" in str(ask("GET", "/-/api/audit", user=ANN))
    # So too where the line went by hand.
    token, lines = made("laptop", user="bob"), (tmp_path / "htpasswd").read_text().splitlines(keepends=True)
    (tmp_path / "htpasswd").write_text("".join(line for line in lines if not line.startswith("bob")))
    ask("PUT", "/-/api/users/bob", 200, {"password": "of a third"}, user=ANN)
    ask("GET", "/-/api/tokens", 401, user=token)


def test_nobody_fills_the_records_with_tokens(ask: Any, app: Front) -> None:
    def tried(user: str, name: str) -> int:
        body, headers = json.dumps({"name": name}).encode(), {"Content-Type": "application/json", "Authorization": user}
        answer = Client(app).request("/-/api/tokens", method="POST", status=None, headers=headers, body=body)
        assert answer.status in (201, 409, 429) and ("Retry-After" in answer.headers) == (answer.status == 429)
        return answer.status

    made = ask("POST", "/-/api/tokens", 201, {"name": "ci"}, user=BOB)
    assert 429 in [tried(BOB, "ci") for _ in range(70)]  # which fails, and is on record
    ask("DELETE", f"/-/api/tokens/{made['id']}", user=BOB)
    events = ask("GET", "/-/api/audit?limit=1000&action=token-create", user=ANN)["events"]
    assert 60 <= len(events) < 70
    assert {tried(ANN, f"t{number}") for number in range(70)} == {201}


@pytest.mark.parametrize(
    "said",
    [
        *({key: value} for key in ("may", "projects", "indexes") for value in ([], "", [""], ",", " ", ["list", ""])),
        *({"expires": value} for value in ("", " ", [], ["1d"], ["1d", "junk"], 1)),
        *({"user": value} for value in ("", ["bo", "b"], 1)),
        {"projects": [["acme-*"]]},
    ],
    ids=json.dumps,
)
def test_a_limit_of_a_token_that_says_nothing_is_not_taken_for_none(ask: Any, said: dict[str, Any]) -> None:
    refused = ask("POST", "/-/api/tokens", 400, {"name": "ci", "may": ["list"], **said}, user=ANN)
    assert next(iter(said)) in json.dumps(refused)
    assert ask("GET", "/-/api/tokens?all=1", user=ANN)["tokens"] == []
    free = {"name": "ci", "may": None, "projects": None, "indexes": None, "expires": None}
    made = ask("POST", "/-/api/tokens", 201, free, user=BOB)
    assert (made["user"], made["may"], made["projects"], made["expires"]) == ("bob", None, [], None)
    robot = ask("POST", "/-/api/tokens", 201, {"name": "robot", "user": None, "may": ["list"]}, user=ANN)
    assert robot["user"] is None


BY_RULE = """
passwords = "htpasswd"
admin = ["ann"]
disable_fallback = true
packages = ["dev"]
[[rule]]
who = ["rita"]
may = ["admin"]
indexes = ["/"]
[[rule]]
who = ["paul"]
may = ["admin"]
indexes = ["prod"]
[index.prod]
packages = ["prod"]
"""


def test_who_administers_the_root_alone_gets_no_more_elsewhere(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his", rita="hers", paul="his")
    for name in ("dev", "prod"):
        (tmp_path / name).mkdir()
    rita = basic("rita", "hers")
    with served(tmp_path, BY_RULE) as front:
        client = Client(front)

        def ask(method: str, path: str, status: int, said: object = None, user: str = rita) -> Any:
            body = b"" if said is None else json.dumps(said).encode()
            headers = {"Authorization": user, "Content-Type": "application/json"}
            return client.request(f"/-/api/{path}", method=method, status=status, headers=headers, body=body).json

        for user in (None, "bob", "ann"):
            token = {"name": "more", "user": user, "may": ["remove", "admin"]}
            for indexes in (["prod"], ["/", "prod"]):
                assert "prod" in ask("POST", "tokens", 403, {**token, "indexes": indexes})["error"]
            assert ask("POST", "tokens", 201, token)["indexes"] == ["/"]
        assert ask("POST", "tokens", 201, {"name": "own"})["indexes"] == ["/", "prod"]  # never more than rita may
        for user in ("ann", "paul"):
            assert f"{user} is an admin" in ask("PUT", f"users/{user}", 403, {"password": "mine"})["error"]
            assert f"{user} is an admin" in ask("DELETE", f"users/{user}", 403)["error"]
        for user in ("rita", "bob"):
            ask("PUT", f"users/{user}", 200, {"password": "hers"})
        ask("DELETE", "users/bob", 200)
        ann = basic("ann", "right")
        every = ask("POST", "tokens", 201, {"name": "any", "user": None, "may": ["admin"]}, ann)
        assert every["indexes"] == ["/", "prod"]
        for user in ("paul", "rita", "ann"):
            ask("PUT", f"users/{user}", 200, {"password": "new"}, ann)
            ann = basic("ann", "new") if user == "ann" else ann


APART = """
[index.apart]
packages = ["apart"]
passwords = "others"
"""


def test_a_token_counts_in_no_index_that_is_added_later(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his", rita="hers", paul="his")
    live.write_htpasswd(tmp_path / "others", ann="another", bob="another")
    for name in ("dev", "prod", "apart"):
        make_wheel(tmp_path / name, "ours", "1.0")
    kind = {"Content-Type": "application/json"}
    with served(tmp_path, BY_RULE) as front:
        client, tokens = Client(front), {}
        for user, said in (
            ("ann", {"name": "own"}),
            ("bob", {"name": "own"}),
            ("ann", {"name": "robot", "user": None, "may": ["list", "remove", "admin"]}),
            ("rita", {"name": "hers", "user": None, "may": ["list", "remove", "admin"]}),
        ):
            login = basic(user, {"ann": "right", "bob": "his", "rita": "hers"}[user])
            fields, body = {"Authorization": login, **kind}, json.dumps(said).encode()
            made = client.request("/-/api/tokens", method="POST", status=201, headers=fields, body=body).json
            tokens[made["id"]] = basic("__token__", made["secret"])
        written(tmp_path, BY_RULE + APART)
        front.reload()
        for token in tokens.values():
            assert client.get("/apart/-/api/audit", None, Authorization=token).status in (401, 403)
            for act in ("yank", "remove"):
                path = f"/apart/-/api/projects/ours/1.0/{act}"
                fields = {"Authorization": token, **kind}
                assert client.request(path, method="POST", status=None, headers=fields, body=b"{}").status in (401, 403)
            client.get("/-/api/me", Authorization=token)
        # Theirs they stay, also when an index that they name is gone.
        written(tmp_path, BY_RULE.partition("[index.prod]")[0].replace('indexes = ["prod"]\n', "") + APART)
        front.reload()
        own = client.get("/-/api/tokens", Authorization=basic("bob", "his")).json["tokens"]
        assert [(token["name"], token["indexes"]) for token in own] == [("own", ["/", "prod"])]


def test_a_session_brings_its_token_in_a_header(app: Front) -> None:
    bob = Visitor(app)
    bob.sign_in("bob", "his")
    found = re.search(r'name="csrf" value="([^"]+)"', bob.get("/").text)
    assert found is not None

    def yank(status: int, **more: str) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Sec-Fetch-Mode": "cors"}
        sent = {name.replace("_", "-"): value for name, value in more.items()}
        return bob.send("/-/api/projects/acme-client/1.0/yank", status, b"{}", {**headers, **sent})

    assert "not of your sign-in" in yank(403).json["error"]
    yank(403, X_CSRF_Token="x")
    yank(403, X_CSRF_Token=found[1], Sec_Fetch_Site="cross-site")
    yank(200, X_CSRF_Token=found[1])
    bob.cookies.clear()
    over = yank(403, X_CSRF_Token=found[1])
    assert "sign in again" in over.json["error"] and "WWW-Authenticate" not in over.headers


def test_people_who_look_at_it_sign_in_on_the_page(app: Front) -> None:
    ann = Visitor(app)
    assert ann.get("/-/api/overview", 303).headers["Location"] == "../../-/sign-in?next=-/api/overview"
    ann.sign_in("ann", "right")
    assert ann.get("/-/api/overview").json["index"] == "/"


def test_the_document_tells_of_every_route_and_of_no_other(app: Front) -> None:
    for name, root in (("/", True), ("prod", False)):
        routes = {
            (re.sub(r"<number[^>]*>", "{id}", re.sub(r"<(\w+)(:path)?>", r"{\1}", route.rule)), route.method.lower())
            for route in app.app(name).routes
            if route.rule.startswith("/-/api/") and route.rule not in ("/-/api/explain", "/-/api/reload")
        }
        told = {
            (re.sub(r"(\{version\})/\w+$", r"\1/{act}", path), method)
            for path, operations in document(root=root, cookie="")["paths"].items()
            for method in operations
        }
        assert routes == told


def test_a_token_for_some_projects_sees_nothing_of_administration(ask: Any) -> None:
    for said in ({}, {"user": None, "may": ["admin", "list"]}):
        body = {"name": f"ci{len(said)}", "projects": ["acme-*"], **said}
        token = basic("__token__", ask("POST", "/-/api/tokens", 201, body, user=ANN)["secret"])
        for path in ("overview", "audit", "names"):
            ask("GET", f"/-/api/{path}", 403, user=token)
        ask("DELETE", "/-/api/names/acme-client", 403, user=token)

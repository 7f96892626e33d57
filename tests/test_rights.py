"""Who may do what, on every route and in every spelling of it, over real sockets (SECURITY-CHECKLIST 6)."""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import builders
import forms
import live
import pytest

from pypiserver_lite import make_app
from pypiserver_lite.rights.htpasswd import delete_user, set_password

WHEEL = "ours-1.0-py3-none-any.whl"
ABSENT = "none-1.0-py3-none-any.whl"
ACTIONS = ("update", "download", "list")


NO_FIELDS: dict[str, Any] = {}


def login(user: str, password: str) -> dict[str, Any]:
    """The header of a login."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ANN = login("ann", "right")

# `ours` and the wheel are here; what is asked for under `none` is not.
LIST = [
    "/",
    "/?x=y",
    "/simple",
    "/simple/",
    "/simple/?format=application/vnd.pypi.simple.v1%2Bjson",
    "/simple/?format=nonsense",
    "/simple/ours",
    "/simple/ours/",
    "/simple/ours/?format=application/vnd.pypi.simple.v1%2Bhtml",
    "/simple/Ours/",
    "/simple/OURS",
    "/simple/%6F%75%72%73/",
    "/simple%2Fours%2F",
    "/%73imple/ours/",
    "//simple/ours/",
    "/+simple/",
    "/+simple/ours/",
    "/%2Bsimple/ours/",
    "/%2bsimple/Ours",
    "http://elsewhere/simple/ours/",
    "/simple/none/",
    "/simple/none",
    "/simple/No.Ne/",
    "/simple/not%20a%20name/",
    "/simple/-/",
    "/packages",
    "/packages/",
    "/packages/?x",
    "/%70ackages/",
    "/pypi/ours/json",
    "/pypi/Ours/json",
    "/pypi/ours/1.0/json",
    "/pypi/ours/9.9/json",
    "/pypi/none/json",
    "/pypi/none/1.0/json",
    "/ours/json",
    "/none/json",
    "/ours",
    "/ours/",
    "/Ours/",
    "/none/",
    "/not%20a%20name/",
    "/search",
    "/search?q=ours",
    "/project/ours",
    "/project/ours/",
    "/project/Ours/",
    "/project/ours/1.0",
    "/project/ours/1.0/",
    "/project/ours/9.9/",
    "/project/none/",
    "/project/none/1.0/",
]
DOWNLOAD = [
    f"/packages/{WHEEL}",
    f"/packages/{WHEEL}?x=y",
    f"/packages/{WHEEL}.metadata",
    f"/packages/{WHEEL}.asc",
    f"/packages/{WHEEL}.provenance",
    f"/packages/{WHEEL}.yanked",
    f"/packages/ours/{WHEEL}",
    f"/packages/a/b/{WHEEL}",
    f"/packages/ours%2F{WHEEL}",
    f"/packages%2F{WHEEL}",
    "/%70ackages/%6Furs-1.0-py3-none-any.whl",
    f"//packages/{WHEEL}",
    f"http://elsewhere/packages/{WHEEL}",
    f"/packages/../packages/{WHEEL}",
    f"/packages/%2e%2e/{WHEEL}",
    "/packages/OURS-1.0-py3-none-any.whl",
    f"/packages/{ABSENT}",
    f"/packages/{ABSENT}.metadata",
    f"/packages/none/{WHEEL}",
    "/packages/ours/",
    "/packages/.hidden",
    "/packages/nonsense",
]
UPDATE = [
    "/",
    "/?x=y",
    "/legacy",
    "/legacy/",
    "/%6Cegacy/",
    "//legacy/",
    "/simple",
    "/simple/",
    "/simple/?:action=verify",
    "http://elsewhere/legacy/",
]
CHANGES = [
    forms.action("verify"),
    forms.action("nonsense"),
    forms.action("remove_pkg", name="none", version="1.0"),
    forms.action("yank", name="none", version="1.0"),
    forms.action("unyank", name="none", version="1.0"),
    forms.upload(b"no wheel", WHEEL),
    b"",
]
CALL = b"<methodCall><methodName>list_packages</methodName><params/></methodCall>"
NEVER_FOUND = [
    f"/%2570ackages/{WHEEL}",
    f"/packages/{WHEEL}%00",
    f"/packages/{WHEEL}%252Emetadata",
    f"/simple/../packages/{WHEEL}",
    f"/simple/%2e%2e/packages/{WHEEL}",
    f"/packages/%5c{WHEEL}",
    "/%2573imple/ours/",
    "/simple/ours%00/",
    "/simple/ours%0d%0a/",
    "/SIMPLE/ours/",
    "/simple/ours/%2e%2e/",
    "/%c0%afsimple/ours/",
]
"""Spellings of nothing: whatever is protected, they lead nowhere."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and all that can lie beside it."""
    folder = tmp_path_factory.mktemp("shelf")
    builders.make_wheel(folder, "ours")
    for side in ("asc", "provenance", "yanked"):
        (folder / f"{WHEEL}.{side}").write_text("{}")
    (folder / ".hidden").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ann's."""
    return live.write_htpasswd(tmp_path_factory.mktemp("passwords") / "htpasswd", ann="right")


COMBINATIONS = [words for count in range(4) for words in itertools.combinations(ACTIONS, count)]


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda words: ",".join(words) or "open")
def guarded(
    request: pytest.FixtureRequest, shelf: Path, passwords: Path
) -> Iterator[tuple[live.Server, frozenset[str]]]:
    """A server under each combination of ``-a``, and what should need a login there."""
    words = request.param
    flags: dict[str, Any] = {"passwords": passwords, "authenticate": ",".join(words)} if words else forms.OPEN
    with live.serve(packages=[shelf], **flags) as server:
        # Uploads stay closed unless two flags say otherwise.
        yield server, frozenset(words) | {"update"} if words else frozenset()


def refused(answer: live.Answer) -> None:
    """It is a refusal that invites to log in, and says nothing else."""
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="')  # A1
    assert "ours" not in answer.text and "none" not in answer.text


def test_exactly_the_protected_actions_need_a_login(guarded: tuple[live.Server, frozenset[str]]) -> None:  # A5
    server, protected = guarded
    table = [(method, path, b"", "list") for path in LIST for method in ("GET", "HEAD")]
    table += [(method, path, b"", "download") for path in DOWNLOAD for method in ("GET", "HEAD")]
    table += [("POST", path, body, "update") for path in UPDATE for body in CHANGES]
    table += [("POST", path, CALL, "list") for path in ("/RPC2", "/RPC2?x", "//RPC2", "/%52PC2")]
    for method, path, body, action in table:
        kind: dict[str, Any] = {"Content_Type": forms.TYPE} if action == "update" else {}
        answer = live.ask(server, path, method, body, **kind)
        if action in protected:
            refused(answer)
            answer = live.ask(server, path, method, body, **kind, **ANN)
        assert answer.status not in (401, 403), (method, path)
        assert answer.status < 500, (method, path, answer)


def test_what_is_protected_looks_the_same_whether_it_exists_or_not(guarded: tuple[live.Server, frozenset[str]]) -> None:
    server, protected = guarded
    for paths, action in ((LIST, "list"), (DOWNLOAD, "download")):
        if action not in protected:
            continue
        conditional = {"If_None_Match": "*", "Range": "bytes=0-0"}
        for headers in NO_FIELDS, {"Authorization": "Bearer x"}, {"Accept": "text/html"}, conditional:
            seen = set()
            for path in paths:
                answer = live.ask(server, path, **headers)
                fields = {name: value for name, value in answer.headers.items() if name != "date"}
                seen.add((answer.status, answer.reason, str(sorted(fields.items())), answer.body))
            assert len(seen) == 1


def test_odd_spellings_lead_nowhere(guarded: tuple[live.Server, frozenset[str]]) -> None:
    server, _ = guarded
    for path in NEVER_FOUND:
        answer = live.ask(server, path)
        assert answer.status in (401, 404), path


def test_no_method_is_a_way_around(guarded: tuple[live.Server, frozenset[str]], shelf: Path) -> None:
    server, protected = guarded
    before = sorted(shelf.iterdir())
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "GETX"):
        for path in ("/", "/simple/", "/simple/ours/", f"/packages/{WHEEL}", "/legacy/"):
            answer = live.ask(server, path, method, X_HTTP_Method_Override="GET")
            assert answer.status in (400, 401, 404, 405, 501), (method, path)
            assert WHEEL not in answer.text
    if "list" in protected:
        facts = json.loads(live.ask(server, "/health", Accept="application/json").body)
        assert "projects" not in facts
    assert sorted(shelf.iterdir()) == before


PUBLIC = ("/health", "/favicon.ico", "/robots.txt", "/-/")
"""What anyone may ask for: it says nothing about any project."""


def test_no_route_is_without_a_right(tmp_path: Path, shelf: Path, passwords: Path) -> None:
    app = make_app(shelf, passwords=passwords, authenticate=",".join(ACTIONS), cache_dir=tmp_path)
    routes = {(route.method, route.rule) for route in app.routes}
    app.close()
    assert len(routes) > 20
    with live.serve(packages=[shelf], passwords=passwords, authenticate=",".join(ACTIONS)) as server:
        for method, rule in routes:
            if not rule.startswith(PUBLIC):
                path = re.sub(r"<name>", "ours", rule)
                path = re.sub(r"<version>", "1.0", path)
                path = re.sub(r"<[^>]*>", WHEEL, path)
                refused(live.ask(server, path, method))


def test_removal_takes_a_release_with_all_its_files_and_nothing_else(tmp_path: Path, passwords: Path) -> None:
    folder = tmp_path / "packages"
    gone = [
        "Our_Lib-1.0-py3-none-any.whl",
        "our_lib-1.0-1-py3-none-any.whl",
        "our_lib-1.0-2abc-cp311-cp311-linux_x86_64.whl",
        "our_lib-1.0.tar.gz",
        "our-lib-1.0.zip",
        "Our.Lib-1.0.tar.bz2",
        "our_lib-1.0-py3.11.egg",
        "nested/our_lib-1.0.0.tar.gz",
    ]
    kept = [
        "our_lib-1.0.1.tar.gz",
        "our_lib-1.0.post1.tar.gz",
        "our_lib-1.0rc1.tar.gz",
        "our_lib-1.0+local.tar.gz",
        "our_lib-11.0.tar.gz",
        "our_lib_more-1.0.tar.gz",
        "our-1.0.tar.gz",
        "notes.txt",
    ]
    (folder / "nested").mkdir(parents=True)
    for name in gone + kept:
        (folder / name).write_bytes(b"content")
    for name in gone[:4]:
        for side in ("metadata", "asc", "provenance", "yanked"):
            (folder / f"{name}.{side}").write_bytes(b"{}")
    form = forms.action("remove_pkg", name="our.LIB", version="1.0")
    with live.serve(packages=[folder], passwords=passwords) as server:
        assert live.ask(server, "/simple/our-lib/").text.count("<a ") == len(gone) + 5
        refused(forms.post(server, form))
        refused(forms.post(server, form, **login("ann", "wrong")))
        assert all((folder / name).is_file() for name in gone + kept)
        answer = forms.post(server, form, **ANN)
        assert answer.status == 200
        for name in gone:
            assert Path(name).name in answer.text
            assert live.ask(server, f"/packages/{Path(name).name}").status == 404
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        records = (".pypiserver-lite/records.sqlite3", ".pypiserver-lite/room")
        left -= {path for path in left if path.startswith(records)}
        assert left == {*kept, ".pypiserver-lite/names"}
        assert live.ask(server, "/simple/our-lib/").text.count("<a ") == 5
        for fields in (
            {"version": "1.0"},
            {"name": "our-lib"},
            {"name": "our-lib", "version": "1.0"},
            {"name": "../x"},
        ):
            assert forms.post(server, forms.action("remove_pkg", **fields), **ANN).status in (400, 404)


def test_yanks_over_http_need_the_update_right_and_are_seen_at_once(tmp_path: Path, passwords: Path) -> None:
    folder = tmp_path / "packages"
    for tags in ("py3-none-any", "cp311-cp311-linux_x86_64"):
        builders.make_wheel(folder, "ours", tags=tags)
    builders.make_sdist(folder, "ours")
    builders.make_wheel(folder, "ours", "1.1")
    yank = forms.action("yank", name="OURS", version="1.0.0", reason='a "bad" <one>')
    unyank = forms.action("unyank", name="Ours", version="1.0")
    with live.serve(packages=[folder], passwords=passwords) as server:
        for form in (yank, unyank):
            refused(forms.post(server, form))
        assert "data-yanked" not in live.ask(server, "/simple/ours/").text
        for _ in range(2):
            assert forms.post(server, yank, **ANN).status == 200
            page = live.ask(server, "/simple/ours/").text
            assert page.count('data-yanked="a &quot;bad&quot; &lt;one&gt;"') == 3
        assert (folder / f"{WHEEL}.yanked").read_text() == 'a "bad" <one>'
        for _ in range(2):
            assert forms.post(server, unyank, **ANN).status == 200
            assert "data-yanked" not in live.ask(server, "/simple/ours/").text
        # URL-encoded, as a plain ``curl -d`` sends it.
        body = b":action=yank&name=ours&version=1.1"
        fields = {"Content_Type": "application/x-www-form-urlencoded", **ANN}
        assert live.ask(server, "/", "POST", body, **fields).status == 200
        assert live.ask(server, "/simple/ours/").text.count("data-yanked") == 1
        for fields in ({"name": "none", "version": "1.0"}, {"name": "ours", "version": "9"}):
            assert forms.post(server, forms.action("yank", **fields), **ANN).status == 404


SECRET = "hunter-2.secret"


@pytest.mark.parametrize("mode", ["redirect", "proxy"])
def test_no_secret_reaches_a_log_a_page_or_another_server(tmp_path: Path, shelf: Path, mode: str) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann=SECRET)
    right, wrong = login("ann", SECRET), login("ann", SECRET + "!")
    encoded = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    answers = []
    with ExitStack() as stack:
        upstream = stack.enter_context(live.in_thread(make_app(shelf, disable_fallback=True, cache_dir=tmp_path)))
        every = " ".join(f"%({name})s" for name in ("REQUEST_METHOD", "PATH_INFO", "HTTP_AUTHORIZATION", "HTTP_COOKIE"))
        server = stack.enter_context(
            live.serve(
                "-vv",
                packages=[shelf],
                passwords=passwords,
                authenticate=",".join(ACTIONS),
                fallback_url=upstream.simple,
                fallback_mode=mode,
                log_req_frmt=every,
                log_err_frmt=f"{every} %(error)s %(HTTP_PROXY_AUTHORIZATION)s",
            )
        )
        upload = forms.upload(b"no wheel", WHEEL)
        for fields in (
            NO_FIELDS,
            right,
            wrong,
            {"Authorization": f"Bearer {SECRET}"},
            {"Authorization": f"Basic {SECRET}"},
        ):
            more = {**fields, "Cookie": f"session={SECRET}", "Proxy-Authorization": f"Basic {encoded}"}
            for path in (
                "/",
                "/simple/",
                "/simple/ours/",
                "/simple/other/",
                f"/packages/{WHEEL}",
                "/x/y/z",
                "/ours/json",
            ):
                answers.append(live.ask(server, path, **more))
            answers.append(live.ask(server, f"http://ann:{SECRET}@127.0.0.1/simple/other/", **more))
            answers.append(live.ask(server, f"/simple/other/?token={SECRET}", **more))
            answers.append(live.ask(server, f"/simple/other?password={SECRET}", **more))
            for body in (
                upload,
                forms.action("yank", name="x", password=SECRET),
                forms.action("x", **{":token": SECRET}),
            ):
                answers.append(forms.post(server, body, **more))
            answers.append(live.ask(server, "/RPC2", "POST", CALL, **more))
        malformed = f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Basic {encoded}\r\nX {SECRET}\r\n\r\n"
        raw = live.raw(server, malformed.encode())
        assert {answer.status for answer in answers} >= {200, 400, 401, 404, 302 if mode == "redirect" else 404}
        assert bool(upstream.requests) is (mode == "proxy")
        said = server.log() + raw.decode() + "".join(f"{answer}" for answer in answers)
        assert "GET" in server.log()
        for secret in (SECRET, encoded, "hunter"):
            assert secret not in said
        assert all(SECRET not in str(request) + str(request.headers) for request in upstream.requests)


def test_nobody_forges_a_line_of_the_log(tmp_path: Path, packages: Path, passwords: Path) -> None:
    forged = "\r\n1999-01-01 00:00:00,000|pypiserver_lite|ERROR|1|forged"
    in_url = "%0D%0A1999-01-01%0d%0aforged%1B[2J%E2%80%A8forged%C2%85forged"
    with live.serve("-vv", packages=[packages], passwords=passwords, authenticate=",".join(ACTIONS)) as server:
        for fields in (NO_FIELDS, ANN, login(f"ann{forged}", "x"), login("ann", f"x{forged}")):
            for path in (
                "/{}",
                "/simple/{}/",
                "/packages/{}",
                "/packages/ours-1.0{}.tar.gz",
                "/?format={}",
                "/{}/json",
            ):
                live.ask(server, path.format(in_url), **fields)
            for name in (f"ours-1.0{forged}.tar.gz", "ours-1.0\\r\\nforged.whl", f'x{forged}"; name="y'):
                assert forms.post(server, forms.upload(b"x", name), **fields).status in (400, 401, 429)
            for field in (":action", "name", "version", "reason"):
                changed = {":action": "yank", "name": "ours", "version": "1.0", field: f"x{forged}"}
                body = b"".join(forms.text(key, value) for key, value in changed.items()) + forms.END
                forms.post(server, body, **fields)
            live.ask(server, "/", "GET", User_Agent="x\tforged", X_Forwarded_For="forged", **fields)
        log = server.log()
    lines = [line for line in log.splitlines() if "forged" in line]
    assert len(lines) > 2
    assert all(re.match(r"20[0-9]{2}-.*\|pypiserver_lite[.\w]*\|[A-Z]+\|[0-9]+\|", line) for line in lines)
    assert not re.search(r"[^ -~\n\t]", log)


FORWARDED: dict[str, Any] = {
    "X_Forwarded_Proto": "https",
    "X_Forwarded_Host": "pypi.example.org",
    "X_Forwarded_Prefix": "/index",
}


def guess(server: live.Server, count: int, **headers: Any) -> list[int]:
    """What this many wrong logins are answered."""
    return [live.ask(server, "/simple/", **login("ann", f"{n}"), **headers).status for n in range(count)]


@pytest.mark.parametrize("trusted", [True, False])
def test_forwarded_headers_count_from_the_named_proxy_only(shelf: Path, passwords: Path, trusted: bool) -> None:
    proxy = "127.0.0.1" if trusted else "127.0.0.99"
    with live.serve(packages=[shelf], passwords=passwords, trusted_proxy=proxy) as server:
        home = live.ask(server, "/", **FORWARDED).text
        assert ("https://pypi.example.org/index/" in home) is trusted
        assert (server.url in home) is not trusted
        for path in ("/simple/ours", "/ours/", "/simple"):
            location = live.ask(server, path, **FORWARDED).headers["location"]
            assert "example" not in location and not location.startswith(("http", "/"))
    with live.serve(packages=[shelf], passwords=passwords, authenticate="list,update", trusted_proxy=proxy) as server:
        assert 429 in guess(server, 12, X_Forwarded_For="192.0.2.1")
        # Whoever stands behind a proxy of ours is counted by himself; whoever claims to gains nothing by it.
        others = guess(server, 3, X_Forwarded_For="192.0.2.2")
        assert others == ([401] * 3 if trusted else [429] * 3)
        spoofed = guess(server, 3, X_Forwarded_For="192.0.2.77, 192.0.2.1")
        assert spoofed == [429] * 3
        assert guess(server, 1, X_Real_IP="192.0.2.3", Forwarded="for=192.0.2.3") == ([401] if trusted else [429])


def test_a_flood_of_wrong_logins_keeps_no_reader_waiting_and_no_known_user_out(shelf: Path, tmp_path: Path) -> None:
    hashed = "$2b$12$" + "c" * 53  # nobody knows the password of that one, and to find out takes a quarter of a second
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right", cat="right")
    passwords.write_text(passwords.read_text() + f"bob:{hashed}\n")
    with live.serve(packages=[shelf], passwords=passwords, authenticate="list,update", threads=8) as server:
        assert live.ask(server, "/simple/", **ANN).status == 200
        numbers = itertools.count()

        def flood(over: threading.Event) -> set[int]:
            statuses: set[int] = set()
            while not over.is_set():
                statuses.add(live.ask(server, "/simple/", **login("bob", f"{next(numbers)}")).status)
            return statuses

        with live.meanwhile(flood, 8) as floods:
            for _ in range(100):
                assert live.ask(server, f"/packages/{WHEEL}").status == 200  # open to everyone
                assert live.ask(server, "/simple/ours/", **ANN).status == 200  # from the flooding address, remembered
        assert set.union(*(task.result() for task in floods)) <= {401, 429, 503}
        assert 429 in guess(server, 12)
        assert live.ask(server, "/simple/", **login("cat", "right")).status == 200  # the first time, from this address
        assert int(live.ask(server, "/simple/", **login("ann", "x")).headers["retry-after"]) > 0
        # Another address is not held to account.
        with live.connect(server, source="127.0.0.2") as connection:
            wrong = login("ann", "no")["Authorization"]
            connection.sendall(f"GET /simple/ HTTP/1.1\r\nHost: x\r\nAuthorization: {wrong}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("count", [2, 20])
def test_a_new_login_is_let_in_while_other_addresses_guess(shelf: Path, tmp_path: Path, count: int) -> None:
    hashed = "$2b$11$" + "c" * 53
    people = {f"user{number}": "right" for number in range(10)}
    passwords = live.write_htpasswd(tmp_path / "htpasswd", **people)
    passwords.write_text(passwords.read_text() + f"bob:{hashed}\n")
    with live.serve(
        packages=[shelf], passwords=passwords, authenticate="list,update", threads=8, trusted_proxy="127.0.0.1"
    ) as server:
        numbers = itertools.count()

        def guess(number: int) -> int:
            wrong = login("bob", f"{next(numbers)}")
            return live.ask(server, "/simple/", **wrong, X_Forwarded_For=f"198.51.100.{number % count}").status

        assert {guess(number) for number in range(count)} == {401}

        def flood(over: threading.Event) -> set[int]:
            statuses: set[int] = set()
            while not over.is_set():
                statuses.add(guess(next(numbers)))
            return statuses

        with live.meanwhile(flood, 40) as floods:
            for number, user in enumerate(people):
                headers = login(user, "right") | {"X_Forwarded_For": f"192.0.2.{number}"}
                assert live.ask(server, "/simple/", **headers).status == 200
        assert set.union(*(task.result() for task in floods)) <= {401, 429, 503}


def test_the_password_file_is_read_again_without_dropping_a_request(shelf: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    with live.serve(packages=[shelf], passwords=passwords, authenticate="list,update") as server:

        def read(over: threading.Event) -> set[int]:
            statuses: set[int] = set()
            while not over.is_set():
                statuses.add(live.ask(server, "/simple/ours/", **ANN).status)
            return statuses

        bob, text = login("bob", "right"), passwords.read_text()
        with live.meanwhile(read, 4) as readers:
            for _ in range(2):
                assert live.ask(server, "/simple/", **bob).status == 401
                set_password(passwords, "bob", "right")
                assert live.ask(server, "/simple/", **bob).status == 200
                delete_user(passwords, "bob")
            for number in range(100):  # as Apache's htpasswd and some editors do: emptied, then filled
                passwords.write_text(f"{text}carl:plain\nno colon\n# {number}\n")
                time.sleep(0.005)
            assert live.ask(server, "/simple/", **login("carl", "plain")).status == 401
        assert [task.result() for task in readers] == [{200}] * 4
        log = server.log()
        assert "line 2" in log and "line 3" in log and "plain" not in log
        passwords.unlink()
        assert live.ask(server, "/simple/", **ANN).status == 401
        assert live.ask(server, f"/packages/{WHEEL}").status == 200
        passwords.write_text(text)
        assert live.ask(server, "/simple/", **ANN).status == 200

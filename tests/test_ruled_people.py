"""What people and the API do to releases goes by the same rules as all else: by users, projects, indexes and acts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import live
import pytest
from builders import make_wheel
from ruled import OWNED, PROJECTS, ROOT, USERS, Ruled, may_change, may_download, may_list, ruled
from test_ruled import ABSENT, INDEXES, like, told
from visitors import Visitor

from pypiserver_lite import make_app

ACTS = ("yank", "unyank", "remove", "push")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ruled]:
    with ruled(tmp_path_factory.mktemp("ruled")) as server:
        yield server


def may_act(user: str, act: str, project: str, index: str) -> bool:
    """Whether the page of an act is for a user; where a push goes to is asked when it is known."""
    if not may_list(user, project, index):
        return False  # it names the files
    if act == "push":
        return may_download(user, project, index)
    return may_change(user, "yank" if act == "unyank" else act, project, index)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_the_page_of_an_act_is_there_for_who_may_do_it(server: Ruled, user: str, index: str) -> None:
    lists = any(may_list(user, project, index) for project in (*PROJECTS[index], "acme-new"))
    for project in OWNED[index]:
        for act in ACTS:
            page = server.ask(index, f"/-/change/{act}/{project}/1.0", user)
            if may_act(user, act, project, index) and lists:
                assert (page.status, project in page.text) == (200, True), (user, act, project)
                continue
            refused = server.ask(index, f"/-/change/{act}/{project}/1.0", user, "POST")
            assert {page.status, refused.status} <= {401, 403, 404}, (user, act, project)
            if not may_list(user, project, index):
                absent = server.ask(index, f"/-/change/{act}/{like(project)}/1.0", user)
                assert told(page, project) == told(absent, like(project)), (user, act, project)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", USERS)
def test_the_api_tells_of_a_release_to_who_may_list_it(server: Ruled, user: str, index: str) -> None:
    for project in OWNED[index]:
        answer = server.ask(index, f"/-/api/projects/{project}/1.0", user)
        absent = server.ask(index, f"/-/api/projects/{like(project)}/1.0", user)
        if may_list(user, project, index):
            assert answer.status == 200 and absent.status == 404, (user, project)
        else:
            assert told(answer, project) == told(absent, like(project)), (user, project)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("user", ["ann", "bob", "cat", "dan", "eve", "root"])
def test_a_session_may_what_its_user_may(server: Ruled, user: str, index: str) -> None:
    prefix = "" if index == ROOT else f"/{index}"
    visitor = Visitor(server.app)
    visitor.sign_in(user, "right", path=f"{prefix}/-/sign-in")
    for project in (*OWNED[index], *ABSENT):
        paths = [f"/simple/{project}/", f"/project/{project}/1.0/", f"/packages/{project.replace('-', '_')}-1.0.tar.gz"]
        for path in [*paths, *(f"/-/change/{act}/{project}/1.0" for act in ACTS)]:
            one = visitor.get(prefix + path, None, Accept="*/*")
            other = server.ask(index, path, user)
            assert one.status == other.status, (user, path)
        if may_list(user, project, index) and project not in ABSENT:
            page = visitor.get(f"{prefix}/project/{project}/1.0/").text
            for act in ("yank", "remove"):
                assert (f"-/change/{act}/" in page) == may_act(user, act, project, index), (user, act, project)
            targets = [to for to in INDEXES if to != index and may_change(user, "push", project, to)]
            pushes = bool(targets) and may_download(user, project, index)
            assert ("-/change/push/" in page) == pushes, (user, project)
            if pushes:
                asked = visitor.get(f"{prefix}/-/change/push/{project}/1.0").text
                assert sorted(re.findall("<option[^>]*>([^<]+)<", asked)) == sorted(targets), (user, project)


def test_a_name_that_a_rule_hides_is_told_as_one_that_nobody_has(tmp_path: Path) -> None:
    packages, users = tmp_path / "packages", tmp_path / "users"
    packages.mkdir()
    make_wheel(packages, "merger")
    live.write_htpasswd(users, bob="right")
    (tmp_path / "pypiserver-lite.toml").write_text(
        'packages = ["packages"]\npasswords = "users"\ndisable_fallback = true\n'
        '[[rule]]\nwho = ["bob"]\nmay_not = ["list", "download"]\nprojects = ["merger"]\n'
        '[[rule]]\nwho = ["users"]\nmay = ["list", "download", "yank"]\n'
    )
    app = make_app(config=tmp_path / "pypiserver-lite.toml")
    visitor = Visitor(app)
    visitor.sign_in("bob", "right")
    try:
        for path in ("/-/change/yank/{}/1.0", "/-/change/remove/{}/1.0", "/-/api/projects/{}/1.0"):
            hidden, absent = (visitor.get(path.format(name), 404) for name in ("merger", "nobodys"))
            assert hidden.text.replace("merger", "") == absent.text.replace("nobodys", ""), path
    finally:
        app.close()

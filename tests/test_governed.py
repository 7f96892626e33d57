"""What an index shows under a policy: the same on every page, in every list and for every file, at every moment."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import string
import time
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_sdist, make_wheel, metadata
from packaging.utils import NormalizedName
from policed import DAY, JSON, LONG_AGO, called, have, listed, of_upstream, policed_upstream, put, seen_long_ago, served  # noqa: F401 - a fixture

from pypiserver_lite.model import Project

OWN = 'packages = ["packages"]\nupstreams = []\n[policy]\n'
THEIRS = 'upstreams = ["up"]\n[upstream.up]\nurl = "{url}"\nmode = "{mode}"\n[policy]\n'
BASED = """bases = ["below"]
[index.below]
packages = ["packages"]
[index.below.policy]
"""
MERGED = f'packages = ["elsewhere"]\n{THEIRS}merge = ["*"]\n'.replace("{mode}", "cache")
ARRANGEMENTS = {
    "own": OWN,
    "based": BASED,
    "cache": THEIRS.replace("{mode}", "cache"),
    "proxy": THEIRS.replace("{mode}", "proxy"),
    "redirect": THEIRS.replace("{mode}", "redirect"),
    "merged": MERGED,
}


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_a_file_that_is_hidden_is_nowhere(kind: str, tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    for version in ("1.0", "2.0"):
        wheel = have(tmp_path / "packages", "foo", version)
        wheel.with_name(f"{wheel.name}.asc").write_text("signed")
        put(upstream, tmp_path / "made", "foo", version, gpg_sig=True)
        upstream.stored[f"/files/{wheel.name}.asc"] = faulty.Stored(b"signed")
    make_wheel(tmp_path / "elsewhere", "foo", "0.9")
    shown, hidden = "foo-1.0-py3-none-any.whl", "foo-2.0-py3-none-any.whl"
    text = ARRANGEMENTS[kind].format(url=upstream.url)
    with served(tmp_path, f'{text}deny = ["foo>=2"]\n') as client:
        assert shown in listed(client, "foo") and hidden not in listed(client, "foo")
        assert hidden not in client.get("/simple/foo/", Accept="text/html").text
        for side in ("", ".metadata", ".asc"):
            client.get(f"/packages/foo/{shown}{side}")
            answer = client.get(f"/packages/foo/{hidden}{side}", 404)
            assert answer.text.startswith(f"{hidden} is hidden here by deny: foo 2.0 is denied ('foo>=2')")
            assert "pypiserver-lite explain foo" in answer.text
        assert hidden not in client.get("/packages/").text
        assert hidden not in client.get("/pypi/foo/json").text
        client.get("/pypi/foo/2.0/json", 404)
        client.get("/project/foo/2.0/", 404)
        assert client.get("/pypi/foo/json").json["info"]["version"] == "1.0"
        assert "2.0" not in called(client, "package_releases", "foo")
        assert called(client, "release_urls", "foo", "2.0") == []
        assert shown in client.get("/project/foo/1.0/").text


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_a_name_that_is_hidden_is_in_no_list_and_nobody_is_asked_for_it(
    kind: str, tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    for name in ("bad-one", "good-one"):
        have(tmp_path / "packages", name, "1.0")
        put(upstream, tmp_path / "made", name, "1.0")
    (tmp_path / "elsewhere").mkdir()
    for rule in ('deny = ["Bad.*"]', 'allow = ["good-*"]'):
        with served(tmp_path, f"{ARRANGEMENTS[kind].format(url=upstream.url)}{rule}\n") as client:
            if kind == "redirect":  # no rule can hide a file of it
                client.get("/simple/good-one/", 302)
            else:
                assert listed(client, "good-one") == ["good_one-1.0-py3-none-any.whl"]
            text = client.get("/simple/bad-one/", 404).text
            assert re.match(r"bad-one is hidden here by (deny|allow): bad-one is ", text)
            client.get("/packages/bad-one/bad_one-1.0-py3-none-any.whl", 404)
            client.get("/project/bad-one/", 404)
            client.get("/pypi/bad-one/json", 404)
            for page in ("/simple/", "/packages/", "/search?q=one"):
                assert "bad-one" not in client.get(page).text and "bad_one" not in client.get(page).text
            assert "bad-one" not in called(client, "list_packages")
            assert called(client, "package_releases", "bad-one") == []
    assert not [path for path in upstream.paths() if "bad" in path]


def test_a_policy_of_a_base_governs_what_comes_through_it(tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    put(upstream, tmp_path / "made", "lib", "1.0")
    put(upstream, tmp_path / "made", "lib", "2.0rc1")
    put(upstream, tmp_path / "made", "bad", "1.0")
    have(tmp_path / "prod", "ours", "1.0")
    have(tmp_path / "prod", "ours", "1.0", make=make_sdist)
    have(tmp_path / "dev", "ours", "2.0", make=make_sdist)
    text = f"""
upstreams = ["up"]
[upstream.up]
url = "{upstream.url}"
[policy]
prereleases = false
deny = ["bad"]
[index.prod]
packages = ["prod"]
bases = ["/"]
[index.prod.policy]
wheels_only = true
[index.dev]
packages = ["dev"]
bases = ["prod"]
"""
    with served(tmp_path, text) as client:
        for root in ("/", "/prod/", "/dev/"):
            assert listed(client, "lib", root) == ["lib-1.0-py3-none-any.whl"]
            client.get(f"{root}packages/lib/lib-2.0rc1-py3-none-any.whl", 404)
            assert "hidden here by deny" in client.get(f"{root}simple/bad/", 404).text
        assert listed(client, "ours", "/dev/") == ["ours-1.0-py3-none-any.whl", "ours-2.0.tar.gz"]
        assert listed(client, "ours", "/prod/") == ["ours-1.0-py3-none-any.whl"]
        client.get("/dev/packages/ours/ours-2.0.tar.gz")
        assert "wheels_only" in client.get("/dev/packages/ours/ours-1.0.tar.gz", 404).text
    assert "/simple/bad/" not in upstream.paths()


def test_the_bytes_are_those_of_the_file_that_the_page_lists(tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    """Of two files of one name, a rule hides the one that would be the first."""
    ours = make_wheel(tmp_path / "packages", "foo", "1.0", payload=b"x" * 5000)
    theirs = make_wheel(tmp_path / "made", "foo", "1.0")
    upstream.add("foo", theirs.name, theirs.read_bytes(), upload_time=LONG_AGO)
    text = MERGED.replace("elsewhere", "packages").format(url=upstream.url)
    for size, wheel in (("4kB", theirs), ("1MB", ours)):
        with served(tmp_path, f'{text}size = "{size}"\n') as client:
            (file,) = client.get("/simple/foo/", Accept=JSON).json["files"]
            data = client.get(f"/packages/foo/{wheel.name}").body
            assert data == wheel.read_bytes() and file["hashes"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_page_without_any_file_says_which_rule_and_whom_to_ask(
    tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    have(tmp_path / "packages", "ours", "1.0", age=0)
    put(upstream, tmp_path / "made", "theirs", "1.0", upload_time=None)
    put(upstream, tmp_path / "made", "ours", "9.0")
    text = ARRANGEMENTS["cache"].format(url=upstream.url)
    with served(tmp_path, f'packages = ["packages"]\n{text}cooldown = "7d"\n') as client:
        for name, came in (("ours", "uploaded"), ("theirs", "first seen")):
            for path in (f"/simple/{name}/", f"/project/{name}/", f"/packages/{name}/{name}-1.0-py3-none-any.whl"):
                said = client.get(path, 404).text
                assert said.startswith(f"{name}-1.0-py3-none-any.whl is hidden here by cooldown: {came} 20")
                assert said.endswith(f"'pypiserver-lite explain {name}' says more\n")
        # Nobody else gets to answer for a name that is here, though hidden.
        assert "/simple/ours/" not in upstream.paths()
        assert called(client, "search", {"name": "ours"}, "and") == []


def test_where_clients_are_sent_elsewhere_what_is_governed_is_asked_for_them(
    tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    for name in ("free", "held"):
        put(upstream, tmp_path / "made", name, "1.0")
        put(upstream, tmp_path / "made", name, "2.0")
    with served(tmp_path, f'{ARRANGEMENTS["redirect"].format(url=upstream.url)}deny = ["held>1"]\n') as client:
        assert client.get("/simple/free/", 302).headers["Location"] == f"{upstream.url}free/"
        assert upstream.paths() == []
        assert listed(client, "held") == ["held-1.0-py3-none-any.whl"]
        client.get("/packages/held/held-1.0-py3-none-any.whl")


def test_first_sights_outlive_a_restart_and_end_with_the_cache(tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    put(upstream, tmp_path / "made", "foo", "1.0", upload_time=None)
    text = ARRANGEMENTS["proxy"].format(url=upstream.url)

    def said() -> str:
        with served(tmp_path, f'{text}cooldown = "7d"\n') as client:
            shown.append(of_upstream(client, "foo"))
            return client.get("/simple/foo/", 404).text

    shown: list[Project] = []
    first = said()
    database = tmp_path / "cache" / "policies.sqlite3"
    seen_long_ago(database, shown[0])
    with served(tmp_path, f'{text}cooldown = "7d"\n') as client:
        assert listed(client, "foo") == ["foo-1.0-py3-none-any.whl"]
    for path in database.parent.glob("policies.sqlite3*"):
        path.unlink()
    assert "first seen" in first and said()[:60] == first[:60]


@pytest.mark.parametrize("rule", ['licences = ["MIT"]', 'cooldown = "7d"'])
def test_what_one_upstream_says_or_had_first_counts_for_no_file_of_another(
    rule: str, tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    with faulty.upstream() as other:
        facts: dict[str, Any] = {"upload_time": None}
        name = put(upstream, tmp_path / "made", "foo", "1.0", "License-Expression: GPL-3.0-only", **facts)
        wheel = tmp_path / "made" / name
        claimed = {"hashes": {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}, **facts}
        data = metadata("foo", "1.0", "License-Expression: MIT")
        other.add("foo", name, b"x" * wheel.stat().st_size, metadata=data, **claimed)
        text = f"""
            [upstream.good]
            url = "{upstream.url}"
            [upstream.bad]
            url = "{other.url}"
            [index.prod]
            upstreams = ["good"]
            [index.prod.policy]
            {rule}
            [index.play]
            upstreams = ["bad"]
            [index.play.policy]
            {rule}
            """
        with served(tmp_path, text) as client:
            client.get("/play/simple/foo/", None)
            shown = of_upstream(client, "foo", "play")
        seen_long_ago(tmp_path / "cache" / "policies.sqlite3", shown)
        with served(tmp_path, text) as client:
            assert listed(client, "foo", "/play/") == [name]
            client.get("/prod/simple/foo/", 404)
            client.get(f"/prod/packages/foo/{name}", 404)


@pytest.mark.parametrize("kind", ["own", "based", "cache", "proxy", "merged"])
def test_only_allowed_licences_are_shown(kind: str, tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    said = {"1.0": "License-Expression: MIT", "2.0": "License-Expression: GPL-3.0-only", "3.0": "Summary: nothing"}
    for version, line in said.items():
        have(tmp_path / "packages", "foo", version, line)
        put(upstream, tmp_path / "made", "foo", version, line)
    (tmp_path / "elsewhere").mkdir()
    with served(tmp_path, f'{ARRANGEMENTS[kind].format(url=upstream.url)}licences = ["MIT"]\n') as client:
        assert listed(client, "foo") == ["foo-1.0-py3-none-any.whl"]
        text = client.get("/packages/foo/foo-2.0-py3-none-any.whl", 404).text
        assert "hidden here by licences: its licence, GPL-3.0-only, is not among those allowed" in text
        assert "does not say" in client.get("/packages/foo/foo-3.0-py3-none-any.whl", 404).text
    upstream.requests.clear()
    with served(tmp_path, f'{ARRANGEMENTS[kind].format(url=upstream.url)}licences = ["MIT"]\n') as client:
        assert listed(client, "foo") == ["foo-1.0-py3-none-any.whl"]
    assert not [path for path in upstream.paths() if path.endswith(".metadata")]


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_without_digests_a_licence_counts_for_the_very_file_alone(make: Any, tmp_path: Path) -> None:
    text = f'hash_algo = "no"\n{OWN}licences = ["MIT"]\n[index.other]\npackages = ["other"]\n'
    text += '[index.other.policy]\nlicences = ["MIT"]\n'
    names = ("MIT", *(f"{first}SL" for first in string.ascii_uppercase))
    one, *others = (have(tmp_path / name, "foo", "1.0", f"License: {name}", make=make) for name in names)
    two = next(other for other in others if other.stat().st_size == one.stat().st_size)
    for name in ("packages", "other"):
        (tmp_path / name).mkdir()
    here, there = tmp_path / "packages" / one.name, tmp_path / "other" / one.name
    shutil.copy2(one, here)
    with served(tmp_path, text) as client:
        assert listed(client, "foo") == [one.name]
        shutil.copy2(two, there)
        listed(client, "foo", "/other/", 404)
        two.replace(here)
        deadline = time.monotonic() + 60  # a file that is written to is looked at once a second
        while client.get("/simple/foo/", None).status == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        listed(client, "foo", status=404)
    with served(tmp_path, text) as client:
        listed(client, "foo", status=404)
        listed(client, "foo", "/other/", 404)


def test_a_dependency_that_is_hidden_has_no_link(tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    have(tmp_path / "packages", "foo", "1.0", "Requires-Dist: good-lib", "Requires-Dist: bad-lib")
    text = f'packages = ["packages"]\n{ARRANGEMENTS["cache"].format(url=upstream.url)}deny = ["bad-*"]\n'
    with served(tmp_path, text) as client:
        page = client.get("/project/foo/").text
        assert "project/good-lib/" in page and "bad-lib" in page and "project/bad-lib/" not in page


def test_a_licence_that_is_not_known_yet_hides_and_the_newest_is_found_first(
    tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    for version in ("1.0", "2.0", "3.0"):
        put(upstream, tmp_path / "made", "foo", version, "License-Expression: MIT")
    upstream.fault("/files/foo-1.0-py3-none-any.whl.metadata", faulty.hang(4))
    with served(tmp_path, f'{ARRANGEMENTS["proxy"].format(url=upstream.url)}licences = ["MIT"]\n') as client:
        assert listed(client, "foo") == ["foo-2.0-py3-none-any.whl", "foo-3.0-py3-none-any.whl"]
        answer = client.get("/packages/foo/foo-1.0-py3-none-any.whl", 503)
        assert "not known yet" in answer.text and answer.headers["Retry-After"] == "2"
        upstream.heal()
        deadline = time.monotonic() + 60
        while len(listed(client, "foo")) < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(listed(client, "foo")) == 3


@pytest.mark.parametrize("rule", ["", '[index.dev]\nbases = ["/"]\n[index.dev.policy]\ndeny = ["foo>1"]\n'])
def test_what_is_hidden_only_while_its_licence_cannot_be_read_is_no_404_and_comes_back_soon(
    rule: str, tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    for version in ("1.0", "2.0"):
        put(upstream, tmp_path / "made", "foo", version, "License-Expression: MIT")
        upstream.fault(f"/files/foo-{version}-py3-none-any.whl.metadata", faulty.status(503))
    root, shown = ("/dev/", 1) if rule else ("/", 2)
    text = f'{ARRANGEMENTS["cache"].format(url=upstream.url)}licences = ["MIT"]\nsize = "1MB"\n{rule}'
    with served(tmp_path, text) as client:
        for path in ("simple/foo/", "project/foo/", "packages/foo/foo-1.0-py3-none-any.whl"):
            assert "licences: its licence is not known yet" in client.get(root + path, 503).text
        upstream.heal()
        deadline = time.monotonic() + 60
        while client.get(f"{root}simple/foo/", None).status == 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        while len(listed(client, "foo", root)) < shown and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(listed(client, "foo", root)) == shown


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=pytest.mark.clients)])
def test_a_resolver_that_meets_a_cooldown_finds_an_older_version(
    tool: str, tmp_path: Path, upstream: faulty.FaultyUpstream, shell: live.Shell
) -> None:
    yesterday = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - DAY))
    put(upstream, tmp_path / "made", "needy", "1.0", "Requires-Dist: lib>=1")
    put(upstream, tmp_path / "made", "lib", "1.0")
    put(upstream, tmp_path / "made", "lib", "1.1", upload_time=yesterday)
    put(upstream, tmp_path / "made", "needy", "2.0", "Requires-Dist: lib>=1.1", upload_time=yesterday)
    text = ARRANGEMENTS["cache"].format(url=upstream.url)
    with served(tmp_path, f'{text}cooldown = "7d"\n') as client, live.in_thread(client.application) as server:
        target = tmp_path / "target"
        if tool == "pip":
            shell.pip("install", "--no-cache-dir", "--target", target, "--index-url", server.simple, "needy").good()
        else:
            options = ["--no-cache", "--target", str(target), "--default-index", server.simple]
            shell.uv("pip", "install", *options, "needy").good()
        assert live.installed(target) == {"needy": "1.0", "lib": "1.0"}
        refused = shell.pip("download", "--no-cache-dir", "--index-url", server.simple, "lib==1.1").bad()
        assert "1.0" in refused


def test_lists_of_files_follow_the_clock(tmp_path: Path) -> None:
    have(tmp_path / "packages", "foo", "0.9")
    have(tmp_path / "packages", "foo", "1.0", age=7 * DAY - 4)
    with served(tmp_path, OWN):
        pass  # which leaves its record of names
    os.utime(tmp_path / "packages", (time.time() - DAY,) * 2)  # or its own second would tick
    with served(tmp_path, f'{OWN}cooldown = "7d"\n') as client:
        assert "foo-1.0" not in client.get("/packages/").text
        assert "foo-0.9" in client.get("/packages/").text
        deadline = time.monotonic() + 30
        while "foo-1.0" not in client.get("/packages/").text and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "foo-1.0" in client.get("/packages/").text
        assert len(listed(client, "foo")) == 2


def test_a_project_without_a_file_that_is_shown_is_in_no_list_until_the_clock_shows_one(tmp_path: Path) -> None:
    have(tmp_path / "packages", "old-one", "1.0")
    have(tmp_path / "packages", "new-one", "1.0", age=1)
    have(tmp_path / "packages", "soon-one", "1.0", age=7 * DAY - 4)
    with served(tmp_path, f'{OWN}cooldown = "7d"\n') as client:

        def names() -> list[str]:
            return [project["name"] for project in client.get("/simple/", Accept=JSON).json["projects"]]

        assert names()[0] == "old-one" and "new-one" not in names()
        assert "new-one" not in client.get("/search?q=one").text
        assert "new-one" not in called(client, "list_packages")
        deadline = time.monotonic() + 60
        while names() != ["old-one", "soon-one"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert names() == ["old-one", "soon-one"]
        index = client.application.app("/").site.index
        assert index.names() is index.names()
        # An upload that is old enough is in the list at once.
        have(tmp_path / "packages", "new-one", "0.9")
        assert names() == ["new-one", "old-one", "soon-one"]


def test_a_governed_page_is_kept_and_the_same(tmp_path: Path) -> None:
    have(tmp_path / "packages", "foo", "1.0")
    have(tmp_path / "packages", "foo", "2.0", age=1)
    with served(tmp_path, f'{OWN}cooldown = "7d"\n') as client:
        answer = client.get("/simple/foo/", Accept=JSON)
        client.get("/simple/foo/", 304, Accept=JSON, If_None_Match=answer.headers["ETag"])
        app = client.application.app("/")
        first = app.site.index.project(NormalizedName("foo"))
        assert app.site.index.project(NormalizedName("foo")) is first
        assert json.loads(answer.body)["versions"] == ["1.0"]


def test_an_exemption_lets_a_denied_name_be_asked_for(tmp_path: Path, upstream: faulty.FaultyUpstream) -> None:
    for version in ("1.0", "2.0"):
        put(upstream, tmp_path / "made", "bad", version)
    rules = 'deny = ["bad"]\nallow = ["good"]\nexempt = ["bad==1.0 until {day}"]\n'
    text = ARRANGEMENTS["cache"].format(url=upstream.url)
    with served(tmp_path, text + rules.format(day=time.strftime("%Y-%m-%d", time.gmtime()))) as client:
        assert listed(client, "bad") == ["bad-1.0-py3-none-any.whl"]
        client.get("/packages/bad/bad-1.0-py3-none-any.whl")
        client.get("/packages/bad/bad-2.0-py3-none-any.whl", 404)
    upstream.requests.clear()
    with served(tmp_path, text + rules.format(day="2020-01-01")) as client:
        listed(client, "bad", status=404)
        client.get("/packages/bad/bad-1.0-py3-none-any.whl", 404)
    assert upstream.paths() == []


def test_search_says_nothing_of_files_that_are_hidden(tmp_path: Path) -> None:
    have(tmp_path / "packages", "foo", "1.0", "Summary: Plain words")
    have(tmp_path / "packages", "foo", "2.0", "Summary: Secret plans", age=1)
    have(tmp_path / "packages", "bar", "1.0", "Summary: All of it secret", age=1)
    with served(tmp_path, f'{OWN}cooldown = "7d"\n') as client:
        for name in ("foo", "bar"):
            client.get(f"/simple/{name}/", None)
        deadline = time.monotonic() + 60
        while "Plain words" not in client.get("/search?q=foo").text and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "Plain words" in client.get("/search?q=foo").text
        assert "project/foo/" not in client.get("/search?q=secret").text
        assert "project/bar/" not in client.get("/search?q=bar").text
        assert "project/foo/2.0" not in client.get("/").text and "project/bar/" not in client.get("/").text
        assert [hit["name"] for hit in called(client, "search", {"summary": "a"}, "or")] == ["foo"]


def test_the_policy_of_the_readme_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.rst").read_text("utf-8")
    block = re.search(r"\n    \[policy\]\n(    .+\n)+", readme)
    assert block is not None
    have(tmp_path / "packages", "numpy", "1.0", age=1000 * DAY)
    with served(tmp_path, f'packages = ["packages"]\n{block[0]}') as client:
        assert "licences: it does not say which licence it has" in client.get("/simple/numpy/", 404).text

"""What mirrors and update services read: PyPI's JSON, XML-RPC, and serials that only grow."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import forms
import live
import pytest
from builders import make_sdist, make_wheel
from wsgi_client import Client

import pypiserver_lite
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder

JSON = "application/vnd.pypi.simple.v1+json"
MOMENT = datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=timezone.utc)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    about = ("Summary: Does things", "Requires-Python: >=3.9", "Project-URL: Source, https://code.example.test/ours")
    made = [
        make_wheel(folder, "Ours.Thing", "1.0", *about),
        make_wheel(folder, "Ours.Thing", "1.0", *about, tags="cp311-cp311-linux_x86_64"),
        make_sdist(folder, "Ours.Thing", "1.0", *about),
        make_wheel(folder, "Ours.Thing", "2.0", *about),
        make_wheel(folder, "other", "1.0"),
    ]
    (folder / "ours_thing-1.0-py3.11.egg").write_bytes(b"an egg")
    (folder / f"{made[3].name}.yanked").write_text("broken")
    for path in made:
        os.utime(path, (MOMENT.timestamp(), MOMENT.timestamp()))
    return folder


@pytest.fixture
def client(packages: Path, tmp_path: Path) -> Iterator[Client]:
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path / "cache", passwords=".", authenticate=".")
    yield Client(app)
    app.close()


# -- PyPI's JSON ------------------------------------------------------------------------------------------------------


def test_the_json_has_what_update_services_read(client: Client, packages: Path) -> None:
    for path in ("/pypi/ours-thing/json", "/ours-thing/json", "/pypi/ours-thing/1.0/json"):
        answer = client.get(path, Host="index.example.test:8443")
        facts, root = answer.json, "http://index.example.test:8443/"
        assert facts["last_serial"] == int(answer.headers["X-PyPI-Last-Serial"])
        info = facts["info"]
        assert (info["name"], info["version"], info["requires_python"]) == ("Ours.Thing", "1.0", ">=3.9")
        assert info["project_urls"] == {"Source": "https://code.example.test/ours"}
        assert info["package_url"] == info["project_url"] == f"{root}project/ours-thing/"
        assert info["release_url"] == f"{root}project/ours-thing/1.0/"
        # Dependabot looks for these, and takes null for an answer.
        assert {"home_page", "bugtrack_url", "download_url", "docs_url", "description"} <= info.keys()
        kinds = {file["filename"]: (file["packagetype"], file["python_version"]) for file in facts["urls"]}
        assert kinds == {
            "ours_thing-1.0-py3-none-any.whl": ("bdist_wheel", "py3"),
            "ours_thing-1.0-cp311-cp311-linux_x86_64.whl": ("bdist_wheel", "cp311"),
            "ours_thing-1.0.tar.gz": ("sdist", "source"),
            "ours_thing-1.0-py3.11.egg": ("bdist_egg", "3.11"),
        }
        for file in facts["urls"]:
            data = (packages / file["filename"]).read_bytes()
            assert file["url"] == f"{root}packages/{file['filename']}"
            assert file["digests"]["sha256"] == hashlib.sha256(data).hexdigest()
            assert file["md5_digest"] == file["digests"]["md5"] == hashlib.md5(data).hexdigest()
            if not file["filename"].endswith(".egg"):
                assert file["upload_time"] == "2024-02-29T12:30:15"
                assert file["upload_time_iso_8601"] == "2024-02-29T12:30:15.250000Z"
                assert file["requires_python"] == ">=3.9" and file["yanked"] is False
    (yanked,) = client.get("/pypi/ours-thing/json").json["releases"]["2.0"]
    assert (yanked["yanked"], yanked["yanked_reason"]) == (True, "broken")


def test_addresses_follow_the_asker_and_each_page_is_kept_once(client: Client) -> None:
    seen = []
    for host in ("a.test", "b.test", "a.test", "a.test"):
        answer = client.get("/pypi/other/json", Host=host)
        assert answer.json["urls"][0]["url"] == f"http://{host}/packages/other-1.0-py3-none-any.whl"
        seen.append(client.application._pages.weight)
    assert len(set(seen)) == 1
    odd = client.get("/pypi/other/json", Host='evil"<x>/')
    assert "evil" not in odd.text


def test_no_page_shows_md5_and_facts_without_it_are_good(client: Client, packages: Path, tmp_path: Path) -> None:
    for file in client.get("/simple/ours-thing/", Accept=JSON).json["files"]:
        assert list(file["hashes"]) == ["sha256"]
    # Facts of before there were any md5 digests; no file is read again for them.
    path = packages / "other-1.0-py3-none-any.whl"
    memory = Memory(tmp_path / "old.sqlite3")
    folder = Folder([packages], memory)
    project = folder.project("other")  # type: ignore[arg-type]
    assert project is not None and project.files[0].md5 is not None
    (key,) = memory.get([folder._projects.look((str(packages), path.name))])  # type: ignore[list-item]
    facts = memory.get([key])[key]
    memory.put({key: type(facts)({"sha256": "0" * 64}, *[getattr(facts, name) for name in facts.__slots__[1:]])})
    folder.close()
    folder = Folder([packages], Memory(tmp_path / "old.sqlite3"))
    project = folder.project("other")  # type: ignore[arg-type]
    assert project is not None and project.files[0].hashes == {"sha256": "0" * 64} and project.files[0].md5 is None
    folder.close()


# -- XML-RPC ----------------------------------------------------------------------------------------------------------


def test_xml_rpc_tells_sizes_that_its_whole_numbers_cannot_hold(packages: Path) -> None:
    file = {"filename": "big-1.0.tar.gz", "url": "big-1.0.tar.gz", "hashes": {"sha256": "0" * 64}, "size": 3 * 10**9}
    page = {"meta": {"api-version": "1.1"}, "name": "big", "versions": ["1.0"], "files": [file]}
    with (
        faulty.upstream() as upstream,
        live.serve(packages=[packages], fallback_url=upstream.url, fallback_mode="proxy") as server,
        xmlrpc.client.ServerProxy(f"{server.url}pypi", allow_none=True) as index,
    ):
        upstream.fault("/simple/big/", faulty.page(json.dumps(page).encode()))
        urls: Any = index.release_urls("big", "1.0")
        assert [url["size"] for url in urls] == [3e9]


@pytest.mark.parametrize("path", ["RPC2", "pypi", "pypi/"])
def test_xml_rpc_answers_a_real_client(packages: Path, path: str) -> None:
    with (
        live.serve(packages=[packages]) as server,
        xmlrpc.client.ServerProxy(f"{server.url}{path}", allow_none=True) as index,
    ):
        assert index.list_packages() == ["other", "ours-thing"]
        serials: Any = index.list_packages_with_serial()
        last: Any = index.changelog_last_serial()
        assert serials == {"other": last, "ours-thing": last} and 0 < last < 2**31
        changes: Any = index.changelog_since_serial(last - 10)
        assert [(change[0], change[4]) for change in changes] == [("other", last), ("ours-thing", last)]
        assert abs(changes[0][2] - time.time()) < 3600
        assert index.changelog_since_serial(last + 10) == []
        assert index.package_releases("Ours.Thing") == index.package_releases("ours_thing", True) == ["2.0", "1.0"]
        assert index.package_releases("nobody") == index.package_releases("-") == []
        urls: Any = index.release_urls("Ours.Thing", "1.0.0")
        assert {url["packagetype"] for url in urls} == {"bdist_wheel", "bdist_egg", "sdist"}
        assert all(url["url"].startswith(f"{server.url}packages/ours_thing-1.0") for url in urls)
        assert index.release_urls("ours-thing", "9") == [] and index.release_data("nobody", "1") == {}
        data: Any = index.release_data("ours-thing", "1.0")
        assert (data["name"], data["summary"], data["home_page"]) == ("Ours.Thing", "Does things", None)
        for call in (index.package_releases, index.release_urls, index.search):
            with pytest.raises(xmlrpc.client.Fault):
                call()
        with pytest.raises(xmlrpc.client.Fault, match="parameters"):
            index.changelog_since_serial("now")
        with pytest.raises(xmlrpc.client.Fault, match="release_data"):
            index.update()


def test_xml_rpc_search_looks_in_the_catalogue_for_at_most_eight_words(client: Client, packages: Path) -> None:
    for number in range(12):
        make_wheel(packages, f"word{number}", "1.0", f"Summary: Number {number}")

    def search(*parameters: Any) -> list[str]:
        body = xmlrpc.client.dumps(parameters, "search").encode()
        (hits,), _ = xmlrpc.client.loads(client.post("/pypi", body, "text/xml").body)
        return [hit["name"] for hit in hits]  # type: ignore[index,union-attr,call-overload]

    client.get("/simple/ours-thing/")
    assert search({"name": "thing"}) == search("thing") == ["ours-thing"]
    words = [f"word{number}" for number in range(12)]
    assert search({"name": words, "summary": words}, "or") == [*words[:2], "word10", "word11", *words[2:8]]
    assert search({"name": ["thing", "word1"]}) == []
    assert search({"name": ["other", "word2"]}, "or") == ["other", "word2"]
    assert search({}) == search("") == search({"name": []}, "or") == []


def test_looking_where_one_calls_says_how(client: Client) -> None:
    answer = client.get("/RPC2", 405)
    assert answer.headers["Allow"] == "POST" and "XML-RPC" in answer.text
    assert client.get("/pypi", 302).headers["Location"] == "simple/pypi/"


# -- serials ----------------------------------------------------------------------------------------------------------


def serial(client: Client, path: str = "/simple/") -> int:
    """What a page says, in its header."""
    return int(client.get(path, Accept=JSON).headers["X-PyPI-Last-Serial"])


def test_a_serial_grows_with_every_change_and_is_the_same_everywhere(packages: Path, tmp_path: Path) -> None:
    now = time.time() + 10
    folders = [Folder([packages], Memory(None)) for _ in range(2)]
    subfolder = packages / "sub"

    def grown(before: int) -> int:
        nonlocal now
        while time.time() < now - 8.9:  # a second has passed since the last change
            time.sleep(0.05)
        now = time.time() + 10
        after = {folder.state(now).serial for folder in (*folders, Folder([packages], Memory(None)))}
        assert len(after) == 1, "processes that began earlier and later say the same"
        assert after.pop() > before
        return folders[0].state(now).serial

    last = grown(0)
    assert folders[0].state(now) is folders[0].state(now)
    (packages / "ours_thing-2.0-py3-none-any.whl").unlink()
    last = grown(last)
    subfolder.mkdir()
    shutil.copy2(packages / "other-1.0-py3-none-any.whl", subfolder / "other-2.0-py3-none-any.whl")
    last = grown(last)
    shutil.rmtree(subfolder)
    last = grown(last)
    folders[0].remove("other", "1.0")  # type: ignore[arg-type]
    grown(last)
    for folder in folders:
        folder.close()


def test_who_reads_within_the_second_of_a_change_reads_again(packages: Path) -> None:
    folder = Folder([packages], Memory(None))
    began = time.time()
    during = folder.state(began)
    assert folder.state(began + 1).serial == during.serial
    after = folder.state(began + 10)
    assert after.serial == during.serial + 1 and after is not during
    assert folder.state(began + 100) is after
    # A change within the same second, too late for whoever read `during`.
    make_wheel(packages, "ours-thing", "3.0")
    assert folder.project("ours-thing") is not None  # type: ignore[arg-type]
    assert folder.state(began + 200).serial > during.serial


def test_our_own_change_is_another_state_before_the_folder_is_looked_at_again(packages: Path) -> None:
    folder = Folder([packages], Memory(None))
    before = folder.state()
    folder.remove("other", "1.0")  # type: ignore[arg-type]
    assert folder._snapshot.serial.state(0) is not before
    folder.close()


def test_pages_say_the_serial_that_mirrors_ask_for(client: Client) -> None:
    listed = client.get("/simple/", Accept=JSON)
    last = listed.json["meta"]["_last-serial"]
    assert listed.json["projects"] == [{"name": name, "_last-serial": last} for name in ("other", "ours-thing")]
    # A page that says less than the list is stale to bandersnatch.
    for path in ("/simple/", "/simple/ours-thing/", "/pypi/ours-thing/json", "/pypi/ours-thing/1.0/json"):
        for _ in range(2):
            assert serial(client, path) >= last
    upload = forms.upload(forms.wheel("ours-thing", "4.0"), "ours_thing-4.0-py3-none-any.whl")
    tag = client.get("/simple/other/").headers["ETag"]
    client.post("/", upload, forms.TYPE)
    assert serial(client, "/simple/ours-thing/") >= serial(client, "/simple/other/") >= last
    # Whoever knows another project's page need not read it again.
    assert "X-PyPI-Last-Serial" in client.get("/simple/other/", 304, If_None_Match=tag).headers

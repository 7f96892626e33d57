"""PyPI's JSON, as Renovate, Dependabot and poetry read it."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

from mirrored import JSON, MOMENT, mirrored_packages, mirroring_client  # noqa: F401 - fixtures
from wsgi_client import Client

from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.model import FileState


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
    tracemalloc.start()
    try:
        for number in range(1500):
            host = f"{'a' * 200}{number % 1000}.test"
            answer = client.get("/pypi/other/json", Host=host)
            assert answer.json["urls"][0]["url"] == f"http://{host}/packages/other-1.0-py3-none-any.whl"
            if number == 500:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 500_000, "a page for each of a thousand hosts would be two megabytes"
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
    key = FileState.of(str(path), path.stat())
    facts = memory.get([key])[key]
    memory.put({key: type(facts)({"sha256": "0" * 64}, *[getattr(facts, name) for name in facts.__slots__[1:]])})
    folder.close()
    folder = Folder([packages], Memory(tmp_path / "old.sqlite3"))
    project = folder.project("other")  # type: ignore[arg-type]
    assert project is not None and project.files[0].hashes == {"sha256": "0" * 64} and project.files[0].md5 is None
    folder.close()

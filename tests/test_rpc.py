"""PyPI's XML-RPC, as mirrors and old clients call it."""

from __future__ import annotations

import json
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_wheel
from mirrored import mirrored_packages, mirroring_client  # noqa: F401 - fixtures
from wsgi_client import Client


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


def test_no_reason_of_a_yank_makes_an_answer_that_is_no_xml(packages: Path) -> None:
    wheel = make_wheel(packages, "acme")
    Path(f"{wheel}.yanked").write_text("bad\x1b[2J \x07reason")
    with (
        live.serve(packages=[packages]) as server,
        xmlrpc.client.ServerProxy(f"{server.url}pypi", allow_none=True) as index,
    ):
        urls: Any = index.release_urls("acme", "1.0")
        assert [url["yanked_reason"] for url in urls] == ["bad[2J reason"]
        data: Any = index.release_data("acme", "1.0")
        assert data["yanked_reason"] == "bad[2J reason"


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

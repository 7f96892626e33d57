"""Pages of other indexes, whatever they look like."""

from __future__ import annotations

import contextlib
import json
import re
import time
import tracemalloc
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offers import BASE, FOO, HTML, JSON, SHA

from pypiserver_lite.errors import Unavailable
from pypiserver_lite.model import File, Project
from pypiserver_lite.simple import render
from pypiserver_lite.simple.negotiate import Form
from pypiserver_lite.simple.parse import parse_project


def read_html(body: str, content_type: str = "text/html", base: str = BASE) -> Project:
    return parse_project(body.encode(), content_type, base, FOO)


def read_json(page: object) -> Project:
    return parse_project(json.dumps(page).encode(), JSON.value, BASE, FOO)


def test_a_flat_page_of_a_plain_web_server_is_understood() -> None:
    page = read_html(
        "<html><head><title>Index of /files/</title></head><body><h1>Index</h1><pre><a href='?C=N;O=D'>Name</a>"
        "<a href='../'>../</a> <A HREF=foo-1.0.tar.gz>foo-1.0.tar.gz</A> 21-Nov <a href='bar-1.0.tar.gz'>bar</a>"
        "<a href='Foo-2.0-py3-none-any.whl'>shortened..&gt;</a><a href=foo-1.0.tar.gz>again</a><a name=x>foo</a>"
        "<a href='foo-variants.json'>x</a><a href='foo-1.0.tar.gz.asc'>x</a>",
        base="http://up.test/files/",
    )
    assert [(file.filename, file.version, file.url) for file in page.files] == [
        ("foo-1.0.tar.gz", "1.0", "http://up.test/files/foo-1.0.tar.gz"),
        ("Foo-2.0-py3-none-any.whl", "2.0", "http://up.test/files/Foo-2.0-py3-none-any.whl"),
    ]
    assert page.versions == ("1.0", "2.0")


def test_old_and_odd_attributes_are_understood() -> None:
    page = read_html(
        f"""<base href="//cdn.test/x/">
        <a href=" foo-2.tar.gz#egg=foo-2&MD5={"AB" * 16}" data-dist-info-metadata="sha256={SHA}">
        </a><a href="/p/foo-1%21%2B.tar.gz" data-yanked>..</a><a href="foo-1%2B0.zip#sha256=short" data-gpg-sig=TRUE
        data-requires-python="&gt;=3, <4" data-core-metadata=true data-yanked="a&#10;b&#7;"></a>
        <a href="foo-3-py3-none-any.whl#sha256={SHA}" data-core-metadata=false data-dist-info-metadata=true></a>""",
        base="https://up.test/simple/foo/",
    )
    url = "https://cdn.test/p/foo-1%21%2B.tar.gz"
    assert page.files[0] == File(filename="foo-1!+.tar.gz", project=FOO, version="1!+", yanked="", url=url)
    zipped, sdist, wheel = page.files[1:]
    assert (zipped.hashes, zipped.has_signature, zipped.requires_python) == ({}, True, ">=3, <4")
    assert (zipped.core_metadata, zipped.yanked, zipped.version) == ({}, "a b", "1+0")
    assert (sdist.hashes, sdist.core_metadata) == ({"md5": "ab" * 16}, {"sha256": SHA})
    assert sdist.url == "https://cdn.test/x/foo-2.tar.gz"
    assert (wheel.hashes, wheel.core_metadata) == ({"sha256": SHA}, None)


LINKS_NOWHERE = [
    "ftp://up.test/foo-1.0.tar.gz",
    "file:///foo-1.0.tar.gz",
    "javascript:foo-1.0.tar.gz",
    "http://user:secret@up.test/foo-1.0.tar.gz",
    "http://user@up.test/foo-1.0.tar.gz",
    "http://[::1/foo-1.0.tar.gz",
    "http://up.test:x/foo-1.0.tar.gz",
    "http://up.test:99999/foo-1.0.tar.gz",
    "http://up.test/a\r\nX: y/foo-1.0.tar.gz",
    "http://up.test/a\0/foo-1.0.tar.gz",
    "http://up.test/\u202e/foo-1.0.tar.gz",
    "http://up.test/" + "a" * 10_000 + "/foo-1.0.tar.gz",
    "",
]


@pytest.mark.parametrize("link", LINKS_NOWHERE, ids=lambda link: ascii(link)[:40])
def test_links_that_we_would_not_follow_are_passed_over(link: str) -> None:
    entry = {"filename": "foo-1.0.tar.gz", "url": link, "hashes": {}}
    good = entry | {"filename": "foo-2.0.tar.gz", "url": "foo-2.0.tar.gz"}
    page = {"meta": {"api-version": "1.0"}, "name": "Foo", "files": [entry, good]}
    assert [file.filename for file in read_json(page).files] == ["foo-2.0.tar.gz"]
    found = read_html(f'<a href="{link}">foo-1.0.tar.gz</a><a href="foo-2.0.tar.gz"></a>')
    assert [file.filename for file in found.files] == ["foo-2.0.tar.gz"]


def test_a_link_is_made_fit_for_a_request() -> None:
    (file,) = read_html('<a href="a b/é/foo-1.0.tar.gz?x=&quot;y#z">').files
    assert file.url == BASE + "a%20b/%C3%A9/foo-1.0.tar.gz?x=%22y"


def test_values_of_the_wrong_type_are_dropped_and_the_rest_stays() -> None:
    odd: list[Any] = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "",
        "x\ny",
        [],
        {},
        {"sha256": 5},
        {"sha256": "zz" * 32},
        {"": SHA},
        "ab" * 9_999,
    ]
    entry = {"filename": "foo-1.0.tar.gz", "url": "foo-1.0.tar.gz"}
    keys = [
        "hashes",
        "size",
        "requires-python",
        "upload-time",
        "core-metadata",
        "gpg-sig",
        "provenance",
        "dist-info-metadata",
    ]
    for value in odd:
        (file,) = read_json({"meta": {"api-version": "1.9"}, "files": [entry | dict.fromkeys(keys, value)]}).files
        assert file.hashes == {} and not file.core_metadata and file.provenance is None and file.uploaded is None
        assert file.size is None or file.size >= 0
        assert (file.requires_python or "").isprintable()
    for filename in (
        *odd,
        "foo-variants.json",
        "foo.tar.gz",
        "bar-1.0.tar.gz",
        "../foo-1.0.tar.gz",
        "foo-1.0\r\n.tar.gz",
    ):
        for bad in (entry | {"filename": filename}, filename):
            assert read_json({"meta": {"api-version": "1.0"}, "files": [bad]}).files == ()


def test_hashes_are_checked_and_sha256_comes_first() -> None:
    hashes = {"MD5": "AB" * 16, "SHA256": SHA.upper(), "sha512": SHA, "sha1": "x", "a b": SHA, "new-hash": "ab" * 20}
    page = {"meta": {"api-version": "1.0"}, "files": [{"filename": "foo-1.zip", "url": "foo-1.zip", "hashes": hashes}]}
    assert list(read_json(page).files[0].hashes.items()) == [
        ("sha256", SHA),
        ("md5", "ab" * 16),
        ("new-hash", "ab" * 20),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T09:08:07Z", (2026, 11, 21, 9, 8, 7, 0)),
        ("2026-11-21T09:08:07.5Z", (2026, 11, 21, 9, 8, 7, 500_000)),
        ("2026-11-21T09:08:07.123456789+02:00", (2026, 11, 21, 7, 8, 7, 123_456)),
        ("2026-11-21 09:08:07-0130", (2026, 11, 21, 10, 38, 7, 0)),
    ],
)
def test_upload_times_are_read_in_the_forms_of_the_wild(text: str, expected: tuple[int, ...]) -> None:
    page = {"meta": {"api-version": "1.1"}, "files": [{"filename": "foo-1.zip", "url": "x", "upload-time": text}]}
    assert read_json(page).files[0].uploaded == datetime(*expected, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    "text", ["2026-11-21", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00", "٢" * 20]
)
def test_other_times_are_unknown(text: str) -> None:
    page = {"meta": {"api-version": "1.1"}, "files": [{"filename": "foo-1.zip", "url": "x", "upload-time": text}]}
    assert read_json(page).files[0].uploaded is None


def test_status_of_a_kind_we_do_not_know_is_no_status() -> None:
    markers: list[object] = [{"status": "new"}, {"status": []}, "archived", None, {}]
    for marker in markers:
        page = read_json({"meta": {"api-version": "1.4"}, "files": [], "project-status": marker})
        assert (page.status, page.reason) == ("active", None)
    page = read_json(
        {"meta": {"api-version": "1.4"}, "files": [], "project-status": {"status": "archived", "reason": "a\r\nb\0"}}
    )
    assert (page.status, page.reason) == ("archived", "a b")


META = {"meta": {"api-version": "1.0"}}


NOT_OURS = [
    (b"", "text/html"),
    (b"<h1>Welcome to Hotel Wi-Fi</h1><a href='/login'>Log in</a>", "text/html"),
    (b"<title>Log in</title><form action=x>", "text/html; charset=utf-8"),
    (b"<meta name='pypi:repository-version' content='2.0'><a href='foo-1.0.zip'>", "text/html"),
    (b"<meta name='pypi:repository-version' content='x'>", HTML.value),
    (b"<a href='foo-1.0.zip'></a><a href='foo-2.0", "text/html"),
    (b"<a href='foo-1.0.zip'></a>", "text/plain"),
    (b"<a href='foo-1.0.zip'></a>", ""),
    (b"{}", "application/json"),
    (b"", JSON.value),
    (b"null", JSON.value),
    (b"[]", JSON.value),
    (b'{"files": []}', JSON.value),
    (b'{"meta": [], "files": []}', JSON.value),
    (b'{"meta": {"api-version": 1.0}, "files": []}', JSON.value),
    (b'{"meta": {"api-version": "2.0"}, "files": []}', JSON.value),
    (b'{"meta": {"api-version": "1"}, "files": []}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": {}}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": [], "name": "bar"}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": [], "name": 1}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": [\xff]}', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": [', JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": ' + b"[" * 200_000, JSON.value),
    (b'{"meta": {"api-version": "1.0"}, "files": [' + b"1" * 10_000 + b"]}", JSON.value),
    (b"<" * 2_000_000, HTML.value),
    (b"<!--" * 500_000, HTML.value),
    (b"<![CDATA[" * 200_000, HTML.value),
    (b"<a href='" * 200_000 + b"x", HTML.value),
    (b"<a " + b"a='" * 300_000, HTML.value),
    (b"<script>" + b"</s" * 300_000, HTML.value),
    ((b"<a href=foo-1.zip " + b"a " * 50_000 + b">") * 25, HTML.value),
]


@pytest.mark.parametrize(("data", "content_type"), NOT_OURS, ids=lambda value: ascii(value)[:50])
def test_what_is_not_a_page_is_not_taken_for_an_empty_one(data: bytes, content_type: str) -> None:
    started = time.process_time()
    with pytest.raises(Unavailable):
        parse_project(data, content_type, BASE, FOO)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("form", ["escaped", "JSON", "HTML"])
def test_a_page_of_more_files_than_any_project_has_is_refused(form: str) -> None:
    names = [f"foo-{number}.zip" for number in range(100_001)]
    if form == "HTML":
        data, kind = "".join(f"<a href={name}></a>" for name in names).encode(), HTML.value
    else:
        text = json.dumps(
            {"meta": {"api-version": "1.0"}, "files": [{"filename": name, "url": name} for name in names]}
        )
        data, kind = text.replace('"file', '"\\u0066ile' if form == "escaped" else '"file').encode(), JSON.value
    with pytest.raises(Unavailable, match="too many files"):
        parse_project(data, kind, BASE, FOO)


_HEAD = b'{"meta": {"api-version": "1.0"}, "files": ['


BOMBS = {
    "dictionaries": (_HEAD + b",".join([b'{"a":1}'] * 1_500_000) + b"]}", JSON.value),
    "lists": (_HEAD + b",".join([b"[]"] * 4_000_000) + b"]}", JSON.value),
    "texts": (_HEAD + b",".join([b'"ab"'] * 3_000_000) + b"]}", JSON.value),
    "links": (b"<a href=x>" * 1_500_000, HTML.value),
    "attributes": (b"<a href=x " + b"".join(b"a%d " % n for n in range(30_000)) + b">", HTML.value),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_page_of_many_small_parts_never_takes_much_memory(bomb: str) -> None:
    data, content_type = BOMBS[bomb]
    data *= 12 if bomb == "attributes" else 1
    tracemalloc.start()
    with contextlib.suppress(Unavailable):
        parse_project(data, content_type, BASE, FOO)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data) + 20 * 2**20  # the text and one tag of it


def test_the_longest_pages_there_are_can_be_read() -> None:
    entry = {
        "url": "x",
        "hashes": {"sha256": SHA},
        "core-metadata": {"sha256": SHA},
        "data-dist-info-metadata": {"sha256": SHA},
        "requires-python": ">=3.8, <4, !=3.9",
        "size": 1,
        "upload-time": "2026-01-01T00:00:00.000000Z",
        "yanked": False,
        "provenance": None,
        "gpg-sig": False,
    }
    page = META | {"files": [{"filename": f"foo-{number}-py3-none-any.whl"} | entry for number in range(40_000)]}
    assert len(read_json(page).files) == 40_000


def test_an_empty_page_that_says_what_it_is_is_empty() -> None:
    for body in (
        "<title>Links for foo</title>",
        "<meta name='pypi:repository-version' content='1.0'>",
        "<a href=bar-1.zip>",
    ):
        assert read_html(body) == Project(name=FOO)
    assert read_html("", HTML.content_type) == Project(name=FOO)


def test_charsets_that_are_no_encodings_are_not_used() -> None:
    for charset in ("zip", "utf-7", "unicode_escape", "idna", "utf-16", "no such", '"utf-8"', "x" * 1_000):
        assert read_html("<a href=foo-1.zip>é</a>", f"text/html; charset={charset}").versions == ("1",)
    latin = parse_project("<a href=foo-1é.zip>".encode("latin-1"), "text/html; Charset=ISO-8859-1", BASE, FOO)
    assert latin.files[0].url.endswith("foo-1%C3%A9.zip")


PIECES = st.one_of(
    st.sampled_from(
        ["<a href='", "foo-1.0.zip", "#sha256=", SHA, "'>", "</a>", "<base href=", "http://", "[", "data-yanked"]
    ),
    st.sampled_from(
        ["<!--", "-->", "<!", "<?", "<title>", "<script>", "<meta name='pypi:project-status' content='archived'"]
    ),
    st.sampled_from(["<", ">", "=", " ", '"', "&gt", "\0", "é"]),
)


@given(
    st.lists(PIECES, max_size=20).map("".join) | st.text(),
    st.sampled_from(["text/html", HTML.content_type, JSON.value]),
)
def test_no_page_is_an_error_of_ours(page: str, content_type: str) -> None:
    data = page.encode("utf-8", "surrogatepass")
    with contextlib.suppress(Unavailable):
        parse_project(data, content_type, BASE, FOO)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


KEYS = [
    "filename",
    "url",
    "hashes",
    "size",
    "upload-time",
    "requires-python",
    "core-metadata",
    "yanked",
    "gpg-sig",
    "provenance",
]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), VALUES)
def test_no_value_in_a_page_is_an_error_of_ours_and_none_could_leave_its_header_or_line(
    entry: dict[str, Any], status: Any
) -> None:
    page = read_json(META | {"files": [{"filename": "foo-1.zip", "url": "x"} | entry], "project-status": status})
    for file in page.files:
        for text in (
            file.filename,
            file.url,
            file.requires_python,
            file.provenance,
            file.yanked,
            *file.hashes.values(),
        ):
            assert text is None or not re.search(r"[\x00-\x1f\x7f]", text)
    for form in Form:
        render.render_project(page, form)

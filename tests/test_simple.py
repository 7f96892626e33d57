"""Pages of the simple API: what we write, what others read in it, and what we read in theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import tracemalloc
from collections.abc import Mapping
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pypi_simple
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import NormalizedName

from pypiserver_lite import dists
from pypiserver_lite.errors import NotAcceptable, Unavailable
from pypiserver_lite.model import File, Project
from pypiserver_lite.simple import render
from pypiserver_lite.simple.negotiate import Form, negotiate
from pypiserver_lite.simple.parse import parse_project

JSON, HTML, TEXT = Form
BASE = "http://127.0.0.1:8080/prefix/simple/foo/"
FOO = NormalizedName("foo")
SHA = "ab" * 32

# --- negotiation

PIP = f"{JSON.value}, {HTML.value}; q=0.1, text/html; q=0.01"
LATEST = "application/vnd.pypi.simple.latest"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, TEXT),  # G6
        ("", TEXT),
        ("*/*", TEXT),
        ("*", TEXT),
        (PIP, JSON),  # G2, G4
        (PIP.replace("0.1,", "0.2,"), JSON),  # uv
        (f"{JSON.value}, */*;q=0.1", JSON),  # poetry
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),  # browsers
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", TEXT),  # old Java
        ("text/html", TEXT),
        (HTML.value, HTML),
        (JSON.value.upper(), JSON),
        (f"{LATEST}+json", JSON),  # G3
        (f"{LATEST}+html", HTML),
        (f"text/html, {HTML.value}, {JSON.value}", JSON),  # G5
        (f"text/html, {HTML.value}", HTML),
        ("application/*", JSON),
        ("application/*, text/*", JSON),
        ("text/*", TEXT),
        ("text/html, */*", TEXT),
        ("text/html;q=0, */*", JSON),  # G4: q=0 excludes, and the specific range decides
        (f"{JSON.value};q=0, application/*", HTML),
        ("text/*;q=0.5, text/html;q=0.1, application/*;q=0.2", JSON),
        (f"{JSON.value};q=0.123, text/html;q=0.124", TEXT),
        (f"{JSON.value};q=0.1, {JSON.value};q=0.9, text/html;q=0.5", JSON),
        (f" ,, {HTML.value} ; Q = 0.5 ,;, /, a/, ;q=1,text/html;q=x,{JSON.value};q=2000", HTML),  # G8
        ("text/html; charset=utf-8; level=1", TEXT),
        ("nonsense", TEXT),
        ("x" * 100_000, TEXT),
    ],
)
def test_the_form_is_the_one_the_client_likes_best(accept: str | None, form: Form) -> None:
    assert negotiate(accept) is form


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "*/*;q=0", "application/json", f"{JSON.value}-x"])
def test_a_client_that_takes_none_of_the_forms_is_told(accept: str) -> None:  # G7
    with pytest.raises(NotAcceptable, match=re.escape(JSON.value)):
        negotiate(accept)


def test_format_beats_accept() -> None:  # G9
    for form in Form:
        assert negotiate("image/png", form.value) is form
        assert negotiate(PIP, form.value.replace("+", " ")) is form
    assert negotiate("text/html", f"{LATEST}+json") is JSON
    for unknown in ("", "json", "*/*", "text/html;q=1", "text/plain"):
        with pytest.raises(NotAcceptable):
            negotiate("*/*", unknown)


@given(st.text(st.sampled_from("aq*/;,=. 01+-ä\0") | st.characters()))
def test_no_header_is_an_error_of_ours(accept: str) -> None:  # G8
    try:
        assert negotiate(accept) in Form
    except NotAcceptable:
        pass


def test_content_types() -> None:  # G1, G2, H1
    assert JSON.content_type == "application/vnd.pypi.simple.v1+json"
    assert HTML.content_type == "application/vnd.pypi.simple.v1+html; charset=utf-8"
    assert TEXT.content_type == "text/html; charset=utf-8"


# --- rendering


def wheel(**more: Any) -> File:
    return dataclasses.replace(File(filename="foo-1.0-py3-none-any.whl", project=FOO, version="1.0"), **more)


def project(*files: File, **more: Any) -> Project:
    versions = tuple(dict.fromkeys(file.version for file in files))
    return dataclasses.replace(Project(name=FOO, files=files, versions=versions), **more)


FULL = wheel(
    size=12,
    hashes={"sha256": SHA, "md5": "cd" * 16},
    requires_python=">=3.8,<4",
    uploaded=datetime(2026, 11, 21, 9, 8, 7, 60, timezone.utc),
    yanked='say "why" & <b>\nä\U0001f40d',
    core_metadata={"sha256": "ef" * 32},
    has_signature=True,
    provenance="https://127.0.0.1/p?a=1&b=2",
    url="http://upstream.test/secret",
)


def as_json(page: Project) -> dict[str, Any]:
    found = json.loads(render.render_project(page, JSON))
    assert isinstance(found, dict)
    return found


def as_html(page: Project) -> str:
    assert render.render_project(page, HTML) == render.render_project(page, TEXT)
    return render.render_project(page, HTML).decode()


def test_json_page_says_everything() -> None:  # J1, J3, J4, J5, J6, J7, J8, J9, J10, J12, J13
    assert as_json(project(FULL)) == {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "versions": ["1.0"],
        "files": [
            {
                "filename": "foo-1.0-py3-none-any.whl",
                "url": "../../packages/foo-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA, "md5": "cd" * 16},
                "size": 12,
                "upload-time": "2026-11-21T09:08:07.000060Z",
                "requires-python": ">=3.8,<4",
                "core-metadata": {"sha256": "ef" * 32},
                "yanked": 'say "why" & <b>\nä\U0001f40d',
                "gpg-sig": True,
                "provenance": "https://127.0.0.1/p?a=1&b=2",
            }
        ],
    }


def test_json_page_of_bare_facts() -> None:  # J4, J9, J10
    bare, other = as_json(project(wheel(), wheel(yanked="", core_metadata={}, provenance="http://127.0.0.1/p")))[
        "files"
    ]
    url = "../../packages/foo-1.0-py3-none-any.whl"
    assert bare == {"filename": FULL.filename, "url": url, "hashes": {}, "core-metadata": False, "yanked": False}
    assert other == bare | {"core-metadata": True, "yanked": True}


def test_upload_time_has_six_decimals_or_none() -> None:  # J7
    whole = datetime(2026, 1, 2, 3, 4, 5, 0, timezone.utc)
    times = [entry["upload-time"] for entry in as_json(project(wheel(uploaded=whole), FULL))["files"]]
    assert times == ["2026-01-02T03:04:05Z", "2026-11-21T09:08:07.000060Z"]


def test_html_page_says_what_html_can() -> None:  # H1, H2, H3, H4, H5, H6, H7, U10
    page = as_html(project(FULL))
    assert page.startswith("<!DOCTYPE html>\n")
    assert '<meta charset="utf-8">' in page
    assert '<meta name="pypi:repository-version" content="1.4">' in page
    (anchor,) = re.findall("<a .*</a>", page)
    assert anchor == (
        f'<a href="../../packages/foo-1.0-py3-none-any.whl#sha256={SHA}" data-requires-python="&gt;=3.8,&lt;4" '
        f'data-core-metadata="sha256={"ef" * 32}" data-dist-info-metadata="sha256={"ef" * 32}" '
        'data-yanked="say &quot;why&quot; &amp; &lt;b&gt;&#10;ä\U0001f40d" data-gpg-sig="true" '
        'data-provenance="https://127.0.0.1/p?a=1&amp;b=2">foo-1.0-py3-none-any.whl</a>'
    )


def test_html_attributes_are_there_only_when_they_mean_something() -> None:  # H6, H7, H8
    page = as_html(project(wheel(), wheel(has_signature=True, yanked="", core_metadata={})))
    bare, other = re.findall("<a (.*)>foo.*</a>", page)
    assert bare == 'href="../../packages/foo-1.0-py3-none-any.whl"'
    assert other == bare + ' data-core-metadata="true" data-dist-info-metadata="true" data-yanked=""'
    page = as_html(project(wheel(has_signature=False), wheel(has_signature=True)))
    assert re.findall('data-gpg-sig="(.*?)"', page) == ["false", "true"]


@pytest.mark.parametrize("form", Form)
def test_status_is_told_unless_it_is_the_usual_one(form: Form) -> None:  # J11, Q2
    assert b"status" not in render.render_project(project(FULL), form)
    archived = project(FULL, status="archived", reason='done > "over"')
    page = render.render_project(archived, form)
    if form is JSON:
        assert json.loads(page)["project-status"] == {"status": "archived", "reason": 'done > "over"'}
        assert json.loads(render.render_project(project(status="deprecated"), form))["project-status"] == {
            "status": "deprecated"
        }
    else:
        assert b'<meta name="pypi:project-status" content="archived">' in page
        assert b'<meta name="pypi:project-status-reason" content="done &gt; &quot;over&quot;">' in page


@pytest.mark.parametrize("form", Form)
def test_a_quarantined_project_offers_no_files(form: Form) -> None:  # Q1
    page = render.render_project(project(FULL, status="quarantined"), form)
    assert b"foo-1.0" not in page and b"quarantined" in page


@pytest.mark.parametrize(
    "filename",
    [
        "foo-1!2.0+x.1.tar.gz",
        "foo-1.0 #%25?&.tar.gz",
        "foo-1.0é\U0001f40d.tar.gz",
        "foo-1.0'\"<>:@.tar.gz",
        "foo-1.0;p=1.zip",
    ],
)
def test_the_last_segment_of_a_link_decoded_is_the_file_name(filename: str) -> None:  # U8, U10
    page = project(wheel(filename=filename))
    (link,) = [entry["url"] for entry in as_json(page)["files"]]
    assert link.startswith("../../packages/") and not set(link) & set(" \"'<>#?&:+!")
    assert unquote(link.rpartition("/")[2]) == filename
    assert unquote(urljoin(BASE, link)) == f"http://127.0.0.1:8080/prefix/packages/{filename}"
    assert f'href="{link}"' in as_html(page)


def test_a_file_name_that_reads_as_another_projects_is_linked_under_this_one() -> None:
    odd = NormalizedName("foo-1.0")
    page = Project(name=odd, files=(File(filename="foo-1.0-1.tar.gz", project=odd, version="1"),), versions=("1",))
    assert as_json(page)["files"][0]["url"] == "../../packages/foo-1.0/foo-1.0-1.tar.gz"


@pytest.mark.parametrize("form", Form)
def test_what_cannot_be_spelled_is_left_out(form: Form) -> None:  # U12
    files = [wheel(filename=f"foo-1.0{odd}.tar.gz") for odd in ("\udcff", "\n", "\0", "\x85", "\u2028")]
    odd_text = wheel(yanked="a\0b\udc80\x1b", requires_python=">=3\udc80")
    page = render.render_project(project(*files, odd_text, reason="\udc80", status="archived"), form)
    read = parse_project(page, form.content_type, BASE, FOO)
    assert [(file.filename, file.yanked, file.requires_python) for file in read.files] == [(FULL.filename, "ab", ">=3")]


NAMES = (NormalizedName("a-b"), FOO, NormalizedName("x0"))


@pytest.mark.parametrize("form", Form)
def test_the_list_has_each_project_once(form: Form) -> None:  # U1, J2, H2
    page = render.render_names(NAMES, form, 7)
    if form is JSON:
        projects = [{"name": name, "_last-serial": 7} for name in NAMES]
        assert json.loads(page) == {"meta": {"api-version": "1.4", "_last-serial": 7}, "projects": projects}
    else:
        assert re.findall("<a .*</a>", page.decode()) == [f'<a href="{name}/">{name}</a>' for name in NAMES]


# --- both ways, and an independent reader

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
HASHES = st.one_of(
    st.just({}),
    st.builds(
        lambda sha, more: {"sha256": sha} | more, HEX, st.dictionaries(st.sampled_from(["blake2_256", "x-y"]), HEX)
    ),
    st.builds(lambda digest: {"md5": digest[:32]}, HEX),
)
# Text that survives our reader: no control characters, no line ends.
SPOKEN = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20)
SPECIFIERS = st.one_of(st.sampled_from([">=3.8", ">=3,<4 & \"x'"]), SPOKEN.filter(str.isprintable).filter(bool))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2242, 1, 1)).map(lambda time: time.replace(tzinfo=timezone.utc))
VERSIONS = st.sampled_from(["1.0", "1.0.post1", "2!1.0", "1.0+x.1", "0.1.dev3", "1.0a1", "odd 1é", "1.0-beta-x"])
SUFFIXES = ["-py3-none-any.whl", "-1-cp311-cp311-linux_x86_64.whl", ".tar.gz", ".zip", "-py2.7.egg"]


def make_file(version: str, suffix: str, **facts: Any) -> File:
    version = version.replace("odd", "9odd")
    if suffix[0] == "-":
        version = version.replace("-", "_")
    parsed = dists.parse_filename(f"foo-{version}{suffix}")
    assert parsed and parsed.project == FOO
    url = urljoin(BASE, "../../packages/") + quote(parsed.filename, safe="")
    return File(filename=parsed.filename, project=FOO, version=parsed.version, url=url, **facts)


FILES = st.builds(
    make_file,
    VERSIONS,
    st.sampled_from(SUFFIXES),
    size=st.none() | st.integers(0, 2**63 - 1),
    hashes=HASHES,
    requires_python=st.none() | SPECIFIERS,
    uploaded=st.none() | TIMES,
    yanked=st.none() | SPOKEN,
    core_metadata=st.none() | HASHES,
    has_signature=st.none() | st.booleans(),
    provenance=st.none() | st.just("https://127.0.0.1/p?a=1&b=%20c"),
)


def make_project(files: list[File], status: Any, reason: str | None) -> Project:
    ordered = sorted(files, key=lambda file: dists.version_key(file.version))
    return project(*ordered, status=status, reason=reason if status != "active" else None)


PROJECTS = st.builds(
    make_project,
    st.lists(FILES, max_size=6, unique_by=lambda file: file.filename),
    st.sampled_from(["active", "active", "archived", "deprecated", "quarantined"]),
    st.none() | SPOKEN,
)


def offered(page: Project) -> Project:
    return dataclasses.replace(page, files=(), versions=()) if page.status == "quarantined" else page


def first(hashes: Mapping[str, str]) -> dict[str, str]:
    return dict(list(hashes.items())[:1])


def in_html(page: Project) -> Project:
    """What HTML can carry: no size, no upload time, one digest of each kind, signatures if all are known."""
    page = offered(page)
    signatures = all(file.has_signature is not None for file in page.files)
    files = (
        dataclasses.replace(
            file,
            size=None,
            uploaded=None,
            hashes=first(file.hashes),
            core_metadata=None if file.core_metadata is None else first(file.core_metadata),
            has_signature=file.has_signature if signatures else None,
        )
        for file in page.files
    )
    return dataclasses.replace(page, files=tuple(files))


@given(PROJECTS)
def test_a_json_page_is_read_back_as_it_was(page: Project) -> None:
    assert parse_project(render.render_project(page, JSON), JSON.content_type, BASE, FOO) == offered(page)


@given(PROJECTS, st.sampled_from([HTML, TEXT]))
def test_an_html_page_is_read_back_as_far_as_html_goes(page: Project, form: Form) -> None:  # H9
    assert parse_project(render.render_project(page, form), form.content_type, BASE, FOO) == in_html(page)


@settings(max_examples=40)  # the other reader is slow
@given(PROJECTS)
def test_an_independent_reader_agrees_about_both_forms(page: Project) -> None:  # J14, H9
    from_json = pypi_simple.ProjectPage.from_json_data(as_json(page), BASE)
    from_html = pypi_simple.ProjectPage.from_html("foo", as_html(page).encode(), BASE, "utf-8")
    assert from_json.versions == list(offered(page).versions)
    for read, meant in ((from_json, offered(page)), (from_html, in_html(page))):
        assert (read.project, read.repository_version) == ("foo", "1.4")
        assert (read.status.value if read.status else "active", read.status_reason) == (meant.status, meant.reason)
        assert len(read.packages) == len(meant.files)
        for theirs, ours in zip(read.packages, meant.files, strict=True):
            assert (theirs.filename, theirs.url) == (ours.filename, ours.url)
            assert (theirs.digests, theirs.size, theirs.upload_time) == (ours.hashes, ours.size, ours.uploaded)
            assert (theirs.requires_python, theirs.has_sig) == (ours.requires_python, ours.has_signature)
            assert theirs.is_yanked == (ours.yanked is not None)
            assert (theirs.yanked_reason or None) == (ours.yanked or None)
            assert bool(theirs.has_metadata) == (ours.core_metadata is not None)
            # It takes only names of letters, digits and "_" for a digest in HTML.
            if read is from_json or not ours.core_metadata or "-" not in next(iter(ours.core_metadata)):
                assert (theirs.metadata_digests or {}) == (ours.core_metadata or {})
            assert theirs.provenance_url == ours.provenance


class Attributes(HTMLParser):
    """All attribute texts as they stand in the source."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.raw: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.raw.append((self.get_starttag_text() or "")[1:-1])


@given(PROJECTS)
def test_no_tag_holds_a_raw_angle_bracket(page: Project) -> None:  # H5, U10
    text = as_html(page)
    assert not [tag for tag in Attributes(text).raw if "<" in tag or ">" in tag]
    assert len(re.findall("<a ", text)) == len(offered(page).files)  # H3


def test_a_page_of_two_thousand_files_is_quick() -> None:  # P11
    files = [make_file(f"{i // 10}.{i % 10}", "-py3-none-any.whl", hashes={"sha256": SHA}) for i in range(2_000)]
    page = project(*files)
    for form in Form:
        started = time.process_time()
        data = render.render_project(page, form)
        assert time.process_time() - started < 0.3  # about 15 ms
        started = time.process_time()
        assert parse_project(data, form.content_type, BASE, FOO) == page
        assert time.process_time() - started < 1.5  # about 100 ms


# --- pages of others


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

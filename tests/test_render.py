"""Projects as pages of the simple API, read by an independent reader too (PEP 503, 691, 700, 740, 792)."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pypi_simple
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offers import BASE, FOO, HTML, JSON, SHA, TEXT, wheel
from packaging.utils import NormalizedName

from pypiserver_lite import dists
from pypiserver_lite.model import File, Project
from pypiserver_lite.simple import render
from pypiserver_lite.simple.negotiate import Form
from pypiserver_lite.simple.parse import parse_project


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

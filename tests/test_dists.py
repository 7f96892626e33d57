"""What file names, archives and metadata say, and that nothing in them can hurt."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from pypiserver_lite import digests, dists
from pypiserver_lite.errors import Invalid

# file name → project, version, kind; None: not a distribution
NAMES: dict[str, tuple[str, str, str] | None] = {
    "foo-1.0-py3-none-any.whl": ("foo", "1.0", "wheel"),
    "Foo.Bar-1.0-py3-none-any.whl": ("foo-bar", "1.0", "wheel"),
    "foo_bar__baz-1.0-1abc-cp311-cp311-linux_x86_64.whl": ("foo-bar-baz", "1.0", "wheel"),
    "foo-1!2.0+x.1-py2.py3-none-any.whl": ("foo", "1!2.0+x.1", "wheel"),
    "foo-1.0_1-py3-none-any.whl": ("foo", "1.0.post1", "wheel"),
    "foo-2004d.x-py3-none-any.whl": ("foo", "2004d.x", "wheel"),
    "foo-1.0-py3-none-any-x86_64_v3.whl": None,  # a wheel variant (PEP 825)
    "foo-1.0-1-py3-none-any-x86_64_v3.whl": None,
    "foo-1.0-none-any.whl": None,
    "foo-bar-1.0-py3-none-any.whl": None,  # no installer reads it as foo-bar, and "bar" is no version
    "foo-1.0--none-any.whl": None,
    "foo-1.0.tar.gz": ("foo", "1.0", "sdist"),
    "foo-1.0.tgz": ("foo", "1.0", "sdist"),
    "foo-1.0.tar.xz": ("foo", "1.0", "sdist"),
    "foo-bar-1.0-beta.tar.gz": ("foo-bar", "1.0b0", "sdist"),
    "foo-1.0-beta-2.tar.gz": ("foo", "1.0b2", "sdist"),
    "foo-1.0-1.tar.gz": ("foo", "1.0.post1", "sdist"),
    "foo-2-1.tar.gz": ("foo-2", "1", "sdist"),
    "foo-2-1.0.tar.gz": ("foo-2", "1.0", "sdist"),
    "foo-2-rc-1.tar.gz": ("foo", "2rc1", "sdist"),
    "foo-3d-1.0.tar.gz": ("foo-3d", "1.0", "sdist"),
    "python-foo-2.0.zip": ("python-foo", "2.0", "sdist"),
    "Twisted-Core-8.2.0.tar.bz2": ("twisted-core", "8.2.0", "sdist"),
    "zope.interface-5.0.dev3.tar.gz": ("zope-interface", "5.0.dev3", "sdist"),
    "foo-1!2.0.tar.gz": ("foo", "1!2.0", "sdist"),
    "foo-1.0+local.1.tar.gz": ("foo", "1.0+local.1", "sdist"),
    "foo-1.0+local-1.tar.gz": ("foo", "1.0+local.1", "sdist"),
    "foo-v1.0.tar.gz": ("foo", "1.0", "sdist"),
    "foo-v2-1.0.tar.gz": ("foo-v2", "1.0", "sdist"),
    "foo-1.0.0-SNAPSHOT.tar.gz": ("foo", "1.0.0-SNAPSHOT", "sdist"),
    "foo-1.0-3-gabc123.tar.gz": ("foo", "1.0-3-gabc123", "sdist"),
    "foo-1.0.linux-x86_64.tar.gz": ("foo", "1.0.linux-x86_64", "sdist"),
    "pytz-2008b.tar.gz": ("pytz", "2008b0", "sdist"),
    "foo-1.0é.tar.gz": ("foo", "1.0é", "sdist"),
    "foo-1.0 #%?.tar.gz": ("foo", "1.0 #%?", "sdist"),
    "foo-1.0-py2.7.egg": ("foo", "1.0", "egg"),
    "foo_bar-1.0-py2.7-linux-x86_64.egg": ("foo-bar", "1.0", "egg"),
    "foo.tar.gz": None,
    "foo-dev.zip": None,
    "foo-١.tar.gz": None,  # a digit, but not an ASCII one
    "-1.0.tar.gz": None,
    "-foo-1.0.tar.gz": None,
    "foo--1.0.tar.gz": None,
    ".foo-1.0.tar.gz": None,
    "fo o-1.0.tar.gz": None,
    "föö-1.0.tar.gz": None,
    "foo-1.0.tar.gz.asc": None,
    "foo-1.0-py3-none-any.whl.metadata": None,
    "foo-1.0.tar.gz.provenance": None,
    "foo-1.0.tar.gz.yanked": None,
    "foo-1.0-variants.json": None,
    "foo-1.0.exe": None,
    "foo-1.0\n.tar.gz": None,
    "foo-1.0.tar.gz\n": None,
    "foo-1.0\0.tar.gz": None,
    "foo-1.0\udcff.tar.gz": None,
    "foo-1.0\u202e.tar.gz": None,
    "../foo-1.0.tar.gz": None,
    "foo-1.0/../../x.tar.gz": None,
    "foo-1.0\\x.tar.gz": None,
    "": None,
    ".whl": None,
    "-" * 200 + ".tar.gz": None,
    "a" * 10_000 + "-1.0.tar.gz": None,
    "a" * 201 + "-1.0.tar.gz": None,
    "foo-" + "1" * 230 + ".tar.gz": ("foo", "1" * 230, "sdist"),
}


@pytest.mark.parametrize("filename", NAMES, ids=lambda name: ascii(name)[:60])
def test_old_and_odd_file_names_are_understood_or_left_out(filename: str) -> None:  # N1, N5
    expected = NAMES[filename]
    parsed = dists.parse_filename(filename)
    assert (parsed and (parsed.project, parsed.version, parsed.kind)) == expected
    assert dists.project_of(filename) == (expected and expected[0])


PARTS = st.one_of(
    st.sampled_from(["foo", "Foo.Bar", "2", "1.0", "1", "v3", "1!2", "beta", "rc", "+x.1", "py3", "none", "any", ""]),
    st.sampled_from(["-", "_", ".", "/", "\\", "é", "\0", "\n", "\udc80"]),
    st.just("-"),
)
ENDINGS = st.sampled_from([".whl", ".tar.gz", ".zip", ".egg", ".tgz", ".tar.bz2", ".tar.xz", ".asc", ""])
FILENAMES = st.one_of(
    st.text(st.characters()),  # lone surrogates too
    st.builds(lambda parts, ending: "".join(parts) + ending, st.lists(PARTS, max_size=12), ENDINGS),
    st.builds(lambda text, ending: text + ending, st.text(st.characters()), ENDINGS),
)


@given(FILENAMES)
def test_both_readings_of_a_name_agree_and_never_raise(filename: str) -> None:
    parsed = dists.parse_filename(filename)
    assert dists.project_of(filename) == (parsed.project if parsed else None)
    if parsed:
        assert parsed.project == canonicalize_name(parsed.project) == dists.normalize(parsed.project)
        assert dists.parse_filename(filename, parsed.project) == parsed
        dists.version_key(parsed.version)


@given(FILENAMES)
def test_an_upload_name_is_a_plain_name_that_is_listed_under_the_project_it_was_checked_for(
    filename: str,
) -> None:  # V1
    try:
        parsed = dists.check_upload_name(filename)
    except Invalid:
        return
    assert filename.isascii() and filename[0].isalnum() and not set(filename) & set("/\\\0\n ")
    assert dists.project_of(filename) == parsed.project


def test_a_known_project_decides_between_two_readings() -> None:
    assert dists.project_of("foo-1.0-1.tar.gz") == "foo"
    odd = dists.normalize("foo-1.0")
    parsed = dists.parse_filename("foo-1.0-1.tar.gz", odd)
    assert parsed and (parsed.project, parsed.version) == (odd, "1")
    for filename in ("bar-1.0.tar.gz", "bar-1.0-py3-none-any.whl", "foobar-1.0.tar.gz"):
        assert dists.parse_filename(filename, dists.normalize("foo")) is None


@pytest.mark.parametrize("name", ["Foo", "foo.bar", "FOO__bar", "a", "0", "a-._b", "a" * 200])
def test_names_normalise_as_the_standard_has_it(name: str) -> None:  # N1, N3
    assert dists.normalize(name) == canonicalize_name(name) == dists.try_normalize(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "ä", "ſ", "\u212a", "a\n", "a\0", "a/b", "..", "\udc80", "a" * 201]
)
def test_what_cannot_be_a_name_is_refused(name: str) -> None:  # N3
    assert dists.try_normalize(name) is None
    with pytest.raises(Invalid, match="not a project name"):
        dists.normalize(name)


def test_versions_sort_oldest_first_whatever_they_are() -> None:  # N4
    ordered = ["1.0-SNAPSHOT", "dev", "1.0.dev1", "1.0a1", "1.0", "1.0.0", "1.0.post1", "1.10", "1!0.1"]
    shuffled = ordered.copy()
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=dists.version_key) == ordered


@given(st.lists(st.one_of(st.text(st.characters()), st.sampled_from(["1", "1.0", "v1", "1" * 5_000])), max_size=5))
def test_version_order_is_total(versions: list[str]) -> None:
    backwards = sorted(versions, key=dists.version_key, reverse=True)
    assert sorted(versions, key=dists.version_key) == backwards[::-1]


def test_spellings_of_one_release_are_the_same() -> None:  # N4
    assert dists.same_version("1.0", "1.0.0") and dists.same_version("odd", "odd")
    assert not dists.same_version("1.0", "1.0.post1") and not dists.same_version("odd", "old")


@pytest.mark.parametrize(
    "filename",
    [
        "foo-1.0-py3-none-any.whl",
        "foo-1.0+local.1-py3-none-any.whl",  # V8
        "foo-1!1.0-1-cp311-cp311-linux_x86_64.whl",  # V8
        "Foo.Bar-1.0-py2.py3-none-any.whl",
        "foo_bar-1.0.tar.gz",
        "Foo-Bar-1.0.zip",
    ],
)
def test_names_that_may_be_uploaded(filename: str) -> None:  # V2, V5, V8
    assert dists.check_upload_name(filename) == dists.parse_filename(filename)


REFUSED = {
    "V1": [
        "foo-1.0.tar.gz\n",
        "../foo-1.0.tar.gz",
        "/foo-1.0.tar.gz",
        "a\\foo-1.0.tar.gz",
        ".foo-1.0.tar.gz",
        "",
        ".whl",
    ],
    "characters": [
        "foo-1.0\0.tar.gz",
        "foo-1\r\n.tar.gz",
        "föö-1.zip",
        "foo-1ſ.zip",
        "foo 1.zip",
        "x" * 246 + "-1.zip",
    ],
    "V5": ["foo-1.0.whl", "foo-1.0-none-any.whl", "foo-x-py3-none-any.whl", "foo-1.0-x-py3-none-any.whl"],
    "wheel names": ["foo-1.0-1-py3-none-any-var.whl", "foo__bar-1.0-py3-none-any.whl", "_foo-1.0-py3-none-any.whl"],
    "V10": ["foo-1.0-py2.7.egg"] + [f"foo-1.0.{end}" for end in ("exe", "msi", "rpm", "deb", "tar", "tar.zst", "tbz")],
    "sdist names": ["foo.tar.gz", "foo-bar.tar.gz", "foo-1.0-1.tar.gz", "foo-1.0-beta.tar.gz", "foo_-1.0.tar.gz"],
}


@pytest.mark.parametrize(
    "filename", [name for names in REFUSED.values() for name in names], ids=lambda name: ascii(name)[:40]
)
def test_names_that_may_not_be_uploaded(filename: str) -> None:
    with pytest.raises(Invalid):
        dists.check_upload_name(filename)


def test_project_of_is_cheap_enough_for_a_hundred_thousand_files() -> None:
    names = [
        f"proj_{i % 500}-{i // 500}.{i % 7}{end}" for i in range(5_000) for end in ("-py3-none-any.whl", ".tar.gz")
    ]
    started = time.process_time()
    assert all(map(dists.project_of, names))
    # About 1.2 µs each; the bound leaves room for a busy machine.
    assert (time.process_time() - started) / len(names) < 10e-6


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(data)
    expected = {
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "blake2_256": hashlib.blake2b(data, digest_size=32).hexdigest(),
    }
    assert digests.of_file(tmp_path / "file", iter(expected)) == expected

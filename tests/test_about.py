"""What a release says of itself: read as the packaging library reads it, whatever was written (D1, D3, H10)."""

from __future__ import annotations

import time

import pytest
from builders import metadata as written
from hypothesis import given
from hypothesis import strategies as st
from packaging.metadata import parse_email

from pypiserver_lite import dists, metadata
from pypiserver_lite.metadata import About


def test_the_fields_an_index_needs_are_read() -> None:  # H10
    data = written(
        "Ours", "1.0", "Requires-Python: >=3.8,<4", "Dynamic: Version", "dynamic: Classifier", "Summary: Ä\n  b"
    )
    said = metadata.parse(data + b"\nRequires-Python: no\n")
    assert [said.text(name) for name in ("metadata_version", "name", "version")] == ["2.1", "Ours", "1.0"]
    assert (said.requires_python, said.summary) == (">=3.8,<4", "Ä b")
    assert said.listed("dynamic") == ("Version", "Classifier")
    assert said.description == "Requires-Python: no"


def test_of_a_field_that_must_not_repeat_the_first_counts() -> None:
    said = metadata.parse(written("ours", "1.0", "Name: theirs", "Summary: \xff", "Summary: b", "Requires-Python: >=3"))
    assert (said.text("name"), said.summary, said.requires_python) == ("ours", "\xff", ">=3")


@pytest.mark.parametrize("text", [">=3\0", "x" * 3_000, "", " "])
def test_a_specifier_that_cannot_stand_in_a_page_is_none(text: str) -> None:
    assert metadata.parse(written("ours", "1.0", f"Requires-Python: {text}")).requires_python is None


def test_a_description_among_the_fields_hides_none_of_them() -> None:  # metadata 1.x
    lines = "\n".join(f"        line {number}" for number in range(5_000))
    said = metadata.parse(written("ours", "1.0", f"Description: first\n{lines}", "Requires-Python: >=3"))
    assert said.description.startswith("first\nline 0\nline 1\n") and said.description.endswith("line 4999")
    assert said.requires_python == ">=3" and "description" not in said.fields


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *("Name: a", "Version : 1", "Version: 1", "Requires-Python: >=3", "requires-python:", "Dynamic: X"),
                *("", " more", "junk", "Description: x"),
            ]
        ),
        st.text("aN: \t-é", max_size=12),
    )
)


@given(st.builds("\n".join, LINES))
def test_metadata_is_read_as_the_packaging_library_reads_it(text: str) -> None:
    ours = metadata.parse(text.encode())
    theirs, unread = parse_email(text.encode())
    # It gives no value to fields that come twice.
    if not {"name", "requires-python", "description"} & unread.keys():
        assert ours.text("name") == theirs.get("name", "").strip()
        specifier = " ".join(theirs.get("requires_python", "").split())
        assert ours.requires_python == (specifier if specifier.isascii() and specifier else None)
        assert list(ours.listed("dynamic")) == [name.strip() for name in theirs.get("dynamic", [])]


@given(st.binary(max_size=300))
def test_metadata_of_any_bytes_raises_nothing_and_holds_no_control_characters(data: bytes) -> None:
    said = metadata.parse(b"Name: x" + data)
    assert not dists.CONTROLS.search(said.text("name") + said.description)
    assert metadata.parse(data).summary.isprintable() and (said.requires_python or "").isprintable()


@pytest.mark.parametrize(
    "data",
    [
        *(b"\n" * 2**23, b" " * 2**23, b" \n" * 2**22, b"a:\n " * 2**21, b"Name: x\n" * 2**20),
        b"Summary: " + b"x\n " * 2**21,
        b"Description: " + b"x\n " * 2**21,
        # The library's parser looks at all fields for each name: hours, if it saw them all.
        b"".join(b"X%d: a\n" % number for number in range(500_000)),
        b"".join(b"%d:" % number + b"\n" for number in range(500_000)),
    ],
    ids=range(9),
)
def test_long_metadata_costs_little(data: bytes) -> None:
    started = time.process_time()
    said = metadata.parse(b"Metadata-Version: 2.1\nName: ours\n" + data)
    assert time.process_time() - started < 10  # half a second on a quiet machine
    assert said.text("name") == "ours" and said.weight < 2**23


@pytest.mark.parametrize(
    ("lines", "seen"), [(["X: a"] * 990, True), (["X: a"] * 1_000, False), ([f"X: {'a' * 60_000}"] * 2, False)]
)
def test_the_parser_sees_the_first_of_the_header_only(lines: list[str], seen: bool) -> None:
    said = metadata.parse(written("ours", "1.0", *lines, "Summary: late", body="Described"))
    assert (said.text("name"), said.summary) == ("ours", "late" if seen else "")


@pytest.mark.parametrize(("length", "seen"), [(3 * 2**19, True), (5 * 2**19, False)])
def test_two_megabytes_of_metadata_are_read(length: int, seen: bool) -> None:
    described = b"Description: " + b"\n        ".join([b"x" * 1000] * (length // 1009)) + b"\n"
    said = metadata.parse(b"Metadata-Version: 1.2\nName: ours\n" + described + b"Summary: late\n")
    assert (said.text("name"), said.summary) == ("ours", "late" if seen else "")
    assert len(said.description) <= metadata.LONGEST_DESCRIPTION


def test_metadata_is_offered_where_it_cannot_change() -> None:  # D1, D3
    def said(version: str, *dynamic: str) -> About:
        return About(fields={"metadata_version": version, "dynamic": dynamic})

    assert said("1.0", "version").holds_for("wheel")
    assert said("2.2").holds_for("sdist") and said("2.10").holds_for("sdist")
    assert not said("2.4", "requires-dist").holds_for("sdist")
    for version in ("2.1", "1.2", "", "2", "two", "2.2.1"):
        assert not said(version).holds_for("sdist")
    assert not said("2.2").holds_for("egg")


def test_addresses_nested_without_end_are_nobody() -> None:
    what = metadata.parse(
        f"Metadata-Version: 2.1\nName: a\nVersion: 1\nAuthor: Ann\nMaintainer-Email: {'(' * 1900}\n".encode()
    )
    assert [person.name for person in what.people()] == ["Ann"]

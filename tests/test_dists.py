"""What file names, archives and metadata say, and that nothing in them can hurt."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel, metadata
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from pypiserver_lite import archives, dists
from pypiserver_lite.errors import Invalid

# A busy machine is no failure; what must be quick has a test of its own.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

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
    "V10": ["foo-1.0-py2.7.egg"]
    + [f"foo-1.0.{end}" for end in ("exe", "msi", "rpm", "deb", "tar.bz2", "tgz", "tar.xz")],
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


# --- archives


def archive_zip(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tar_bytes(members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def check(path: Path) -> bytes:
    parsed = dists.parse_filename(path.name)
    assert parsed
    return archives.check_archive(path, parsed)


INFO = metadata("ours", "1.0")


def test_metadata_is_read_byte_for_byte(tmp_path: Path) -> None:  # D1, D2, V5, V6
    odd = INFO + b"Summary: \xff\r\n\n\r\n"
    wheel = make_wheel(tmp_path, core_metadata=odd)
    sdist = make_sdist(tmp_path, core_metadata=odd)
    zipped = archive_zip(tmp_path / "ours-1.0.zip", [("ours-1.0/setup.py", b""), ("ours-1.0/PKG-INFO", odd)])
    for path in (wheel, sdist, zipped):
        assert archives.core_metadata(path, path.name) == odd == check(path)
        with path.open("rb") as opened:
            assert archives.core_metadata(opened, path.name) == odd


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_kind_of_tar_is_read(tmp_path: Path, ending: str, format: int) -> None:  # N5
    top = "ours-" + "1" * 120 + ("é" if format != tarfile.USTAR_FORMAT else "")  # too long for the plain name field
    data = tar_bytes(
        [(f"./{top}/a/b.py", b"x" * 700), (f"{top}/sub/PKG-INFO", b"no"), (f"{top}/PKG-INFO", INFO)], format
    )
    packers: dict[str, Callable[[bytes], bytes]] = {".tar.bz2": bz2.compress, ".tar.xz": lzma.compress}
    path = tmp_path / f"ours-1.0{ending}"
    path.write_bytes(packers.get(ending, gzip.compress)(data))
    assert archives.core_metadata(path, path.name) == INFO


def test_a_gzip_of_several_parts_is_one_archive(tmp_path: Path) -> None:
    data = tar_bytes([("ours-1.0/a", random.Random(1).randbytes(200_000)), ("ours-1.0/PKG-INFO", INFO)])
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(b"".join(gzip.compress(data[at : at + 9_000]) for at in range(0, len(data), 9_000)) + bytes(100))
    assert check(path) == INFO


def test_the_dist_info_is_the_one_of_the_file_name(tmp_path: Path) -> None:  # V5
    path = archive_zip(
        tmp_path / "foo_bar-1.0-py3-none-any.whl",
        [
            ("x/other-1.0.dist-info/METADATA", b"no"),
            ("Foo.Bar-1.0.dist-info/METADATA", INFO),
            ("Foo.Bar-1.0.dist-info/WHEEL", b""),
        ],
    )
    assert check(path) == INFO


def test_a_wheel_behind_other_bytes_and_one_with_64_bit_numbers_are_read(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    expected = check(wheel)
    wheel.write_bytes(b"#!/bin/sh\n" + wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:  # the oracle reads it as well
        assert archive.read("ours-1.0.dist-info/METADATA") == expected
    assert check(wheel) == expected
    large = tmp_path / "ours-2.0-py3-none-any.whl"
    with zipfile.ZipFile(large, "w") as archive:
        for name in ("METADATA", "WHEEL"):
            with archive.open(f"ours-2.0.dist-info/{name}", "w", force_zip64=True) as member:
                member.write(INFO)
        for number in range(0x10000):  # more than the plain end record can count
            archive.writestr(f"ours/{number}", b"")
    assert check(large) == INFO


def spoiled(tmp_path: Path) -> dict[str, Path]:
    """Archives that are not fit for upload, by what is wrong with them."""
    wheel, sdist = "ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz"
    good_wheel = make_wheel(tmp_path).read_bytes()
    good_sdist = make_sdist(tmp_path).read_bytes()
    info = "ours-1.0.dist-info"
    damaged = bytearray(good_wheel)
    damaged[good_wheel.index(b"METADATA") + 12] ^= 0xFF
    encrypted = good_wheel.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")
    assert encrypted != good_wheel

    def at(kind: str, filename: str, data: bytes) -> Path:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / filename).write_bytes(data)
        return tmp_path / kind / filename

    def wheel_of(kind: str, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
        return archive_zip(at(kind, wheel, b""), members, compression)

    def tar_of(kind: str, members: list[tuple[str, bytes]]) -> Path:
        return at(kind, sdist, gzip.compress(tar_bytes(members)))

    link = tarfile.TarInfo("ours-1.0/PKG-INFO")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return {
        "empty wheel": at("empty wheel", wheel, b""),
        "empty sdist": at("empty sdist", sdist, b""),
        "text": at("text", wheel, b"<html>" * 1_000),
        "text sdist": at("text sdist", sdist, b"<html>" * 1_000),
        "cut wheel": at("cut wheel", wheel, good_wheel[:-30]),
        "cut sdist": at("cut sdist", sdist, good_sdist[:-30]),
        "damaged": at("damaged", wheel, bytes(damaged)),
        "encrypted": at("encrypted", wheel, encrypted),
        "a tar named zip": at("a tar named zip", "ours-1.0.zip", good_sdist),
        "no WHEEL": wheel_of("no WHEEL", [(f"{info}/METADATA", INFO)]),
        "no METADATA": wheel_of("no METADATA", [(f"{info}/WHEEL", b"")]),
        "other name": wheel_of("other name", [("o-1.0.dist-info/METADATA", INFO), ("o-1.0.dist-info/WHEEL", b"")]),
        "two": wheel_of(
            "two", [(f"{name}-1.0.dist-info/{f}", INFO) for name in ("ours", "Ours") for f in ("METADATA", "WHEEL")]
        ),
        "unusual": wheel_of("unusual", [(f"{info}/METADATA", INFO), (f"{info}/WHEEL", b"")], zipfile.ZIP_BZIP2),
        "no PKG-INFO": tar_of("no PKG-INFO", [("ours-1.0/setup.py", b"")]),
        "flat": tar_of("flat", [("PKG-INFO", INFO)]),
        "two tops": tar_of("two tops", [("a/PKG-INFO", INFO), ("b/x", b"")]),
        "leads outside": tar_of("leads outside", [("ours-1.0/PKG-INFO", INFO), ("ours-1.0/../../x", b"")]),
        "absolute": tar_of("absolute", [("/ours-1.0/PKG-INFO", INFO)]),
        "twice": tar_of("twice", [("ours-1.0/PKG-INFO", INFO), ("ours-1.0/PKG-INFO", b"")]),
        "link": at("link", sdist, gzip.compress(link.tobuf() + bytes(1024))),
        "too long": tar_of("too long", [("ours-1.0/PKG-INFO", bytes(archives.METADATA_LIMIT + 1))]),
    }


def test_archives_that_are_not_fit_are_refused_with_a_reason(tmp_path: Path) -> None:  # V5, V6
    for kind, path in spoiled(tmp_path).items():
        with pytest.raises(Invalid, match=r"^'ours-1\.0.+build it again$"):
            pytest.fail(f"{kind}: {check(path)[:40]!r}")


def test_broken_archives_offer_no_metadata_and_raise_nothing(tmp_path: Path) -> None:  # D4, U12
    # What only an upload must not have is harmless in a folder.
    harmless = {"no WHEEL", "cut sdist", "two tops", "leads outside", "twice"}
    for kind, path in spoiled(tmp_path).items():
        assert (archives.core_metadata(path, path.name) is None) == (kind not in harmless), kind
    egg = archive_zip(tmp_path / "ours-1.0-py3.8.egg", [("EGG-INFO/PKG-INFO", INFO)])
    assert archives.core_metadata(egg, egg.name) is None
    assert archives.core_metadata(egg, "not a distribution") is None


def test_a_disk_that_fails_is_not_a_broken_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archives.core_metadata(tmp_path / "gone-1.0.tar.gz", "gone-1.0.tar.gz")


@given(data=st.data())
def test_damaged_archives_raise_only_invalid(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:  # U12
    folder = tmp_path_factory.getbasetemp() / "damaged"
    for path in (make_wheel(folder), make_sdist(folder)):
        content = bytearray(path.read_bytes())
        if path.suffix == ".gz":
            content = bytearray(gzip.decompress(content))
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[at] = data.draw(st.integers(0, 255))
        parsed = dists.parse_filename(path.name)
        assert parsed
        packed = gzip.compress(bytes(content), 1) if path.suffix == ".gz" else bytes(content)
        archives.core_metadata(io.BytesIO(packed), path.name)
        try:
            archives.check_archive(io.BytesIO(packed), parsed)
        except Invalid:
            pass


def gzip_bomb() -> bytes:
    return gzip.compress(bytes(200 * 2**20), 1)


def wheel_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("METADATA", "WHEEL"):
            archive.writestr(f"ours-1.0.dist-info/{name}", bytes(100 * 2**20))
    # The sizes claimed are small: only what comes out counts.
    return target.getvalue().replace(struct.pack("<L", 100 * 2**20), struct.pack("<L", 1_000))


def directory_bomb() -> bytes:
    entry = b"PK\1\2" + bytes(42)
    return entry * 500_000 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(entry) * 500_000, 0, 0)


def member_bomb() -> bytes:
    one = tarfile.TarInfo("ours-1.0/x").tobuf()
    return gzip.compress(one * 150_000, 1)


def sparse_bomb() -> bytes:
    entry = tarfile.TarInfo("ours-1.0/x")
    entry.type = tarfile.XHDTYPE
    entry.size = 2**40
    return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(10**8), 1)


@pytest.mark.parametrize(
    ("filename", "make"),
    [
        ("ours-1.0.tar.gz", gzip_bomb),
        ("ours-1.0.tar.gz", member_bomb),
        ("ours-1.0.tar.gz", sparse_bomb),
        ("ours-1.0.tar.gz", lambda: gzip.compress(b"") * 200_000),
        ("ours-1.0.tar.gz", lambda: b"\x1f\x8b\x08\x08" + b"x" * 20_000_000),
        ("ours-1.0-py3-none-any.whl", wheel_bomb),
        ("ours-1.0-py3-none-any.whl", directory_bomb),
        ("ours-1.0.zip", directory_bomb),
    ],
    ids=["gzip", "members", "sizes", "streams", "gzip name", "member", "directory", "zip sdist"],
)
def test_no_bomb_costs_more_than_a_second_and_a_few_megabytes(
    tmp_path: Path, filename: str, make: Callable[[], bytes]
) -> None:
    path = tmp_path / filename
    path.write_bytes(make())
    parsed = dists.parse_filename(filename)
    assert parsed
    started = time.process_time()
    with pytest.raises(Invalid):
        archives.check_archive(path, parsed)
    assert time.process_time() - started < 2  # half a second, on a quiet machine
    # Tracing is slow, and an eighth of a tar shows as well whether anything piles up. A zip is read from its end.
    data = path.read_bytes()
    stream = io.BytesIO(data[: len(data) // 8] if filename.endswith(".gz") else data)
    if filename.endswith(".gz") or make is wheel_bomb:
        tracemalloc.start()
        try:
            assert archives.core_metadata(stream, filename) is None
            assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
        finally:
            tracemalloc.stop()


# --- metadata and digests


def test_the_fields_an_index_needs_are_read() -> None:  # H10
    data = metadata(
        "Ours", "1.0", "Requires-Python: >=3.8,<4", "Dynamic: Version", "dynamic: Classifier", "Summary: Ä\n  b"
    )
    assert dists.parse_metadata(data + b"\nRequires-Python: no\n") == dists.CoreMetadata(
        metadata_version="2.1",
        name="Ours",
        version="1.0",
        requires_python=">=3.8,<4",
        dynamic=("version", "classifier"),
        summary="Ä b",
    )


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "Name: a",
                "Version : 1",
                "Version: 1",
                "Requires-Python: >=3",
                "requires-python:",
                "Dynamic: X",
                "",
                " more",
                "junk",
            ]
        ),
        st.text("aN: \t-é", max_size=12),
    )
)


@given(st.builds("\n".join, LINES))
def test_metadata_is_read_as_the_packaging_library_reads_it(text: str) -> None:
    ours = dists.parse_metadata(text.encode())
    theirs, unread = parse_email(text.encode())
    # It keeps the line ends of folded values, and gives no value to fields that come twice.
    if "\n " not in text and "\n\t" not in text and not {"name", "requires-python"} & unread.keys():
        assert ours.name == theirs.get("name", "")
        assert ours.requires_python == (theirs.get("requires_python") or None)
        assert list(ours.dynamic) == [name.lower() for name in theirs.get("dynamic", []) if name]


@given(st.binary(max_size=300))
def test_metadata_of_any_bytes_raises_nothing_and_holds_no_control_characters(data: bytes) -> None:
    found = dists.parse_metadata(b"Name: x" + data)
    assert found.name.isprintable() and dists.parse_metadata(data).summary.isprintable()


def test_long_metadata_costs_little() -> None:
    started = time.process_time()
    for data in (b"\n" * 2**23, b" " * 2**23, b"a:\n " * 2**21, b"Name: x\n" * 2**20, b"Summary: " + b"x\n " * 2**21):
        dists.parse_metadata(data)
    assert time.process_time() - started < 4


def test_metadata_is_offered_where_it_cannot_change() -> None:  # D1, D3
    said = dists.CoreMetadata
    assert dists.offers_metadata("wheel", said(metadata_version="1.0", dynamic=("version",)))
    assert dists.offers_metadata("sdist", said(metadata_version="2.2"))
    assert dists.offers_metadata("sdist", said(metadata_version="2.10"))
    assert not dists.offers_metadata("sdist", said(metadata_version="2.4", dynamic=("requires-dist",)))
    for version in ("2.1", "1.2", "", "2", "two", "2.2.1"):
        assert not dists.offers_metadata("sdist", said(metadata_version=version))
    assert not dists.offers_metadata("egg", said(metadata_version="2.2"))


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(data)
    expected = {
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "blake2_256": hashlib.blake2b(data, digest_size=32).hexdigest(),
    }
    assert dists.digests(tmp_path / "file", expected) == expected == dists.digests(io.BytesIO(data), iter(expected))

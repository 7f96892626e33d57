"""Core metadata out of archives: every form that is in use is read, byte for byte (V5, V6, U12)."""

from __future__ import annotations

import ast
import bz2
import gzip
import lzma
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel
from packed import INFO, archive_zip, check, tar_bytes

from pypiserver_lite import archives
from pypiserver_lite.errors import Invalid


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


def test_a_wheel_that_brings_what_another_project_says_of_itself_is_refused_and_read(tmp_path: Path) -> None:
    info = "ours-1.0.dist-info"
    members = [(f"{info}/METADATA", INFO), (f"{info}/WHEEL", b""), ("o-1.0.dist-info/METADATA", b"no")]
    path = tmp_path / "ours-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    assert archives.core_metadata(path, path.name) == INFO
    with pytest.raises(Invalid, match="of another project"):
        check(path)


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


def test_fifty_thousand_mutations_of_real_files_raise_nothing_and_cost_little() -> None:  # U12
    script = Path(__file__).with_name("fuzz_archives.py")
    root = script.parent.parent
    done = subprocess.run(
        [sys.executable, str(script), "11", "50000"],
        env={"PYTHONPATH": f"{root}:{script.parent}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = ast.literal_eval(done.stdout)
    assert sum(outcomes.values()) == 50_000 and min(outcomes.values()) > 1_000, outcomes

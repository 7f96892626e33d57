"""No hostile archive costs more than seconds and a few megabytes (U12)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel
from packed import INFO, archive_zip, check

from pypiserver_lite import archives, dists
from pypiserver_lite.archives import tars
from pypiserver_lite.errors import Invalid


def tarred(*members: tuple[bytes, int, bytes]) -> bytes:
    """A tar of members of these types that claim these sizes, with these bytes; the last is the sdist's PKG-INFO."""
    blocks = []
    for kind, size, data in [*members, (b"0", len(INFO), INFO)]:
        entry = tarfile.TarInfo("ours-1.0/x" if data is not INFO else "ours-1.0/PKG-INFO")
        entry.type, entry.size = kind, size
        blocks += [entry.tobuf(tarfile.GNU_FORMAT), data, bytes(-len(data) % 512)]
    return b"".join([*blocks, bytes(1024)])


def pax(data: bytes, kind: bytes = b"x") -> tuple[bytes, int, bytes]:
    """A pax header with these records."""
    return kind, len(data), data


def record(key: bytes, value: bytes) -> bytes:
    """One record of a pax header."""
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


def greedy_xz() -> bytes:
    """An xz file that claims to need 3 GB of memory."""
    data = bytearray(lzma.compress(tarred()))
    end = 12 + 4 * data[12]  # of the block's header, before its checksum
    data[data.index(b"\x21\x01", 12) + 2] = 39
    data[end : end + 4] = struct.pack("<L", zlib.crc32(data[12:end]))
    return bytes(data)


def wheel_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("METADATA", "WHEEL"):
            archive.writestr(f"ours-1.0.dist-info/{name}", bytes(100 * 2**20))
    # The sizes claimed are small: only what comes out counts.
    return target.getvalue().replace(struct.pack("<L", 100 * 2**20), struct.pack("<L", 1_000))


def directory(entries: bytes, size: int | None = None, offset: int = 0) -> bytes:
    """A zip that is nothing but a directory, which claims this size and this place."""
    return entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(entries) if size is None else size, offset, 0)


def entry(name: bytes, extra: int = 0) -> bytes:
    """What the directory of a zip has of an empty member, with as many bytes of extra fields claimed."""
    return b"PK\1\2" + bytes(24) + struct.pack("<3H", len(name), extra, 0) + bytes(12) + name


def directory_bomb() -> bytes:
    return directory(entry(b"") * 500_000)


def many_folders() -> bytes:
    return directory(b"".join(entry(b"ours-%d.dist-info/x" % number) for number in range(100_000)))


def overlapping_wheel(folder: Path) -> bytes:
    """A wheel whose METADATA claims to reach into the directory."""
    data = bytearray(make_wheel(folder).read_bytes())
    at = data.rindex(b"PK\1\2", 0, data.rindex(b"dist-info/METADATA"))
    data[at + 20 : at + 24] = struct.pack("<L", len(data))
    return bytes(data)


SMALL_TARS = {
    "a small negative size": ("negative", lambda: tarred((b"0", -1, b""))),
    "a negative size": ("overlap|readable|negative", lambda: tarred((b"0", -512, b""))),
    "a size back to the start": ("negative", lambda: tarred((b"0", 0, b""), (b"0", -1536, b""))),
    "a negative long name": ("overlap", lambda: tarred((b"L", -1024, b""))),
    "a negative pax header": ("overlap", lambda: tarred((b"g", -1024, b""))),
    "a negative size in pax": ("negative", lambda: tarred(pax(record(b"size", b"-1024")), (b"0", 0, b""))),
    "an endless size": ("no PKG-INFO among", lambda: tarred((b"0", 2**60, b""))),
    "an endless size in pax": ("no PKG-INFO among", lambda: tarred(pax(record(b"size", b"9" * 18)), (b"0", 0, b""))),
    "an endless long name": ("names too long", lambda: tarred((b"L", 2**60, b""))),
    "an endless pax header": ("names too long", lambda: tarred((b"x", 2**60, b""))),
    "records in records": ("broken pax", lambda: tarred(pax(b"2 " * 400_000 + b"="), (b"0", 0, b""))),
    "records without a value": ("broken pax", lambda: tarred(pax(b"9 abcdef\n" * 50_000 + b"="), (b"0", 0, b""))),
    "a long number": ("too long a number", lambda: tarred(pax(record(b"comment", b"1" * 900_000)), (b"0", 0, b""))),
    "names that are long together": (
        "names too long",
        lambda: tarred(*[(b"L", 60_000, b"ours-1.0/".ljust(60_000, b"x")), (b"0", 0, b"")] * 20),
    ),
    "names upon names": ("readable", lambda: tarred(*[(b"L", 1, b"a")] * 1_000)),
    "a map of holes": (
        "readable",
        lambda: tarred(
            pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")),
            (b"0", 2**21, b"99999\n".ljust(2**21, b"1")),
        ),
    ),
    "a map of holes in pax": ("readable", lambda: tarred(pax(record(b"GNU.sparse.map", b"0," * 400_000 + b"a")))),
}
HOSTILE: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    name: (".tar.gz", text, lambda make=make: gzip.compress(make())) for name, (text, make) in SMALL_TARS.items()
} | {
    # Each tarfile has its own idea of what nothing but zeros is.
    "a gzip bomb": (".tar.gz", "no PKG-INFO|overlap", lambda: gzip.compress(bytes(200 * 2**20), 1)),
    "a gzip bomb of one member": (
        ".tar.gz",
        "no PKG-INFO among",
        lambda: gzip.compress(tarred((b"0", 200 * 2**20, bytes(200 * 2**20))), 1),
    ),
    "a bzip2 bomb": (
        ".tar.bz2",
        "no PKG-INFO among",
        lambda: bz2.compress(tarred((b"0", 80 * 2**20, bytes(80 * 2**20))), 1),
    ),
    "an xz bomb": (
        ".tar.xz",
        "no PKG-INFO among",
        lambda: lzma.compress(tarred((b"0", 80 * 2**20, bytes(80 * 2**20))), preset=0),
    ),
    "an xz that wants memory": (".tar.xz", "not a readable", greedy_xz),
    "members": (".tar.gz", "no PKG-INFO among", lambda: gzip.compress(tarred(*[(b"0", 0, b"")] * 110_000), 1)),
    "empty parts": (".tar.gz", "too many parts", lambda: gzip.compress(b"") * 200_000),
    "a long gzip name": (".tar.gz", "ends too early", lambda: b"\x1f\x8b\x08\x08" + b"x" * 20_000_000),
    "a wheel bomb": ("-py3-none-any.whl", "damaged", wheel_bomb),
    "a directory": ("-py3-none-any.whl", "not just one folder", directory_bomb),
    "a directory of an sdist": (".zip", "beside it", directory_bomb),
    "folders": ("-py3-none-any.whl", "not just one folder", many_folders),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_file_costs_more_than_seconds_and_a_few_megabytes(tmp_path: Path, name: str) -> None:
    ending, text, make = HOSTILE[name]
    path = tmp_path / f"ours-1.0{ending}"
    path.write_bytes(make())
    parsed = dists.parse_filename(path.name)
    assert parsed
    started = time.process_time()
    with pytest.raises(Invalid, match=text):
        archives.check_archive(path, parsed)
    assert time.process_time() - started < 20  # a second on a quiet machine; what had no bound took minutes
    # Tracing is slow, and a part of what is long shows as well whether anything piles up. A zip is read from its end.
    data = path.read_bytes()
    stream = io.BytesIO(data[: max(len(data) // 8, 10_000)] if ".tar" in ending else data)
    if name.startswith("a directory"):
        return
    tracemalloc.start()
    try:
        assert archives.core_metadata(stream, path.name) is None
        assert tracemalloc.get_traced_memory()[1] < (32 if "holes" in name else 6) * 2**20
    finally:
        tracemalloc.stop()


def test_an_sdist_may_take_only_so_much_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_SECONDS_LIMIT", 0.3)
    # tarfile copies global headers for each member.
    many = pax(b"".join(record(b"k%06d" % number, b"") for number in range(60_000)), b"g")
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(gzip.compress(tarred(many, *[(b"0", 0, b"")] * 20_000), 1))
    started = time.process_time()
    with pytest.raises(Invalid, match="no PKG-INFO among"):
        check(path)
    assert time.process_time() - started < 10  # a few minutes without


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_the_parts_of_a_packed_file_are_counted(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_STREAMS_LIMIT", 50)
    data, path = tarred(), tmp_path / f"ours-1.0{ending}"
    packers: dict[str, Callable[[bytes], bytes]] = {".tar.bz2": bz2.compress, ".tar.xz": lzma.compress}
    parts = [packers.get(ending, gzip.compress)(data[at : at + 10]) for at in range(0, 490, 10)]
    path.write_bytes(b"".join(parts) + packers.get(ending, gzip.compress)(data[490:]))
    assert check(path) == INFO
    path.write_bytes(packers.get(ending, gzip.compress)(b"") + path.read_bytes())
    with pytest.raises(Invalid, match="too many parts"):
        check(path)


def test_pax_headers_and_long_names_share_one_bound(tmp_path: Path) -> None:
    names = [(b"L", 60_000, b"ours-1.0/".ljust(60_000, b"x")), (b"0", 0, b"")] * 9
    headers = [pax(record(b"comment", b"x" * 60_000)), (b"0", 0, b"")] * 9
    path = tmp_path / "ours-1.0.tar.gz"
    for alone in (names, headers):
        path.write_bytes(gzip.compress(tarred(*alone)))
        assert check(path) == INFO
    for much in (names + headers, headers * 2):
        path.write_bytes(gzip.compress(tarred(*much)))
        with pytest.raises(Invalid, match="names too long"):
            check(path)


def test_records_that_look_like_a_header_are_none(tmp_path: Path) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(gzip.compress(tarred(pax(record(b"comment", b"x" * 400)), (b"0", 0, b""))))
    assert check(path) == INFO


def test_metadata_with_holes_is_refused(tmp_path: Path) -> None:
    holes = record(b"GNU.sparse.map", b"0,5") + record(b"GNU.sparse.size", b"10")
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(gzip.compress(tarred(pax(holes))))
    with pytest.raises(Invalid, match="or has holes"):
        check(path)


def test_members_that_were_seen_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(gzip.compress(tarred(*[(b"0", 0, b"")] * 20_000), 1))
    tracemalloc.start()
    try:
        assert archives.core_metadata(path, path.name) == INFO
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


def test_an_sdist_whose_data_pack_well_and_come_first_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    numbers = random.Random(7)
    rows = b"".join(b'{"id": %d, "name": "record", "tags": ["a"]}' % numbers.randrange(1000) for _ in range(20_000))
    path.write_bytes(gzip.compress(tarred((b"0", 100 * len(rows), rows * 100)), 1))
    assert path.stat().st_size < 64 * 2**20 // 8 and 100 * len(rows) > 64 * 2**20
    assert check(path) == INFO


def test_a_large_sdist_is_unpacked_further_but_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(gzip.compress(tarred((b"0", 200_000, random.Random(5).randbytes(200_000)))))
    monkeypatch.setattr(tars, "_UNPACKED_LIMIT", 10_000)
    assert check(path) == INFO
    monkeypatch.setattr(tars, "_UNPACKED_MOST", 100_000)
    with pytest.raises(Invalid, match="no PKG-INFO among"):
        check(path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (lambda: directory(entry(b"") * 750_000), "too long zip directory"),
        (lambda: directory(entry(b"a/b"), size=2**32 - 2), "too long zip directory"),
        (lambda: directory(entry(b"a/b"), size=10_000), "too long zip directory"),
        (lambda: directory(entry(b"a/b"), offset=1), "too long zip directory"),
        (lambda: directory(entry(b"a/b"), size=46), "broken zip directory"),
        (lambda: directory(entry(b"a/b", extra=60_000) + bytes(10)), "broken zip directory"),
        (lambda: directory(entry(b"a/b") + b"PK"), "broken zip directory"),
    ],
    ids=["long", "claims all", "before the start", "behind the end", "cut", "an overlong member", "a cut member"],
)
def test_a_directory_of_a_zip_has_a_size_that_can_be(tmp_path: Path, data: Callable[[], bytes], text: str) -> None:
    for ending in ("-py3-none-any.whl", ".zip"):
        path = tmp_path / f"ours-1.0{ending}"
        path.write_bytes(data())
        with pytest.raises(Invalid, match=text):
            check(path)


@pytest.mark.parametrize("claims", [{}, {20: 1_000}, {24: 1_000}], ids=["both", "a size", "a packed size"])
def test_metadata_of_a_wheel_that_is_too_long_is_not_read(tmp_path: Path, claims: dict[int, int]) -> None:
    long = INFO.ljust(archives.METADATA_LIMIT + 1)
    info = "ours-1.0.dist-info"
    path = archive_zip(
        tmp_path / "ours-1.0-py3-none-any.whl", [(f"{info}/METADATA", long), (f"{info}/WHEEL", b"")], zipfile.ZIP_STORED
    )
    data = bytearray(path.read_bytes())
    for at, number in claims.items():
        struct.pack_into("<L", data, data.index(b"PK\1\2") + at, number)
    path.write_bytes(data)
    with pytest.raises(Invalid, match="metadata that is too long"):
        check(path)


def test_an_overlapping_member_of_a_zip_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    path.write_bytes(overlapping_wheel(tmp_path))
    with pytest.raises(Invalid, match="overlaps its directory"):
        check(path)


def test_an_upload_is_unpacked_to_its_end(tmp_path: Path) -> None:
    path = make_sdist(tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + random.Random(3).randbytes(200_000))[:-1])
    with pytest.raises(Invalid, match="ends too early"):
        check(path)
    assert archives.core_metadata(path, path.name) is not None

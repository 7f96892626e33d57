"""Mutates real wheels and sdists and reads them: ``python tests/fuzz_archives.py SEED COUNT``.

Fails at the first exception other than Invalid, the first file that takes
seconds, and at the end if memory grew.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import resource
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from builders import make_sdist, make_wheel

from pypiserver_lite import archives, dists
from pypiserver_lite.errors import Invalid

SECONDS, MEGABYTES = 8, 96
"""What one file may take of the processor, and all together of memory: a hang, or a size believed, takes more."""

NUMBERS = [0, 1, 2, 511, 512, 513, 0x7FFF, 0xFFFF, 10_000, 2**20, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": lambda data: gzip.compress(data, 1),
    ".tgz": lambda data: gzip.compress(data, 1),
    ".tar.bz2": bz2.compress,
    ".tar.xz": lambda data: lzma.compress(data, preset=0),
}


def tars(folder: Path) -> list[bytes]:
    """Unpacked sdists as each kind of tar writes them, with long names."""
    with tarfile.open(make_sdist(folder)) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    members.insert(1, (f"ours-1.0/{'long' * 40}/é.py", b"x" * 700))
    found = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        target = io.BytesIO()
        headers = {"comment": "ours"} if form == tarfile.PAX_FORMAT else None
        with tarfile.open(fileobj=target, mode="w", format=form, pax_headers=headers) as archive:
            for name, data in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        # Without most of the zeros at the end, so that more mutations hit something.
        found.append(target.getvalue().rstrip(b"\0") + bytes(1500))
    return found


def zips(folder: Path) -> dict[str, bytes]:
    """Wheels and a zipped sdist, by file name."""
    wheel = make_wheel(folder)
    large, sdist = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(large, "w") as archive, zipfile.ZipFile(wheel) as plain:
        for name in plain.namelist():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(plain.read(name))
    with zipfile.ZipFile(sdist, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ours-1.0/PKG-INFO", "Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    return {
        wheel.name: wheel.read_bytes(),
        "ours-1.0-py2-none-any.whl": large.getvalue(),
        "ours-1.0.zip": sdist.getvalue(),
    }


def mutated(original: bytes, rng: random.Random) -> bytearray:
    """The bytes with one to four things done to them."""
    data = bytearray(original)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(max(1, len(data)))
        length = rng.choice([1, 2, 4, 8, 46, 512, rng.randrange(1, 1500)])
        match rng.choice([0, 0, 1, 1, 2, 3, 4, 5]):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                number = rng.choice(NUMBERS)
                data[at : at + 8] = struct.pack("<Q", number)[: rng.choice([1, 2, 4, 8])]
            case 2:
                data[at : at + length] = b""
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                other = rng.randrange(max(1, len(data)))
                data[at : at + length] = data[other : other + length]
            case 5:
                del data[at + length :]
    return data


def mutated_tar(original: bytes, rng: random.Random) -> bytes:
    """The same, at odds with the fields of its headers, of which most get a right checksum again."""
    data = mutated(original, rng) if rng.random() < 0.3 else bytearray(original)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] != b"ustar":
            continue
        if rng.random() < 0.1:
            number = rng.choice(NUMBERS)
            octal, negative = b"%011o\0" % (number % 8**11), b"\xff" * 4 + struct.pack(">q", -(number >> 1))
            data[at + 124 : at + 136] = rng.choice([octal, negative, b"\x80\0\0\0" + struct.pack(">Q", number)])
        if rng.random() < 0.1:
            data[at + 156] = rng.choice(b"0157LKxgXSMVD")
        if rng.random() < 0.98:
            block = data[at : at + 512]
            total = 256 + sum(block) - sum(block[148:156])
            data[at + 148 : at + 156] = b"%06o\0 " % total
    for key in (b"path=", b"size=", b"mtime="):
        if rng.random() < 0.1 and (found := data.find(key)) >= 0:
            text = rng.choice([b"-1", b"-1024", b"99999999999999999", b"GNU.sparse.major=1\n", b"1e9", b"0"])
            data[found + len(key) : found + len(key) + len(text)] = text
    return bytes(data)


def cases(rng: random.Random, folder: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """File names, each with what makes another mutation of it."""
    zipped = [(name, lambda data=data: bytes(mutated(data, rng))) for name, data in zips(folder).items()]
    unpacked = tars(folder)
    whole = {f"ours-1.0{ending}": pack(unpacked[0]) for ending, pack in PACKERS.items()}
    packed = [(name, lambda data=data: bytes(mutated(data, rng))) for name, data in whole.items()]
    inside = [
        (f"ours-1.0{ending}", lambda data=data, pack=pack: pack(mutated_tar(data, rng)))
        for ending, pack in PACKERS.items()
        for data in unpacked
    ]
    return [*zipped, *zipped, *packed, *inside]


def main(seed: int, count: int) -> Counter[str]:
    """What became of `count` mutations."""
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        kinds = cases(rng, Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            filename, make = kinds[number % len(kinds)]
            data = make()
            parsed = dists.parse_filename(filename)
            assert parsed
            began = time.thread_time()
            try:
                archives.check_archive(io.BytesIO(data), parsed)
                outcomes[f"{parsed.kind} read"] += 1
            except Invalid:
                outcomes[f"{parsed.kind} refused"] += 1
            except BaseException:
                print(f"seed {seed}, mutation {number}: {filename}", file=sys.stderr)
                raise
            assert time.thread_time() - began < SECONDS, f"seed {seed}, mutation {number}: {filename} takes too long"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < MEGABYTES, f"memory grew by {grown} MB"
    return outcomes


if __name__ == "__main__":
    print(dict(main(int(sys.argv[1]), int(sys.argv[2]))))

"""Folders of small, valid wheels, made fast and kept for one run."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

_TIME, _DATE = 0, (40 << 9) | (1 << 5) | 1  # midnight, 1 January 2020


def stored_zip(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip archive without compression. Ten times as fast as `zipfile`, which is what 100,000 of them need."""
    body, directory, count = bytearray(), bytearray(), 0
    for name, data in members:
        spelled = name.encode()
        facts = struct.pack("<5H3L2H", 20, 0, 0, _TIME, _DATE, zlib.crc32(data), len(data), len(data), len(spelled), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + facts
        directory += struct.pack("<3H2L", 0, 0, 0, 0, len(body)) + spelled
        body += b"PK\x03\x04" + facts + spelled + data
        count += 1
    end = struct.pack("<4H2LH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + b"PK\x05\x06" + end)


def wheel_name(project: str, version: str) -> str:
    """The file name of a pure wheel."""
    return f"{project}-{version}-py3-none-any.whl"


def wheel(project: str, version: str, size: int = 1024) -> bytes:
    """A wheel of `size` bytes, or as small as it gets; `project` in its normalised form with underscores."""
    info = f"{project}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nRequires-Python: >=3.8\nSummary: small\n"
    tail = b"Wheel-Version: 1.0\nGenerator: benchmarks\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

    def packed(text: str) -> bytes:
        return stored_zip([(f"{info}/METADATA", text.encode()), (f"{info}/WHEEL", tail), (f"{info}/RECORD", b"")])

    least = packed(head)
    return packed(head + "\n" + "x" * (size - len(least) - 1)) if len(least) < size else least


def big_wheel(path: Path, project: str, version: str, size: int) -> Path:
    """A wheel of a little over `size` bytes in one stored member."""
    info = f"{project}-{version}.dist-info"
    block = bytes(range(256)) * 4096
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(f"{project}/data.bin", "w", force_zip64=True) as member:
            for _ in range(size // len(block)):
                member.write(block)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def asked(count: int = 200) -> list[str]:
    """The projects that are asked for, in every folder the same: five files each."""
    return [f"asked{number:04}" for number in range(count)]


def fill(folder: Path, total: int) -> Path:
    """A folder of `total` wheels: those of the `asked` projects, five each, and others of fifty files each."""
    folder.mkdir(parents=True)
    for project in asked():
        for minor in range(5):
            (folder / wheel_name(project, f"1.{minor}")).write_bytes(wheel(project, f"1.{minor}"))
    for number in range(total - 5 * len(asked())):
        project, version = f"other{number // 50:05}", f"1.{number % 50}"
        (folder / wheel_name(project, version)).write_bytes(wheel(project, version))
    return folder


class Folders:
    """What is served, made when first asked for, and gone with `close`."""

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="pypiserver-lite-bench-"))
        """A folder for everything else of this run."""

    def files(self, total: int, copy: str = "") -> Path:
        """`total` files (see `fill`), in a folder shared by all who ask for the same `copy`."""
        folder = self.scratch / f"files-{total}{copy}"
        return folder if folder.exists() else fill(folder, total)

    def projects(self, total: int) -> Path:
        """`total` projects of one file each."""
        folder = self.scratch / f"projects-{total}"
        if not folder.exists():
            folder.mkdir()
            for number in range(total):
                project = f"single{number:05}"
                (folder / wheel_name(project, "1.0")).write_bytes(wheel(project, "1.0"))
        return folder

    def long_project(self, total: int) -> Path:
        """One project, ``long``, of `total` files."""
        folder = self.scratch / f"long-{total}"
        if not folder.exists():
            folder.mkdir()
            for number in range(total):
                (folder / wheel_name("long", f"1.{number}")).write_bytes(wheel("long", f"1.{number}"))
        return folder

    def big_file(self, megabytes: int) -> Path:
        """One project, ``big``, with one file of that size."""
        folder = self.scratch / f"big-{megabytes}"
        if not folder.exists():
            folder.mkdir()
            big_wheel(folder / wheel_name("big", "1.0"), "big", "1.0", megabytes * 2**20)
        return folder

    def empty(self, name: str) -> Path:
        """A new, empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch))

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.scratch, ignore_errors=True)

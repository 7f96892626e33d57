"""What the bytes of a file say: its digests and core metadata, of one state of it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from .. import archives, digests, disk, dists, metadata
from ..errors import Unavailable
from ..metadata import About
from ..model import NO_HASHES, FileState

TICK_NS = 20_000_000
"""How far apart two changes must be to get different times on a file system with fine time stamps."""
COARSE_TICK_NS = 2_000_000_000
"""The same where time stamps have whole seconds (FAT: every other)."""

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Facts:
    """What one state of a file holds."""

    hashes: Mapping[str, str]
    """Algorithm → lower-case hex digest."""
    metadata_sha256: str | None = None
    """Of the core metadata offered beside the file; ``None`` if none may be offered (PEP 658)."""
    requires_python: str | None = None
    summary: str = ""
    """One line about the project, as this file has it."""


def young(changed_ns: int, now_ns: int) -> bool:
    """Whether a further change may still get this very time stamp, as of `now_ns`.

    A stamp from the future (clocks differ, or somebody set it) is not young:
    it never would grow old.
    """
    tick = TICK_NS if changed_ns % 1_000_000_000 else COARSE_TICK_NS
    return -COARSE_TICK_NS < now_ns - changed_ns < tick


class Changing(Unavailable):
    """A file is being written while we read it, so nothing certain can be said."""


class Finding(NamedTuple):
    """Facts, the state of the file they hold for, and whether that state can no longer change unseen."""

    key: FileState
    facts: Facts
    settled: bool


def describe(
    core: bytes | None, filename: str, hashes: Mapping[str, str] = NO_HASHES, said: About | None = None
) -> Facts:
    """The facts of a file with this core metadata, which parsed is `said`; its SHA-256 only if it may be offered."""
    parsed = dists.parse_filename(filename)
    if core is None or parsed is None:
        return Facts(hashes)
    said = said or metadata.parse(core)
    digest = hashlib.sha256(core).hexdigest() if said.holds_for(parsed.kind) else None
    return Facts(hashes, digest, said.requires_python, said.summary)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A regular file for reading; never waits for a pipe, never follows a link. Raises OSError."""
    with open(os.open(path, disk.READ), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(path)
        yield file


def read(path: str, filename: str, algorithms: Iterable[str]) -> Finding:
    """The facts of a file as it is now; digests, metadata and key are of one state.

    `path` leads through no link. Raises OSError, and Changing if the file
    does not hold still.
    """
    wanted = tuple(algorithms)
    for _ in range(2):
        with opened(path) as file:
            began = time.time_ns()
            before = os.fstat(file.fileno())
            key = FileState.of(path, before)
            digester = digests.Digester(wanted)
            while wanted and FileState.of(path, os.fstat(file.fileno())) == key and (data := file.read(_CHUNK)):
                digester.update(data)
            file.seek(0)
            facts = describe(archives.core_metadata(file, filename), filename, digester.hexdigests())
            if FileState.of(path, os.fstat(file.fileno())) == key:
                return Finding(key, facts, not young(before.st_mtime_ns, began))
    raise Changing(f"{filename} is being written")

"""The values everything else speaks in, and the protocols of what holds them.

All values are frozen. A project name is normalised once, at the door (PEP
503), and its type says so. Absent, unknown and empty are three things:
``None`` is "not here", an exception is "cannot say", an empty tuple is "here,
with nothing".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from packaging.utils import NormalizedName

if TYPE_CHECKING:
    from .metadata import About

NO_HASHES: Mapping[str, str] = MappingProxyType({})

SERIALS_SINCE = 1_577_836_800
"""The second, since 1970, from which serials count: the first of 2020."""
SETTLES = 3
"""Seconds until that of a change is over for sure; clocks differ, and FAT counts every other one."""

Side = Literal["", ".metadata", ".asc", ".provenance"]
"""What is asked for: the distribution itself, or one of the files that belong to it."""

Status = Literal["active", "archived", "quarantined", "deprecated"]
"""Project status markers (PEP 792)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One distribution (wheel or sdist) of a project, as a page lists it."""

    filename: str
    project: NormalizedName
    version: str
    """Normalised (PEP 440) where the file name has a valid version, else as spelled there."""
    size: int | None = None
    """Bytes (PEP 700)."""
    hashes: Mapping[str, str] = field(default_factory=lambda: NO_HASHES)
    """Algorithm → lower-case hex digest. The first entry is the one an HTML link shows."""
    md5: str | None = None
    """Hex digest for PyPI's JSON, where it is known; no page offers one to check a file by."""
    requires_python: str | None = None
    """The plain specifier, unescaped."""
    uploaded: datetime | None = None
    """Aware, in UTC."""
    yanked: str | None = None
    """``None``: not yanked; otherwise the reason, which may be empty (PEP 592)."""
    core_metadata: Mapping[str, str] | None = None
    """``None``: no ``FILE.metadata`` is offered; otherwise its digests, possibly none known (PEP 658, 714)."""
    has_signature: bool | None = None
    """Whether ``FILE.asc`` exists; ``None``: unknown."""
    provenance: str | None = None
    """Absolute https URL of the provenance object (PEP 740)."""
    url: str = ""
    """Where its own source gets it. Never shown to a client."""
    mirror: str = ""
    """Which of several addresses of that source lists it; nothing for the first."""


class _Followed:
    """What others may refer to without keeping it; from Python 3.11 on, dataclasses have a word for this."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(_Followed):
    """A project and its files. The same facts are the same object: what is rendered from it is kept by identity."""

    name: NormalizedName
    files: tuple[File, ...] = ()
    """Oldest version first, and in a stable order within a version."""
    versions: tuple[str, ...] = ()
    """Every version that has a file, without duplicates, oldest first (PEP 700)."""
    status: Status = "active"
    reason: str | None = None
    """Why the status is what it is (PEP 792)."""
    origin: str = ""
    """The address of the upstream whose word all this is; nothing for what folders have."""
    by_filename: Mapping[str, File] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_filename", {file.filename: file for file in self.files})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why something is hidden."""

    rule: str
    """The rule of a policy, by its name in the file of settings."""
    reason: str
    """What of the file or project it means: the rest of a sentence, which stays true while the file is hidden."""
    undecided: bool = False
    """Whether the rule hides it only until what it goes by is found out."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


class FileState(NamedTuple):
    """What tells one state of a file from another; two equal ones have the same bytes, once they are seconds old."""

    path: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> FileState:
        """The state that this status tells, within what SQLite can hold: 63 bits of inodes, the years 1677 to 2262."""
        modified = max(-(2**63), min(status.st_mtime_ns, 2**63 - 1))
        return cls(path, status.st_size, modified, status.st_ino & (2**63 - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """Content that lies on this machine's disk at `path` (resolved: it leads through no symbolic link)."""

    path: Path
    tag: str | None = None
    """Names these very bytes, for an ETag; ``None``: the file's own times and size do."""
    seen: FileState | None = field(default=None, compare=False)
    """The file as it was when it was looked up, if that was looked at."""


class Followable(Protocol):
    """A file that may still grow, for those who do not wait for it."""

    def ready(self, at: int) -> int:
        """How many bytes from `at` on may be read now. Raises Unavailable or Missing if there are none, nor will be."""

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`, of those that may be read."""

    def watch(self, wake: Callable[[], object]) -> None:
        """Have `wake` called, in any thread, whenever there may be more, until that is all."""


HandOver = Callable[[Followable, int, int], bytes]
"""Makes of a file and a half-open range what a server takes as the last piece of an answer, to send it by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Content that comes in pieces.

    `read(start, stop)` yields the bytes of that half-open range; `stop` of
    ``None`` is the end. `size` in bytes, ``None`` if unknown (then only the
    whole can be read). `tag` names these very bytes, for an ETag.
    `read_or_hand(start, stop, hand_over)` yields the same, but may leave what
    comes after the first piece to `hand_over`, and yield as the last piece
    what that makes of it. `soon(start)` says whether a range from there can
    begin without waiting for all that comes before it; ``None``: any can.
    """

    read: Callable[[int, int | None], Iterable[bytes]]
    size: int | None
    tag: str | None = None
    modified: datetime | None = None
    read_or_hand: Callable[[int, int | None, HandOver], Iterable[bytes]] | None = field(default=None, compare=False)
    soon: Callable[[int], bool] | None = field(default=None, compare=False)


Content = LocalFile | Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A received and checked distribution, whole on disk under a temporary name, not yet visible."""

    filename: str
    project: NormalizedName
    version: str
    staged: Path
    """The file, beside its destination."""
    size: int
    digests: Mapping[str, str]
    """At least ``sha256``, lower-case hex."""
    metadata: bytes
    """The core metadata in it, so that it need not be opened again."""
    about: About
    """The same, parsed."""
    signature: bytes | None = None
    """For ``FILE.asc``."""
    provenance: bytes | None = None
    """For ``FILE.provenance`` (PEP 740)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A file of a release as it lies on this machine's disk, with what lies beside it: what is pushed elsewhere."""

    filename: str
    project: NormalizedName
    body: FileState
    sha256: str | None
    """As it was when it was last read, if it was."""
    sides: Mapping[str, FileState]
    """By ending: ``.metadata``, ``.asc``, ``.provenance``, ``.yanked``."""


class Restriction(Protocol):
    """What a token may be used for. Frozen, and hashable."""

    @property
    def name(self) -> str:
        """What its owner calls it."""

    @property
    def user(self) -> str | None:
        """Whose rights it narrows; ``None``: nobody's, and then it has exactly what it says."""

    @property
    def may(self) -> frozenset[str] | None:
        """The actions it may be used for; ``None``: whatever its user may."""

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes it may be used at, by name; none: all."""

    @property
    def projects(self) -> tuple[str, ...]:
        """The projects it may be used for, names or patterns; none: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Someone who proved who they are."""

    name: str
    """As in the password file; of a token of no user, as `shown`, which nobody there can be called."""
    token: Restriction | None = None
    """What they proved it with, if that was a token; its limits narrow whatever rules give."""

    @property
    def shown(self) -> str:
        """What they are called in logs and on pages: their name, or ``token:NAME``."""
        return self.name


class Opener(Protocol):
    """Something that opens files."""

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """One file of a project, or what belongs to it; ``None`` if the *project* is not here.

        Raises Missing if the project is here and has no such file, Unavailable when we cannot say.
        """


class Source(Opener, Protocol):
    """Something that holds projects: a folder, an upstream, several sources in order."""

    def names(self) -> Sequence[NormalizedName]:
        """Every project, sorted; the very same object while the set is unchanged."""

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """Every file's project and name, in the order of `names`, without looking into any file."""

    def project(self, name: NormalizedName) -> Project | None:
        """The project, or ``None`` if it is not ours; the very same object while nothing about it changed.

        Raises Unavailable when we cannot say; that ends the search.
        """


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A store at one moment; another object after anything in it may have changed."""

    serial: int
    """The second of its last change, counted from 2020 so that XML-RPC's 32 bits hold it. It only grows,
    at a removal too, and is the same in every process that looks at the store."""
    settled: bool = False
    """Whether that second is over. Then the serial is one more: who read all within it may have missed a part."""

    @property
    def moment(self) -> int:
        """The serial as seconds since 1970."""
        return self.serial + SERIALS_SINCE


class Note(NamedTuple):
    """What a list of files shows of one that was read."""

    path: str
    mtime_ns: int
    summary: str


class Held(Source, Protocol):
    """A source of which is known when it changes: every change is seen by the next call of any method."""

    def state(self, now: float | None = None) -> State:
        """What is here at this moment: the very same object while nothing changed. `now` is in seconds since 1970."""


class Store(Held, Protocol):
    """A source that can be changed."""

    def stage(self) -> Path:
        """A folder on the file system where uploads end up; temporary files are made here."""

    def add(self, upload: Upload, *, overwrite: bool = False) -> bool:
        """Publish atomically and durably; false if the very same bytes were here already.

        Raises Conflict when a file of that name has other bytes, or one of
        another name is the same part of the same release, and `overwrite` is
        false; with it either is replaced. Raises NoSpace or ReadOnly when the disk refuses.
        The staged body is gone afterwards, whatever happened.
        """

    def remove(self, name: NormalizedName, version: str) -> tuple[str, ...]:
        """Remove all files of a release and what belongs to them; the file names. Raises Missing if there are none."""

    def yank(self, name: NormalizedName, version: str, reason: str | None) -> tuple[str, ...]:
        """Yank a release with a reason (may be empty), or un-yank with ``None``; the file names (PEP 592).

        Raises Missing if the release has no files.
        """

    def pieces(self, name: NormalizedName, version: str) -> tuple[Piece, ...]:
        """The files of a release, to be taken by another store. Raises Missing if it has none, Unavailable."""

    def take(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        """Publish files of a release of another store durably, all or none; the names of those that were not here.

        Raises Conflict if any cannot be without replacing something, NoSpace or ReadOnly when the disk refuses, Invalid
        where there is no place for any.
        """


class Policy(Protocol):
    """What an index shows of what it has."""

    def governs(self, name: NormalizedName) -> bool:
        """Whether a rule may hide a file of this project."""

    def hides(self, name: NormalizedName) -> Verdict | None:
        """Why the whole project is hidden, whatever files it has; ``None`` if it is not."""

    def names(self, names: Sequence[NormalizedName]) -> Sequence[NormalizedName]:
        """Those that are not hidden as a whole: the very same object while both stay the same."""

    def trim(self, project: Project, source: Opener) -> Project:
        """The project without the files that are hidden now: the very same object while both stay the same.

        `source` opens its files, for what their core metadata says.
        """

    def verdicts(self, project: Project, source: Opener) -> Mapping[str, Sequence[Verdict]]:
        """The files of a project that are hidden now, each with every rule that hides it, in order."""

    def token(self) -> object:
        """The very same object while no rule says something else of anything that was asked before."""

    def changed(self) -> int:
        """The last second since 1970 as of which time may have changed what is hidden; the same in every process."""


class KeptUp(Protocol):
    """A source that reads its files in the background, and remembers what it read."""

    def start(self) -> None:
        """Begin to read, the newest files first; also in processes forked from this one."""

    def progress(self) -> tuple[int, int]:
        """How many files are known, of how many; nobody has looked yet if none are."""

    def notes(self) -> Iterator[Note]:
        """What is known of every file that was read, also of some that are gone; in no order, for background work."""

    def notes_state(self) -> object:
        """Something that changes whenever `notes` does."""

    def close(self) -> None:
        """Stop reading, and close what is open; a page asked for afterwards still reads what it needs."""

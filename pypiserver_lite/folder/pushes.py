"""Releases that go from one folder to another: the very same bytes with all that lies beside them, all or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from packaging.utils import NormalizedName

from .. import digests, disk
from ..errors import Conflict, DiskFailed
from ..model import FileState, Piece
from .changes import Changes
from .facts import opened, read
from .listing import SIDES, Entry
from .memory import Reader
from .moves import moving
from .projects import Projects
from .snapshot import Snapshot

_CHUNK = 2**20


class Pushes:
    """What leaves the folders of a snapshot as a whole release, and what comes so. Safe for threads and processes."""

    def __init__(self, snapshot: Snapshot, projects: Projects, reader: Reader, changes: Changes) -> None:
        self._snapshot, self._projects, self._reader, self._changes = snapshot, projects, reader, changes

    def pieces(self, name: NormalizedName, version: str) -> tuple[Piece, ...]:
        """The files of a release; see `Folder.pieces`."""
        try:
            pieces = [self._piece(entry, name) for entry in self._snapshot.listed(self._changes.release(name, version))]
            return tuple(sorted(pieces, key=lambda piece: piece.filename))
        except OSError as error:
            raise disk.unreadable(error) from error

    def _piece(self, entry: Entry, name: NormalizedName) -> Piece:
        body = self._projects.look(entry)
        if body is None:
            raise DiskFailed(f"{entry[1]} is going away; try again shortly")
        sides = {side: self._projects.beside(entry, side) for side in SIDES}
        return Piece(
            filename=entry[1],
            project=name,
            body=body,
            sha256=self._known(body),
            sides={side: state for side, state in sides.items() if state is not None},
        )

    def take(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        """Publish files of another folder; see `Folder.take`."""
        try:
            return self._take(pieces)
        except FileExistsError as error:
            raise Conflict("somebody else published a file of this name meanwhile; nothing was pushed") from error
        except OSError as error:
            raise disk.translate(error) from error

    def _take(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        self._snapshot.look()
        root = Path(self._snapshot.first_root())
        with suppress(FileNotFoundError):  # what somebody removes in this moment is looked at again below
            self._places(pieces, root, sure=False)  # what cannot be need not be copied first
        with ExitStack() as stack:
            copies = {piece: self._copy(stack, piece, root) for piece in pieces}
            moves = stack.enter_context(moving(self._snapshot))
            self._snapshot.look()
            places = self._places(pieces, root, sure=True)
            parts: dict[Entry, Path | None] = {}
            for piece in pieces:
                folder = str(root) if (there := places[piece]) is None else there[0]
                for side in SIDES:
                    final, staged = Path(folder, piece.filename + side), copies[piece].get(side)
                    if there is None or (staged is not None and not os.path.lexists(final)):
                        parts[folder, final.name] = staged  # of another file that had this name, nothing stays
                if there is None:
                    parts[folder, piece.filename] = copies[piece][""]
                    self._remember(piece, copies[piece][""], root)
            moves.make(parts)
        return tuple(piece.filename for piece in pieces if places[piece] is None)

    def _places(self, pieces: Sequence[Piece], root: Path, *, sure: bool) -> dict[Piece, Entry | None]:
        """Where each lies already, with the same bytes; ``None``: nowhere. Raises Conflict, which names all.

        `sure`: nobody else publishes meanwhile, so that what is there and was not seen is no distribution.
        """
        found: dict[Piece, Entry | None] = {}
        conflicts = []
        for piece in pieces:
            self._changes.check(piece.project)
            entry = self._snapshot.find(piece.project, piece.filename)
            there = None if entry is None else self._projects.look(entry)
            rivals = self._changes.rivals(piece.filename, piece.project, root)
            found[piece] = None if there is None else entry
            if there is None and rivals:
                conflicts.append(f"{rivals[0][1]} is the same part of the release as {piece.filename}")
            elif there is None and sure and os.path.lexists(root / piece.filename):
                conflicts.append(f"something else is called {piece.filename}")
            elif there is not None and (
                there.size != piece.body.size or self._digest(there) != (piece.sha256 or self._digest(piece.body))
            ):
                conflicts.append(f"{piece.filename} has other content there")
        if conflicts:
            raise Conflict(f"{'; '.join(conflicts)}: a release does not change, and nothing was pushed")
        return found

    def _digest(self, state: FileState) -> str:
        return self._known(state) or read(state.path, os.path.basename(state.path), ["sha256"]).facts.hashes["sha256"]

    def _known(self, state: FileState) -> str | None:
        facts = self._reader.known([state]).get(state)
        return None if facts is None else facts.hashes.get("sha256")

    def _copy(self, stack: ExitStack, piece: Piece, root: Path) -> dict[str, Path]:
        """Durable copies in `root` of a file, as ``""``, and of what belongs to it. Raises OSError, DiskFailed."""
        copies = {"": self._copied(stack, piece.body, root, piece.sha256)}
        return copies | {side: self._copied(stack, state, root) for side, state in piece.sides.items()}

    def _copied(self, stack: ExitStack, state: FileState, root: Path, sha256: str | None = None) -> Path:
        digester = digests.Digester(["sha256"])
        with opened(state.path) as file:
            copy = stack.enter_context(disk.staged(root, _read_by(file, digester))).path
            unchanged = FileState.of(state.path, os.fstat(file.fileno())) == state
        name = os.path.basename(state.path)
        if not unchanged:
            raise DiskFailed(f"{name} changes while it is read; try again shortly")
        if sha256 not in (None, digester.hexdigests()["sha256"]):
            raise DiskFailed(f"{name} has other bytes than when it was read before, without any sign of a change")
        return copy

    def _remember(self, piece: Piece, body: Path, root: Path) -> None:
        """What is known of the bytes need not be read again by the first who asks for the page."""
        facts = self._reader.known([piece.body]).get(piece.body)
        if facts is not None:
            # Of what gets that name in a moment: then somebody may remove it at once.
            self._reader.remember(FileState.of(str(root / piece.filename), body.stat()), facts)


def _read_by(file: BinaryIO, digester: digests.Digester) -> Iterator[bytes]:
    while data := file.read(_CHUNK):
        digester.update(data)
        yield data

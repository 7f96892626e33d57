"""Changes to the packages folders: uploads, removals and yanks, each whole, and seen at once."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from packaging.utils import NormalizedName

from .. import digests, disk, dists
from ..errors import Conflict, Invalid, Missing
from ..model import FileState, Upload
from . import facts
from .listing import SIDES, Entry
from .memory import Reader
from .moves import moving, remove_if_possible
from .projects import REASON_LIMIT, Projects
from .snapshot import Snapshot


class Changes:
    """What is done to the folders of a snapshot. Safe for threads and processes."""

    def __init__(self, snapshot: Snapshot, projects: Projects, reader: Reader) -> None:
        self._snapshot, self._projects, self._reader = snapshot, projects, reader

    def add(self, upload: Upload, *, overwrite: bool = False) -> bool:
        """Publish an upload; see `Folder.add`."""
        try:
            return self._add(upload, overwrite=overwrite)
        except (IsADirectoryError, FileExistsError) as error:
            raise _taken(upload.filename) from error
        except OSError as error:
            raise disk.translate(error) from error
        finally:
            remove_if_possible(upload.staged)

    def _add(self, upload: Upload, *, overwrite: bool) -> bool:
        self._snapshot.look()
        self.check(upload.project)
        entry = self._snapshot.find(upload.project, upload.filename)
        there = None if entry is None else self._projects.look(entry)
        if entry is None or there is None:
            folder = Path(self._snapshot.first_root())
        elif self._has_bytes(there, upload):
            self._add_sides(entry, upload)
            return False
        elif not overwrite:
            raise _taken(upload.filename)
        else:
            folder = Path(entry[0])
        final = disk.safe_join(folder, upload.filename)
        with ExitStack() as stack:
            body = upload.staged
            if body.stat().st_dev != folder.stat().st_dev:
                body = stack.enter_context(disk.copy(body, folder)).path
            self._remember(upload, body, final)
            sides = _stage_sides(stack, folder, upload)
            try:
                self._publish(upload, body, final, sides, overwrite=overwrite)
            except FileExistsError:
                return self._lost_race(upload, folder)
        return True

    def _publish(self, upload: Upload, body: Path, final: Path, sides: dict[str, Path], *, overwrite: bool) -> None:
        """Put sides and body in place, and away what they replace. Raises Conflict, FileExistsError."""
        with ExitStack() as stack, moving(self._snapshot) as moves:
            # The first root is what all uploads have in common: of two spellings, one process sees the other's.
            moves.hold(final.parent)
            rivals, replaces = self.rivals(upload.filename, upload.project, final.parent), os.path.lexists(final)
            if rivals and not overwrite:
                raise Conflict(
                    f"{rivals[0][1]} is that part of {upload.project} {upload.version} already, and a release does not "
                    "change; give it a new version and build it again"
                )
            if replaces and not overwrite:
                raise FileExistsError(final.name)
            # A yank outlives the replacement of a file: taking it back is a decision of its own.
            marks = [Path(folder, f"{name}.yanked") for folder, name in rivals if not replaces]
            for mark in filter(Path.is_file, marks[:1]):
                sides[".yanked"] = stack.enter_context(disk.copy(mark, final.parent)).path
            # Sides first; what lies there of an earlier file of this name is out of date.
            stays = {".yanked"} - sides.keys() if replaces else set()
            new: dict[Entry, Path | None] = {
                (str(final.parent), f"{final.name}{side}"): sides.get(side) for side in SIDES if side not in stays
            }
            new[str(final.parent), final.name] = body
            gone = self._gone(rivals)
            # The release is on its page at every moment.
            moves.make(gone | new if replaces else new | gone, overwrite=replaces)

    def rivals(self, filename: str, project: NormalizedName, folder: Path) -> list[Entry]:
        """The files under other names that are the same part of the same release (PEP 503, 440)."""
        part = dists.part_of_release(filename, project)
        # Another process may have published into the folder since it was last looked at.
        spelled = re.compile(project.replace("-", "[-_.]+") + "-", re.ASCII | re.IGNORECASE)
        entries = {(str(folder), name) for name in os.listdir(folder) if spelled.match(name)}
        entries.update(self._snapshot.projects.get(project, ()))
        return sorted(
            entry
            for entry in entries
            if entry[1] != filename
            and dists.part_of_release(entry[1], project) == part
            and self._projects.look(entry) is not None
        )

    def _lost_race(self, upload: Upload, folder: Path) -> bool:
        """Somebody else published this name first: fine if with the same bytes."""
        there = self._projects.look((str(folder), upload.filename))
        if there is None:
            raise _taken(upload.filename)
        with self._snapshot.changing(str(folder)) as changes:
            changes[upload.filename] = True
        if not self._has_bytes(there, upload):
            raise _taken(upload.filename)
        return False

    def _has_bytes(self, there: FileState, upload: Upload) -> bool:
        if there.size != upload.size:
            return False
        known = self._reader.known([there]).get(there)
        digest = known.hashes.get("sha256") if known is not None else None
        if digest is None:
            digest = facts.read(there.path, upload.filename, ["sha256"]).facts.hashes["sha256"]
        return hmac.compare_digest(digest, upload.digests["sha256"])

    def _add_sides(self, entry: Entry, upload: Upload) -> None:
        """The file is here; a signature or provenance that is not yet is taken all the same."""
        folder, name = entry
        with ExitStack() as stack:
            sides = _stage_sides(stack, Path(folder), upload)
            new = {side: staged for side, staged in sides.items() if not os.path.lexists(Path(folder, name + side))}
            if new:
                with moving(self._snapshot) as moves:
                    moves.make({(folder, name + side): staged for side, staged in new.items()})

    def _remember(self, upload: Upload, body: Path, final: Path) -> None:
        """What is known about the bytes need not be read again by the first who asks for the page."""
        hashes = dict(upload.digests)
        wanted = (*self._reader.algorithms, *self._reader.extra)
        missing = [name for name in wanted if name not in hashes]
        if missing:
            hashes |= digests.of_file(body, missing)
        known = facts.describe(upload.metadata, upload.filename, {name: hashes[name] for name in wanted}, upload.about)
        self._reader.remember(FileState.of(str(final), body.stat()), known)

    def remove(self, name: NormalizedName, version: str) -> tuple[str, ...]:
        """Remove a release; see `Folder.remove`."""
        self.release(name, version)  # what is not here need not wait for others
        try:
            with moving(self._snapshot) as moves:
                # Now that nobody else changes it: another process may have published more of it.
                entries = self.release(name, version)
                moves.make(self._gone(entries))
        except OSError as error:
            raise disk.translate(error) from error
        return tuple(sorted({entry[1] for entry in entries}))

    def yank(self, name: NormalizedName, version: str, reason: str | None) -> tuple[str, ...]:
        """Yank or un-yank a release; see `Folder.yank`."""
        text = (reason or "").encode("utf-8", "replace")
        if len(text) > REASON_LIMIT:
            raise Invalid(f"the reason is too long; {REASON_LIMIT} bytes are kept")
        self.release(name, version)
        try:
            with ExitStack() as stack, moving(self._snapshot) as moves:
                # A copy that another folder's wins over is not on the page.
                entries = tuple(self._snapshot.listed(self.release(name, version)))
                marks: dict[Entry, Path | None] = {(folder, f"{filename}.yanked"): None for folder, filename in entries}
                for mark in marks if reason is not None else ():
                    marks[mark] = stack.enter_context(disk.staged(Path(mark[0]), [text])).path
                moves.make(marks)
        except OSError as error:
            raise disk.translate(error) from error
        return tuple(sorted(entry[1] for entry in entries))

    def _gone(self, entries: Sequence[Entry]) -> dict[Entry, Path | None]:
        """Files and what belongs to them, to be removed; copies that others win over first, or they would be seen."""
        # The file first: a mark that went before it would un-yank it for a moment.
        last_first = reversed(self._snapshot.ranked(entries))
        return {(folder, name + side): None for folder, name in last_first for side in ("", *SIDES)}

    def check(self, name: NormalizedName) -> None:
        """Raise Unavailable if the project may have files that nobody can look at now."""
        self._snapshot.roots.check_name(name)
        if name not in self._snapshot.projects:
            self._snapshot.roots.check()

    def release(self, name: NormalizedName, version: str) -> tuple[Entry, ...]:
        """Every file of a release, in all folders. Raises Missing if there are none, Unavailable."""
        self._snapshot.look()
        self.check(name)
        entries = tuple(
            entry
            for entry in self._snapshot.projects.get(name, ())
            if (parsed := dists.parse_filename(entry[1])) is not None and dists.same_version(parsed.version, version)
        )
        if not entries:
            raise Missing(f"there is no release {version[:100]!a} of {name}")
        return entries


def _taken(filename: str) -> Conflict:
    return Conflict(f"{filename} already exists with other content; give the release a new version and build it again")


def _stage_sides(stack: ExitStack, folder: Path, upload: Upload) -> dict[str, Path]:
    """Side files of an upload, staged and durable: nothing but renames is left to do."""
    sides: dict[str, Path] = {}
    for side, data in ((".asc", upload.signature), (".provenance", upload.provenance)):
        if data is not None:
            sides[side] = stack.enter_context(disk.staged(folder, [data])).path
    return sides

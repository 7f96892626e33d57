"""Names that change together, in one folder or several: all of them, or none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path

from .. import disk
from ..errors import DiskFailed
from .listing import SIDES, Entry
from .snapshot import Snapshot

_log = logging.getLogger(__name__)


class Moves:
    """Gives names in folders of a snapshot to staged files, and takes them away; each is seen at once."""

    def __init__(self, snapshot: Snapshot, locks: ExitStack) -> None:
        self._snapshot, self._locks = snapshot, locks
        self.folders: set[Path] = set()
        """Where something was to be changed."""
        self._done: list[tuple[Path, Path | None]] = []
        """What was changed, and where lies what had that name before."""

    def hold(self, folder: Path) -> None:
        """Let nobody else change names there until all is done. Raises OSError, Busy."""
        self._locks.enter_context(disk.exclusive(folder))

    def make(self, parts: Mapping[Entry, Path | None], *, overwrite: bool = False) -> None:
        """Give staged files these names, one after the other; those of ``None`` go.

        What lies beside a distribution is replaced, a distribution itself only
        with `overwrite`, and that cannot be taken back: let it be the last.
        Raises OSError, FileExistsError, Busy.
        """
        folders = {folder: Path(folder) for folder, _ in parts}
        for path in folders.values():
            self.hold(path)
        for path in folders.values():
            disk.check_writable(path)
        self.folders.update(folders.values())
        for folder, some in groupby(parts.items(), lambda part: part[0][0]):
            with self._snapshot.changing(folder) as changes:
                for (_, name), staged in some:
                    self._move(folders[folder] / name, staged, overwrite=overwrite)
                    changes[name] = staged is not None

    def _move(self, final: Path, staged: Path | None, *, overwrite: bool) -> None:
        if staged is None:
            aside = disk.set_aside(final)
            self._done += [] if aside is None else [(final, aside)]
        elif final.name.endswith(SIDES):
            before = disk.copy(final, final.parent).path if final.is_file() else None
            self._done += [] if before is None else [(final, before)]
            if staged.stat().st_dev != final.parent.stat().st_dev:
                staged = disk.copy(staged, final.parent).path
            disk.place(staged, final, overwrite=True)
            self._done += [(final, None)] if before is None else []
        else:
            disk.place(staged, final, overwrite=overwrite)
            self._done += [] if overwrite else [(final, None)]

    def take_back(self) -> None:
        """Let everything be as it was; what cannot be is a line of the log."""
        for final, before in reversed(self._done):
            try:
                with self._snapshot.changing(str(final.parent)) as changes:
                    if before is None:
                        final.unlink()
                    else:
                        before.replace(final)
                    changes[final.name] = before is not None
            except OSError as error:
                _log.warning("%a is not as it was before a change that failed: %s", final.name, error.strerror)

    def let_go(self) -> None:
        """Remove what was replaced."""
        for _, before in self._done:
            if before is not None:
                remove_if_possible(before)


@contextmanager
def moving(snapshot: Snapshot) -> Iterator[Moves]:
    """Change names together: for other programs one after the other, but all and durably, or none if anything fails.

    Raises OSError, Busy.
    """
    with ExitStack() as locks:
        moves = Moves(snapshot, locks)
        # Whatever is changed, or two might wait for each other's folders. Where it is lost, nothing is uploaded.
        with suppress(DiskFailed):
            moves.hold(Path(snapshot.first_root()))
        try:
            yield moves
        except BaseException:
            moves.take_back()
            raise
    # The next need not wait for the disk.
    try:
        for folder in moves.folders:
            disk.sync_folder(folder)
    finally:
        moves.let_go()


def remove_if_possible(path: Path) -> None:
    """Remove a file that is in nobody's way; what fails is a line of the log."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%a could not be removed: %s", path.name, error.strerror)

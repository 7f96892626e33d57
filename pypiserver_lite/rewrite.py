"""Files of the operator, changed as a whole: password files, and the file of settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import disk


def rewrite(path: Path, change: Callable[[bytes], bytes], *, create: int | None = None) -> None:
    """Replace a file by `change` of its bytes in one step; its rights stay, and a link to it stays a link.

    One that is missing is made with the rights `create`, unless that is
    ``None``. Two at once do not undo each other. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    with disk.exclusive(target.parent):
        try:
            status = target.stat()
        except FileNotFoundError:
            if create is None:
                raise
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise OSError("that is not a file")
        data = change(target.read_bytes() if status else b"")
        with disk.Staged(target.parent, mode=create if status is None and create is not None else 0o600) as made:
            made.write(data)
            if status is not None:
                _copy_rights(status, made.path)
            made.commit()
            disk.place(made.path, target, overwrite=True)
        disk.sync_folder(target.parent)


def _copy_rights(before: os.stat_result, made: Path) -> None:
    if hasattr(os, "chown"):
        for owner, group in ((-1, before.st_gid), (before.st_uid, -1)):
            # Only root may give a file away. Whoever else may write here keeps what can be kept.
            with suppress(PermissionError):
                os.chown(made, owner, group)
    os.chmod(made, stat.S_IMODE(before.st_mode))

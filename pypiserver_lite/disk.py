"""Bytes on disk: written aside, made durable, published whole or not at all.

Nothing is ever written under its final name. A file is staged beside its
destination under a dot-name, synced, and then linked (the kernel picks one
winner among threads and processes) or renamed over the old one (readers keep
what they have open). A crash leaves at most a staged file, which `sweep`
removes at the next start.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from .errors import Busy, DiskFailed, Missing, NoSpace, ReadOnly, Unavailable

try:
    import fcntl
except ImportError:  # Windows has no flock; what follows does without
    fcntl = None  # type: ignore[assignment]  # a module name cannot be declared optional

LOCKS = fcntl is not None
"""Whether this system has locks on files; not every file system of it needs to."""
READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""How a file that others may write to is opened: no link is followed that was put in its place, no pipe waited for."""
STAGED_PREFIX = ".pypiserver-lite-"
_STAGED = re.compile(r"\.pypiserver-lite-([0-9]{1,10})-[0-9a-f]{16}\.tmp", re.ASCII)
_STARTED = time.time()
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})
"""What the system says of a path where there is nothing to be read; anything else means that nobody can say."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEFTOVER_AGE = 60.0
_LOCK_PATIENCE = 10.0


def safe_join(root: Path, *segments: str) -> Path:
    """`root` and one file or folder name after another; the only way from a request's text to a path.

    `segments` are already percent-decoded, once. Raises Missing for one that
    is empty, a dot-segment, holds a separator, backslash, colon, NUL or
    control character, cannot be spelled in UTF-8 or is longer than 255 bytes.
    """
    for segment in segments:
        if segment in ("", ".", "..") or any(c in "/\\:\x7f" or c < " " for c in segment) or not _spelled(segment):
            raise Missing("there is no such file")
    return root.joinpath(*segments)


def _spelled(segment: str) -> bool:
    try:
        return len(segment.encode()) <= 255
    except UnicodeEncodeError:
        return False


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those around it that are missing; of those that root makes see `give`. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    path.mkdir(mode, parents=True, exist_ok=True)
    for folder in reversed(missing):
        give(folder, like=folder.parent)


def give(new: Path | int, *, like: Path) -> None:
    """What root just made, in a folder of the user that the server runs as, is theirs as that folder. Raises OSError.

    Else a command that root ran would leave what the server cannot use. `new` is a path or an open file.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    handle = new if isinstance(new, int) else os.open(new, READ)
    try:
        made, owner = os.fstat(handle), like.stat()
        # Somebody may have put another name of a file of root's in its place.
        if made.st_uid == 0 and owner.st_uid != 0 and (made.st_nlink == 1 or stat.S_ISDIR(made.st_mode)):
            with suppress(PermissionError):  # some file systems have no owners
                os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        if handle != new:
            os.close(handle)


def _unseen(folder: Path) -> Path:
    return folder / f"{STAGED_PREFIX}{os.getpid()}-{secrets.token_hex(8)}.tmp"


class Staged:
    """A new file under a temporary name in `folder`, with the rights `mode` as the umask has them, to be published or
    discarded.

    As a context manager it discards itself unless it was published. Raises
    OSError when the disk refuses; then nothing is left behind.
    """

    def __init__(self, folder: Path, *, mode: int = 0o666) -> None:
        self.path = _unseen(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        # 0o666: a web server beside us may send the file.
        self._handle = os.open(self.path, flags, mode)
        # Tells `sweep`, also one in another container, that somebody is still writing.
        try_lock(self._handle)
        try:
            give(self._handle, like=folder)
        except BaseException:
            self.discard()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; on failure the file is discarded before the error goes on."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """All bytes are written: make them durable and close the file. It is still invisible."""
        try:
            os.fsync(self._handle)
            handle, self._handle = self._handle, -1
            os.close(handle)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close and remove; harmless when already published or discarded."""
        handle, self._handle = self._handle, -1
        try:
            if handle >= 0:
                os.close(handle)
        finally:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()


def place(staged: Path, final: Path, *, overwrite: bool) -> None:
    """Give a staged, committed file of the same file system its final name; the temporary name is gone then.

    Without `overwrite` raises FileExistsError if the name is taken, and of
    any number of callers exactly one succeeds. With it, the new file replaces
    the old one in one step. Not durable before `sync_folder`.

    Where the file system has no hard links, our own processes exclude each
    other with a lock on the folder and the name is looked up before the
    rename: another program that creates it in that instant loses its file.
    """
    if overwrite:
        staged.replace(final)
        return
    if os.name == "nt":  # there a rename never replaces
        staged.rename(final)
        return
    try:
        os.link(staged, final)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with exclusive(final.parent):
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from error
            staged.rename(final)
        return
    staged.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise PermissionError if the system says that no name in a folder can be changed."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def set_aside(final: Path) -> Path | None:
    """Take a file's name away; where it lies then, as what `sweep` removes. ``None``: it was not there, or is gone.

    Raises OSError.
    """
    aside = _unseen(final.parent)
    try:
        if stat.S_ISDIR(final.lstat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
        final.rename(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        final.unlink(missing_ok=True)  # that needs no room, and makes some
        return None
    return aside


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can. Raises OSError when the disk fails."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def staged(folder: Path, pieces: Iterable[bytes]) -> Staged:
    """A committed file of these bytes, staged in a folder. Raises OSError."""
    file = Staged(folder)
    try:
        for piece in pieces:
            file.write(piece)
        file.commit()
    except BaseException:
        file.discard()
        raise
    return file


def copy(source: Path, folder: Path) -> Staged:
    """A committed copy of a file, staged in another folder (on another file system). Raises OSError."""
    with source.open("rb") as file:
        return staged(folder, iter(partial(file.read, 2**20), b""))


class _Held(threading.local):
    def __init__(self) -> None:
        self.folders: set[Path] = set()


_held = _Held()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder against other threads and processes of ours while several of its names change together.

    The lock is on the folder itself, leaves no file, and vanishes with its
    holder. File systems without such locks go without. A thread that holds it
    already goes on holding it. Raises Busy when somebody else holds it for
    more than ten seconds.
    """
    if fcntl is None or folder in _held.folders:
        yield
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while try_lock(handle) is False:
            if time.monotonic() > deadline:
                raise Busy("another change of this folder is under way; try again shortly")
            time.sleep(0.002)
        _held.folders.add(folder)
        yield
    finally:
        _held.folders.discard(folder)
        os.close(handle)


def try_lock(handle: int) -> bool | None:
    """Whether the lock is ours now; ``None`` where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(handle: int) -> None:
    """Let others have the lock on an open file."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_UN)
        except OSError:
            return  # a file system without locks


_one_at_a_time = threading.Lock()


def read_at(handle: int, size: int, at: int) -> bytes:
    """Up to `size` bytes of an open file from position `at`, wherever it stands. Raises OSError."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, at)
    with _one_at_a_time:  # Windows reads only from where a file stands
        before = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, at, os.SEEK_SET)
        try:
            return os.read(handle, size)
        finally:
            os.lseek(handle, before, os.SEEK_SET)


def sweep(folder: Path, names: Iterable[str] | None = None) -> int:
    """Remove staged files that dead processes left in `folder`; how many.

    `names` are its file names, if already known. A file is spared while
    somebody writes it, and while a process of its number runs and it is
    younger than a minute. A folder that cannot be read or written is left
    as it is.
    """
    removed = 0
    try:
        for name in os.listdir(folder) if names is None else names:
            match = _STAGED.fullmatch(name)
            if match is not None and _abandoned(folder / name, int(match[1])):
                (folder / name).unlink(missing_ok=True)
                removed += 1
    except OSError:
        return removed
    return removed


def _abandoned(path: Path, pid: int) -> bool:
    handle = os.open(path, READ)
    try:
        written = os.fstat(handle).st_mtime
        old = time.time() - written > _LEFTOVER_AGE
        locked = try_lock(handle)
    finally:
        os.close(handle)
    if locked is False:
        return False
    if locked is None:  # only the age can tell, for the writer may run on another machine
        return time.time() - written > 60 * _LEFTOVER_AGE
    # In a container every server has the same number, so what is older than this process is its predecessor's.
    return old or not _runs(pid) or (pid == os.getpid() and written < _STARTED)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there is no harmless signal to ask with
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def translate(error: OSError) -> Unavailable:
    """What a failing disk means for whoever asked; the text holds no path."""
    if error.errno in _FULL:
        return NoSpace("the disk of the packages folder is full; nothing was stored")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnly("the packages folder cannot be written to")
    return DiskFailed(f"the packages folder cannot be used now ({_words(error)}); try again later")


def unreadable(error: OSError) -> Unavailable:
    """What it means for whoever asked that a file or folder could not be read; the text holds no path."""
    return DiskFailed(f"a file cannot be read from the disk now ({_words(error)}); try again later")


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "unknown error"

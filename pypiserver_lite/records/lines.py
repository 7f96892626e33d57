"""The file of ``--audit-log``: each event as one line of JSON, for programs that follow files."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from .. import disk
from ..errors import ConfigError, DiskFailed, NoSpace

_log = logging.getLogger(__name__)


class Lines:
    """A file that lines are added to, also by other processes; opened anew when it was renamed away.

    Raises ConfigError if it cannot be opened now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._handle = -1
        self._said = False
        try:
            self._open()
        except OSError as error:
            raise ConfigError(f"--audit-log {path}: {error.strerror or error}") from error

    def write(self, value: Mapping[str, object]) -> None:
        """Add a line. Raises Unavailable if it cannot be; the log says so once until it can be again."""
        data = json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._open()
                done = os.write(self._handle, data)
                if done < len(data):  # the disk is full; half a line is nobody's
                    os.ftruncate(self._handle, os.fstat(self._handle).st_size - done)
                    raise OSError("the disk took a part of it")
        except OSError as error:
            if not self._said:
                _log.error("the audit log %s cannot be written (%s): what would be on it is refused", self.path, error)
            self._said = True
            kind = NoSpace if error.errno is None else DiskFailed
            raise kind("the audit log of this server cannot be written, and nothing is done without it") from error
        self._said = False

    def _open(self) -> None:
        """Have the file open that has the name now. Raises OSError."""
        if self._handle >= 0:
            try:
                there, ours = os.stat(self.path), os.fstat(self._handle)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return
            except FileNotFoundError:
                pass  # renamed away by who rotates logs
            self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._handle = os.open(self.path, flags, 0o600)
        disk.give(self._handle, like=self.path.parent)

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def after_fork(self) -> None:
        """In a child process: the lock may have been held."""
        self._lock = threading.Lock()

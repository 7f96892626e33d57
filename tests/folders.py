"""Folders to be tested, and what is asked of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from builders import make_wheel
from packaging.utils import NormalizedName

from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.model import File, Project

Make = Callable[..., Folder]
"""Makes a folder of some roots, with a `database` to remember in and settings; it is closed after the test."""
posix = pytest.mark.skipif(os.name != "posix", reason="needs links as POSIX has them")
NEW = NormalizedName("new")
OTHER = NormalizedName("other")
RECORDS = Path(".pypiserver-lite", "names")
"""Where, in the first root, the names once had are written."""


class Due:
    """Makes folders whose clock stands still until it is told otherwise: every look is due."""

    def __init__(self, stack: ExitStack) -> None:
        self.now = 0.0
        self._stack = stack

    def clock(self) -> float:
        """Ten seconds after the last time."""
        self.now += 10
        return self.now

    def __call__(self, *roots: Path, database: Path | None = None, copies: Path | None = None) -> Folder:
        folder = Folder(roots, Memory(database), copies=copies, clock=self.clock)
        self._stack.callback(folder.close)
        return folder


@pytest.fixture(name="make")
def due_maker() -> Iterator[Due]:
    """Makes folders of which every look is due."""
    with ExitStack() as stack:
        yield Due(stack)


@pytest.fixture(name="packages")
def packages_of_other(tmp_path: Path) -> Path:
    """A folder with a wheel of `OTHER`."""
    make_wheel(tmp_path / "packages", "other")
    return tmp_path / "packages"


class Clock:
    """Whatever is done takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def project_in(folder: Folder, name: str = "ours") -> Project:
    """A project that is there."""
    project = folder.project(NormalizedName(name))
    assert project is not None
    return project


def only(folder: Folder, name: str = "ours") -> File:
    """Its one file."""
    (file,) = project_in(folder, name).files
    return file


def old(path: Path) -> Path:
    """The file, as if it had lain there for long."""
    os.utime(path, (10**9, 10**9))
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it is so, for 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def paths(memory: Memory, folder: Path) -> list[str]:
    """What is remembered below a folder."""
    return [note.path for note in memory.notes(str(folder))]

"""Every source and store of ours keeps the promises of the protocols."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from source_contract import SourceContract, StoreContract

from pypiserver_lite.facts import Memory
from pypiserver_lite.index import Index
from pypiserver_lite.model import Source, Store
from pypiserver_lite.sources.folder import Folder


class Folders:
    """Makes folders and closes them at the end of a test."""

    @pytest.fixture(autouse=True)
    def _closing(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield

    def folder(self, *roots: Path) -> Folder:
        memory = Memory(None)
        self.stack.callback(memory.close)
        folder = Folder(roots, memory, hash_algo="sha256")
        self.stack.callback(folder.close)
        return folder


class TestFolderThatWasFilled(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return self.folder(files)


class TestSecondFolderOfTwo(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return self.folder(place, files)


class TestFolderThatReadsAhead(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        folder = self.folder(files)
        folder.read_ahead()
        return folder


class TestIndexOverFolders(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Index([self.folder(place), self.folder(files)])


class TestFolder(Folders, StoreContract):
    def make_store(self, place: Path) -> Store:
        return self.folder(place)

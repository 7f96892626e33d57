"""Every source and store of ours keeps the promises of the protocols."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import faulty_upstream as faulty
import pytest
from source_contract import OTHER, OURS, SourceContract, StoreContract

from pypiserver_lite import metadata
from pypiserver_lite.archives import core_metadata
from pypiserver_lite.errors import Missing
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.index import Index, Way
from pypiserver_lite.model import Source, Store
from pypiserver_lite.policy.rules import Reserved
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote


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
        folder.start()
        return folder


class TestIndexOverFolders(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Index(self.folder(place), bases=[Index(self.folder(files))])


class TestFolder(Folders, StoreContract):
    def make_store(self, place: Path) -> Store:
        return self.folder(place)


def way_to(source: Source) -> Way:
    """One that is asked for every name."""
    return Way(name="upstream", serves=lambda name: True, source=source)


class UpstreamContract(Folders, SourceContract):
    """The same files, from another server."""

    lists = False

    def upstream(self, files: Path, *, broken: bool = False) -> Upstream:
        """An upstream that serves all distributions of a folder, and says of them what PyPI says.

        If it is `broken`, its pages are all that comes.
        """
        server = self.stack.enter_context(faulty.upstream())
        for path in sorted(files.iterdir()):
            with path.open("rb") as file:
                core = core_metadata(file, path.name) if path.suffix == ".whl" else None
            server.add(
                OTHER if path.name.startswith("other") else OURS,
                path.name,
                path.read_bytes(),
                metadata=core,
                upload_time="2026-01-02T03:04:05.678Z",
                requires_python=core and metadata.parse(core).requires_python,
            )
        for stored in server.stored if broken else ():
            if stored.startswith("/files/"):
                server.fault(stored, faulty.status(503))
        upstream = Upstream(server.url)
        self.stack.callback(upstream.close)
        return upstream


class TestUpstreamPassedThrough(UpstreamContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Remote(self.upstream(files), mode="proxy")


class TestUpstreamKept(UpstreamContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Remote(self.upstream(files), mode="cache", cache=Cache(place))


class TestUpstreamAtTwoAddresses(UpstreamContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Remote(self.upstream(files, broken=True), self.upstream(files), mode="cache", cache=Cache(place))


class TestIndexOverReservedNames(UpstreamContract):
    def make_source(self, files: Path, place: Path) -> Source:
        remote = Remote(self.upstream(files), mode="proxy")
        return Index(ways=[way_to(remote)], reserved=Reserved(["acme-*"]).refuses)


def test_what_is_reserved_is_missing_and_ends_the_search(tmp_path: Path) -> None:
    class Nobody:
        """A source that must not be asked."""

    index = Index(ways=[way_to(cast("Source", Nobody()))], reserved=Reserved(["Ours", "other.*"]).refuses)
    for name in (OURS, OTHER):
        with pytest.raises(Missing, match="--private"):
            index.project(name)
        with pytest.raises(Missing, match="--private"):
            index.open(name, "ours-1.0.tar.gz")

"""The promises of `Source` and `Store`, to be kept by every implementation.

A test module derives a class from one of these and says how to make one.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import timezone
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel
from packaging.utils import NormalizedName

from pypiserver_lite import metadata
from pypiserver_lite.archives import core_metadata
from pypiserver_lite.disk import Staged
from pypiserver_lite.errors import Conflict, Missing
from pypiserver_lite.model import Content, LocalFile, Source, Store, Stream, Upload

OURS = NormalizedName("ours")
OTHER = NormalizedName("other-one")
NOBODYS = NormalizedName("nobodys")


def read(content: Content | None) -> bytes:
    """All bytes of what `open` gave."""
    if isinstance(content, LocalFile):
        assert content.path == content.path.resolve()
        return content.path.read_bytes()
    assert isinstance(content, Stream)
    whole = b"".join(content.read(0, None))
    assert content.size in (None, len(whole))
    if content.size is not None and len(whole) > 3:
        assert b"".join(content.read(1, 3)) == whole[1:3]
        assert b"".join(content.read(3, None)) == whole[3:]
    return whole


class SourceContract:
    """What every source promises."""

    lists = True
    """Whether it knows all of its projects, as an upstream does not."""

    def make_source(self, files: Path, place: Path) -> Source:
        """A source that holds all distributions of the folder `files`; `place` is an empty folder to work in."""
        raise NotImplementedError

    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        """Wheels and sdists of two projects, spelled in several ways."""
        folder = tmp_path / "given"
        make_wheel(folder, "ours", "1.0", "Requires-Python: >=3.8")
        make_wheel(folder, "Ours", "1.10", filename="Ours-1.10-py3-none-any.whl")
        make_wheel(folder, "ours", "1.9")
        make_sdist(folder, "ours", "1.9")
        make_sdist(folder, "other.one", "2!1.0")
        return folder

    @pytest.fixture
    def source(self, files: Path, tmp_path: Path) -> Source:
        """The source under test, over `files`."""
        place = tmp_path / "place"
        place.mkdir()
        return self.make_source(files, place)

    def test_names_are_sorted_normalised_and_the_same_object(self, source: Source) -> None:  # U1, N1
        assert list(source.names()) == ([OTHER, OURS] if self.lists else [])
        assert source.names() is source.names()

    def test_filenames_are_those_of_the_projects(self, source: Source) -> None:
        found = list(source.filenames())
        assert len(found) == (5 if self.lists else 0)
        assert [name for name, _ in found] == sorted(name for name, _ in found)
        for name in source.names():
            project = source.project(name)
            assert project is not None
            assert {file for owner, file in found if owner == name} == set(project.by_filename)

    def test_project_is_the_same_object_while_nothing_changed(self, source: Source) -> None:
        first = source.project(OURS)
        assert first is not None
        assert all(source.project(OURS) is first for _ in range(50))

    def test_files_come_oldest_first_with_every_spelling_of_the_name(self, source: Source) -> None:  # N2, J3
        project = source.project(OURS)
        assert project is not None
        assert project.name == OURS
        assert [file.filename for file in project.files] == [
            "ours-1.0-py3-none-any.whl",
            "ours-1.9-py3-none-any.whl",
            "ours-1.9.tar.gz",
            "Ours-1.10-py3-none-any.whl",
        ]
        assert project.versions == ("1.0", "1.9", "1.10")
        assert all(file.project == OURS and file.version in project.versions for file in project.files)

    def test_facts_are_those_of_the_bytes(self, source: Source, files: Path) -> None:  # J5, J6, J7, H10
        project = source.project(OURS)
        assert project is not None
        for file in project.files:
            data = (files / file.filename).read_bytes()
            assert file.size == len(data)
            assert file.hashes["sha256"] == hashlib.sha256(data).hexdigest()
            assert file.uploaded is not None
            assert file.uploaded.tzinfo is timezone.utc
            assert read(source.open(OURS, file.filename)) == data
        assert project.by_filename["ours-1.0-py3-none-any.whl"].requires_python == ">=3.8"

    def test_announced_metadata_is_there_and_has_its_digest(self, source: Source) -> None:  # D1, D2, D3
        project = source.project(OURS)
        assert project is not None
        for file in project.files:
            if file.core_metadata is None:
                with pytest.raises(Missing):
                    source.open(OURS, file.filename, ".metadata")
            else:
                data = read(source.open(OURS, file.filename, ".metadata"))
                assert file.core_metadata["sha256"] == hashlib.sha256(data).hexdigest()
        assert [bool(file.core_metadata) for file in project.files] == [True, True, False, True]

    def test_what_is_not_ours_is_none_and_what_is_missing_is_missing(self, source: Source) -> None:  # U5, F14
        assert source.project(NOBODYS) is None
        assert source.open(NOBODYS, "nobodys-1.0.tar.gz") is None
        for filename in ("ours-7.tar.gz", "", "..", "../x", "a\0b", "other.one-2!1.0.tar.gz", "ours-1.0" + "x" * 5000):
            with pytest.raises(Missing):
                source.open(OURS, filename)
        for side in (".asc", ".provenance"):
            with pytest.raises(Missing):
                source.open(OURS, "ours-1.9.tar.gz", side)


def staged(store: Store, path: Path, project: str = "ours", version: str = "1.0", **more: bytes) -> Upload:
    """An upload of the file at `path`, as the upload module would hand it over."""
    data = path.read_bytes()
    body = Staged(store.stage())
    body.write(data)
    body.commit()
    core = core_metadata(path, path.name) or b""
    return Upload(
        filename=path.name,
        project=NormalizedName(project),
        version=version,
        staged=body.path,
        size=len(data),
        digests={"sha256": hashlib.sha256(data).hexdigest()},
        metadata=core,
        about=metadata.parse(core),
        signature=more.get("signature"),
        provenance=more.get("provenance"),
    )


class StoreContract(SourceContract):
    """What every store promises besides."""

    def make_store(self, place: Path) -> Store:
        """An empty store that works in the empty folder `place`."""
        raise NotImplementedError

    def make_source(self, files: Path, place: Path) -> Source:
        """A store to which all of `files` were added."""
        store = self.make_store(place)
        for path in sorted(files.iterdir()):
            store.add(staged(store, path, "other-one" if path.name.startswith("other") else "ours"))
        return store

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """The store under test, empty."""
        place = tmp_path / "store"
        place.mkdir()
        return self.make_store(place)

    def test_what_is_added_is_seen_by_the_next_call(self, store: Store, tmp_path: Path) -> None:  # P6, R5
        assert store.project(OURS) is None
        for version in ("1.0", "1.1", "1.2"):
            upload = staged(store, make_wheel(tmp_path, version=version), version=version)
            assert store.add(upload) is True
            assert not upload.staged.exists()
            project = store.project(OURS)
            assert project is not None
            assert project.versions[-1] == version
            assert list(store.names()) == [OURS]

    def test_same_bytes_again_are_fine_and_other_bytes_are_refused(self, store: Store, tmp_path: Path) -> None:
        path = make_wheel(tmp_path)  # R2, R3
        assert store.add(staged(store, path)) is True
        before = store.project(OURS)
        again = staged(store, path)
        assert store.add(again) is False
        assert not again.staged.exists()
        assert store.project(OURS) is before
        data = path.read_bytes()
        other = staged(store, make_wheel(tmp_path / "other", body="changed", filename=path.name))
        with pytest.raises(Conflict, match="already exists"):
            store.add(other)
        assert not other.staged.exists()
        assert store.project(OURS) == before
        assert read(store.open(OURS, path.name)) == data

    def test_overwriting_replaces_bytes_hash_and_metadata_at_once(self, store: Store, tmp_path: Path) -> None:
        path = make_wheel(tmp_path)  # F16, R7
        store.add(staged(store, path, signature=b"old signature", provenance=b"{}"))
        assert store.project(OURS) is not None
        read(store.open(OURS, path.name, ".metadata"))
        new = make_wheel(tmp_path / "new", "ours", "1.0", "Requires-Python: >=3.9", body="changed")
        assert store.add(staged(store, new), overwrite=True) is True
        project = store.project(OURS)
        assert project is not None
        (file,) = project.files
        assert file.hashes["sha256"] == hashlib.sha256(new.read_bytes()).hexdigest()
        assert file.requires_python == ">=3.9"
        assert file.has_signature is False
        assert b"changed" in read(store.open(OURS, path.name, ".metadata"))
        for side in (".asc", ".provenance"):
            with pytest.raises(Missing):
                store.open(OURS, path.name, side)

    def test_signature_and_provenance_are_kept_with_the_file(self, store: Store, tmp_path: Path) -> None:  # Q3, Q4, Q5
        path = make_wheel(tmp_path)
        store.add(staged(store, path, signature=b"signed", provenance=b'{"version": 1}'))
        project = store.project(OURS)
        assert project is not None
        assert [file.filename for file in project.files] == [path.name]
        assert project.files[0].has_signature is True
        assert read(store.open(OURS, path.name, ".asc")) == b"signed"
        assert read(store.open(OURS, path.name, ".provenance")) == b'{"version": 1}'

    def test_of_many_writers_of_one_name_exactly_one_wins(self, store: Store, tmp_path: Path) -> None:  # R6
        uploads = [
            staged(store, make_wheel(tmp_path / str(n), filename="ours-1.0-py3-none-any.whl", body=str(n)))
            for n in range(8)
        ]
        outcomes: list[object] = []

        def add(upload: Upload) -> None:
            try:
                outcomes.append(store.add(upload))
            except Conflict as error:
                outcomes.append(error)

        threads = [threading.Thread(target=add, args=(upload,)) for upload in uploads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count(True) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
        project = store.project(OURS)
        assert project is not None
        data = read(store.open(OURS, project.files[0].filename))
        assert hashlib.sha256(data).hexdigest() in {upload.digests["sha256"] for upload in uploads}
        assert hashlib.sha256(data).hexdigest() == project.files[0].hashes["sha256"]

    def test_removing_a_release_takes_all_its_files_by_any_spelling(self, store: Store, tmp_path: Path) -> None:
        paths = [
            make_wheel(tmp_path, version="1.0", tags="1-py3-none-any"),
            make_sdist(tmp_path, version="1.0"),
            make_wheel(tmp_path, version="1.0.1"),
        ]
        for path in paths:
            store.add(staged(store, path, signature=b"signed"))
        assert store.remove(OURS, "1.0.0") == tuple(sorted(path.name for path in paths[:2]))  # N4
        project = store.project(OURS)
        assert project is not None
        assert [file.filename for file in project.files] == [paths[2].name]
        with pytest.raises(Missing):
            store.open(OURS, paths[0].name)
        with pytest.raises(Missing):
            store.remove(OURS, "1.0")
        with pytest.raises(Missing):
            store.remove(NOBODYS, "1.0")
        store.remove(OURS, "1.0.1")
        assert store.project(OURS) is None
        assert list(store.names()) == []
        # What belonged to a removed file does not come back with a new one.
        store.add(staged(store, paths[0]))
        project = store.project(OURS)
        assert project is not None
        assert project.files[0].has_signature is False

    @pytest.mark.parametrize("reason", ["", "broken: <b>&\"' é\n second line", "  spaces  "])
    def test_yanking_marks_and_unyanking_unmarks(self, store: Store, tmp_path: Path, reason: str) -> None:  # Y1-Y3
        for path in (make_wheel(tmp_path), make_sdist(tmp_path), make_wheel(tmp_path, version="2.0")):
            store.add(staged(store, path))
        assert len(store.yank(OURS, "1.0.0", reason)) == 2
        project = store.project(OURS)
        assert project is not None
        assert [file.yanked for file in project.files] == [reason, reason, None]
        assert read(store.open(OURS, project.files[0].filename))
        assert len(store.yank(OURS, "1", None)) == 2
        project = store.project(OURS)
        assert project is not None
        assert [file.yanked for file in project.files] == [None, None, None]
        with pytest.raises(Missing):
            store.yank(OURS, "3.0", "")

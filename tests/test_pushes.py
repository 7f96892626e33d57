"""Releases pushed from one folder to another: the very same bytes and what lies beside them, all or none."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from builders import listed, make_sdist, make_wheel
from folders import Make, posix, project_in
from source_contract import OURS

from pypiserver_lite.errors import Conflict, Invalid, Missing, PypiServerLiteError
from pypiserver_lite.folder.nowhere import Nowhere
from pypiserver_lite.folder.store import Folder


@pytest.fixture
def ends(make: Make, tmp_path: Path) -> tuple[Folder, Folder]:
    """A folder with a release of a wheel and an sdist, signed and yanked, and an empty one."""
    dev, prod = tmp_path / "dev", tmp_path / "prod"
    prod.mkdir()
    wheel, sdist = make_wheel(dev / "nested"), make_sdist(dev)
    Path(f"{wheel}.asc").write_bytes(b"signature")
    Path(f"{wheel}.provenance").write_bytes(b'{"version": 1}')
    Path(f"{sdist}.metadata").write_bytes(b"Metadata-Version: 2.2\nName: ours\nVersion: 1.0\n")
    make_wheel(dev, version="2.0")
    source = make(dev)
    source.yank(OURS, "1.0", "bad build")
    return source, make(prod)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "ours" in path.name}


def test_a_release_arrives_with_all_that_belongs_to_it(ends: tuple[Folder, Folder], tmp_path: Path) -> None:
    source, target = ends
    assert target.take(source.pieces(OURS, "1.0.0")) == ("ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz")
    expected = {name: data for name, data in bytes_of(tmp_path / "dev").items() if "2.0" not in name}
    assert len(expected) == 7 and bytes_of(tmp_path / "prod") == expected
    files = project_in(target).files
    assert [file.yanked for file in files] == ["bad build"] * 2
    assert [dict(file.hashes) for file in files] == [dict(file.hashes) for file in project_in(source).files[:2]]
    assert all(file.core_metadata for file in files)


def test_a_second_push_changes_nothing_but_takes_new_marks(ends: tuple[Folder, Folder], tmp_path: Path) -> None:
    source, target = ends
    source.yank(OURS, "1.0", None)
    target.take(source.pieces(OURS, "1.0"))
    before = bytes_of(tmp_path / "prod")
    assert target.take(source.pieces(OURS, "1.0")) == ()
    assert bytes_of(tmp_path / "prod") == before
    source.yank(OURS, "1.0", "after all")
    assert target.take(source.pieces(OURS, "1.0")) == ()
    assert [file.yanked for file in project_in(target).files] == ["after all"] * 2


def test_all_conflicts_are_named_and_nothing_is_pushed(ends: tuple[Folder, Folder], tmp_path: Path) -> None:
    source, target = ends
    make_wheel(tmp_path / "prod", body="other")
    make_sdist(tmp_path / "prod", filename="Ours-1.0.tar.gz")
    before = listed(tmp_path / "prod")
    with pytest.raises(Conflict) as caught:
        target.take(source.pieces(OURS, "1.0"))
    assert "ours-1.0-py3-none-any.whl has other content" in str(caught.value)
    assert "Ours-1.0.tar.gz is the same part" in str(caught.value)
    assert listed(tmp_path / "prod") == before


@pytest.mark.parametrize("there", ["ours-1.0.tar.gz", "ours-1.0.tar.gz.metadata"])
def test_what_fails_in_the_middle_is_taken_back(ends: tuple[Folder, Folder], tmp_path: Path, there: str) -> None:
    source, target = ends
    (tmp_path / "prod" / there / "in-the-way").mkdir(parents=True)
    with pytest.raises(PypiServerLiteError):
        target.take(source.pieces(OURS, "1.0"))
    assert listed(tmp_path / "prod") == [there]
    assert target.project(OURS) is None


def test_what_lay_beside_another_file_of_that_name_does_not_come_back(
    ends: tuple[Folder, Folder], tmp_path: Path
) -> None:
    source, target = ends
    source.yank(OURS, "1.0", None)
    (tmp_path / "prod" / "ours-1.0.tar.gz.yanked").write_text("of an earlier life")
    target.take(source.pieces(OURS, "1.0"))
    assert [file.yanked for file in project_in(target).files] == [None, None]


def test_a_file_that_lies_in_another_folder_of_the_target_is_there(make: Make, tmp_path: Path) -> None:
    dev, one, two = tmp_path / "dev", tmp_path / "one", tmp_path / "two"
    one.mkdir()
    wheel = make_wheel(dev)
    make_sdist(dev)
    make_wheel(two)
    Path(f"{wheel}.asc").write_bytes(b"signature")
    target = make(one, two)
    assert target.take(make(dev).pieces(OURS, "1.0")) == ("ours-1.0.tar.gz",)
    assert listed(one) == ["ours-1.0.tar.gz"] and listed(two) == [wheel.name, f"{wheel.name}.asc"]


@posix
def test_new_marks_reach_a_file_on_another_disk(make: Make, tmp_path: Path) -> None:
    memory_disk = Path("/dev/shm")
    if not os.access(memory_disk, os.W_OK) or memory_disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    (one := tmp_path / "one").mkdir()
    wheel = make_wheel(tmp_path / "dev")
    Path(f"{wheel}.asc").write_bytes(b"signature")
    with tempfile.TemporaryDirectory(dir=memory_disk) as two:
        make_wheel(Path(two))
        assert make(one, Path(two)).take(make(tmp_path / "dev").pieces(OURS, "1.0")) == ()
        assert listed(one) == [] and listed(Path(two)) == [wheel.name, f"{wheel.name}.asc"]


def test_bytes_that_are_not_those_remembered_are_not_pushed(make: Make, tmp_path: Path) -> None:
    import os

    dev, prod = tmp_path / "dev", tmp_path / "prod"
    prod.mkdir()
    wheel = make_wheel(dev, payload=b"x" * 100)
    os.utime(wheel, (10**9, 10**9))
    source, target = make(dev), make(prod)
    assert project_in(source).files[0].hashes["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    status = wheel.stat()
    with wheel.open("r+b") as file:  # a disk that fails silently: the same size, time and inode
        file.seek(status.st_size // 2)
        file.write(b"!")
    os.utime(wheel, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(PypiServerLiteError):
        target.take(source.pieces(OURS, "1.0"))
    assert listed(prod) == []


def test_what_is_not_there_is_missing(ends: tuple[Folder, Folder]) -> None:
    source, target = ends
    with pytest.raises(Missing):
        source.pieces(OURS, "3.0")
    with pytest.raises(Missing):
        Nowhere().pieces(OURS, "1.0")
    with pytest.raises(Invalid):
        Nowhere().take(source.pieces(OURS, "1.0"))
    with pytest.raises(Missing):
        target.pieces(OURS, "1.0")


def test_of_many_who_push_at_once_all_find_it_there(make: Make, tmp_path: Path) -> None:
    dev, prod = tmp_path / "dev", tmp_path / "prod"
    prod.mkdir()
    make_wheel(dev, payload=b"x" * 500_000)
    make_sdist(dev)
    pieces = make(dev).pieces(OURS, "1.0")
    targets = [make(prod) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: targets[at % 4].take(pieces), range(16)))
    assert sorted(found, key=len)[-1] == ("ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz")
    assert sum(map(len, found)) == 2
    assert listed(prod) == ["ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz"]


def test_a_push_whose_files_are_removed_at_once_was_one(make: Make, tmp_path: Path) -> None:
    (tmp_path / "prod").mkdir()
    for number in range(8):
        make_wheel(tmp_path / "dev", tags=f"py3-none-any{number}")
    source, target, other = make(tmp_path / "dev"), make(tmp_path / "prod"), make(tmp_path / "prod")
    project_in(source)  # which has its files read
    pieces, over = source.pieces(OURS, "1.0"), threading.Event()

    def remove() -> int:
        removed = 0
        while not over.is_set():
            with suppress(Missing):
                removed += len(other.remove(OURS, "1.0"))
        return removed

    with ThreadPoolExecutor() as pool:
        removing = pool.submit(remove)
        try:
            pushed = sum(len(target.take(pieces)) for _ in range(60))
        finally:
            over.set()
    assert removing.result() + len(listed(tmp_path / "prod")) == pushed

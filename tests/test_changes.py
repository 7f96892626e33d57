"""An upload is whole or leaves no trace; a yank and a removal take what is meant."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest
from builders import listed, make_sdist, make_wheel
from folders import Clock, Make, only, posix, project_in, wait_for
from source_contract import OURS, read, staged
from test_faults import Mount, disk, mount  # noqa: F401 - a fixture

from pypiserver_lite.disk import LOCKS, exclusive
from pypiserver_lite.errors import Conflict, Invalid, Missing, PypiServerLiteError, ReadOnly


def test_a_refused_upload_leaves_no_trace(make: Make, tmp_path: Path) -> None:  # R5
    root = tmp_path / "root"
    path = make_wheel(tmp_path)
    root.mkdir()
    folder = make(root)
    folder.add(staged(folder, path))
    other = make_wheel(tmp_path / "other", body="changed")
    with pytest.raises(Conflict):
        folder.add(staged(folder, other, signature=b"signed", provenance=b"{}"))
    assert listed(root) == [path.name]


def test_same_bytes_with_a_new_signature_take_the_signature(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    path = make_wheel(tmp_path)
    root.mkdir()
    folder = make(root)
    folder.add(staged(folder, path))
    assert only(folder).has_signature is False
    assert folder.add(staged(folder, path, signature=b"signed")) is False
    assert only(folder).has_signature is True
    folder.add(staged(folder, path, signature=b"another"))
    assert read(folder.open(OURS, path.name, ".asc")) == b"signed"


def test_a_name_taken_in_another_folder_is_taken(make: Make, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    there = make_wheel(two / "deep")
    folder = make(one, two)
    new = make_wheel(tmp_path, body="changed")
    with pytest.raises(Conflict):
        folder.add(staged(folder, new))
    assert folder.add(staged(folder, there)) is False
    assert folder.add(staged(folder, new), overwrite=True) is True
    assert there.read_bytes() == new.read_bytes()
    assert listed(one) == []
    assert only(folder).hashes["sha256"] == hashlib.sha256(new.read_bytes()).hexdigest()


def test_what_is_in_the_way_and_no_distribution_is_a_conflict(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    path = make_wheel(tmp_path)
    (root / path.name).mkdir(parents=True)
    folder = make(root)
    for overwrite in (False, True):
        with pytest.raises(Conflict):
            folder.add(staged(folder, path), overwrite=overwrite)
    assert listed(root) == [path.name]


def test_a_file_dropped_in_unseen_is_not_replaced(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    folder = make(root, clock=Clock())
    path = make_wheel(tmp_path)
    upload = staged(folder, path)
    for _ in range(300):  # spend the budget, so that nobody looks
        folder.project(OURS)
    make_wheel(root, body="dropped in")
    with pytest.raises(Conflict):
        folder.add(upload)
    assert only(folder).hashes["sha256"] == hashlib.sha256((root / path.name).read_bytes()).hexdigest()


def test_orphans_beside_a_new_file_do_not_become_its_own(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = make_wheel(tmp_path)
    for side in (".asc", ".yanked", ".provenance", ".metadata"):
        (root / (path.name + side)).write_bytes(b"of an earlier life")
    folder = make(root)
    assert folder.project(OURS) is None
    folder.add(staged(folder, path))
    assert (only(folder).yanked, only(folder).has_signature) == (None, False)
    assert listed(root) == [path.name]


def test_a_yank_outlives_the_replacement_of_a_file(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    folder = make(root)
    folder.add(staged(folder, make_wheel(tmp_path)))
    folder.yank(OURS, "1.0", "bad")
    folder.add(staged(folder, make_wheel(tmp_path / "new", body="changed")), overwrite=True)
    assert only(folder).yanked == "bad"


def test_a_reason_that_is_too_long_is_refused(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    folder = make(tmp_path)
    with pytest.raises(Invalid):
        folder.yank(OURS, "1.0", "x" * 5000)
    with pytest.raises(Missing):
        folder.yank(OURS, "9" * 5000, "")
    assert only(folder).yanked is None


@posix
def test_removing_takes_links_and_shadowed_copies_and_never_a_target(make: Make, tmp_path: Path) -> None:
    one, two, kept = tmp_path / "one", tmp_path / "two", tmp_path / "one" / "blob"
    path = make_wheel(one)
    make_wheel(two)
    kept.write_bytes(b"kept")
    (one / "ours-1.0.tar.gz").symlink_to(kept)
    folder = make(one, two)
    assert folder.remove(OURS, "1.0") == (path.name, "ours-1.0.tar.gz")
    assert folder.project(OURS) is None
    assert kept.read_bytes() == b"kept"
    assert os.listdir(two) == [".pypiserver-lite"]


def all_in(*roots: Path) -> dict[str, bytes]:
    """What lies below some folders, but for the record of names."""
    files = [path for root in roots for path in root.rglob("*") if path.is_file() and path.parent.name[0] != "."]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("way", ["another spelling", "the same name", "removal"])
def test_a_change_that_fails_in_the_middle_is_taken_back(make: Make, tmp_path: Path, way: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make_sdist(one, filename="Ours-1.0.tar.gz")
    for name in ("ours-1.0.tar.gz", "ours-1.0.0.tar.gz")[way != "the same name" :]:
        make_sdist(two, filename=name)
    (two / "ours-1.0.0.tar.gz.asc" / "in the way").mkdir(parents=True)
    (two / "ours-1.0.tar.gz.yanked").write_text("bad")
    folder = make(one, two)
    before, files = all_in(one, two), project_in(folder).files
    new = make_sdist(tmp_path / "new", "ours", "1.0", "Summary: changed")
    with pytest.raises(PypiServerLiteError):
        if way == "removal":
            folder.remove(OURS, "1.0")
        else:
            folder.add(staged(folder, new, signature=b"signed"), overwrite=True)
    assert all_in(one, two) == before
    assert project_in(folder).files == project_in(make(one, two)).files == files


@pytest.mark.skipif(not LOCKS, reason="there are no locks on folders")
@pytest.mark.parametrize("yanks", [False, True])
def test_a_change_is_of_the_release_as_it_is_when_nobody_else_changes_it(
    make: Make, tmp_path: Path, yanks: bool
) -> None:
    make_wheel(tmp_path / "one")
    folder = make(tmp_path / "one")
    with ThreadPoolExecutor() as pool:
        # As another process does that is publishing a release.
        with exclusive(tmp_path / "one"):
            change = pool.submit(folder.yank, OURS, "1.0", "bad") if yanks else pool.submit(folder.remove, OURS, "1.0")
            wait_for(lambda: any("exclusive" in _functions(frame) for frame in sys._current_frames().values()))
            make_sdist(tmp_path / "one")
        assert change.result() == ("ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz")
    project = folder.project(OURS)
    assert [file.yanked for file in project.files] == ["bad", "bad"] if yanks and project else project is None


def _functions(frame: FrameType | None) -> set[str]:
    """The functions that a thread is in."""
    found = set()
    while frame is not None:
        found.add(frame.f_code.co_name)
        frame = frame.f_back
    return found


def test_a_change_of_a_release_that_lies_partly_on_a_read_only_disk_changes_nothing(
    make: Make,
    disk: Mount,  # noqa: F811
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", disk("two", 4)
    make_wheel(one)
    make_wheel(two, body="other")
    make_sdist(two, filename="Ours-1.0.tar.gz")
    mount(two, "-o", "remount,ro")
    folder = make(one, two)
    before, files = all_in(one, two), project_in(folder).files
    new = make_sdist(tmp_path / "new", "ours", "1.0", "Summary: changed")
    for change in (
        lambda: folder.add(staged(folder, new), overwrite=True),
        lambda: folder.remove(OURS, "1.0"),
        lambda: folder.yank(OURS, "1.0", "bad"),
    ):
        with pytest.raises(ReadOnly):
            change()
        assert all_in(one, two) == before and project_in(folder).files == files


@posix
def test_leftovers_of_a_crash_are_swept_at_the_start(make: Make, tmp_path: Path) -> None:  # R5
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "deep").mkdir()
    for place in (tmp_path, tmp_path / "deep"):
        (place / f".pypiserver-lite-{dead.pid}-0123456789abcdef.tmp").write_bytes(b"half")
    make(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@posix
def test_a_file_on_another_file_system_is_replaced_there(make: Make, tmp_path: Path) -> None:  # R7
    memory_disk = Path("/dev/shm")
    if not os.access(memory_disk, os.W_OK) or memory_disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory_disk) as other:
        there = make_wheel(Path(other))
        one = tmp_path / "one"
        one.mkdir()
        folder = make(one, Path(other))
        new = make_wheel(tmp_path, body="changed")
        assert folder.add(staged(folder, new, signature=b"signed"), overwrite=True) is True
        assert there.read_bytes() == new.read_bytes()
        assert listed(Path(other)) == [there.name, f"{there.name}.asc"]
        assert listed(one) == []
        assert only(folder).hashes["sha256"] == hashlib.sha256(new.read_bytes()).hexdigest()

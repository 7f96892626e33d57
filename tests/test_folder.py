"""The folder is the only truth: whatever happens to it, the next request tells it right."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from builders import listed, make_sdist, make_wheel, metadata
from packaging.utils import NormalizedName
from source_contract import OURS, read, staged

from pypiserver_lite.errors import Conflict, DiskFailed, Invalid, Missing, Unavailable
from pypiserver_lite.folder import projects
from pypiserver_lite.folder.budget import Budget
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.model import File, LocalFile, Project

Make = Callable[..., Folder]
posix = pytest.mark.skipif(os.name != "posix", reason="needs links as POSIX has them")
NEW = NormalizedName("new")


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Folder, Memory]] = []

    def make(*roots: Path, database: Path | None = None, **settings: Any) -> Folder:
        memory = Memory(database)
        made.append((Folder(roots, memory, **settings), memory))
        return made[-1][0]

    yield make
    for folder, memory in made:
        folder.close()
        memory.close()


class Clock:
    """Whatever is done takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def project_in(folder: Folder, name: str = "ours") -> Project:
    project = folder.project(NormalizedName(name))
    assert project is not None
    return project


def only(folder: Folder, name: str = "ours") -> File:
    (file,) = project_in(folder, name).files
    return file


def old(path: Path) -> Path:
    """The file, as if it had lain there for long."""
    os.utime(path, (10**9, 10**9))
    return path


# --- what is listed


def test_flat_nested_and_hand_made_layouts_are_one_index(make: Make, tmp_path: Path) -> None:  # N2, N5
    make_wheel(tmp_path, "ours", "1.0")
    make_sdist(tmp_path / "ours", "Ours", "0.9", filename="Ours-0.9.tar.gz")
    make_sdist(tmp_path / "a" / "b" / "c", "ours", "0.8")
    make_sdist(tmp_path, "epoch", "1!2.0")
    make_wheel(tmp_path, "local", "1.0+x.1")
    folder = make(tmp_path)
    assert project_in(folder).versions == ("0.8", "0.9", "1.0")
    assert list(folder.names()) == ["epoch", "local", "ours"]
    assert only(folder, "epoch").version == "1!2.0"
    assert only(folder, "local").version == "1.0+x.1"
    content = folder.open(OURS, "ours-0.8.tar.gz")
    assert content == LocalFile(path=tmp_path.resolve() / "a" / "b" / "c" / "ours-0.8.tar.gz")


@posix
@pytest.mark.parametrize("later", [None, 0, 300], ids=["at the start", "later", "later among many"])
def test_what_is_no_distribution_is_neither_listed_nor_served(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, later: int | None
) -> None:  # U9, checklist 1 and 2
    root, outside = tmp_path / "root", tmp_path / "outside"
    make_wheel(root)
    make_wheel(outside, "secret")
    folder = make(root) if later is not None else None
    for number in range(later or 0):
        (root / f"note{number}.txt").touch()
    make_wheel(root / ".hidden", "secret")
    for name in (
        ".secret-1.0.tar.gz",
        ".pypiserver-lite-1-0123456789abcdef.tm",
        "htpasswd",
        "ours-2.0.exe",
        "-1.0.zip",
    ):
        (root / name).write_bytes(b"x")
    (root / "link-1.0.tar.gz").symlink_to(outside / "secret-1.0-py3-none-any.whl")
    (root / "dangling-1.0.tar.gz").symlink_to(root / "nowhere")
    (root / "loop-1.0.tar.gz").symlink_to(root / "loop-1.0.tar.gz")
    (root / "elsewhere").symlink_to(outside, target_is_directory=True)
    (root / "round").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "pipe-1.0.tar.gz")
    (root / "folder-1.0.tar.gz").mkdir()
    (root / os.fsdecode(b"bad\xff-1.0.tar.gz")).write_bytes(b"x")
    (root / "line\n-1.0.tar.gz").write_bytes(b"x")
    make_sdist(root / "below", "below")
    (root / "ours-3.0.tar.gz").symlink_to(root / "below" / "below-1.0.tar.gz")
    (root / "ours-3.0.tar.gz.asc").write_bytes(b"signed")
    folder = folder or make(root)
    assert list(folder.names()) == ["below", "ours"]
    assert sorted(filename for _, filename in folder.filenames()) == [
        "below-1.0.tar.gz",
        "ours-1.0-py3-none-any.whl",
        "ours-3.0.tar.gz",
    ]
    assert [file.has_signature for file in project_in(folder).files] == [False, True]
    for name in ("htpasswd", "../outside/secret-1.0-py3-none-any.whl", "ours-2.0.exe", ".secret-1.0.tar.gz"):
        with pytest.raises(Missing):
            folder.open(OURS, name)
    messages = [record.getMessage() for record in caplog.records]
    assert len([text for text in messages if "bad\\udcff" in text]) == 1
    assert not any("\n" in text or "\udcff" in text for text in messages)


@pytest.mark.parametrize("path", ["ours-1.0.TAR.GZ", "ours-1.0.win32.exe", "ours.zip", "d/" * 33 + "x-1.0.tar.gz"])
def test_what_looks_like_a_package_and_is_not_served_is_said_at_the_start(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    make_wheel(tmp_path)
    (tmp_path / "README.txt").touch()
    make(tmp_path)
    assert not caplog.messages
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    folder = make(tmp_path)
    assert folder.names() == ("ours",) and folder.progress()[1] == 1
    (line,) = caplog.messages
    assert line.startswith("1 files or folders are not served") and str(tmp_path) in line


@posix
def test_links_inside_the_roots_are_followed_and_resolved(make: Make, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    target = make_wheel(two / "deep", "ours", "1.0")
    one.mkdir()
    (one / "ours-2.0-py3-none-any.whl").symlink_to(target)
    (one / "shared").symlink_to(two, target_is_directory=True)
    (one / "again").symlink_to(one, target_is_directory=True)
    folder = make(one, two)
    assert project_in(folder).versions == ("1.0", "2.0")
    assert folder.open(OURS, "ours-2.0-py3-none-any.whl") == LocalFile(path=target.resolve())
    # A link that is pointed outside afterwards is no file of ours any more.
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (one / "ours-2.0-py3-none-any.whl").unlink()
    (one / "ours-2.0-py3-none-any.whl").symlink_to(secret)
    assert project_in(folder).versions == ("1.0",)
    with pytest.raises(Missing):
        folder.open(OURS, "ours-2.0-py3-none-any.whl")


@posix
def test_a_farm_of_links_is_served_when_links_are_followed_and_loops_end(make: Make, tmp_path: Path) -> None:
    farm, store = tmp_path / "farm", tmp_path / "store"
    target = make_wheel(store / "a1b2", "ours", "1.0")
    hidden = old(target.rename(target.with_name("a1b2.blob")))
    make_sdist(store / "more", "deep", "1.0")
    (farm / "ours").mkdir(parents=True)
    (farm / "ours" / target.name).symlink_to(hidden)
    (farm / "more").symlink_to(store / "more", target_is_directory=True)
    (farm / "dangling-1.0.tar.gz").symlink_to(store / "nothing")
    for loop, leads_to in ((farm / "up", tmp_path), (store / "more" / "back", farm), (store / "more" / "self", ".")):
        loop.symlink_to(leads_to, target_is_directory=True)
    (farm / "loop-1.0.tar.gz").symlink_to("loop-1.0.tar.gz")
    assert make(farm).names() == ()
    folder = make(farm, follow_links=True)
    assert list(folder.names()) == ["deep", "ours"]
    assert folder.open(OURS, target.name) == LocalFile(path=hidden.resolve())
    assert read(folder.open(NormalizedName("deep"), "deep-1.0.tar.gz"))
    assert only(folder).hashes["sha256"] == hashlib.sha256(hidden.read_bytes()).hexdigest()
    assert str(hidden.resolve()) in {note.path for note in folder.notes()}  # where search finds summaries
    # What changes behind a link is seen, and removal takes the link alone.
    make_wheel(store / "more", "new")
    assert folder.project(NEW) is not None
    assert folder.remove(OURS, "1.0") == (target.name,)
    assert hidden.exists() and not os.path.lexists(farm / "ours" / target.name)


def test_the_first_root_and_the_first_path_win(make: Make, tmp_path: Path) -> None:
    first = make_wheel(tmp_path / "one" / "b", body="first root")
    make_wheel(tmp_path / "two" / "a", body="second root")
    make_wheel(tmp_path / "one" / "c", body="later path")
    folder = make(tmp_path / "one", tmp_path / "two")
    assert only(folder).hashes["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert folder.open(OURS, first.name) == LocalFile(path=first.resolve())
    winner = make_wheel(tmp_path / "one" / "a", body="earlier path")
    assert folder.open(OURS, first.name) == LocalFile(path=winner.resolve())
    assert list(folder.filenames()) == [("ours", first.name)]
    winner.unlink()
    assert only(folder).hashes["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_hundreds_of_folders_find_their_files(make: Make, tmp_path: Path) -> None:
    for number in range(30):
        make_sdist(tmp_path / f"p{number}", f"p{number}")
    folder = make(tmp_path)
    for number in range(30):
        assert folder.open(NormalizedName(f"p{number}"), f"p{number}-1.0.tar.gz") is not None


# --- what a page says


def test_digests_are_those_asked_for_and_sha256(make: Make, tmp_path: Path) -> None:  # J4, J5
    data = make_wheel(tmp_path).read_bytes()
    assert list(only(make(tmp_path)).hashes) == ["sha256"]
    both = only(make(tmp_path, hash_algo="sha512")).hashes
    assert both == {"sha512": hashlib.sha512(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}
    assert list(both) == ["sha512", "sha256"]
    assert only(make(tmp_path, hash_algo=None)).hashes == {}


@pytest.mark.parametrize(
    ("mtime_ns", "uploaded"),
    [
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        (8_583_926_400_123_456_000, datetime(2242, 1, 6, 0, 0, 0, 123456, tzinfo=timezone.utc)),
        (-1_500_000_000, datetime(1969, 12, 31, 23, 59, 58, 500000, tzinfo=timezone.utc)),
    ],
)
def test_upload_time_is_the_modification_time(
    make: Make, tmp_path: Path, mtime_ns: int, uploaded: datetime
) -> None:  # J7
    path = make_wheel(tmp_path)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    if path.stat().st_mtime_ns != mtime_ns:
        pytest.skip("this file system cannot store such a time")
    assert only(make(tmp_path)).uploaded == uploaded


def test_side_files_belong_to_their_file(make: Make, tmp_path: Path) -> None:  # Q4, Q5, Y1, Y2
    path = make_wheel(tmp_path)
    make_wheel(tmp_path, version="2.0")
    for side, data in ((".asc", b"signed"), (".provenance", b"{}"), (".yanked", b"caf\xe9 broken\n")):
        path.with_name(path.name + side).write_bytes(data)
    folder = make(tmp_path)
    assert list(folder.names()) == ["ours"]
    first, second = project_in(folder).files
    assert (first.has_signature, first.yanked) == (True, "caf\ufffd broken")
    assert (second.has_signature, second.yanked) == (False, None)
    assert read(folder.open(OURS, path.name, ".asc")) == b"signed"
    assert read(folder.open(OURS, path.name, ".provenance")) == b"{}"
    assert read(folder.open(OURS, path.name)) == path.read_bytes()
    with pytest.raises(Missing):
        folder.open(OURS, f"{path.name}.asc")
    mark = path.with_name(path.name + ".yanked")
    mark.write_bytes(b"")
    assert project_in(folder).files[0].yanked == ""  # rewritten in place: no folder changed
    mark.unlink()
    assert project_in(folder).files[0].yanked is None
    path.with_name(path.name + ".asc").unlink()
    assert project_in(folder).files[0].has_signature is False
    mark.write_bytes(b"x" * 100_000)
    assert len(project_in(folder).files[0].yanked or "") < 5000


@posix
def test_a_side_link_that_leads_outside_is_not_served(make: Make, tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "root")
    (tmp_path / "secret").write_bytes(b"secret")
    for side in (".asc", ".yanked", ".provenance", ".metadata"):
        path.with_name(path.name + side).symlink_to(tmp_path / "secret")
    folder = make(tmp_path / "root")
    assert only(folder).yanked is None
    assert only(folder).has_signature is False
    with pytest.raises(Missing):
        folder.open(OURS, path.name, ".asc")


def test_the_metadata_inside_a_wheel_wins_over_what_lies_beside_it(make: Make, tmp_path: Path) -> None:  # D2
    path = make_wheel(tmp_path)
    path.with_name(path.name + ".metadata").write_bytes(b"Metadata-Version: 2.1\nName: lies\nVersion: 1.0\n")
    folder = make(tmp_path)
    text = metadata("ours", "1.0")
    assert only(folder).core_metadata == {"sha256": hashlib.sha256(text).hexdigest()}
    assert read(folder.open(OURS, path.name, ".metadata")) == text


def test_metadata_beside_an_sdist_is_used_if_it_is_static(make: Make, tmp_path: Path) -> None:  # D3
    path = make_sdist(tmp_path)
    beside = path.with_name(path.name + ".metadata")
    folder = make(tmp_path)
    assert only(folder).core_metadata is None
    static = b"Metadata-Version: 2.2\nName: ours\nVersion: 1.0\nRequires-Python: >=3.9\n"
    beside.write_bytes(static)
    assert only(folder).core_metadata == {"sha256": hashlib.sha256(static).hexdigest()}
    assert only(folder).requires_python == ">=3.9"
    assert read(folder.open(OURS, path.name, ".metadata")) == static
    beside.write_bytes(static + b"Dynamic: Requires-Dist\n")
    assert only(folder).core_metadata is None
    with pytest.raises(Missing):
        folder.open(OURS, path.name, ".metadata")


def test_a_broken_archive_is_listed_without_metadata(make: Make, tmp_path: Path) -> None:  # D4, U12
    make_wheel(tmp_path, version="1.0")
    (tmp_path / "ours-2.0-py3-none-any.whl").write_bytes(b"no zip")
    (tmp_path / "ours-3.0.tar.gz").write_bytes(b"")
    folder = make(tmp_path)
    assert [bool(file.core_metadata) for file in project_in(folder).files] == [True, False, False]
    with pytest.raises(Missing):
        folder.open(OURS, "ours-2.0-py3-none-any.whl", ".metadata")


# --- currency


def test_the_next_request_sees_every_change(make: Make, tmp_path: Path) -> None:  # P6
    make_wheel(tmp_path)
    folder = make(tmp_path)
    for number in range(20):
        path = make_wheel(tmp_path, "new", f"1.{number}")
        assert project_in(folder, "new").versions[-1] == f"1.{number}"
        if number % 3 == 0:
            path.unlink()
            assert path.name not in {name for _, name in folder.filenames()}
            with pytest.raises((Missing, AssertionError)):
                assert folder.open(NEW, path.name) is not None
    moved = tmp_path / "new-1.1-py3-none-any.whl"
    moved.rename(tmp_path / "new-7.0-py3-none-any.whl")
    assert project_in(folder, "new").versions[-1] == "7.0"


def test_changes_that_leave_the_folders_mtime_alone_are_seen(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    os.utime(tmp_path, (10**9, 10**9))
    folder = make(tmp_path)
    time.sleep(0.03)
    assert folder.project(OURS) is not None
    make_wheel(tmp_path, "new")
    os.utime(tmp_path, (10**9, 10**9))  # as rsync does
    assert folder.project(NEW) is not None


def test_nested_folders_may_come_and_go(make: Make, tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert list(folder.names()) == []
    make_wheel(tmp_path / "a" / "b", "new")
    assert only(folder, "new").version == "1.0"
    make_wheel(tmp_path / "a" / "b", "new", "2.0")
    assert project_in(folder, "new").versions == ("1.0", "2.0")
    (tmp_path / "a" / "b").rename(tmp_path / "c")
    assert project_in(folder, "new").versions == ("1.0", "2.0")
    shutil.rmtree(tmp_path / "c")
    assert folder.project(NEW) is None
    assert list(folder.names()) == []


def test_a_folder_and_a_file_may_swap_places(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "new-1.0-py3-none-any.whl"
    place.mkdir()
    folder = make(tmp_path)
    assert folder.project(NEW) is None
    place.rmdir()
    make_wheel(tmp_path, "new")
    assert folder.project(NEW) is not None
    place.unlink()
    place.mkdir()
    assert folder.project(NEW) is None


def test_a_file_rewritten_in_place_has_its_new_hash_at_once(make: Make, tmp_path: Path) -> None:  # F16
    path = make_wheel(tmp_path)
    folder = make(tmp_path)
    for number in range(10):
        data = make_wheel(tmp_path / "other", body=f"{number}").read_bytes()
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
        assert only(folder).hashes["sha256"] == hashlib.sha256(data).hexdigest()
        content = read(folder.open(OURS, path.name, ".metadata"))
        assert only(folder).core_metadata == {"sha256": hashlib.sha256(content).hexdigest()}


def test_two_writes_in_one_tick_are_told_apart(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    for _ in range(5):
        now = time.time_ns() + 10**9  # ahead, as of another clock, or a busy machine takes longer than the tick
        path.write_bytes(b"a" * 100)
        os.utime(path, ns=(now, now))
        folder = make(tmp_path)
        first = only(folder).hashes["sha256"]
        with path.open("r+b") as file:
            file.write(b"b" * 100)
        os.utime(path, ns=(now, now))
        assert only(folder).hashes["sha256"] == hashlib.sha256(b"b" * 100).hexdigest() != first


def test_unchanged_projects_keep_their_object_when_others_change(make: Make, tmp_path: Path) -> None:
    old(make_wheel(tmp_path))
    folder = make(tmp_path)
    before, names = project_in(folder), folder.names()
    make_wheel(tmp_path, "new")
    assert folder.project(NEW) is not None
    assert project_in(folder) is before
    assert folder.names() is not names
    (tmp_path / "new-1.0-py3-none-any.whl").unlink()
    assert project_in(folder) is before
    os.utime(tmp_path / "ours-1.0-py3-none-any.whl", (10**9 + 5, 10**9 + 5))
    assert project_in(folder) is not before


def test_a_hot_server_sees_changes_within_about_a_second(make: Make, tmp_path: Path) -> None:
    clock = Clock()
    make_wheel(tmp_path)
    folder = make(tmp_path, clock=clock)
    for _ in range(300):
        folder.project(OURS)
    make_wheel(tmp_path, "new")
    (tmp_path / "ours-1.0-py3-none-any.whl").write_bytes(b"rewritten")
    changed = clock.now
    assert NEW not in folder.names()  # it has looked so often that it does not look now
    while NEW not in folder.names() or project_in(folder).files[0].size != 9:
        assert clock.now < changed + 1.1


def test_a_name_that_is_not_here_is_looked_for_at_once_however_hot_the_server(make: Make, tmp_path: Path) -> None:
    clock = Clock()
    make_wheel(tmp_path)
    folder = make(tmp_path, clock=clock)
    for number in range(20):
        for _ in range(300):
            folder.project(OURS)
        name = NormalizedName(f"new{number}")
        assert folder.project(name) is None
        make_wheel(tmp_path, name)  # often within the tick of the one before
        if number % 2:
            assert folder.project(name) is not None
        else:
            assert folder.open(name, f"{name}-1.0-py3-none-any.whl") is not None


def test_those_who_look_for_names_at_once_look_at_the_folders_together(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    folder = make(tmp_path)
    snapshot = folder._snapshot

    def looking() -> int:
        frames = sys._current_frames()
        stacks = [traceback.extract_stack(frames[thread.ident]) for thread in threads if thread.ident in frames]
        return sum(any(frame.name == "_look" for frame in stack) for stack in stacks)

    found = []
    threads = [threading.Thread(target=lambda: found.append(folder.project(NEW))) for _ in range(50)]
    before = snapshot._looks
    with snapshot._lock:  # nobody gets to list the folder
        make_wheel(tmp_path, "new")
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        while looking() < len(threads):
            assert time.monotonic() < until
    for thread in threads:
        thread.join(20)
    assert len(found) == 50 and None not in found
    assert 1 <= snapshot._looks - before <= 5


def test_two_servers_on_one_folder_see_each_others_changes(make: Make, tmp_path: Path) -> None:  # P6
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    one, two = make(root), make(root)
    for number in range(10):
        here, there = (one, two) if number % 2 else (two, one)
        path = make_wheel(work, version=f"1.{number}")
        time.sleep(0.03)
        here.add(staged(here, path, version=f"1.{number}"))
        assert path.name in project_in(here).by_filename
        assert path.name in project_in(there).by_filename
    time.sleep(0.03)
    one.yank(OURS, "1.3", "bad")
    assert [file.yanked for file in project_in(two).files if file.version == "1.3"] == ["bad"]
    two.remove(OURS, "1.3")
    assert "1.3" not in project_in(one).versions


def test_a_budget_spends_its_share_and_saves_little() -> None:
    budget = Budget(share=0.1, burst=0.05, slow=0.01)
    budget.spend(100.0, 100.01, 0)
    assert budget.empty_until < 100.0  # what was saved while idle pays for it
    for _ in range(10):
        budget.spend(100.0, 101.0, 0)  # others' work came in between
    assert budget.empty_until == pytest.approx(100.0 - 0.5 + 1.1)


def test_many_threads_see_one_state(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    folder = make(tmp_path)
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                project = folder.project(NEW)
                assert project is None or len(project.files) == len(project.versions)
                names = folder.names()
                assert list(names) == sorted(names)
                assert project_in(folder).versions == ("1.0",)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        path = make_wheel(tmp_path / ".aside", "new", str(number))
        path = path.rename(tmp_path / path.name)
        if number % 2:
            path.unlink()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    wait_for(lambda: len(project_in(folder, "new").files) == 15)  # so hot that a check may be left out


# --- trouble


def test_a_root_that_goes_away_and_comes_back_serves_again(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # checklist 1 and 3
    root = tmp_path / "root"
    make_wheel(root)
    folder = make(root)
    for _ in range(2):
        assert folder.project(OURS) is not None
        root.rename(tmp_path / "away")
        for ask in (
            lambda: folder.project(OURS),
            lambda: folder.open(OURS, "ours-1.0-py3-none-any.whl"),
            lambda: folder.names(),
            lambda: folder.stage(),
            lambda: folder.remove(OURS, "1.0"),
        ):
            with pytest.raises(Unavailable):  # never "not ours", or the next source would be asked
                ask()
        (tmp_path / "away").rename(root)
    assert folder.project(OURS) is not None
    assert len(caplog.records) == 2


def test_the_other_roots_go_on_when_one_is_gone(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path / "two")
    folder = make(tmp_path / "one", tmp_path / "two")
    assert project_in(folder).versions == ("1.0",)
    assert list(folder.names()) == ["ours"]
    with pytest.raises(Unavailable):
        folder.project(NEW)
    make_wheel(tmp_path / "one", "new")
    assert folder.project(NEW) is not None


@posix
def test_a_root_may_be_a_link_that_is_pointed_elsewhere(make: Make, tmp_path: Path) -> None:
    make_wheel(tmp_path / "v1", version="1.0")
    make_wheel(tmp_path / "v2", version="2.0")
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    folder = make(tmp_path / "current")
    assert only(folder).version == "1.0"
    (tmp_path / "next").symlink_to(tmp_path / "v2")
    (tmp_path / "next").replace(tmp_path / "current")
    assert only(folder).version == "2.0"
    assert folder.open(OURS, "ours-2.0-py3-none-any.whl") == LocalFile(
        path=(tmp_path / "v2" / "ours-2.0-py3-none-any.whl").resolve()
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is unreadable for this user")
def test_what_is_unreadable_makes_its_page_unavailable_with_one_line(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # U12
    make_wheel(tmp_path)
    secret = make_wheel(tmp_path, version="2.0")
    secret.chmod(0)
    (tmp_path / "lost").mkdir(0)
    try:
        folder = make(tmp_path)
        for _ in range(3):
            with pytest.raises(DiskFailed, match="Permission denied"):  # a shorter page would be a wrong one
                folder.project(OURS)
            assert folder.project(NEW) is None  # a folder that somebody closed to us is left out
        assert len(caplog.records) == 2
        secret.chmod(0o644)
        assert project_in(folder).versions == ("1.0", "2.0")
    finally:
        (tmp_path / "lost").chmod(0o755)


# --- changing


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
    assert listed(two) == []


@posix
def test_leftovers_of_a_crash_are_swept_at_the_start(make: Make, tmp_path: Path) -> None:  # R5
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "deep").mkdir()
    for place in (tmp_path, tmp_path / "deep"):
        (place / f".pypiserver-lite-{dead.pid}-0123456789abcdef.tmp").write_bytes(b"half")
    make(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- background


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_files_are_read_ahead_and_not_again_at_the_next_start(make: Make, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts.sqlite3"
    for number in range(10):
        old(make_wheel(root, version=f"1.{number}"))
    folder = make(root, database=database)
    assert folder.progress() == (0, 10)
    folder.start()
    folder.start()
    wait_for(lambda: folder.progress() == (10, 10))
    before = project_in(folder)
    folder.close()
    for path in root.glob("*.whl"):  # other bytes in the same state: whoever read them would tell
        state = path.stat()
        with path.open("r+b") as file:
            file.write(b"never read")
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert project_in(make(root, database=database)) == before


def paths(memory: Memory, folder: Path) -> list[str]:
    return [note.path for note in memory.notes(str(folder))]


def test_new_files_are_read_ahead_and_vanished_ones_forgotten(make: Make, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts.sqlite3"
    gone = old(make_wheel(root, version="1.0"))
    folder = make(root, database=database)
    folder.start()
    wait_for(lambda: folder.progress() == (1, 1))
    memory = Memory(database)
    assert paths(memory, root.resolve()) == [str(gone.resolve())]
    new = old(make_wheel(root, version="2.0"))
    folder.names()
    wait_for(lambda: str(new.resolve()) in paths(memory, root.resolve()))
    folder.close()
    gone.unlink()
    another = make(root, database=database)
    another.start()
    wait_for(lambda: paths(memory, root.resolve()) == [str(new.resolve())])
    memory.close()


_FORKS = """
import os, sys, time, warnings
from pathlib import Path
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder import projects
from pypiserver_lite.folder.budget import Budget
from pypiserver_lite.folder.store import Folder
warnings.simplefilter("ignore")
folder = Folder([Path(sys.argv[1])], Memory(Path(sys.argv[2])), hash_algo="sha256")
folder.start()
assert folder.project("ours") is not None
child = os.fork()
if not child:
    try:
        assert folder.project("ours") is not None
        deadline = time.monotonic() + 20
        while folder.progress() != (1, 1):
            assert time.monotonic() < deadline
            folder.names()
            folder.project("ours")
            time.sleep(0.01)
        folder.close()
    except BaseException:
        os._exit(1)
    os._exit(0)
assert folder.project("ours") is not None
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@posix
def test_a_forked_process_reads_on_its_own(tmp_path: Path) -> None:
    old(make_wheel(tmp_path / "root"))
    command = [sys.executable, "-c", _FORKS, str(tmp_path / "root"), str(tmp_path / "facts.sqlite3")]
    subprocess.run(command, check=True, timeout=60)


def test_closing_stops_reading(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(50):
        make_wheel(tmp_path, version=f"1.{number}")
    folder = make(tmp_path)
    others = set(threading.enumerate())
    folder.start()
    folder.close()
    for _ in range(2):
        assert not [thread for thread in set(threading.enumerate()) - others if "read-ahead" in thread.name]
        folder.start()
    assert len(project_in(folder).files) == 50


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


def test_projects_that_nobody_asks_for_are_not_kept_for_ever(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "KEPT_PROJECTS", 10_000)
    for number in range(8):
        for version in ("1.0", "2.0", "3.0"):
            make_wheel(tmp_path / "p", f"p{number}", version)
    folder = make(tmp_path / "p")
    first = project_in(folder, "p0")
    assert project_in(folder, "p0") is first
    for number in range(1, 8):
        last = project_in(folder, f"p{number}")
    assert project_in(folder, "p7") is last
    again = project_in(folder, "p0")
    assert again is not first
    assert again == first

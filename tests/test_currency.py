"""The folder is the only truth: whatever happens to it, the next request tells it right."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from builders import make_wheel
from folders import NEW, Clock, Make, old, only, posix, project_in, wait_for
from packaging.utils import NormalizedName
from source_contract import OURS, read, staged

from pypiserver_lite.errors import DiskFailed, Missing, Unavailable
from pypiserver_lite.folder.budget import Budget
from pypiserver_lite.model import LocalFile


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


def test_those_who_look_for_names_at_once_look_at_the_folders_together(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path)
    folder = make(tmp_path)
    real, looks, go_on = os.stat, [], threading.Event()

    def stat(path: Any, **more: Any) -> os.stat_result:  # of the folder, as at the begin of each look
        if path == str(tmp_path):
            looks.append(path)
            go_on.wait(60)
        return real(path, **more)

    def looking() -> int:
        frames = sys._current_frames()
        stacks = [traceback.extract_stack(frames[thread.ident]) for thread in threads if thread.ident in frames]
        return sum(any(frame.name == "look" for frame in stack) for stack in stacks)

    found = []
    threads = [threading.Thread(target=lambda: found.append(folder.project(NEW))) for _ in range(50)]
    make_wheel(tmp_path, "new")
    monkeypatch.setattr(os, "stat", stat)
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while looking() < len(threads) and time.monotonic() < until:
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(found) == 50 and None not in found
    assert 1 <= len(looks) <= 20, "a look takes a few; were there no common one, there would be fifty and more"


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
    (tmp_path / "lost+found").mkdir(0)
    try:
        folder = make(tmp_path)
        for _ in range(3):
            with pytest.raises(DiskFailed, match="Permission denied"):  # a shorter page would be a wrong one
                folder.project(OURS)
            assert folder.project(NEW) is None  # what belongs to the file system itself is left out
        assert len(caplog.records) == 2
        secret.chmod(0o644)
        assert project_in(folder).versions == ("1.0", "2.0")
    finally:
        (tmp_path / "lost+found").chmod(0o755)

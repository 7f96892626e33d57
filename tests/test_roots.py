"""A packages folder that an empty one replaced is lost, not empty; and every folder that is served keeps its names."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import forms
import live
import pytest
from builders import make_wheel
from folders import OTHER, RECORDS, Due, due_maker, packages_of_other  # noqa: F401 - fixtures
from packaging.utils import NormalizedName
from source_contract import NOBODYS, OURS, staged
from test_cli import ordinary
from test_cli import run as command
from test_faults import Mount, disk  # noqa: F401 - a fixture

from pypiserver_lite import make_app
from pypiserver_lite.errors import Unavailable
from pypiserver_lite.folder.store import Folder


def lost(folder: Folder) -> bool:
    """Whether nobody can say now what is not here, and nothing is taken."""
    try:
        folder.project(NOBODYS)
    except Unavailable:
        for ask in (folder.names, folder.stage, folder.kept, lambda: folder.open(OURS, "ours-1.0-py3-none-any.whl")):
            with pytest.raises(Unavailable):
                ask()
        return True
    folder.stage()
    return False


@pytest.mark.parametrize("restart", [False, True])
def test_a_root_that_an_empty_one_replaced_is_lost_until_it_is_back(make: Due, tmp_path: Path, restart: bool) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    os.utime(make_wheel(root), (10**9, 10**9))  # of a file that may still change nothing is remembered
    folder = make(root, database=database)
    assert folder.project(OURS) is not None
    root.rename(tmp_path / "disk")
    root.mkdir()
    folder = make(root, database=database) if restart else folder
    assert lost(folder)
    assert list(root.iterdir()) == []  # nothing is written where the disk belongs
    root.rmdir()
    (tmp_path / "disk").rename(root)
    assert not lost(folder) and folder.project(OURS) is not None


@pytest.mark.parametrize("again", [False, True])
def test_while_a_backup_is_copied_back_after_a_restart_no_name_of_it_is_anybody_elses(
    make: Due, packages: Path, tmp_path: Path, again: bool
) -> None:
    """Whatever comes first of it, and though the record of names is lost with the disk."""
    database = tmp_path / "facts"
    for path in (make_wheel(packages), *packages.glob("*.whl")):
        os.utime(path, (10**9, 10**9))
    folder = make(packages, database=database)
    assert folder.project(OURS) is not None and folder.project(OTHER) is not None
    packages.rename(tmp_path / "backup")
    packages.mkdir()
    folder = make(packages, database=database)
    assert lost(folder) and not list(packages.iterdir())
    shutil.copy(tmp_path / "backup" / "other-1.0-py3-none-any.whl", packages)
    folder = make(packages, database=database) if again else folder
    assert folder.project(OTHER) is not None
    for asked in (folder, make(packages)):
        assert asked.project(OURS) is None and asked.kept() == (OURS,)
    shutil.copytree(tmp_path / "backup", packages, dirs_exist_ok=True)
    assert folder.names() == (OTHER, OURS) and folder.kept() == ()


def test_a_name_that_was_released_is_not_recalled(make: Due, packages: Path, tmp_path: Path) -> None:
    path, database, copies = make_wheel(packages), tmp_path / "facts", tmp_path / "copies"
    os.utime(path, (10**9, 10**9))
    (packages / RECORDS.parent).touch()  # nothing can be made below a file, whoever we are
    folder = make(packages, database=database, copies=copies)
    assert folder.project(OURS) is not None
    path.unlink()
    folder.release([OURS])
    assert not make(packages, database=database, copies=copies).had(OURS)


@pytest.mark.parametrize("restart", [False, True])
def test_an_operator_says_that_an_empty_folder_is_meant(make: Due, tmp_path: Path, restart: bool) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    os.utime(make_wheel(root), (10**9, 10**9))  # of a file that may still change nothing is remembered
    folder = make(root, database=database)
    assert folder.project(OURS) is not None
    root.rename(tmp_path / "old")  # not removed yet, or the new one might get its inode
    root.mkdir()
    folder = make(root, database=database) if restart else folder
    assert lost(folder)
    make(root, database=database).release(None)
    assert not lost(folder)
    assert not folder.had(OURS) and folder.kept() == ()
    assert not lost(make(root, database=database))


def test_an_operator_is_heard_at_the_next_start_where_nothing_can_be_written(make: Due, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    os.utime(make_wheel(root), (10**9, 10**9))
    assert make(root, database=database).project(OURS) is not None
    shutil.rmtree(root)
    root.mkdir()
    (root / RECORDS.parent).touch()
    folder = make(root, database=database)
    assert lost(folder)
    with pytest.raises(Unavailable):
        folder.release(None)
    assert not lost(make(root, database=database))


def test_an_emptied_folder_that_is_still_itself_is_empty_and_keeps_its_names(make: Due, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    path = make_wheel(root)
    folder = make(root, database=database)
    assert folder.project(OURS) is not None
    path.unlink()
    for asked in (folder, make(root, database=database)):
        assert not lost(asked) and asked.names() == () and asked.kept() == (OURS,)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("way", ["renamed away", "an empty one in its place"])
def test_of_what_a_lost_folder_had_nothing_is_shown_in_part_or_changed(
    make: Due, tmp_path: Path, way: str, restart: bool
) -> None:
    first, second, database = tmp_path / "first", tmp_path / "second", tmp_path / "facts"
    os.utime(make_wheel(first, version="1.0"), (10**9, 10**9))
    os.utime(make_wheel(first, "alone"), (10**9, 10**9))
    os.utime(make_wheel(second, version="2.0"), (10**9, 10**9))
    os.utime(make_wheel(second / "deep", "another"), (10**9, 10**9))
    folder = make(first, second, database=database)
    whole, alone = folder.project(OURS), folder.project(NormalizedName("alone"))
    assert whole is not None and whole.versions == ("1.0", "2.0")
    second.rename(tmp_path / "disk")
    if way != "renamed away":
        second.mkdir()
    folder = make(first, second, database=database) if restart else folder
    for ask in (
        folder.names,
        lambda: folder.project(OURS),
        lambda: folder.open(OURS, "ours-1.0-py3-none-any.whl"),
        lambda: folder.open(OURS, "ours-2.0-py3-none-any.whl"),
        lambda: folder.add(staged(folder, make_wheel(tmp_path / "new", version="2.0", payload=b"x"), version="2.0")),
        lambda: folder.add(staged(folder, make_wheel(tmp_path / "new", "fresh"), "fresh")),
        lambda: folder.remove(OURS, "1.0"),
        lambda: folder.yank(OURS, "1.0", ""),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert folder.project(NormalizedName("alone")) == alone
    if way != "renamed away":
        second.rmdir()
    (tmp_path / "disk").rename(second)
    assert folder.project(OURS) == whole and folder.names() == ("alone", "another", "ours")


@pytest.mark.parametrize(("name", "known"), [("sub", True), ("sub", False), ("lost+found", False)])
def test_a_folder_that_cannot_be_listed_at_the_start_hides_no_release(
    make: Due, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool, name: str
) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    os.utime(make_wheel(root, version="1.0"), (10**9, 10**9))
    os.utime(make_wheel(root / name, version="2.0"), (10**9, 10**9))
    if known:
        assert make(root, database=database).project(OURS) is not None
    scan = os.scandir

    def fails(path: Any) -> Any:
        if os.path.basename(path) == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", fails)
    folder = make(root, database=database)
    if known:
        with pytest.raises(Unavailable):
            folder.project(OURS)
    if name == "lost+found":  # which file systems have of themselves
        assert folder.project(NOBODYS) is None
    else:
        for ask in (
            lambda: folder.project(NOBODYS),
            lambda: folder.add(staged(folder, make_wheel(tmp_path / "new", "fresh"), "fresh")),
        ):
            with pytest.raises(Unavailable):
                ask()
    monkeypatch.undo()
    make.now += 10
    project = folder.project(OURS)
    assert project is not None and project.versions == ("1.0", "2.0")


def test_a_name_that_came_and_went_while_another_folder_was_lost_is_kept(make: Due, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make_wheel(first, "other")
    make_wheel(second)
    folder = make(first, second)
    assert folder.project(OURS) is not None
    second.rename(tmp_path / "disk")
    fresh, name = make_wheel(first, "fresh"), NormalizedName("fresh")
    assert folder.project(name) is not None
    fresh.unlink()
    (tmp_path / "disk").rename(second)
    assert make(first, second).had(name)


def test_a_link_that_leads_to_an_empty_folder_at_the_next_start_is_lost(make: Due, tmp_path: Path) -> None:
    root, copies = tmp_path / "root", tmp_path / "copies"
    make_wheel(tmp_path / "one")
    (tmp_path / "two").mkdir()
    root.symlink_to("one")
    assert make(root, copies=copies).project(OURS) is not None
    root.unlink()
    root.symlink_to("two")
    folder = make(root, copies=copies)
    assert lost(folder)
    assert not list((tmp_path / "two").iterdir())
    folder.release(None)
    assert not lost(folder) and not lost(make(root, copies=copies))


def test_the_second_of_two_roots_may_be_lost(make: Due, packages: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "two")
    folder = make(packages, tmp_path / "two")
    (tmp_path / "two").rename(tmp_path / "disk")
    (tmp_path / "two").mkdir()
    assert folder.project(OTHER) is not None
    for ask in (folder.names, lambda: folder.project(OURS), lambda: folder.project(NOBODYS)):
        with pytest.raises(Unavailable):
            ask()
    make(packages, tmp_path / "two").release(None)
    assert folder.project(OURS) is None and not folder.had(OURS)
    assert folder.had(OTHER)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("restart", [False, True])
def test_each_of_two_roots_is_lost_when_an_empty_one_replaced_it(
    make: Due, packages: Path, tmp_path: Path, restart: bool, at: int
) -> None:
    """Noticed at the start too, without anything that a cache remembers."""
    roots = packages, tmp_path / "two"
    make_wheel(roots[at])
    make_wheel(roots[1], "two")
    folder = make(*roots)
    roots[at].rename(tmp_path / "disk")
    roots[at].mkdir()
    folder = make(*roots) if restart else folder
    with pytest.raises(Unavailable):
        folder.project(OURS)
    assert list(roots[at].iterdir()) == []
    roots[at].rmdir()
    (tmp_path / "disk").rename(roots[at])
    assert folder.project(OURS) is not None and folder.names() == ("other", "ours", "two")


@pytest.mark.parametrize("writable", [True, False])
def test_a_second_root_that_was_emptied_on_purpose(make: Due, packages: Path, tmp_path: Path, writable: bool) -> None:
    """It keeps its mark; one that cannot be marked is taken for lost at the next start, until an operator speaks."""
    path = make_wheel(two := tmp_path / "two")
    if not writable:
        (two / RECORDS.parent).touch()  # nothing can be made below a file, whoever we are
    running = make(packages, two)
    path.unlink()
    assert running.project(OURS) is None and running.had(OURS)
    folder = make(packages, two)
    if not writable:
        with pytest.raises(Unavailable):
            folder.project(OURS)
        make(packages, two).release(None)
        assert folder.project(OURS) is None and not folder.had(OURS)
        folder = make(packages, two)
        make_wheel(two)
    else:
        assert folder.project(OURS) is None and folder.had(OURS) and folder.kept() == (OURS,)
        # Still itself when it was away in between.
        two.rename(tmp_path / "disk")
        two.mkdir()
        folder = make(packages, two)
        with pytest.raises(Unavailable):
            folder.project(OURS)
        two.rmdir()
        (tmp_path / "disk").rename(two)
    assert folder.project(NOBODYS) is None and folder.had(OURS)


def test_a_mark_that_cannot_be_reached_is_none(make: Due) -> None:
    with tempfile.TemporaryDirectory() as name:  # where others may look
        os.chmod(name, 0o755)
        one, two = Path(name, "one"), Path(name, "two")
        make_wheel(one, "other")
        path = make_wheel(two)
        make(one, two)
        path.unlink()
        (two / RECORDS.parent).chmod(0)
        try:
            with ordinary():
                folder = make(one, two)
                assert folder.project(OTHER) is not None
                with pytest.raises(Unavailable):
                    folder.project(OURS)
        finally:
            (two / RECORDS.parent).chmod(0o755)


def test_what_is_said_of_a_lost_root_is_a_command_that_ends_it(
    make: Due, packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_wheel(two := tmp_path / "it's two")
    make(packages, two)
    shutil.rmtree(two)
    two.mkdir()
    folder = make(packages, two)
    with pytest.raises(Unavailable):
        folder.project(OURS)
    words = shlex.split(caplog.messages[-1].rpartition("pypiserver-lite ")[2])
    assert command(*words, cwd=tmp_path).stdout == "ours: released\n"
    assert folder.project(OURS) is None and not folder.had(OURS)
    assert folder.project(OTHER) is not None


def test_a_former_first_folder_gives_its_names_to_a_new_one(make: Due, packages: Path, tmp_path: Path) -> None:
    make_wheel(packages).unlink()
    make_wheel(packages)
    make(packages).remove(OURS, "1.0")
    make_wheel(tmp_path / "new", "new")
    for roots in ((tmp_path / "new", packages), (tmp_path / "new",)):
        assert make(*roots).had(OURS)


def test_every_folder_that_is_served_gives_its_names_whatever_the_order(make: Due, packages: Path) -> None:
    """The first has a record of its own, from when it was served alone."""
    first = packages.parent / "first"
    make_wheel(first, "new")
    make_wheel(packages)
    make(packages).remove(OURS, "1.0")
    make(first)
    folder = make(first, packages)
    assert folder.had(OURS) and folder.kept() == (OURS,) and not folder.had(NOBODYS)
    assert make(first).had(OURS)  # what was taken in is written down
    # What is released holds for both, also at the next start, and does not come back from the other's file.
    folder.release([OURS])
    for asked in (folder, make(first, packages)):
        assert not asked.had(OURS) and asked.kept() == ()
    assert make(packages).had(OURS)
    make_wheel(packages)
    assert folder.project(OURS) is not None
    folder.remove(OURS, "1.0")
    for asked in (folder, make(first, packages)):
        assert asked.kept() == (OURS,)
    folder.release(None)
    for asked in (folder, make(first, packages)):
        assert asked.kept() == ()


def test_a_name_that_came_and_went_with_another_server_of_one_of_the_folders_is_kept(make: Due, packages: Path) -> None:
    first = packages.parent / "first"
    make_wheel(first, "new")
    both, alone = make(first, packages), make(packages)
    assert both.project(OURS) is None
    alone.add(staged(alone, make_wheel(packages.parent)))
    alone.remove(OURS, "1.0")
    assert both.project(OURS) is None and both.had(OURS)


def test_where_a_record_cannot_be_read_what_is_not_here_is_refused(make: Due, caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as name:  # where others may look
        os.chmod(name, 0o755)
        one, two = Path(name, "one"), Path(name, "two")
        make_wheel(one, "other")
        make_wheel(two, "two")
        make_wheel(two)
        make(one)
        make(two).remove(OURS, "1.0")
        (two / RECORDS.parent).chmod(0)
        try:
            with ordinary():
                folder = make(one, two)
                assert folder.project(OTHER) is not None
                with pytest.raises(Unavailable):
                    folder.project(OURS)
                assert [line for line in caplog.messages if str(two) in line and "refused" in line]
        finally:
            (two / RECORDS.parent).chmod(0o755)
        assert folder.project(OURS) is None and folder.had(OURS)


@pytest.mark.parametrize("way", ["file", "folder", "deep folder", "dangling", "dangling, followed"])
def test_the_name_of_a_link_that_is_not_served_is_ours_and_said(packages: Path, tmp_path: Path, way: str) -> None:
    outside = tmp_path / "outside"
    path = make_wheel(outside / "deep" if way == "deep folder" else outside)
    link = packages / (path.name if "folder" not in way else "sub")
    link.symlink_to(outside if "folder" in way else path)
    if "dangling" in way:
        path.unlink()
    with live.serve(
        packages=[packages], fallback_url="http://127.0.0.1:9/simple/", follow_links=way == "dangling, followed"
    ) as server:
        assert live.ask(server, "/simple/other/").status == 200
        assert live.ask(server, "/simple/ours/").status == 404
        assert live.ask(server, "/simple/nobodys/").status == 302
        assert "ours" not in live.ask(server, "/simple/").text
        if "folder" in way:  # also of what comes later
            make_wheel(path.parent, "later")
            assert live.ask(server, "/simple/later/").status == 404
        for name in ("one", "two"):
            (packages / f"{name}-1.0.tar.gz").symlink_to(tmp_path / "nowhere")
            assert live.ask(server, f"/simple/{name}/").status == 404
        assert len([line for line in server.log().splitlines() if "--follow-links" in line]) == 1
        link.unlink()
        assert live.ask(server, "/simple/ours/").status == 302


def test_links_to_everything_and_to_roots_harm_nobody(make: Due, packages: Path, tmp_path: Path) -> None:
    make_wheel(two := tmp_path / "two")
    (packages / "up").symlink_to(tmp_path)
    (packages / "disk").symlink_to("/")
    (packages / "two").symlink_to(two)
    folder = make(packages, two)
    assert folder.names() == ("other", "ours") and folder.project(NOBODYS) is None
    two.joinpath("ours-1.0-py3-none-any.whl").unlink()
    assert folder.names() == ("other",) and folder.kept() == (OURS,)


@pytest.mark.parametrize("mode", ["redirect", "cache"])
def test_a_served_folder_keeps_its_names_behind_another_one(packages: Path, tmp_path: Path, mode: str) -> None:
    make_wheel(tmp_path / "theirs", "ours", "99.0")
    theirs = make_app(tmp_path / "theirs", disable_fallback=True, cache_dir=tmp_path / "their cache")
    make_wheel(first := tmp_path / "first", "new")
    path = make_wheel(packages)
    with live.in_thread(theirs) as upstream:
        for roots in ([packages], [first], [first, packages]):
            with live.serve(packages=roots, fallback_url=upstream.simple, fallback_mode=mode) as server:
                upstream.forget()
                answer = live.ask(server, "/simple/ours/")
                assert answer.status == (200 if roots == [packages] else answer.status)
            path.unlink(missing_ok=True)
        assert answer.status == 404 and not upstream.asked()


def test_a_fresh_empty_folder_is_empty(make: Due, tmp_path: Path) -> None:
    assert not lost(make(tmp_path, database=tmp_path.with_suffix(".facts")))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_unmounted_under_a_running_server_is_503(disk: Mount, tmp_path: Path) -> None:  # noqa: F811
    folder = disk("packages", 4)
    make_wheel(folder)
    with live.serve(packages=[folder], **forms.OPEN) as server:
        assert live.ask(server, "/simple/ours/").status == 200
        subprocess.run(["umount", "-l", str(folder)], check=True)
        try:
            for path in ("/simple/", "/simple/ours/", "/simple/nobodys/", "/packages/ours-1.0-py3-none-any.whl"):
                assert live.ask(server, path).status == 503, path
            assert forms.post(server, forms.upload(forms.wheel(), "ours-1.0-py3-none-any.whl")).status == 503
            assert list(folder.iterdir()) == []
        finally:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)


def test_a_disk_in_a_folder_that_is_unmounted_under_a_running_server_is_503(
    disk: Mount,  # noqa: F811
    packages: Path,
) -> None:
    team = disk("packages/team", 4)
    make_wheel(packages, "ours", "1.0")
    deep = make_wheel(team / "deep", "ours", "2.0")
    make_wheel(team, "theirs")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert "ours-2.0" in live.ask(server, "/simple/ours/").text
        subprocess.run(["umount", "-l", str(team)], check=True)
        try:
            for path in ("/simple/", "/simple/ours/", "/simple/theirs/", "/simple/nobodys/", f"/packages/{deep.name}"):
                assert live.ask(server, path).status == 503, path
            assert forms.post(server, forms.upload(forms.wheel("ours", "2.0"), deep.name)).status == 503
            assert live.ask(server, "/simple/other/").status == 200
            assert list(team.iterdir()) == []
            team.rmdir()  # an operator says that it is meant
            assert live.ask(server, "/simple/theirs/").status == 404
            assert "ours-2.0" not in live.ask(server, "/simple/ours/").text
        finally:
            team.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(team)], check=True)
        make_wheel(team, "theirs")
        assert live.ask(server, "/simple/theirs/").status == live.ask(server, "/simple/").status == 200


def test_a_folder_that_is_emptied_is_empty_where_it_never_was_a_disk_of_its_own(make: Due, packages: Path) -> None:
    path = make_wheel(packages / "team")
    folder = make(packages)
    assert folder.project(OURS) is not None
    path.unlink()
    assert folder.project(OURS) is None and not lost(folder)

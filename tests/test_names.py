"""A name once had stays ours, whoever removes its files and however, until an operator releases it."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import forms
import live
import pytest
from builders import make_wheel
from packaging.utils import NormalizedName
from source_contract import NOBODYS, OURS, staged
from test_cli import ordinary
from test_cli import run as command
from test_faults import Mount, disk  # noqa: F401 - a fixture

from pypiserver_lite import make_app
from pypiserver_lite.errors import ConfigError, Conflict, Missing, Unavailable
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder

OTHER = NormalizedName("other")
RECORDS = Path(".pypiserver-lite", "names")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "packages", "other")
    return tmp_path / "packages"


class Make:
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


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:
        yield Make(stack)


# -- who removes the last file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["our removal", "by hand", "while stopped", "folder and all"])
def test_a_name_whose_last_file_goes_stays_ours(make: Make, packages: Path, way: str) -> None:
    path = make_wheel(packages / "deep")
    folder = make(packages)
    assert not folder.had(NOBODYS)
    if way == "our removal":
        folder.remove(OURS, "1.0")
    elif way == "folder and all":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if way == "while stopped":
        folder = make(packages)
    assert folder.project(OURS) is None
    assert folder.had(OURS) and folder.kept() == (OURS,)
    # Files that come back end it, and it begins again when they go.
    back = make_wheel(packages)
    assert folder.project(OURS) is not None and folder.kept() == ()
    back.unlink()
    assert folder.kept() == make(packages).kept() == (OURS,)
    assert (packages / RECORDS).read_text().split("\n").count("ours") == 1


def test_a_name_is_ours_at_every_moment_of_its_removal(make: Make, packages: Path) -> None:
    """A hot server that has not looked at the folder again finds the files gone, and asks nobody else."""
    path = make_wheel(packages)
    folder = make(packages)
    assert folder.project(OURS) is not None
    make.clock = lambda: make.now  # type: ignore[method-assign]  # no time passes: nobody looks at the folder
    path.unlink()
    assert folder.had(OURS)


def test_names_that_came_and_went_in_another_process_are_kept_in_this_one(make: Make, packages: Path) -> None:
    one, two = make(packages), make(packages)
    one.add(staged(one, make_wheel(packages.parent)))
    one.remove(OURS, "1.0")  # the other has never seen it
    assert two.project(OURS) is None
    assert two.had(OURS) and two.kept() == (OURS,)
    one.release([OURS])
    assert not two.had(OURS)


# -- the record -------------------------------------------------------------------------------------------------------


def test_the_record_is_written_when_names_come_and_not_by_asking(make: Make, packages: Path) -> None:
    record = packages / RECORDS
    one, two = make(packages), make(packages)
    make_wheel(packages)
    for folder in (one, two, make(packages)):
        assert folder.project(OURS) is not None
    assert record.read_text().splitlines()[1:] == ["other", "ours"]  # each once, whoever saw it first
    before = record.stat()
    make_wheel(packages, version="2.0")
    for _ in range(20):
        assert one.project(OURS) is not None and one.names() == ("other", "ours")
    assert record.stat() == before


@pytest.mark.parametrize("damage", [b"", b"acme\n", b"# head\nother\n\x00\x00\x00\n", b"# head\nnot a name\n"])
def test_a_damaged_record_is_refused_and_never_lost(make: Make, packages: Path, damage: bytes) -> None:
    running = make(packages)
    record = packages / RECORDS
    record.write_bytes(damage)
    with pytest.raises(ConfigError, match="is damaged; mend it"):
        make(packages)
    # Who runs goes on with what it knows, and leaves the file as it is.
    (packages / "other-1.0-py3-none-any.whl").unlink()
    make_wheel(packages)
    assert running.project(OURS) is not None and running.had(OTHER)
    assert record.read_bytes() == damage
    with pytest.raises(Unavailable, match="damaged"):
        running.release(None)


def test_a_record_that_is_a_link_is_not_followed(make: Make, packages: Path) -> None:
    make(packages)
    (packages / RECORDS).rename(packages / "elsewhere")
    (packages / RECORDS).symlink_to(packages / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic links"):
        make(packages)


def test_a_line_that_a_crash_cut_short_is_no_name(make: Make, packages: Path) -> None:
    make(packages)
    record = packages / RECORDS
    whole = record.read_bytes()
    record.write_bytes(whole + b"acm")
    folder = make(packages)
    assert not folder.had(NormalizedName("acm"))
    make_wheel(packages, "acme")
    assert folder.project(NormalizedName("acme")) is not None
    assert record.read_bytes() == whole + b"acme\n"


def test_a_record_that_was_deleted_is_made_anew_by_who_still_knows(make: Make, packages: Path) -> None:
    make_wheel(packages)
    folder = make(packages)
    folder.remove(OURS, "1.0")
    shutil.rmtree(packages / RECORDS.parent)
    assert folder.had(OURS)
    make_wheel(packages, "another")
    folder.names()
    assert make(packages).kept() == (OURS,)


def test_a_record_that_another_one_replaced_takes_no_name_from_who_runs(make: Make, packages: Path) -> None:
    make_wheel(packages)
    folder = make(packages)
    folder.remove(OURS, "1.0")
    record = packages / RECORDS
    record.with_name("other").write_text("# of an older backup\n-ours\n-*\nother\n")
    record.with_name("other").replace(record)
    assert folder.had(OURS)
    make_wheel(packages, "another")
    folder.names()
    assert make(packages).kept() == (OURS,)


def test_where_nothing_can_be_written_names_are_kept_in_memory(
    make: Make, packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_wheel(packages)
    (packages / RECORDS.parent).touch()  # nothing can be made below a file, whoever we are
    folder = make(packages)
    path.unlink()
    for _ in range(3):
        assert folder.project(OURS) is None and folder.had(OURS)
    with pytest.raises(Unavailable):
        folder.release([OURS])
    assert len([line for line in caplog.messages if str(packages) in line]) == 1


def test_where_nothing_can_be_written_names_are_kept_in_the_cache_folder(
    make: Make, packages: Path, tmp_path: Path
) -> None:
    path, copies = make_wheel(packages), tmp_path / "copies"
    (packages / RECORDS.parent).touch()  # nothing can be made below a file, whoever we are
    folder = make(packages, copies=copies)
    path.unlink()
    for asked in (folder, make(packages, copies=copies)):
        assert asked.project(OURS) is None and asked.had(OURS) and not asked.had(NOBODYS)
    assert not make(packages).had(OURS) and not make(tmp_path, copies=copies).kept()
    # What is released there is heard by all, and stays so.
    running = make(packages, copies=copies)
    folder.release([OURS])
    for asked in (folder, running, make(packages, copies=copies)):
        assert not asked.had(OURS) and asked.had(OTHER)
    # Once the folder can be written, its file has it all.
    make_wheel(packages)
    assert folder.project(OURS) is not None
    path.unlink()
    assert folder.project(OURS) is None
    (packages / RECORDS.parent).unlink()
    assert make(packages, copies=copies).had(OURS)
    shutil.rmtree(copies)
    again = make(packages, copies=copies)
    assert again.kept() == (OURS,) and not copies.exists()


@pytest.mark.parametrize("every", [False, True])
def test_all_names_of_a_copy_can_be_released(make: Make, packages: Path, tmp_path: Path, every: bool) -> None:
    path, copies = make_wheel(packages), tmp_path / "copies"
    (packages / RECORDS.parent).touch()
    folder = make(packages, copies=copies)
    path.unlink()
    assert folder.kept() == (OURS,)
    folder.release(None if every else [OURS])
    assert folder.kept() == make(packages, copies=copies).kept() == ()
    make_wheel(packages)
    assert folder.project(OURS) is not None
    path.unlink()
    assert folder.kept() == make(packages, copies=copies).kept() == (OURS,)


def test_a_name_of_a_folder_that_cannot_be_written_stays_ours_after_a_restart(packages: Path, tmp_path: Path) -> None:
    path = make_wheel(packages)
    (packages / RECORDS.parent).touch()
    settings: dict[str, Any] = {"fallback_url": "http://127.0.0.1:9/simple/", "cache_dir": tmp_path / "cache"}
    for status in (200, 404):
        with live.serve(packages=[packages], **settings) as server:
            assert live.ask(server, "/simple/ours/").status == status
        path.unlink(missing_ok=True)
    said = command("names", "release", "ours", "--in", packages, "--cache-dir", tmp_path / "cache", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (0, "ours: released\n")
    with live.serve(packages=[packages], **settings) as server:
        assert live.ask(server, "/simple/ours/").status == 302


def test_a_release_names_what_is_wrong(make: Make, packages: Path) -> None:
    folder = make(packages)
    with pytest.raises(Conflict, match="has files here"):
        folder.release([OTHER])
    with pytest.raises(Missing, match="never had files"):
        folder.release([NOBODYS])


# -- a root that was replaced by an empty one -------------------------------------------------------------------------


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
def test_a_root_that_an_empty_one_replaced_is_lost_until_it_is_back(make: Make, tmp_path: Path, restart: bool) -> None:
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


@pytest.mark.parametrize("restart", [False, True])
def test_an_operator_says_that_an_empty_folder_is_meant(make: Make, tmp_path: Path, restart: bool) -> None:
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


def test_an_operator_is_heard_at_the_next_start_where_nothing_can_be_written(make: Make, tmp_path: Path) -> None:
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


def test_an_emptied_folder_that_is_still_itself_is_empty_and_keeps_its_names(make: Make, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts"
    path = make_wheel(root)
    folder = make(root, database=database)
    assert folder.project(OURS) is not None
    path.unlink()
    for asked in (folder, make(root, database=database)):
        assert not lost(asked) and asked.names() == () and asked.kept() == (OURS,)


def test_a_link_that_leads_to_an_empty_folder_at_the_next_start_is_lost(make: Make, tmp_path: Path) -> None:
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


def test_the_second_of_two_roots_may_be_lost(make: Make, packages: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "two")
    folder = make(packages, tmp_path / "two")
    (tmp_path / "two").rename(tmp_path / "disk")
    (tmp_path / "two").mkdir()
    assert folder.names() == ("other",) and folder.project(OTHER) is not None
    for name in (OURS, NOBODYS):
        with pytest.raises(Unavailable):
            folder.project(name)
    make(packages, tmp_path / "two").release(None)
    assert folder.project(OURS) is None and not folder.had(OURS)
    assert folder.had(OTHER)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("restart", [False, True])
def test_each_of_two_roots_is_lost_when_an_empty_one_replaced_it(
    make: Make, packages: Path, tmp_path: Path, restart: bool, at: int
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
def test_a_second_root_that_was_emptied_on_purpose(make: Make, packages: Path, tmp_path: Path, writable: bool) -> None:
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


def test_a_mark_that_cannot_be_reached_is_none(make: Make) -> None:
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
    make: Make, packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
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


def test_a_former_first_folder_gives_its_names_to_a_new_one(make: Make, packages: Path, tmp_path: Path) -> None:
    make_wheel(packages).unlink()
    make_wheel(packages)
    make(packages).remove(OURS, "1.0")
    make_wheel(tmp_path / "new", "new")
    for roots in ((tmp_path / "new", packages), (tmp_path / "new",)):
        assert make(*roots).had(OURS)


def test_every_folder_that_is_served_gives_its_names_whatever_the_order(make: Make, packages: Path) -> None:
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


def test_a_name_that_came_and_went_with_another_server_of_one_of_the_folders_is_kept(
    make: Make, packages: Path
) -> None:
    first = packages.parent / "first"
    make_wheel(first, "new")
    both, alone = make(first, packages), make(packages)
    assert both.project(OURS) is None
    alone.add(staged(alone, make_wheel(packages.parent)))
    alone.remove(OURS, "1.0")
    assert both.project(OURS) is None and both.had(OURS)


def test_where_a_record_cannot_be_read_what_is_not_here_is_refused(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_links_to_everything_and_to_roots_harm_nobody(make: Make, packages: Path, tmp_path: Path) -> None:
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


def test_a_fresh_empty_folder_is_empty(make: Make, tmp_path: Path) -> None:
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


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["redirect", "proxy", "cache"])
def test_no_address_of_a_removed_project_reaches_the_upstream(packages: Path, tmp_path: Path, mode: str) -> None:
    make_wheel(tmp_path / "theirs", "ours", "99.0", payload=b"evil")
    make_wheel(packages)
    theirs = make_app(tmp_path / "theirs", disable_fallback=True, cache_dir=tmp_path / "their cache")
    with (
        live.in_thread(theirs) as upstream,
        live.serve(packages=[packages], fallback_url=upstream.simple, fallback_mode=mode, **forms.OPEN) as server,
    ):
        until = time.monotonic() + 10
        while "project/ours/" not in live.ask(server, "/", Accept="text/html").text:
            assert time.monotonic() < until, "it is not among the newest on the home page"
            time.sleep(0.05)
        answer = forms.post(server, forms.action("remove_pkg", name="ours", version="1.0"))
        assert answer.status == 200 and "upstream" not in answer.text
        for path in (
            "/simple/ours/",
            "/simple/ours/?format=application/vnd.pypi.simple.v1%2Bjson",
            "/packages/ours-1.0-py3-none-any.whl",
            "/packages/ours-99.0-py3-none-any.whl",
            "/packages/ours-99.0-py3-none-any.whl.metadata",
            "/pypi/ours/json",
            "/pypi/ours/99.0/json",
            "/project/ours/",
            "/project/ours/99.0/",
        ):
            assert live.ask(server, path).status == 404, path
        assert live.ask(server, "/ours/").headers["location"] == "../simple/ours/"
        assert "ours" not in live.ask(server, "/simple/").text
        assert live.ask(server, "/").status == 200
        assert "names" in live.ask(server, "/simple/ours/").text
        assert not [path for path in upstream.asked() if "ours" in path]
        said = command("names", "release", "Ours", "--in", packages, cwd=tmp_path)
        assert (said.returncode, said.stdout) == (0, "ours: released\n")
        before = len(upstream.asked())
        assert live.ask(server, "/").status == 200
        assert len(upstream.asked()) == before  # the home page is about what is here
        assert live.ask(server, "/simple/ours/").status == (302 if mode == "redirect" else 200)


@pytest.mark.parametrize("mode", ["redirect", "proxy", "cache"])
@pytest.mark.parametrize("way", ["dropped in", "another server", "another worker"])
def test_a_name_is_ours_from_its_first_file_on_however_busy_the_server(
    packages: Path, tmp_path: Path, mode: str, way: str
) -> None:
    names = [f"new{number}" for number in range(20)]
    for name in names:
        make_wheel(tmp_path / "theirs", name, "99.0")
    theirs = make_app(tmp_path / "theirs", disable_fallback=True, cache_dir=tmp_path / "their cache")
    more: dict[str, Any] = {"server": "granian", "workers": 2} if way == "another worker" else {}
    with ExitStack() as stack:
        upstream = stack.enter_context(live.in_thread(theirs))
        servers = [
            stack.enter_context(
                live.serve(packages=[packages], fallback_url=upstream.simple, fallback_mode=mode, **forms.OPEN, **more)
            )
            for _ in range(2 if way == "another server" else 1)
        ]

        reads = [0]

        def read(over: threading.Event) -> None:
            connections = [http.client.HTTPConnection(server.host, server.port, timeout=20) for server in servers]
            while not over.is_set():
                for connection in connections:
                    connection.request("GET", "/simple/other/")
                    assert connection.getresponse().read()
                reads[0] += 1
            for connection in connections:
                connection.close()

        readers = stack.enter_context(live.meanwhile(read, 4))
        for name in names:
            enough = reads[0] + 100
            while reads[0] < enough:  # whatever was saved up for looking at the folder is spent
                assert not any(reader.done() for reader in readers)
                time.sleep(0.01)
            if way == "dropped in":
                make_wheel(packages, name)
            else:
                form = forms.upload(forms.wheel(name), f"{name}-1.0-py3-none-any.whl")
                assert forms.post(servers[0], form).status == 200
            for server in servers * (6 if way == "another worker" else 1):
                answer = live.ask(server, f"/simple/{name}/")
                assert answer.status == 200 and f"{name}-1.0-" in answer.text, name
        assert not [path for path in upstream.asked() if "new" in path]
    for reader in readers:
        reader.result()


def test_a_disk_that_is_not_mounted_at_the_start_is_503_until_it_is(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for file in packages.iterdir():
        os.utime(file, (10**9, 10**9))  # of a file that may still change nothing is remembered
    with live.serve(packages=[packages], cache_dir=cache, disable_fallback=True) as server:
        assert live.ask(server, "/simple/other/").status == 200
    packages.rename(tmp_path / "disk")
    packages.mkdir()
    with live.serve(packages=[packages], cache_dir=cache, disable_fallback=True) as server:
        assert live.ask(server, "/simple/other/").status == 503
        assert live.ask(server, "/health").status == 200
        packages.rmdir()
        (tmp_path / "disk").rename(packages)
        assert live.ask(server, "/simple/other/").status == live.ask(server, "/").status == 200


# -- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_lists_and_releases(packages: Path, tmp_path: Path) -> None:
    for name in ("ours", "acme"):
        make_wheel(packages, name)
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == ""
    for name in ("ours", "acme"):
        (packages / f"{name}-1.0-py3-none-any.whl").unlink()
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == "acme\nours\n"
    assert json.loads(command("names", "list", "--json", "--in", packages, cwd=tmp_path).stdout) == ["acme", "ours"]
    for words, code, text in (
        (["release"], 2, "either names or --all"),
        (["release", "ours", "--all"], 2, "either names or --all"),
        (["list", "ours"], 2, "takes no names"),
        (["release", "nobodys"], 1, "never had files"),
        (["release", "other"], 1, "has files here"),
        (["release", "!"], 1, "not a project name"),
    ):
        said = command("names", *words, "--in", packages, cwd=tmp_path)
        assert said.returncode == code and text in said.stderr and said.stderr.count("\n") == 1, said
    assert (
        command("names", "release", "--all", "--in", packages, cwd=tmp_path).stdout
        == "acme: released\nours: released\n"
    )
    assert command("names", "list", "--json", "--in", packages, cwd=tmp_path).stdout == "[]\n"
    (packages / "other-1.0-py3-none-any.whl").unlink()  # it had files when the others were released
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == "other\n"

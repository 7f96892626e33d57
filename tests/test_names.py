"""A name once had stays ours, whoever removes its files and however, until an operator releases it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import live
import pytest
from builders import make_wheel
from folders import OTHER, RECORDS, Due, due_maker, packages_of_other  # noqa: F401 - fixtures
from packaging.utils import NormalizedName
from source_contract import NOBODYS, OURS, staged
from test_cli import run as command

from pypiserver_lite.errors import ConfigError, Conflict, Missing, Unavailable


@pytest.mark.parametrize("way", ["our removal", "by hand", "while stopped", "folder and all"])
def test_a_name_whose_last_file_goes_stays_ours(make: Due, packages: Path, way: str) -> None:
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


def test_a_name_is_ours_at_every_moment_of_its_removal(make: Due, packages: Path) -> None:
    """A hot server that has not looked at the folder again finds the files gone, and asks nobody else."""
    path = make_wheel(packages)
    folder = make(packages)
    assert folder.project(OURS) is not None
    make.clock = lambda: make.now  # type: ignore[method-assign]  # no time passes: nobody looks at the folder
    path.unlink()
    assert folder.had(OURS)


def test_names_that_came_and_went_in_another_process_are_kept_in_this_one(make: Due, packages: Path) -> None:
    one, two = make(packages), make(packages)
    one.add(staged(one, make_wheel(packages.parent)))
    one.remove(OURS, "1.0")  # the other has never seen it
    assert two.project(OURS) is None
    assert two.had(OURS) and two.kept() == (OURS,)
    one.release([OURS])
    assert not two.had(OURS)


def test_the_record_is_written_when_names_come_and_not_by_asking(make: Due, packages: Path) -> None:
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
def test_a_damaged_record_is_refused_and_never_lost(make: Due, packages: Path, damage: bytes) -> None:
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


def test_a_record_that_is_a_link_is_not_followed(make: Due, packages: Path) -> None:
    make(packages)
    (packages / RECORDS).rename(packages / "elsewhere")
    (packages / RECORDS).symlink_to(packages / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic links"):
        make(packages)


def test_a_line_that_a_crash_cut_short_is_no_name(make: Due, packages: Path) -> None:
    make(packages)
    record = packages / RECORDS
    whole = record.read_bytes()
    record.write_bytes(whole + b"acm")
    folder = make(packages)
    assert not folder.had(NormalizedName("acm"))
    make_wheel(packages, "acme")
    assert folder.project(NormalizedName("acme")) is not None
    assert record.read_bytes() == whole + b"acme\n"


def test_a_record_that_was_deleted_is_made_anew_by_who_still_knows(make: Due, packages: Path) -> None:
    make_wheel(packages)
    folder = make(packages)
    folder.remove(OURS, "1.0")
    shutil.rmtree(packages / RECORDS.parent)
    assert folder.had(OURS)
    make_wheel(packages, "another")
    folder.names()
    assert make(packages).kept() == (OURS,)


def test_a_record_that_another_one_replaced_takes_no_name_from_who_runs(make: Due, packages: Path) -> None:
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
    make: Due, packages: Path, caplog: pytest.LogCaptureFixture
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
    make: Due, packages: Path, tmp_path: Path
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
def test_all_names_of_a_copy_can_be_released(make: Due, packages: Path, tmp_path: Path, every: bool) -> None:
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


def test_a_name_that_came_back_in_another_process_is_kept_though_it_was_released_in_the_copy(
    make: Due, packages: Path, tmp_path: Path
) -> None:
    path, copies = make_wheel(packages), tmp_path / "copies"
    (packages / RECORDS.parent).touch()  # nothing can be made below a file, whoever we are
    one, two = make(packages, copies=copies), make(packages, copies=copies)
    path.unlink()
    assert one.kept() == two.kept() == (OURS,)
    one.release([OURS])
    assert not two.had(OURS)
    one.add(staged(one, make_wheel(tmp_path)))
    one.remove(OURS, "1.0")  # the other has not seen it
    assert two.had(OURS) and two.kept() == (OURS,)


def test_a_name_of_a_folder_that_cannot_be_written_stays_ours_after_a_restart(packages: Path, tmp_path: Path) -> None:
    path = make_wheel(packages)
    (packages / RECORDS.parent).touch()
    settings: dict[str, Any] = {"fallback_url": "http://127.0.0.1:9/simple/", "cache_dir": tmp_path / "cache"}
    for status in (200, 404):
        with live.serve(packages=[packages], **settings) as server:
            assert live.ask(server, "/simple/ours/").status == status
        path.unlink(missing_ok=True)
    words = ("names", "release", "ours", "--in", packages, "--cache-dir", tmp_path / "cache")
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 1 and "--state-dir" in said.stderr  # it could not be put on record
    said = command(*words, "--state-dir", tmp_path / "state", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (0, "ours: released\n")
    with live.serve(packages=[packages], **settings) as server:
        assert live.ask(server, "/simple/ours/").status == 302


def test_a_release_names_what_is_wrong(make: Due, packages: Path) -> None:
    folder = make(packages)
    with pytest.raises(Conflict, match="has files here"):
        folder.release([OTHER])
    with pytest.raises(Missing, match="never had files"):
        folder.release([NOBODYS])

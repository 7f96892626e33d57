"""What lies in the folders is listed, and a page says what the files say."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel, metadata
from folders import NEW, Make, old, only, posix, project_in
from packaging.utils import NormalizedName
from source_contract import OURS, read

from pypiserver_lite.errors import Missing
from pypiserver_lite.folder import projects
from pypiserver_lite.model import LocalFile


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

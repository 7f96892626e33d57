"""Files appear whole or not at all, and leftovers go away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pypiserver_lite import disk
from pypiserver_lite.errors import DiskFailed, Missing, NoSpace, ReadOnly, Unavailable

posix = pytest.mark.skipif(os.name != "posix", reason="links and locks as POSIX has them")


@pytest.mark.parametrize(
    "segment",
    ["", ".", "..", "a/b", "/a", "a\\b", "C:a", "a\0b", "a\nb", "a\x7f", "\udcff", "a" * 256, "é" * 128],
)
def test_a_segment_that_could_lead_elsewhere_is_missing(tmp_path: Path, segment: str) -> None:  # checklist 2
    with pytest.raises(Missing):
        disk.safe_join(tmp_path, "sub", segment)


def replace(path: Path, data: bytes) -> None:
    """Put a file in place of what is there."""
    with disk.Staged(path.parent) as staged:
        staged.write(data)
        staged.commit()
        disk.place(staged.path, path, overwrite=True)


def test_ordinary_and_odd_but_harmless_segments_are_joined(tmp_path: Path) -> None:  # T12
    for name in ("a-1!2.0+local.tar.gz", "...", "..a", "%2e%2e", "a b", "é" * 127):
        assert disk.safe_join(tmp_path, "sub", name) == tmp_path / "sub" / name


def test_a_staged_file_is_hidden_and_gone_when_discarded(tmp_path: Path) -> None:  # R5
    with disk.Staged(tmp_path) as staged:
        staged.write(b"half")
        assert [path.name for path in tmp_path.iterdir()] == [staged.path.name]
        assert staged.path.name.startswith(".pypiserver-lite-")
    assert list(tmp_path.iterdir()) == []
    staged.discard()


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    staged = disk.Staged(tmp_path)
    with pytest.raises(TypeError):
        staged.write("not bytes")  # type: ignore[arg-type]  # what goes wrong here does not matter
    assert list(tmp_path.iterdir()) == []


def test_publishing_never_replaces_unless_told(tmp_path: Path) -> None:  # R2, R7
    final = tmp_path / "file"
    for data, overwrite in ((b"one", False), (b"two", True)):
        with disk.Staged(tmp_path) as staged:
            staged.write(data)
            staged.commit()
            disk.place(staged.path, final, overwrite=overwrite)
        assert final.read_bytes() == data
    with disk.Staged(tmp_path) as staged:
        staged.commit()
        with pytest.raises(FileExistsError):
            disk.place(staged.path, final, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert final.read_bytes() == b"two"


@posix
def test_readers_of_a_replaced_file_keep_the_old_bytes(tmp_path: Path) -> None:
    final = tmp_path / "file"
    replace(final, b"old")
    with final.open("rb") as reader:
        replace(final, b"new")
        assert reader.read() == b"old"
    assert final.read_bytes() == b"new"


@posix
def test_a_link_in_the_way_is_never_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(target)
    with disk.Staged(tmp_path) as staged:
        staged.commit()
        with pytest.raises(FileExistsError):
            disk.place(staged.path, tmp_path / "file", overwrite=False)
    replace(tmp_path / "file", b"new")
    assert target.read_bytes() == b"precious"


@posix
def test_a_link_that_is_named_like_a_leftover_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"x")
    os.utime(target, (1, 1))
    link = tmp_path / ".pypiserver-lite-999999999-0123456789abcdef.tmp"
    link.symlink_to(target)
    assert disk.sweep(tmp_path) == 0
    assert link.is_symlink() and target.read_bytes() == b"x"


def test_of_many_threads_one_publishes(tmp_path: Path) -> None:  # R6
    staged = [disk.Staged(tmp_path) for _ in range(8)]
    won: list[int] = []

    def publish(number: int) -> None:
        staged[number].write(b"%d" % number)
        staged[number].commit()
        try:
            disk.place(staged[number].path, tmp_path / "file", overwrite=False)
            won.append(number)
        except FileExistsError:
            staged[number].discard()

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() == b"%d" % won[0]
    assert len(won) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


_DIES = """
import os, sys, time
from pathlib import Path
from pypiserver_lite.disk import Staged
staged = Staged(Path(sys.argv[1]))
staged.write(b"half a wheel")
print(staged.path.name, flush=True)
time.sleep(60)
"""


@posix
def test_leftovers_of_the_dead_are_swept_and_the_living_spared(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _DIES, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        name = writer.stdout.readline().strip()
        (tmp_path / ".pypiserver-lite-other").write_bytes(b"not ours to judge")
        own = disk.Staged(tmp_path)
        own.commit()
        assert disk.sweep(tmp_path) == 0
        assert (tmp_path / name).exists()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert disk.sweep(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.path.name, ".pypiserver-lite-other"])
    # A container gives each server the same number: what is older than this process is not its own.
    os.utime(own.path, (0, 0))
    assert disk.sweep(tmp_path) == 1


def test_sweeping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert disk.sweep(tmp_path / "gone") == 0


@posix
def test_exclusive_excludes_threads_and_leaves_no_file(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with disk.exclusive(tmp_path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EROFS, ReadOnly),
        (errno.EACCES, ReadOnly),
        (errno.EPERM, ReadOnly),
        (errno.EIO, DiskFailed),
    ],
)
def test_what_the_disk_says_is_translated_without_a_path(number: int, kind: type[Unavailable]) -> None:
    translated = disk.translate(OSError(number, os.strerror(number), "/secret/place"))
    assert type(translated) is kind
    assert "secret" not in str(translated)


@posix
def test_a_copy_is_whole_and_staged_in_its_new_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    (tmp_path / "to").mkdir()
    with disk.copy(source, tmp_path / "to") as staged:
        assert staged.path.parent == tmp_path / "to"
        assert staged.path.read_bytes() == source.read_bytes()
    assert list((tmp_path / "to").iterdir()) == []

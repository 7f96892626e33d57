"""What a file's bytes say is read once, is of one state, and survives whatever happens to the database."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel, metadata

from pypiserver_lite.folder import facts
from pypiserver_lite.folder.facts import Changing, Facts
from pypiserver_lite.folder.memory import Memory, Reader
from pypiserver_lite.model import FileState

SOME = Facts({"sha256": "ab", "sha3_256": "cd"}, "ef", ">=3.8")


def key_of(path: Path) -> FileState:
    return FileState.of(str(path), path.stat())


def test_digests_metadata_and_key_are_of_one_state(tmp_path: Path) -> None:  # J5, H10, D1
    path = make_wheel(tmp_path, "ours", "1.0", "Requires-Python: >=3.8")
    finding = facts.read(str(path), path.name, ["sha256", "md5"])
    data = path.read_bytes()
    assert finding.key == key_of(path)
    assert finding.facts.hashes == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }
    assert finding.facts.requires_python == ">=3.8"
    text = metadata("ours", "1.0", "Requires-Python: >=3.8")
    assert finding.facts.metadata_sha256 == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        (b"Metadata-Version: 2.2\nName: ours\nVersion: 1.0\n", True),
        (b"Metadata-Version: 2.2\nName: ours\nVersion: 1.0\nDynamic: Requires-Dist\n", False),
        (b"Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n", False),
    ],
)
def test_an_sdist_offers_metadata_only_if_nothing_is_dynamic(tmp_path: Path, text: bytes, offered: bool) -> None:
    path = make_sdist(tmp_path, core_metadata=text)  # D3
    assert (facts.read(str(path), path.name, []).facts.metadata_sha256 is not None) is offered


def test_a_broken_archive_has_digests_and_no_metadata(tmp_path: Path) -> None:  # D4, U12
    path = tmp_path / "ours-1.0-py3-none-any.whl"
    path.write_bytes(b"no zip")
    found = facts.read(str(path), path.name, ["sha256"]).facts
    assert found == Facts({"sha256": hashlib.sha256(b"no zip").hexdigest()})


def test_a_file_that_does_not_hold_still_has_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "ours-1.0.tar.gz"
    path.write_bytes(b"x" * 5_000_000)
    stop = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(Changing):
            for _ in range(20):
                facts.read(str(path), path.name, ["sha256"])
    finally:
        stop.set()
        writer.join()


def test_a_state_that_could_change_unseen_is_not_settled(tmp_path: Path) -> None:  # two writes in one tick
    path = make_wheel(tmp_path)
    os.utime(path)
    assert facts.read(str(path), path.name, []).settled is False
    os.utime(path, ns=(time.time_ns(), time.time_ns() - 1_000_000_001))
    assert facts.read(str(path), path.name, []).settled is True
    whole_second = int(time.time()) * 10**9
    os.utime(path, ns=(whole_second, whole_second))
    assert facts.read(str(path), path.name, []).settled is False
    os.utime(path, ns=(10**18 * 8, 10**18 * 8))  # the year 2223: it never grows old
    assert facts.read(str(path), path.name, []).settled is True


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")
def test_pipes_and_links_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(make_wheel(tmp_path))
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"pipe|symbolic links"):
            facts.read(str(tmp_path / name), name, ["sha256"])


def test_memory_gives_back_what_was_put_for_that_very_state(tmp_path: Path) -> None:
    database = tmp_path / "cache" / "facts.sqlite3"
    memory = Memory(database)
    keys = [FileState(f"/somewhere/{n}-\udcff", 2**40 + n, -(10**9) * n, 2**63 - 1 - n) for n in range(1200)]
    memory.put(dict.fromkeys(keys, SOME))
    assert memory.get(keys) == dict.fromkeys(keys, SOME)
    for change in ({"size": 1}, {"mtime_ns": 1}, {"inode": 1}, {"path": "/elsewhere"}):
        assert memory.get([keys[0]._replace(**change)]) == {}
    newer = keys[0]._replace(mtime_ns=5)
    memory.put({newer: Facts({})})
    assert memory.get([keys[0]]) == {}
    memory.close()
    memory = Memory(database)
    assert memory.get([newer, keys[1]]) == {newer: Facts({}), keys[1]: SOME}
    memory.close()


def paths(memory: Memory, folder: str | Path) -> list[str]:
    """What is remembered below a folder."""
    return [note.path for note in memory.notes(str(folder))]


def test_paths_below_a_folder_are_listed_and_forgotten(tmp_path: Path) -> None:
    memory = Memory(None)
    inside = [f"/a/{n:04d}" for n in range(1200)]  # more than are asked for at once
    memory.put({FileState(path, 1, 1, 1): SOME for path in [*inside, "/a", "/ab/1", "/b"]})
    assert paths(memory, "/a") == inside
    memory.forget(path for path in inside[:1100])
    assert paths(memory, "/a") == inside[1100:]
    memory.close()


def test_without_a_path_facts_are_remembered_for_this_process() -> None:
    memory = Memory(None)
    memory.put({FileState("/a", 1, 1, 1): SOME})
    assert memory.get([FileState("/a", 1, 1, 1)]) == {FileState("/a", 1, 1, 1): SOME}
    memory.close()


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno >= logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("content", [b"this is no database, " * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_database_is_made_anew_with_one_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "facts.sqlite3"
    database.write_bytes(content)
    for _ in range(2):
        memory = Memory(database)
        memory.put({FileState("/a", 1, 1, 1): SOME})
        assert memory.get([FileState("/a", 1, 1, 1)]) == {FileState("/a", 1, 1, 1): SOME}
        memory.close()
    assert warnings(caplog) == 1


def test_a_database_damaged_while_in_use_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = tmp_path / "facts.sqlite3"
    memory = Memory(database)
    keys = [FileState(f"/a/{n}", 1, 1, 1) for n in range(2000)]
    memory.put(dict.fromkeys(keys, SOME))
    memory.close()
    data = bytearray(database.read_bytes())
    data[4096:] = b"\xee" * (len(data) - 4096)
    database.write_bytes(data)
    memory = Memory(database)
    assert memory.get(keys) == {}
    memory.put({keys[0]: SOME})
    assert memory.get(keys) == {keys[0]: SOME}
    memory.close()
    assert warnings(caplog) == 1


def test_a_database_that_cannot_be_used_is_replaced_by_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for count, database in enumerate([tmp_path / "file" / "facts.sqlite3", tmp_path / "folder"], 1):
        memory = Memory(database)
        memory.put({FileState("/a", 1, 1, 1): SOME})
        assert memory.get([FileState("/a", 1, 1, 1)]) == {FileState("/a", 1, 1, 1): SOME}
        memory.close()
        assert warnings(caplog) == count


def test_a_closed_memory_knows_nothing_and_harms_nothing(tmp_path: Path) -> None:
    database, key = tmp_path / "facts.sqlite3", FileState("/a", 1, 1, 1)
    memory = Memory(database)
    memory.put({key: SOME})
    memory.close()
    memory.put({key: Facts({})})
    assert memory.get([key]) == {}
    memory = Memory(database)
    assert memory.get([key]) == {key: SOME}
    memory.close()


def test_a_database_of_another_version_is_made_anew(tmp_path: Path) -> None:
    database = tmp_path / "facts.sqlite3"
    old = sqlite3.connect(database)
    old.executescript("CREATE TABLE facts (x); INSERT INTO facts VALUES (1); PRAGMA user_version=99")
    old.close()
    memory = Memory(database)
    memory.put({FileState("/a", 1, 1, 1): SOME})
    assert memory.get([FileState("/a", 1, 1, 1)]) == {FileState("/a", 1, 1, 1): SOME}
    memory.close()


def test_deleting_the_database_while_it_is_used_harms_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "facts.sqlite3")
    memory.put({FileState("/a", 1, 1, 1): SOME})
    for path in tmp_path.iterdir():
        path.unlink()
    memory.put({FileState("/b", 1, 1, 1): SOME})
    assert memory.get([FileState("/b", 1, 1, 1)]) == {FileState("/b", 1, 1, 1): SOME}
    memory.close()


_WRITES = """
import sys
from pathlib import Path
from pypiserver_lite.folder.facts import Facts
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.model import FileState
memory = Memory(Path(sys.argv[1]))
for n in range(100):
    memory.put({FileState(f"/{sys.argv[2]}/{n}", 1, 1, 1): Facts({"sha256": "ab"})})
memory.close()
"""


def test_processes_share_a_database(tmp_path: Path) -> None:
    database = tmp_path / "facts.sqlite3"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITES, str(database), str(n)]) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    memory = Memory(database)
    assert [len(paths(memory, f"/{n}")) for n in range(3)] == [100, 100, 100]
    memory.close()


def test_each_file_is_read_by_one_thread_at_a_time(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, payload=b"x" * 20_000_000)
    os.utime(path, (10**9, 10**9))
    memory = Memory(None)
    reader = Reader(memory, ["sha256"])
    found: list[facts.Finding] = []
    threads = [threading.Thread(target=lambda: found.append(reader.read(key_of(path), path.name))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever waited got facts out of the memory: equal ones, not those of another reading of its own.
    assert len(found) == 4
    assert {finding.facts.hashes["sha256"] for finding in found} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert list(reader.known([key_of(path)])) == [key_of(path)]
    memory.close()


def test_facts_without_the_digest_that_is_wanted_now_are_not_known(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    os.utime(path, (10**9, 10**9))
    memory = Memory(None)
    Reader(memory, ["sha256"]).read(key_of(path), path.name)
    assert Reader(memory, ["sha512", "sha256"]).known([key_of(path)]) == {}
    finding = Reader(memory, ["sha512", "sha256"]).read(key_of(path), path.name)
    assert set(finding.facts.hashes) == {"sha512", "sha256"}
    assert Reader(memory, []).known([key_of(path)])
    memory.close()


@pytest.mark.skipif(os.name != "posix", reason="file modes as POSIX has them")
def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "facts.sqlite3"
        for _ in range(2):
            memory = Memory(path)
            memory.put({FileState("/a", 1, 2, 3): Facts({})})
            assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}
            memory.close()
            path.chmod(0o644)  # as an earlier version made it
    finally:
        os.umask(before)

"""The store on disk: bounded, shared, never wrong, and free to be deleted."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty_upstream as faulty
import live
import pytest

from pypiserver_lite.errors import NoSpace
from pypiserver_lite.jobs import warm as tool
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.growing import Followed, Growing


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def begin(cache: Cache, name: str, expected: int | None, *, resumable: bool = False) -> Growing:
    """A file to fill, which nobody else is filling."""
    growing = cache.begin("files", key(name), expected, resumable=resumable)
    assert isinstance(growing, Growing)
    return growing


def follow(cache: Cache, name: str, expected: int) -> Followed:
    """A file that somebody else is filling."""
    followed = cache.begin("files", key(name), expected)
    assert isinstance(followed, Followed)
    return followed


def add(cache: Cache, name: str, data: bytes) -> None:
    growing = begin(cache, name, len(data))
    growing.write(data)
    growing.publish()


def age(cache: Cache, name: str, seconds: float) -> None:
    """As if nobody had used it for so long."""
    path = cache.root / "files" / key(name)[:2] / key(name)
    os.utime(path, (time.time() - seconds,) * 2)


def here(cache: Cache, names: str) -> str:
    return "".join(name for name in names if (cache.root / "files" / key(name)[:2] / key(name)).exists())


def test_a_small_entry_comes_back_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.put("pages", key("a"), b"one")
    cache.put("pages", key("a"), b"two\nlines")
    assert Cache(tmp_path / "c").get("pages", key("a")) == b"two\nlines"
    assert cache.get("metadata", key("a")) is None
    path = cache.root / "pages" / key("a")[:2] / key("a")
    for damaged in (b"", path.read_bytes()[:-1], b"\xff" * 100, b"two\nlines"):
        path.write_bytes(damaged)
        assert cache.get("pages", key("a")) is None
        assert not path.exists()


def test_a_file_is_there_once_it_is_published_and_never_before(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    growing = begin(cache, "a", 6)
    growing.write(b"abc")
    assert cache.find("files", key("a")) is None
    assert growing.read(10, 1) == b"bc"
    growing.write(b"def")
    growing.publish()
    found = cache.find("files", key("a"), 6)
    assert found is not None
    path = Path(found.path)
    assert path.read_bytes() == b"abcdef"
    assert path == path.resolve()
    assert growing.read(10, 4) == b"ef"
    assert os.listdir(cache.root / "tmp") == []


def test_a_file_of_another_size_is_not_the_one_and_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    add(cache, "a", b"abc")
    assert cache.find("files", key("a"), 4) is None
    assert cache.find("files", key("a"), 3) is not None


def test_a_given_up_file_leaves_nothing_and_another_may_begin(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    for _ in range(2):
        growing = begin(cache, "a", 6)
        growing.write(b"abc")
        growing.discard()
        growing.discard()
    assert os.listdir(cache.root / "tmp") == []
    assert cache.find("files", key("a")) is None


def test_two_processes_make_one_file_and_the_second_may_follow(tmp_path: Path) -> None:
    ours, theirs = Cache(tmp_path / "c"), Cache(tmp_path / "c")
    growing = begin(ours, "a", 6)
    followed = follow(theirs, "a", 6)
    assert followed.state() == (0, False)
    growing.write(b"abc")
    assert followed.state() == (3, False)
    growing.write(b"def")
    growing.publish()
    assert followed.state() == (6, True)
    assert followed.read(9, 0) == b"abcdef"
    assert os.listdir(ours.root / "tmp") == []


def test_who_follows_one_that_gives_up_is_told(tmp_path: Path) -> None:
    ours, theirs = Cache(tmp_path / "c"), Cache(tmp_path / "c")
    growing = begin(ours, "a", 6)
    followed = follow(theirs, "a", 6)
    growing.discard()
    assert followed.state() == (0, None)


def test_what_was_of_use_longest_ago_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    for number, name in enumerate("abcdef"):
        add(cache, name, bytes(100))
        age(cache, name, 1000 - number)
    restarted = Cache(tmp_path / "c")
    assert restarted.find("files", key("a")) is not None  # of use now
    freed = restarted.trim(300)
    assert (freed.entries, freed.size) == (3, 300)
    assert here(cache, "abcdef") == "aef"


def test_of_use_does_not_mean_changed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    add(cache, "a", b"abc")
    age(cache, "a", 1000)
    found = cache.find("files", key("a"))
    assert found is not None
    facts = os.stat(found.path)
    assert time.time() - facts.st_mtime > 900  # validators are made of it
    assert time.time() - facts.st_atime < 10


def test_a_reader_goes_on_with_a_file_that_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    add(cache, "a", b"abc")
    found = cache.find("files", key("a"))
    assert found is not None
    with open(found.path, "rb") as file:
        assert cache.trim(0).entries == 1
        assert file.read() == b"abc"


def test_the_bound_is_kept_by_itself(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 2000)
    for number in range(60):  # all of use a moment ago
        add(cache, str(number), bytes(200))
        os.utime(cache.root / "files" / key(str(number))[:2] / key(str(number)), (time.time() - 1 + number / 100,) * 2)
    until_within(cache, 2000)
    assert (cache.root / "files" / key("59")[:2] / key("59")).exists()
    assert cache.usage().entries >= 8  # and no more went than had to
    smaller = Cache(tmp_path / "c", 700)
    smaller.keep_bound()
    until_within(smaller, 700)


def test_a_file_that_nearly_fills_the_cache_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 1000)
    add(cache, "a", bytes(200))
    age(cache, "a", 10)
    add(cache, "b", bytes(950))
    until_within(cache, 1000)
    assert here(cache, "ab") == "b"


def test_a_half_file_stays_for_a_week_and_makes_way_as_others_do(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 1000)
    growing = begin(cache, "a", 600, resumable=True)
    growing.write(bytes(300))
    half = cache.root / "tmp" / f"files-{key('a')}.half"
    assert cache.trim(0).entries == 0  # somebody writes it
    growing.discard(keep=True)
    Cache(tmp_path / "c")
    assert half.exists()
    again = begin(cache, "a", 600, resumable=True)
    assert again.size == 300
    again.discard(keep=True)
    assert cache.trim(299).size == 300
    assert not half.exists()
    half.write_bytes(bytes(300))
    cache.clear()
    assert not half.exists()
    half.write_bytes(bytes(300))
    os.utime(half, (time.time() - 8 * 86400,) * 2)
    Cache(tmp_path / "c")
    assert not half.exists()


def test_what_is_being_written_counts(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 1000)
    add(cache, "a", bytes(500))
    growing = begin(cache, "b", 600)
    assert here(cache, "a") == "a"  # for what is announced, nothing goes
    with pytest.raises(OSError, match="on their way"):
        cache.begin("files", key("c"), 500)
    unknown = begin(cache, "c", None)
    unknown.write(bytes(400))
    with pytest.raises(NoSpace, match="on their way"):
        unknown.write(b"x")
    unknown.discard()
    growing.write(bytes(600))
    until_within(cache, 400)
    assert here(cache, "a") == ""
    growing.publish()
    again = begin(cache, "c", 1000)  # what was taken of the bound is given back
    again.discard()
    assert here(cache, "b") == "b"


def test_who_asks_for_a_file_that_goes_in_this_moment_gets_it(packages: Path) -> None:
    files = {f"f{number}-1.0.tar.gz": os.urandom(300_000) for number in range(4)}
    with faulty.upstream() as server:
        for filename, data in files.items():
            server.add(filename[:2], filename, data)
        settings = {"fallback_url": server.url, "fallback_mode": "cache", "cache_size": 700_000}
        with live.serve(packages=[packages], **settings) as ours, ThreadPoolExecutor(8) as pool:  # type: ignore[arg-type]
            names = list(files) * 150
            answers = list(pool.map(lambda filename: live.ask(ours, f"/packages/{filename}"), names))
    assert {answer.status for answer in answers} == {200}
    assert [answer.body == files[name] for name, answer in zip(names, answers, strict=True)] == [True] * len(names)


def until_within(cache: Cache, size: int) -> None:
    """Wait until what is kept is within a bound, by itself."""
    deadline = time.monotonic() + 10
    while cache.usage().size > size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_larger_than_the_bound_is_not_begun_and_one_that_becomes_so_ends_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 100)
    with pytest.raises(OSError, match="--cache-size"):
        cache.begin("files", key("a"), 200)
    growing = begin(cache, "a", None)
    growing.write(bytes(90))
    growing.write(bytes(10))
    with pytest.raises(NoSpace, match="--cache-size"):
        growing.write(b"x")
    growing.discard()
    assert os.listdir(cache.root / "tmp") == []


def test_a_disk_without_room_takes_no_download_and_nothing_gives_way_to_an_announcement(tmp_path: Path) -> None:
    room = [200 * 2**20]
    cache = Cache(tmp_path / "c", free=lambda folder: room[0])
    add(cache, "a", bytes(1000))
    age(cache, "a", 1000)
    for expected in (2**50, 200 * 2**20):
        with pytest.raises(OSError, match="No space"):
            cache.begin("files", key("b"), expected)
    growing = begin(cache, "b", 100 * 2**20)
    assert here(cache, "a") == "a"
    growing.write(b"x")
    room[0] = 64 * 2**20 - 1  # somebody else filled it
    with pytest.raises(OSError, match="No space"):
        for _ in range(20):
            growing.write(bytes(2**20))
    growing.discard()
    assert here(cache, "a") == "a"  # what would not have been enough did not go in vain


def test_what_was_of_use_longest_ago_goes_where_that_makes_room(tmp_path: Path) -> None:
    def free(folder: Path) -> int:
        return 64 * 2**20 + 5000 - sum(path.stat().st_size for path in folder.parent.rglob("*") if path.is_file())

    cache = Cache(tmp_path / "c", free=free)
    for at, name in enumerate("abc"):
        add(cache, name, bytes(1000))
        age(cache, name, 1000 - at)
    growing = begin(cache, "d", 3500)
    growing.write(bytes(3500))
    growing.publish()
    assert here(cache, "abcd") == "cd"
    with pytest.raises(OSError, match="No space"):
        begin(cache, "e", 6000)
    assert here(cache, "abcd") == "cd"


def test_deleting_everything_at_any_time_costs_speed_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    growing = begin(cache, "a", 6)
    growing.write(b"abc")
    shutil.rmtree(cache.root)
    growing.write(b"def")
    assert growing.read(9, 0) == b"abcdef"
    growing.publish()
    assert cache.find("files", key("a")) is None
    assert cache.get("pages", key("a")) is None
    assert cache.usage().size == 0
    add(cache, "a", b"abcdef")
    cache.put("pages", key("a"), b"page")
    assert cache.find("files", key("a")) is not None
    assert cache.get("pages", key("a")) == b"page"


@pytest.mark.parametrize("obstacle", ["a file in its place", "nothing may be written"])
def test_a_folder_that_cannot_be_used_is_said_once_and_breaks_nothing(
    tmp_path: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "c"
    if obstacle == "a file in its place":
        root.write_bytes(b"")
    else:
        root.mkdir()
        (root / "tmp").write_bytes(b"")  # root may write into any folder, but not into this
        (root / "pages").write_bytes(b"")
    cache = Cache(root)
    for _ in range(3):
        cache.put("pages", key("a"), b"page")
        assert cache.get("pages", key("a")) is None
    assert len(caplog.records) == 1
    with pytest.raises(OSError):
        cache.begin("files", key("a"), 3)


def test_keys_are_digests_and_nothing_else(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    for odd in ("", "../../x", "a" * 63, "A" * 64, "é" * 64, "a" * 64 + "\n"):
        with pytest.raises(ValueError, match="key"):
            cache.find("files", odd)


_FILLING = """
import sys, time
from pathlib import Path
from pypiserver_lite.upstream.cache import Cache
cache = Cache(Path(sys.argv[1]))
growing = cache.begin("files", sys.argv[2], 10)
growing.write(b"half")
print("ready", flush=True)
time.sleep(60)
"""


def test_killed_while_writing_leaves_only_what_is_swept_later(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FILLING, str(tmp_path / "c"), key("a")]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        cache = Cache(tmp_path / "c")  # sweeps, but not what somebody writes
        assert len(os.listdir(cache.root / "tmp")) == 1
        followed = follow(cache, "a", 10)
        assert followed.state() == (4, False)
        process.send_signal(signal.SIGKILL)
    assert followed.state() == (4, None)
    assert cache.find("files", key("a")) is None
    add(cache, "b", b"abc")
    assert os.listdir(Cache(tmp_path / "c").root / "tmp") == []
    add(cache, "a", b"0123456789")
    assert cache.find("files", key("a"), 10) is not None


def test_a_start_sweeps_what_is_abandoned_and_nothing_that_a_live_writer_holds(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    growing = begin(cache, "a", 6)
    growing.write(b"abc")
    abandoned = cache.root / "tmp" / f"files-{key('b')}.part"
    abandoned.write_bytes(b"half")
    for path in (cache.root / "tmp").iterdir():  # however long ago they were written to
        os.utime(path, (1.0, 1.0))
    restarted = Cache(tmp_path / "c")
    assert not abandoned.exists()
    follow(restarted, "a", 6)
    growing.write(b"def")
    growing.publish()
    assert restarted.find("files", key("a"), 6) is not None


def test_many_writers_of_one_entry_leave_one_of_theirs(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    values = [bytes([number]) * 5000 for number in range(8)]
    threads = [threading.Thread(target=cache.put, args=("pages", key("a"), value)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("pages", key("a")) in values
    assert os.listdir(cache.root / "tmp") == []


def test_prune_and_clear(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 10_000)
    for name in "ab":
        add(cache, name, bytes(1000))
        age(cache, name, 100)
    cache.put("pages", key("p"), b"page")
    stranger = cache.root / "files" / "notes.txt"
    stranger.write_bytes(b"not ours")
    usage = cache.usage()
    assert usage.kinds["files"] == (2, 2000)
    assert (usage.entries, usage.limit) == (3, 10_000)
    assert tool.prune(cache, 1500).entries == 1
    assert tool.clear(cache).entries == 2
    assert cache.usage().size == 0
    assert stranger.exists()


@pytest.mark.parametrize("resumable", [False, True])
def test_whose_file_was_removed_under_its_hands_publishes_nobody_elses(tmp_path: Path, resumable: bool) -> None:
    one, two = Cache(tmp_path / "cache"), Cache(tmp_path / "cache")
    first = begin(one, "a", 200, resumable=resumable)
    first.write(b"a" * 200)
    shutil.rmtree(tmp_path / "cache")  # as an operator may at any time
    second = begin(two, "a", 200, resumable=resumable)
    second.write(b"b" * 100)
    first.publish()
    assert one.find("files", key("a")) is None
    second.write(b"b" * 100)
    second.publish()
    found = two.find("files", key("a"))
    assert found is not None and Path(found.path).read_bytes() == b"b" * 200

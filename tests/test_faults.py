"""What is promised when machines fail: kill -9, full and read-only disks, and several writers at once."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import builders
import faulty_upstream as faulty
import forms
import live
import pytest
from remotes import FOO, Clock, read

from pypiserver_lite.folder.listing import stamp_of
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.model import LocalFile
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote

MIB = 2**20


def names(folder: Path) -> list[str]:
    """What lies in a folder, dot-names too, but for our own records."""
    return builders.listed(folder)


def digests(server: live.Server, name: str) -> dict[str, str]:
    """File name → SHA-256, as the project's page says; empty if there is no page."""
    answer = live.ask(server, f"/simple/{name}/?format=application/vnd.pypi.simple.v1%2Bjson")
    if answer.status == 404:
        return {}
    return {entry["filename"]: entry["hashes"]["sha256"] for entry in json.loads(answer.body)["files"]}


def one_line(answer: live.Answer) -> str:
    """The text of a refusal: one line, plain, without a path of the server."""
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith("\n") and answer.text.count("\n") == 1
    assert "/" not in answer.text and "Traceback" not in answer.text
    return answer.text


def quiet(server: live.Server) -> None:
    """Nothing went wrong that the server had not expected."""
    assert "Traceback" not in server.log(), server.log()


def keep_uploading(server: live.Server, round_: int, writer: int, acknowledged: dict[str, bytes]) -> None:
    """Upload one new release after another, signed, until the server is gone; note what was answered with 200."""
    for number in range(1000):
        version = f"{round_}.{writer}.{number}"
        data = forms.wheel("ours", version, os.urandom(random.Random(version).choice((10, 100_000, 2 * MIB))))
        filename = f"ours-{version}-py3-none-any.whl"
        body = forms.upload(data, filename, forms.file("gpg_signature", version, "x.asc"))
        try:
            answer = forms.post(server, body)
        except (OSError, ValueError):
            return  # killed, maybe in the middle of the answer
        assert answer.status == 200, answer
        acknowledged[filename] = data


def whole(packages: Path, filename: str) -> bool:
    """Whether a file is all that was sent: its archive is whole, and its signature is its own."""
    signature = packages / f"{filename}.asc"
    checked = subprocess.run([sys.executable, "-m", "zipfile", "-t", packages / filename], capture_output=True)
    return b"Done testing" in checked.stdout and signature.read_text() == filename.split("-")[1]


def test_whatever_moment_the_server_is_killed_what_was_acknowledged_is_whole_and_nothing_else_is_listed(
    packages: Path,
) -> None:
    acknowledged: dict[str, bytes] = {}
    moments = random.Random(3)
    leftovers = 0
    for round_ in range(18):
        with live.serve(packages=[packages], **forms.OPEN) as server:
            # What the last one left half written is gone, and what it acknowledged is there, before anyone can ask.
            assert not [name for name in names(packages) if name.startswith(".")]
            with ThreadPoolExecutor(4) as pool:
                for writer in range(4):
                    pool.submit(keep_uploading, server, round_, writer, acknowledged)
                time.sleep(moments.uniform(0.02, 0.3))
                live.kill(server)
            leftovers += sum(name.startswith(".") for name in names(packages))
    assert leftovers > 5, "no upload was ever cut"
    assert len(acknowledged) > 30
    with live.serve(packages=[packages], **forms.OPEN) as server:
        listed = digests(server, "ours")
        for filename, data in acknowledged.items():
            assert live.ask(server, f"/packages/{filename}").body == data
            assert listed[filename] == live.sha256(data)
        # An upload may have been published whole when the answer did not get out any more; halves never are.
        for filename in listed.keys() - acknowledged.keys():
            assert whole(packages, filename)
        assert {name for name in names(packages) if not name.endswith(".asc")} == set(listed)
        quiet(server)


def test_leftovers_of_a_server_that_still_runs_are_not_swept(packages: Path) -> None:
    data = forms.wheel("ours", "1.0", os.urandom(MIB))
    with live.serve(packages=[packages], **forms.OPEN) as server:
        mine = packages / f".pypiserver-lite-{server.process.pid if server.process else 0}-0123456789abcdef.tmp"
        mine.write_bytes(b"half")
        with live.serve(packages=[packages], **forms.OPEN) as other:
            assert mine.exists()
            assert digests(other, "ours") == {}
            assert forms.post(other, forms.upload(data, "ours-1.0-py3-none-any.whl")).status == 200
        live.kill(server)
    with live.serve(packages=[packages]):
        assert names(packages) == ["ours-1.0-py3-none-any.whl"]


def test_a_client_that_hangs_up_leaves_nothing(packages: Path) -> None:  # R5
    body = forms.upload(forms.wheel("ours", "1.0", bytes(MIB)), "ours-1.0-py3-none-any.whl")
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {forms.TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with live.serve(packages=[packages], **forms.OPEN) as server:
        for cut in (0, 1, 100, 500, len(body) // 2, len(body) - 1):
            with live.connect(server) as connection:
                connection.sendall(head + body[:cut])
        assert live.ask(server, "/simple/ours/").status == 404
        assert names(packages) == []
        quiet(server)


@contextmanager
def traced(server: live.Server, target: Path, *calls: str, error: str = "", path: Path | None = None) -> Iterator[None]:
    """Note the server's system calls, or make those fail with `error` that name `path` (any, if it is ``None``).

    Skips the test where nobody may watch another process.
    """
    assert server.process is not None
    if shutil.which("strace") is None:
        pytest.skip("this machine has no strace")
    command = ["strace", "-f", "-y", "-s", "200", "-e", f"trace={','.join(calls)}", "-o", str(target)]
    if error:
        command += ["-e", f"inject={','.join(calls)}:error={error}"]
    if path is not None:
        command += ["-P", str(path.resolve())]
    tracer = subprocess.Popen([*command, "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
    try:
        assert tracer.stderr is not None
        if "attached" not in tracer.stderr.readline():
            pytest.skip("no process may be watched here")
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=10)


def test_an_upload_is_acknowledged_once_its_bytes_and_its_name_are_on_disk(packages: Path, tmp_path: Path) -> None:
    filename, trace = "ours-1.0-py3-none-any.whl", tmp_path / "trace"
    with live.serve(packages=[packages], **forms.OPEN) as server:
        with traced(server, trace, "fsync", "fdatasync", "link", "linkat", "sendto"):
            assert forms.post(server, forms.upload(forms.wheel(), filename)).status == 200
        text = trace.read_text()
        recorded = r"fdatasync\([0-9]+<[^>]*/\.pypiserver-lite/records\.sqlite3-wal>"
        steps = [
            r"fsync\([0-9]+<[^>]*/\.pypiserver-lite-[^>]*\.tmp>",
            recorded,  # that it begins
            rf"link(at)?\(.*\.tmp\", .*{re.escape(filename)}\"",
            rf"fsync\([0-9]+<{re.escape(str(packages.resolve()))}>",
            rf"fsync\([0-9]+<{re.escape(str(packages.resolve()))}/\.pypiserver-lite>",  # it is private now
            recorded,  # that it is done
            r'sendto\(.*"HTTP/1\.1 200 ',
        ]
        assert re.search(".*?".join(steps), text, re.DOTALL), text


Mount = Callable[[str, int], Path]


@contextmanager
def mounted(path: Path, size: int, kind: str = "tmpfs") -> Iterator[Path]:
    """A file system of `size` MiB at `path`."""
    path.mkdir()
    mount(path, "-t", kind, "-o", f"size={size}m", kind)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def mount(path: Path, *options: str) -> None:
    """Run ``mount``; skip the test where that is not allowed."""
    if shutil.which("mount") is None:
        pytest.skip("this machine has no mount")
    done = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """Makes small file systems."""
    with ExitStack() as stack:
        yield lambda name, size: stack.enter_context(mounted(tmp_path / name, size))


BIG = forms.upload(forms.wheel("big", "1.0", os.urandom(3 * MIB)), "big-1.0-py3-none-any.whl")
SMALL = forms.upload(forms.wheel("small"), "small-1.0-py3-none-any.whl")


def test_a_full_disk_is_507_and_service_goes_on(disk: Mount) -> None:
    folder = disk("packages", 4)
    builders.make_wheel(folder, "ours")
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    with live.serve(packages=[folder], **forms.OPEN) as server:
        before = names(folder)
        for _ in range(3):
            answer = forms.post(server, BIG)
            assert answer.status == 507
            assert "disk" in one_line(answer) and "full" in answer.reason
            assert names(folder) == before
            assert live.ask(server, "/simple/big/").status == 404
            assert len(digests(server, "ours")) == 1
        ballast.write_bytes(bytes(4 * MIB)[: shutil.disk_usage(folder).free + 2 * MIB])
        assert shutil.disk_usage(folder).free == 0
        for body in (SMALL, forms.action("yank", name="ours", version="1.0", reason="broken")):
            assert forms.post(server, body).status == 507
            assert names(folder) == before
        assert live.ask(server, "/packages/ours-1.0-py3-none-any.whl").status == 200
        # Removing needs no room, and makes some.
        assert forms.post(server, forms.action("remove_pkg", name="ours", version="1.0")).status == 200
        ballast.unlink()
        assert forms.post(server, BIG).status == 200
        assert live.ask(server, "/packages/big-1.0-py3-none-any.whl").status == 200
        assert names(folder) == ["big-1.0-py3-none-any.whl"]
        quiet(server)


def test_a_full_disk_where_uploads_arrive_is_507_and_service_goes_on(disk: Mount, packages: Path) -> None:
    spool = disk("spool", 2)
    with live.serve(packages=[packages], env={"TMPDIR": str(spool)}, **forms.OPEN) as server:
        for _ in range(3):
            answer = forms.post(server, BIG)
            assert answer.status == 507
            assert "full" in one_line(answer)
        assert names(packages) == [] and names(spool) == []
        assert forms.post(server, SMALL).status == 200
        mount(spool, "-o", "remount,size=8m")
        assert forms.post(server, BIG).status == 200
        assert names(spool) == []
        quiet(server)


def test_a_full_disk_under_the_cache_makes_nothing_but_slower(disk: Mount, packages: Path) -> None:
    cache = disk("cache", 1)
    ballast = cache / "ballast"
    ballast.write_bytes(bytes(MIB))
    builders.make_wheel(packages, "ours")
    with live.serve(packages=[packages], cache_dir=cache, **forms.OPEN) as server:
        assert forms.post(server, SMALL).status == 200
        assert len(digests(server, "ours")) == len(digests(server, "small")) == 1
        ballast.unlink()
        assert forms.post(server, BIG).status == 200
        assert len(digests(server, "big")) == 1
        quiet(server)


def test_a_disk_that_has_less_room_than_it_says_keeps_what_was_of_use_last(disk: Mount) -> None:
    place, clock = disk("cache", 4), Clock()
    with faulty.upstream() as upstream:
        files = {f"foo-{number}.tar.gz": os.urandom(1_100_000) for number in range(5)}
        for filename, data in files.items():
            upstream.add("foo", filename, data)
        cache = Cache(place / "c", clock=clock, free=lambda folder: 2**40)  # as with a user's quota
        remote = Remote(Upstream(upstream.url), mode="cache", cache=cache, clock=clock)

        def kept() -> list[str]:
            for filename, data in files.items():
                assert read(remote.open(FOO, filename)) == data
                clock.ahead += 60.0
            return [name for name in files if isinstance(remote.open(FOO, name), LocalFile)]

        assert kept() == ["foo-2.tar.gz", "foo-3.tar.gz", "foo-4.tar.gz"]
        ballast = os.open(place, os.O_TMPFILE | os.O_WRONLY)
        os.write(ballast, bytes(MIB))  # somebody else's
        upstream.add("foo", "foo-9.tar.gz", data := os.urandom(3_500_000))
        clock.ahead += 3600.0
        before = cache.usage().kinds["files"]
        assert read(remote.open(FOO, "foo-9.tar.gz")) == data
        assert cache.usage().kinds["files"] == before  # what would not have been enough
        os.close(ballast)


def test_a_read_only_folder_is_told_and_still_read(disk: Mount) -> None:
    folder = disk("packages", 4)
    wheel = builders.make_wheel(folder, "ours")
    (folder / ".pypiserver-lite-999999999-0123456789abcdef.tmp").write_bytes(b"of a crash")
    with live.serve(packages=[folder], **forms.OPEN) as server:
        mount(folder, "-o", "remount,ro")
        release = {"name": "ours", "version": "1.0"}
        for body in (SMALL, forms.action("yank", **release), forms.action("remove_pkg", **release)):
            answer = forms.post(server, body)
            assert answer.status == 503
            assert "cannot be written" in one_line(answer) and "cannot be written" in answer.reason
        assert live.ask(server, f"/packages/{wheel.name}").body == wheel.read_bytes()
        with live.serve(packages=[folder], cache_dir=folder / "cache", **forms.OPEN) as fresh:
            assert list(digests(fresh, "ours")) == [wheel.name]
            assert live.ask(fresh, f"/packages/{wheel.name}.metadata").status == 200
            assert forms.post(fresh, SMALL).status == 503
            quiet(fresh)
        mount(folder, "-o", "remount,rw")
        assert forms.post(server, SMALL).status == 200
        assert names(folder) == [wheel.name, "small-1.0-py3-none-any.whl"]
        quiet(server)


def test_a_folder_that_goes_away_and_comes_back_is_served_again(packages: Path) -> None:
    wheel = builders.make_wheel(packages, "ours")
    away = packages.with_name("away")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert len(digests(server, "ours")) == 1
        packages.rename(away)
        for path in ("/simple/", "/simple/ours/", "/simple/other/", f"/packages/{wheel.name}"):
            # Neither a page without files, nor "there is no such project", which would send clients elsewhere.
            assert live.ask(server, path).status in (502, 503), path
        answer = forms.post(server, SMALL)
        assert answer.status in (502, 503) and one_line(answer)
        away.rename(packages)
        deadline = time.monotonic() + 5
        while live.ask(server, "/simple/ours/").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert forms.post(server, SMALL).status == 200
        quiet(server)


@pytest.mark.parametrize("error", ["EMFILE", "EACCES", "EIO"])
def test_what_the_disk_does_not_give_is_503_and_neither_404_nor_a_shorter_page(
    packages: Path, tmp_path: Path, error: str
) -> None:
    builders.make_wheel(packages, "ours", "1.0")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert len(digests(server, "ours")) == 1
        path = builders.make_wheel(packages, "ours", "2.0")
        with traced(server, tmp_path / "trace", "open", "openat", error=error, path=path):
            for address in ("/simple/ours/", "/project/ours/", "/ours/json", f"/packages/{path.name}"):
                answer = live.ask(server, address)
                assert answer.status == 503, address
                assert answer.text.startswith("a file cannot be read") and str(packages) not in answer.text
            assert live.ask(server, "/simple/").status == 200
        assert len(digests(server, "ours")) == 2
        assert live.ask(server, f"/packages/{path.name}").body == path.read_bytes()
        quiet(server)


def test_bytes_that_the_disk_does_not_give_are_503(packages: Path, tmp_path: Path) -> None:
    path = builders.make_wheel(packages, "ours")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert len(digests(server, "ours")) == 1
        with traced(server, tmp_path / "trace", "read", error="EIO", path=path):
            answer = live.ask(server, f"/packages/{path.name}")
            assert answer.status == 503 and answer.text.startswith("a file cannot be read from the disk now")
        assert live.ask(server, f"/packages/{path.name}").body == path.read_bytes()
        quiet(server)


@pytest.mark.parametrize("error", ["EMFILE", "EIO"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_that_cannot_be_listed_leaves_nobody_to_say_what_is_not_here(
    packages: Path, tmp_path: Path, error: str, nested: bool
) -> None:
    folder = packages / "deep" if nested else packages
    builders.make_wheel(folder, "ours")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert len(digests(server, "ours")) == 1
        with traced(server, tmp_path / "trace", "open", "openat", error=error, path=folder):
            builders.make_wheel(folder, "new")
            answer = live.ask(server, "/simple/new/")
            assert answer.status == 503 and "cannot be read" in one_line(answer)
            assert len(digests(server, "ours")) == 1  # what is known is served
        deadline = time.monotonic() + 20
        while live.ask(server, "/simple/new/").status == 503:
            assert time.monotonic() < deadline
        assert len(digests(server, "new")) == 1
        quiet(server)


def test_two_changes_of_a_folder_in_one_tick_are_both_seen(tmp_path: Path) -> None:
    now = [0.0]
    # Unlike most, this file system stamps changes with the kernel's tick, as those of other systems do.
    with mounted(tmp_path / "coarse", 1, "ramfs") as root, ExitStack() as stack:
        told_apart = 0
        for turn in range(200):
            (root / str(turn)).mkdir()
            folder = Folder([root / str(turn)], Memory(None), clock=lambda: now[0])
            stack.callback(folder.close)
            (root / str(turn) / "one-1.0.tar.gz").touch()
            first = stamp_of(os.stat(root / str(turn)))
            now[0] += 10
            assert folder.names() == ("one",)
            (root / str(turn) / "two-1.0.tar.gz").touch()
            now[0] += 10
            if stamp_of(os.stat(root / str(turn))) == first:
                assert folder.names() == ("one", "two")
                told_apart += 1
        assert told_apart > 3


@pytest.fixture
def pair(packages: Path) -> Iterator[tuple[live.Server, live.Server]]:
    """Two servers on one folder, each with a memory of its own."""
    with live.serve(packages=[packages], **forms.OPEN) as one, live.serve(packages=[packages], **forms.OPEN) as other:
        yield one, other


def at_once(pair: tuple[live.Server, live.Server], bodies: list[bytes]) -> list[live.Answer]:
    """The answers to forms that all set out in the same instant, to one server and the other in turn."""
    line = threading.Barrier(len(bodies))

    def send(number: int) -> live.Answer:
        line.wait()
        return forms.post(pair[number % 2], bodies[number])

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(send, range(len(bodies))))


def test_of_eight_writers_of_one_name_exactly_one_wins(packages: Path, pair: tuple[live.Server, live.Server]) -> None:
    for turn in range(10):  # R6
        filename = f"ours-{turn}-py3-none-any.whl"
        contents = [forms.wheel("ours", str(turn), b"%d-%d" % (turn, writer)) for writer in range(8)]
        signatures = [forms.file("gpg_signature", f"signed {writer}", "x.asc") for writer in range(8)]
        signed = turn % 2 == 0  # with a signature several names change together, which is another way
        bodies = [forms.upload(contents[n], filename, *signatures[n : n + signed]) for n in range(8)]
        answers = at_once(pair, bodies)
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7
        winner = next(number for number, answer in enumerate(answers) if answer.status == 200)
        assert (packages / filename).read_bytes() == contents[winner]
        assert not signed or (packages / f"{filename}.asc").read_text() == f"signed {winner}"
        for server in pair:
            assert live.ask(server, f"/packages/{filename}").body == contents[winner]
            assert digests(server, "ours")[filename] == live.sha256(contents[winner])
        assert all("already exists" in answer.text for answer in answers if answer.status == 409)  # R2
    assert not [name for name in names(packages) if name.startswith(".")]
    for server in pair:
        quiet(server)


def test_eight_writers_of_the_same_bytes_all_succeed(packages: Path, pair: tuple[live.Server, live.Server]) -> None:
    for turn in range(5):  # R3
        data = forms.wheel("ours", str(turn), b"same")
        body = forms.upload(data, f"ours-{turn}-py3-none-any.whl")
        answers = at_once(pair, [body] * 8)
        assert [answer.status for answer in answers] == [200] * 8
    assert len(names(packages)) == 5


def test_overwriting_writers_never_mix(packages: Path) -> None:  # R7
    contents = [forms.wheel("ours", "1.0", os.urandom(200_000)) for _ in range(4)]
    filename = "ours-1.0-py3-none-any.whl"
    (packages / filename).write_bytes(contents[0])
    with live.serve(packages=[packages], overwrite=True, **forms.OPEN) as server:

        def read(over: threading.Event) -> int:
            count = 0
            while not over.is_set():
                assert live.ask(server, f"/packages/{filename}").body in contents
                count += 1
            return count

        with live.meanwhile(read) as reading, ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(forms.post, server, forms.upload(contents[n % 4], filename)) for n in range(40)]
            assert [answer.result().status for answer in writing] == [200] * 40
        assert reading[0].result() > 5
        assert names(packages) == [filename]
        assert digests(server, "ours") == {filename: live.sha256(packages / filename)}
        quiet(server)


def test_two_servers_on_one_folder_behave_as_one(packages: Path, pair: tuple[live.Server, live.Server]) -> None:
    for turn in range(12):
        one, other = pair if turn % 2 else pair[::-1]
        name, version = f"ours{turn % 3}", f"1.{turn}"
        filename = f"{name}-{version}-py3-none-any.whl"
        data = forms.wheel(name, version)
        assert forms.post(one, forms.upload(data, filename)).status == 200
        assert digests(other, name)[filename] == live.sha256(data)
        assert name in live.ask(other, "/simple/").text
        assert live.ask(other, f"/packages/{filename}").body == data
        release = {"name": name, "version": version}
        assert forms.post(other, forms.action("yank", **release, reason="no good")).status == 200
        assert 'data-yanked="no good"' in live.ask(one, f"/simple/{name}/").text
        assert forms.post(one, forms.action("unyank", **release)).status == 200
        assert "data-yanked" not in live.ask(other, f"/simple/{name}/").text
        assert forms.post(other, forms.upload(forms.wheel(name, version, b"x"), filename)).status == 409
        if turn % 3 == 2:
            continue
        assert forms.post(other, forms.action("remove_pkg", **release)).status == 200
        assert filename not in digests(one, name)
        assert live.ask(one, f"/packages/{filename}").status == 404
        assert forms.post(one, forms.action("remove_pkg", **release)).status == 404
    for server in pair:
        quiet(server)


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])
def test_where_the_disk_has_no_hard_links_one_writer_wins_and_nothing_is_replaced(
    packages: Path, tmp_path: Path, pair: tuple[live.Server, live.Server], error: str
) -> None:
    with (
        traced(pair[0], tmp_path / "trace 1", "link", "linkat", error=error),
        traced(pair[1], tmp_path / "trace 2", "link", "linkat", error=error),
    ):
        for turn in range(4):
            filename = f"ours-{turn}-py3-none-any.whl"
            contents = [forms.wheel("ours", str(turn), b"%d-%d" % (turn, writer)) for writer in range(8)]
            # With a signature, several names change together.
            signature = [forms.file("gpg_signature", "signed", "x.asc")][: turn % 2]
            answers = at_once(pair, [forms.upload(content, filename, *signature) for content in contents])
            assert sorted(answer.status for answer in answers) == [200] + [409] * 7
            winner = next(number for number, answer in enumerate(answers) if answer.status == 200)
            assert (packages / filename).read_bytes() == contents[winner]
    # One of them may have been first each time; the other then sees the name, and tries no link.
    assert "(INJECTED)" in "".join((tmp_path / f"trace {number}").read_text() for number in (1, 2))
    assert len(names(packages)) == 6


def test_a_kept_connection_sees_what_the_other_server_did(pair: tuple[live.Server, live.Server]) -> None:
    one, other = pair
    client = http.client.HTTPConnection(one.host, one.port, timeout=20)
    for number in range(10):
        filename = f"ours-{number}-py3-none-any.whl"
        assert forms.post(other, forms.upload(forms.wheel("ours", str(number)), filename)).status == 200
        client.request("GET", "/simple/ours/")
        answer = client.getresponse()
        assert filename in answer.read().decode()
    client.close()

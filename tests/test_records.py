"""The file of the records: made by the first change, never anew; a clear refusal of what it cannot be."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import forms
import live
import pytest
from builders import make_wheel

from pypiserver_lite.errors import Busy, ConfigError, DiskFailed, Missing, NoSpace, ReadOnly, Unavailable
from pypiserver_lite.records import Event, Records, ledger
from pypiserver_lite.records.ledger import Ledger
from pypiserver_lite.records.owners import CLAIM, Owners
from pypiserver_lite.records.schema import STEPS

UPLOAD = Event(action="upload", who="ann", index="/", project="acme", version="1.0")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.sqlite3"


@pytest.fixture
def records(path: Path) -> Iterator[Records]:
    with closing(Records(path)) as records:
        yield records


def did(records: Records, event: Event = UPLOAD) -> None:
    with records.trail.change(event):
        pass


def test_the_first_change_makes_the_file_and_reading_does_not(records: Records, path: Path) -> None:
    assert not records.trail.find() and not records.tokens.list()
    assert records.owners.of("/", "acme") == frozenset()
    assert records.trail.uploads("/", "acme") == {} and records.counts.of_files("/", "acme") == {}
    assert not path.parent.exists() and records.version is None
    did(records)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert records.version == len(STEPS) and records.faults() == ""
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_without_a_place_changes_are_refused_and_the_flag_is_named() -> None:
    with closing(Records(None)) as records:
        with pytest.raises(ReadOnly, match="--state-dir"), records.trail.change(UPLOAD):
            pytest.fail("it happened")
        records.counts.count("/", "acme", "acme-1.0.tar.gz")
        records.trail.refused(UPLOAD)
        assert records.trail.find() == [] and len(records.secret("sessions")) == 32


def test_a_second_process_sees_what_the_first_did_and_the_other_way_round(records: Records, path: Path) -> None:
    with closing(Records(path)) as other:  # its own connections: to SQLite it is another process
        did(records)
        assert [event.who for event in other.trail.find()] == ["ann"]
        did(other, Event(action="remove", who="bob", index="/", project="acme"))
        assert [event.who for event in records.trail.find()] == ["bob", "ann"]
        assert records.secret("sessions") == other.secret("sessions") != other.secret("forms")


@pytest.mark.parametrize("damage", ["empty", "text", "foreign", "torn", "no table"])
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, damage: str) -> None:
    with closing(Records(path)) as records:
        did(records)
    data = path.read_bytes()
    if damage in ("foreign", "no table"):
        if damage == "foreign":
            path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE tokens" if damage == "no table" else "CREATE TABLE mine (a)")
            other.commit()
    else:
        path.write_bytes({"empty": b"", "text": b"hello\n" * 1000, "torn": data[: len(data) // 2]}[damage])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"records\.sqlite3 .*backup"):
        Records(path)
    assert path.read_bytes() == before


def test_a_newer_file_is_refused_and_an_unknown_name_of_a_token_is_missing(path: Path) -> None:
    with closing(Records(path)) as records:
        did(records)
        with pytest.raises(Missing):
            records.tokens.revoke(7)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"newer .*99"):
        Records(path)


def test_a_file_that_goes_while_a_server_runs_is_missed_and_not_made_anew(records: Records, path: Path) -> None:
    did(records)
    kept = path.rename(path.with_name("kept"))
    with pytest.raises(Unavailable, match="gone"), records.trail.change(UPLOAD):
        pytest.fail("it happened")
    assert not path.exists()
    kept.rename(path)
    did(records)
    assert len(records.trail.find()) == 2


def test_a_secret_that_could_not_be_kept_is_once_it_can_be(path: Path) -> None:
    with closing(Records(path, every=0)) as records:
        did(records)
        kept = path.rename(path.with_name("kept"))
        mine = {name: records.secret(name) for name in ("sessions", "forms")}
        assert mine == {name: records.secret(name) for name in mine}
        kept.rename(path)
        with closing(Records(path)) as other:
            assert other.secret("sessions") == records.secret("sessions") != mine["sessions"]
            assert records.secret("forms") == other.secret("forms") == mine["forms"]


def test_a_backup_is_whole_while_others_write_and_replaces_nothing(
    records: Records, path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite3"
    with pytest.raises(ConfigError, match="no records"):
        records.backup(copy)
    did(records)
    records.backup(copy)
    with pytest.raises(ConfigError, match=r"copy\.sqlite3"):
        records.backup(copy)
    did(records)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(Records(copy)) as again:
        assert len(again.trail.find()) == 1 and again.secret("x")
    assert sorted(os.listdir(tmp_path)) == ["copy.sqlite3", "state"]


def test_a_backup_that_is_put_back_counts_at_once_for_all_that_is_remembered(
    records: Records, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_LOOKS_AGAIN", 0.0)
    one, old = records.tokens.create("old", by="x", may=["list"])
    with records.trail.change(UPLOAD) as change:
        change.published = ("acme-1.0.tar.gz",)
    records.backup(tmp_path / "copy")
    records.tokens.revoke(one.id)
    _, new = records.tokens.create("new", by="x", may=["list"])
    with records.trail.change(UPLOAD) as change:
        change.published = ("acme-1.1.tar.gz",)
    with closing(Records(tmp_path / "copy")) as copy:  # as often changed as the other
        for name in ("a", "b"):
            copy.tokens.create(name, by="x", may=["list"])
    assert records.tokens.find(old) is None and len(records.trail.uploads("/", "acme")) == 2
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    os.replace(tmp_path / "copy", path)
    assert records.tokens.find(old) is not None and records.tokens.find(new) is None
    assert list(records.trail.uploads("/", "acme")) == ["acme-1.0.tar.gz"]
    did(records)
    assert len(records.trail.find()) == 2


def test_a_full_disk_refuses_the_change(records: Records, path: Path) -> None:
    did(records)
    with records._ledger.changing() as connection:
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
    with pytest.raises(NoSpace, match="--state-dir"):
        for _ in range(1000):
            did(records, Event(action="upload", reason="x" * 500))


@contextmanager
def somebody() -> Iterator[Path]:
    """A folder of nobody's, as nobody sees it if we are root, whom no right of a file stops."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if before == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


def test_records_in_a_folder_that_cannot_be_entered_cannot_be_written() -> None:
    with somebody() as folder:
        path = folder / "state" / "records.sqlite3"
        assert ledger.may_write(path)
        path.parent.mkdir()
        path.touch()
        for mode, may in ((0o700, True), (0o600, False), (0, False)):
            path.parent.chmod(mode)
            assert ledger.may_write(path) == may
        path.parent.chmod(0o700)


def test_what_may_only_be_read_is_read_and_changed_once_it_may_be_written() -> None:
    with somebody() as folder:
        path = folder / "state" / "records.sqlite3"
        with closing(Records(path)) as first:
            _, secret = first.tokens.create("ci", by="x", may=["list"])
        path.parent.chmod(0o555)
        with closing(Records(path)) as records:
            found = records.tokens.find(secret)
            assert found is not None and len(records.secret("sessions")) == 32
            with pytest.raises(ReadOnly, match="--state-dir"), records.trail.change(UPLOAD):
                pytest.fail("it happened")
            assert os.listdir(path.parent) == ["records.sqlite3"]
            path.parent.chmod(0o755)
            with closing(Records(path)) as other:
                other.tokens.revoke(found.id)
            path.parent.chmod(0o555)
            assert records.tokens.find(secret) is None
            path.parent.chmod(0o755)
            did(records)
            assert [event.outcome for event in records.trail.find()] == ["done"]
        path.chmod(0)
        with pytest.raises(ConfigError, match=r"records\.sqlite3: .* cannot be read by this user"):
            Records(path)


def test_where_nothing_can_be_put_on_record_reading_goes_on_and_changes_are_503(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages)
    (tmp_path / "file").touch()  # nothing can be made below it, whoever we are
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    login = {"Authorization": "Basic YW5uOnB3"}
    with live.serve(packages=[packages], passwords=passwords, state_dir=tmp_path / "file" / "state") as server:
        assert "--state-dir" in server.log()
        for path in ("/simple/", "/simple/ours/", "/project/ours/", "/packages/ours-1.0-py3-none-any.whl"):
            assert live.ask(server, path).status == 200
        for body in (
            forms.upload(forms.wheel("new"), "new-1.0-py3-none-any.whl"),
            forms.action("yank", name="ours", version="1.0"),
            forms.action("remove_pkg", name="ours", version="1.0"),
        ):
            answer = forms.post(server, body, **login)
            assert answer.status == 503 and "--state-dir" in answer.text and str(tmp_path) not in answer.text
        assert live.ask(server, "/simple/ours/").text.count("<a ") == 1
        assert not list(packages.rglob("*.tmp"))
    assert [path.name for path in packages.iterdir() if not path.name.startswith(".")] == ["ours-1.0-py3-none-any.whl"]


def test_processes_that_begin_at_once_make_one_file_and_lose_nothing(path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from pypiserver_lite.records import Event, Records
records = Records(Path({str(path)!r}))
sys.stdin.read()
for at in range(20):
    with records.trail.change(Event(action="upload", who=sys.argv[1], project=str(at))):
        records.owners.claim("/", str(at), sys.argv[1])
records.close()
"""
    names = ["a", "b", "c", "d"]
    env = {"PYTHONPATH": str(live.SOURCE)}
    processes = [subprocess.Popen([sys.executable, "-c", script, name], stdin=-1, env=env) for name in names]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    with closing(Records(path)) as records:
        events = records.trail.find(limit=1000)
        assert {event.outcome for event in events} == {"done"} and len(events) == 80
        for at in range(20):
            (owner,) = records.owners.of("/", str(at))
            assert owner in names
        assert records.faults() == "" and not list(path.parent.glob("*.tmp*"))


def test_a_copy_is_of_one_moment_while_others_write(records: Records, path: Path, tmp_path: Path) -> None:
    did(records)
    end = threading.Event()

    def work() -> None:
        with closing(Records(path)) as other:
            at = 0
            while not end.is_set():
                at += 1
                with other._ledger.changing() as connection:  # two tables, which a copy has both or none of
                    connection.execute("INSERT INTO secrets VALUES (?, ?)", (f"one {at}", b"1"))
                    connection.execute("INSERT INTO owners VALUES ('/', ?, 'ann', 0, 1)", (f"one {at}",))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for at in range(5):
            records.backup(tmp_path / f"copy{at}")
    finally:
        end.set()
        thread.join()
    for at in range(5):
        with closing(sqlite3.connect(tmp_path / f"copy{at}")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            one, two = ("SELECT name FROM secrets ORDER BY 1", "SELECT project FROM owners ORDER BY 1")
            assert copy.execute(one).fetchall() == copy.execute(two).fetchall()


def test_an_older_file_is_brought_up_to_date_step_by_step_and_once(path: Path) -> None:
    newer = (*STEPS, ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"), ("ALTER TABLE more ADD b DEFAULT 2",))
    with closing(Records(path)) as records:
        did(records)
    with closing(Ledger(path, newer, changing=False)) as looked_at:
        assert looked_at.version == len(STEPS)
    both = [Ledger(path, newer) for _ in range(2)]
    try:
        for one in both:
            assert one.ask("SELECT * FROM more") == [(1, 2)] and one.version == len(newer)
            assert one.ask("SELECT who, outcome FROM events") == [("ann", "done")]
    finally:
        for one in both:
            one.close()
    with pytest.raises(ConfigError, match="newer"):
        Records(path)


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    with closing(Records(path)) as records:
        did(records)
    with pytest.raises(ConfigError):
        Ledger(path, (*STEPS, ("CREATE TABLE more (a)", "nonsense")))
    with closing(Records(path)) as records:
        assert records.version == len(STEPS) and len(records.trail.find()) == 1
        assert records._ledger.ask("SELECT name FROM sqlite_master WHERE name = 'more'") == []


def test_a_forked_process_has_its_own_connections_and_writes_nothing_of_its_parent(records: Records) -> None:
    did(records)
    records.trail.refused(UPLOAD)
    records.counts.count("/", "acme", "acme-1.0.tar.gz")
    records.secret("sessions")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            did(records, Event(action="yank", who="child"))
            records.counts.count("/", "acme", "acme-1.0.tar.gz")
            records.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    did(records)
    records.flush()
    assert [event.outcome for event in records.trail.find()] == ["refused", "done", "done", "done"]
    assert records.counts.of_files("/", "acme") == {"acme-1.0.tar.gz": 2}


def test_a_process_that_is_forked_amid_a_change_waits_for_its_parent_as_any_other(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    did(records)
    monkeypatch.setattr("pypiserver_lite.records.ledger._PATIENCE", 0.05)
    with records._ledger.changing():
        child = os.fork()
        if child == 0:
            code = 1
            signal.alarm(20)
            try:
                with pytest.raises(Busy), records.trail.change(UPLOAD):
                    pass
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert len(records.trail.find()) == 1


def test_of_two_that_make_the_file_at_once_one_takes_that_of_the_other(
    records: Records, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(*arguments: Any) -> None:
        monkeypatch.undo()
        with closing(Records(path)) as other:
            did(other)
        ledger._take_steps(*arguments)

    monkeypatch.setattr(ledger, "_take_steps", first)
    did(records)
    assert len(records.trail.find()) == 2


def test_who_waits_too_long_for_another_hears_busy(
    records: Records, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pypiserver_lite.records.ledger._PATIENCE", 0.05)
    did(records)
    with closing(Records(path)) as other, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="try again"), other.trail.change(UPLOAD):
            pytest.fail("it happened")
        assert len(other.trail.find()) == 1  # reading waits for nobody
        holder.execute("ROLLBACK")
        did(other)
        # Nor does a thread wait for one that waits for another process, and so on, each for as long as all before it.
        with ThreadPoolExecutor(1) as pool, other._ledger.changing(), pytest.raises(Busy, match="try again"):
            pool.submit(did, other).result(timeout=10)
        did(other)


def test_damage_met_later_is_told_and_not_mended_by_forgetting(path: Path) -> None:
    with closing(Records(path)) as records:
        for _ in range(50):
            did(records, Event(action="upload", who="ann", reason="x" * 500))
    size = path.stat().st_size
    data = bytearray(path.read_bytes())
    data[2 * 4096 :] = bytes(len(data) - 2 * 4096)
    with closing(Records(path)) as records:
        path.write_bytes(data)
        with pytest.raises(DiskFailed, match="records"):
            records.trail.find(limit=1000)
    assert path.stat().st_size == size


def test_the_first_claim_holds_and_one_whose_upload_failed_goes(records: Records, path: Path) -> None:
    owners = records.owners
    with closing(Records(path)) as other:
        assert owners.claim("/", "acme", "ann") == {"ann"} == other.owners.claim("/", "acme", "bob")
        assert other.owners.of("/", "acme") == {"ann"} and owners.of("dev", "acme") == frozenset()
        owners.forget("/", "acme", "ann")
        assert other.owners.claim("/", "acme", "bob") == {"bob"}
        other.owners.settle("/", "acme", "bob")
        assert owners.claim("/", "acme", "bob") == {"bob"}
        owners.forget("/", "acme", "bob")  # a later upload that failed takes nothing away
        assert owners.of("/", "acme") == {"bob"}
        owners.add("/", "acme", "cy")
        assert owners.remove("/", "acme", "bob") and not owners.remove("/", "acme", "bob")
        assert other.owners.of("/", "acme") == {"cy"}


def test_a_claim_goes_with_the_last_of_its_uploads_and_not_before(records: Records, path: Path) -> None:
    owners = records.owners
    assert not owners.join("/", "acme", "ann")
    with closing(Records(path)) as other:
        assert owners.claim("/", "acme", "ann") == {"ann"} and other.owners.join("/", "acme", "ann")
        assert owners.claim("/", "acme", "ann") == {"ann"}  # who looked before the first did
        for _ in range(3):
            assert other.owners.claim("/", "acme", "bob") == {"ann"} == owners.of("/", "acme")
            owners.forget("/", "acme", "ann")
        assert other.owners.of("/", "acme") == set()
        owners.claim("/", "acme", "bob")
        other.owners.join("/", "acme", "bob")
        owners.settle("/", "acme", "bob")
        other.owners.forget("/", "acme", "bob")
        assert owners.of("/", "acme") == {"bob"} and not owners.join("/", "acme", "bob")


def test_a_claim_of_an_upload_that_never_ended_lapses(path: Path) -> None:
    now = [1_700_000_000.0]
    with closing(Ledger(path)) as ledger:
        owners = Owners(ledger, lambda: now[0])
        owners.claim("/", "acme", "ann")
        owners.add("/", "other", "ann")
        now[0] += CLAIM - 1
        assert owners.claim("/", "acme", "bob") == {"ann"} == owners.of("/", "acme")
        now[0] += 1
        assert owners.of("/", "acme") == set() and owners.of("/", "acme", lapsed=True) == {"ann"}
        assert owners.claim("/", "acme", "bob") == {"bob"} == owners.of("/", "acme", lapsed=True)
        assert owners.claim("/", "other", "bob") == {"ann"} == owners.of("/", "other")
        now[0] -= 10 * CLAIM  # the clock was set right
        assert owners.of("/", "acme") == set()

"""The file of the records: made by the first change, never anew; a clear refusal of what it cannot be."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pypiserver_lite.errors import ConfigError, Missing, NoSpace, ReadOnly, Unavailable
from pypiserver_lite.records import Event, Records

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
    assert records.version == 1 and records.faults() == ""
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


def test_a_full_disk_refuses_the_change(records: Records, path: Path) -> None:
    did(records)
    with records._ledger.changing() as connection:
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
    with pytest.raises(NoSpace, match="--state-dir"):
        for _ in range(1000):
            did(records, Event(action="upload", reason="x" * 500))

"""The audit trail: what happens is on record first, what is refused within bounds, and each can be asked for."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import forms
import live
import pytest

from pypiserver_lite.errors import ConfigError, Conflict, DiskFailed, Invalid, ReadOnly, Unavailable
from pypiserver_lite.records import Event, Records, trail
from pypiserver_lite.records.ledger import Ledger
from pypiserver_lite.records.lines import Lines
from pypiserver_lite.records.trail import KEPT_REFUSALS, Trail

UPLOAD = Event(action="upload", who="ann", index="/", project="acme", version="1.0", address="192.0.2.1")
FILE = ("acme-1.0.tar.gz", "ab" * 32)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as ledger:
        yield ledger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(ledger: Ledger, clock: Clock) -> Trail:
    return Trail(ledger, None, lambda: None, clock)


def publish(trail: Trail, event: Event = UPLOAD, *names: str) -> None:
    with trail.change(event) as change:
        change.files = tuple((name, "ab" * 32) for name in names or (FILE[0],))
        change.published = names or (FILE[0],)


def test_a_change_is_on_record_before_it_happens_and_with_its_end(kept: Trail, clock: Clock) -> None:
    with kept.change(replace(UPLOAD, client="twine/6\n\x1b[2J" + "x" * 500)) as change:
        (begun,) = kept.find()
        change.files = (FILE,)
    (done,) = kept.find()
    assert begun.outcome == "begun" and begun.files == ()
    assert done == replace(begun, outcome="done", files=(FILE,))
    assert done.when == datetime.fromtimestamp(clock.now, timezone.utc)
    assert done.client.startswith("twine/6[2Jxxx") and len(done.client) == 200


@pytest.mark.parametrize(
    ("error", "reason"), [(Conflict("it is there already"), "it is there already"), (KeyError("secret"), "KeyError")]
)
def test_a_change_that_fails_is_on_record_with_the_reason(kept: Trail, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), kept.change(UPLOAD):
        raise error
    assert [(event.outcome, event.reason) for event in kept.find()] == [("failed", reason)]


def test_a_change_that_is_cut_off_stays_begun(path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from pypiserver_lite.records import Event, Records
with Records(Path({str(path)!r})).trail.change(Event(action="upload", who="ann", project="acme")):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(live.SOURCE)}, check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(Records(path)) as records:
        publish(records.trail)
        assert [event.outcome for event in records.trail.find()] == ["done", "begun"]
        assert records.faults() == ""


def test_of_a_server_that_is_killed_every_file_is_on_record_and_what_was_answered_is_done(
    packages: Path,
) -> None:
    answered: list[str] = []

    def publish(server: live.Server, worker: int) -> None:
        with suppress(OSError, ValueError):  # no answer, or none that is whole
            for at in range(1000):
                name = f"p{worker}x{at}"
                assert forms.post(server, forms.upload(forms.wheel(name), f"{name}-1.0-py3-none-any.whl")).status == 200
                answered.append(name)

    for _ in range(2):
        with live.serve(packages=[packages], **forms.OPEN) as server, ThreadPoolExecutor(4) as pool:
            before, until = len(answered), time.monotonic() + 60
            for worker in range(4):
                pool.submit(publish, server, worker + len(answered))
            while len(answered) < before + 20:
                assert time.monotonic() < until
                time.sleep(0.01)
            live.kill(server)
        with closing(Records(packages / ".pypiserver-lite" / "records.sqlite3")) as records:
            assert records.faults() == ""
            events = records.trail.find(limit=10_000)
        done = {event.project for event in events if event.outcome == "done"}
        begun = {event.project for event in events if event.outcome == "begun"}
        assert set(answered) <= done
        assert {path.name.split("-")[0] for path in packages.glob("*.whl")} <= done | begun


def test_what_cannot_be_put_on_record_does_not_happen() -> None:
    with (
        closing(Ledger(None)) as ledger,
        pytest.raises(ReadOnly, match="--state-dir"),
        Trail(ledger, None, lambda: None).change(UPLOAD),
    ):
        pytest.fail("it happened")


def test_what_happened_stands_though_its_end_cannot_be_put_on_record(
    kept: Trail, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(kept)
    with kept.change(UPLOAD):
        path.rename(path.with_name("away"))
    assert "cannot be put there" in caplog.text and "upload done" in caplog.text
    path.with_name("away").rename(path)
    assert [event.outcome for event in kept.find()] == ["begun", "done"]


def test_events_are_found_by_all_that_is_said_of_them_page_by_page(kept: Trail, clock: Clock) -> None:
    for who, project, action in [("ann", "acme", "upload"), ("bob", "acme", "yank"), ("ann", "other", "remove")]:
        publish(kept, replace(UPLOAD, who=who, project=project, action=action))
        clock.now += 60
    with pytest.raises(Conflict), kept.change(replace(UPLOAD, index="dev")):
        raise Conflict("no")

    def found(**wanted: object) -> list[str]:
        return [event.action for event in kept.find(**wanted)]  # type: ignore[arg-type]

    assert found() == ["upload", "remove", "yank", "upload"]
    assert found(user="ann") == ["upload", "remove", "upload"] and found(user="ann", project="other") == ["remove"]
    assert found(action="yank") == ["yank"] and found(index="dev") == found(outcome="failed") == ["upload"]
    assert found(since=datetime.fromtimestamp(clock.now - 60, timezone.utc)) == ["upload", "remove"]
    first = kept.find(limit=3)
    assert found(before=first[-1].id) == ["upload"] and found(before=first[-1].id, limit=0) == []


def test_who_published_a_file_is_known_until_it_goes_and_the_same_object_meanwhile(kept: Trail, clock: Clock) -> None:
    publish(kept, UPLOAD, "acme-1.0.tar.gz", "acme-1.0-py3-none-any.whl")
    known = kept.uploads("/", "acme")
    assert {name: (one.who, one.sha256) for name, one in known.items()} == {
        "acme-1.0.tar.gz": ("ann", "ab" * 32),
        "acme-1.0-py3-none-any.whl": ("ann", "ab" * 32),
    }
    publish(kept, replace(UPLOAD, project="other", who="bob"))
    assert kept.uploads("/", "acme") is known and kept.uploads("dev", "acme") == {}
    clock.now += 1
    publish(kept, replace(UPLOAD, who="bob"))  # which overwrites the first
    assert kept.uploads("/", "acme")["acme-1.0.tar.gz"].who == "bob"
    with kept.change(replace(UPLOAD, action="remove")) as change:
        change.files = (FILE,)
    assert list(kept.uploads("/", "acme")) == ["acme-1.0-py3-none-any.whl"]


def test_of_a_flood_of_refusals_some_are_kept_and_every_address_has_its_share(
    kept: Trail, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for at in range(10_000):
        kept.refused(replace(UPLOAD, address=f"192.0.2.{at % 2}", action="yank"))
    kept.refused(replace(UPLOAD, address="198.51.100.7"))
    for at in range(1000):
        kept.refused(replace(UPLOAD, address=f"203.0.113.{at}"))
    assert kept.find() == []  # nobody waited for the disk
    kept.flush()
    events = kept.find(limit=1000)
    assert len(events) == trail.A_SECOND and {event.outcome for event in events} == {"refused"}
    assert sum(event.address == "192.0.2.1" for event in events) == trail.OF_ONE
    assert any(event.address == "198.51.100.7" for event in events)
    assert "10981 more refusals are not on record" in caplog.text
    clock.now += 1
    kept.refused(replace(UPLOAD, address="192.0.2.1"))
    kept.flush()
    assert len(kept.find(limit=1000)) == trail.A_SECOND + 1


def test_no_flood_of_what_costs_nothing_crowds_out_wrong_logins(kept: Trail) -> None:
    for at in range(1000):
        kept.refused(Event(action="update", address=f"203.0.113.{at % 250}"))
        kept.refused(Event(action="login", address=f"2001:db8:1:2:{at:x}::1"))
    others = ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8:1:3::1", "odd"]
    for address in others:
        kept.wrong_login("wrong password", "ann", address)
    kept.flush()
    logins = [event.address for event in kept.find(action="login", limit=1000)][::-1]
    assert len(logins) == trail.OF_ONE + 4 and logins[-4:] == others
    assert len(kept.find(action="update", limit=1000)) == trail.A_SECOND


def test_the_oldest_refusals_go_and_changes_stay(kept: Trail, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "KEPT_REFUSALS", 10)
    publish(kept)
    for _ in range(10):
        for _ in range(3):
            kept.refused(UPLOAD)
        kept.flush()
        clock.now += 1
    assert [event.outcome for event in kept.find(limit=100)] == ["refused"] * 10 + ["done"]
    assert KEPT_REFUSALS == 50_000


def test_refusals_wait_for_a_disk_that_comes_back(path: Path) -> None:
    with closing(Records(path)) as records:
        publish(records.trail)
        away = path.rename(path.with_name("away"))
        records.trail.refused(UPLOAD)
        records.flush()
        away.rename(path)
        records.flush()
        assert [event.outcome for event in records.trail.find()] == ["refused", "done"]
        records.trail.refused(UPLOAD)
    with closing(Records(path)) as records:  # what waits is written at the end
        assert len(records.trail.find()) == 3


def test_refusals_wait_for_an_audit_log_that_comes_back(path: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    lines = tmp_path / "log" / "audit.jsonl"
    with closing(Records(path, audit_log=lines)) as records:
        publish(records.trail)
        away = lines.parent.rename(tmp_path / "away")
        for user in ("ann", "bob"):
            records.trail.wrong_login("wrong password", user, "192.0.2.1")
            records.flush()
        assert [event.who for event in records.trail.find(outcome="refused")] == ["bob", "ann"]
        away.rename(lines.parent)
        for _ in range(2):
            records.flush()
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["who"] for one in told if one["outcome"] == "refused"] == ["ann", "bob"]
    assert len({one["id"] for one in told}) == 3


def test_each_event_is_a_line_of_json_too_and_a_rotated_file_is_begun_anew(ledger: Ledger, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    kept = Trail(ledger, Lines(log), lambda: None)
    publish(kept)
    log.rename(tmp_path / "audit.jsonl.1")
    publish(kept, replace(UPLOAD, who="a\n\u2028b\ud800"))
    log.rename(tmp_path / "audit.jsonl.2")
    log.touch()  # as programs that rotate logs do
    kept.refused(UPLOAD)
    kept.flush()
    old = [json.loads(line) for line in (tmp_path / "audit.jsonl.1").read_text().splitlines()]
    new = [json.loads(line) for line in (tmp_path / "audit.jsonl.2").read_text("ascii").splitlines()]
    assert [line["outcome"] for line in old] == [line["outcome"] for line in new] == ["begun", "done"]
    assert json.loads(log.read_text())["outcome"] == "refused"
    assert old[1]["files"] == [{"name": FILE[0], "sha256": FILE[1]}] and old[1]["id"] == old[0]["id"]
    assert new[0]["who"] == "a\n\u2028b?" and new[0]["when"].endswith("Z")
    assert [event.as_json() for event in kept.find()][1] == new[1]


def test_where_the_line_cannot_be_written_the_change_does_not_happen(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "audit.jsonl"
    kept = Trail(ledger, Lines(log), lambda: None)
    publish(kept)
    (tmp_path / "logs").rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(DiskFailed, match="audit log"), kept.change(UPLOAD):
            pytest.fail("it happened")
    assert [event.outcome for event in kept.find()] == ["failed", "failed", "done"]
    assert caplog.text.count("cannot be written (") == 1
    with pytest.raises(ConfigError, match="--audit-log"):
        Lines(log)


def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no full device")
    with pytest.raises(Unavailable, match="audit log"):
        Lines(Path("/dev/full")).write({"a": 1})


def test_nothing_that_a_client_sends_forges_a_line_of_the_log(kept: Trail, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    odd = "x\r\n2026|login refused: from 192.0.2.9 of user 'y'\u2028\x1b[2J"
    event = Event(action="yank", who=odd, token=odd, address=odd, client=odd, project=odd, version=odd, reason=odd)
    with kept.change(event) as change:
        change.files = ((odd, ""),)
    kept.refused(event)
    assert len(caplog.records) == 2
    for record in caplog.records:
        line = record.getMessage()
        assert line.isascii() and line.isprintable() and line.startswith(("yank done: from x", "yank refused: from x"))


def test_moments_are_those_of_utc_to_the_microsecond(kept: Trail, clock: Clock) -> None:
    clock.now = 1_700_000_000.123456
    publish(kept)
    (event,) = kept.find()
    assert event.when is not None and event.when.utcoffset() == timedelta(0)
    assert abs(event.when.timestamp() - clock.now) < 2e-6


def test_refusals_come_to_an_audit_log_without_any_other_place(tmp_path: Path) -> None:
    lines = tmp_path / "audit.jsonl"
    with closing(Records(None, audit_log=lines)) as records:
        records.trail.wrong_login("wrong user name or password", "eve", "203.0.113.9")
        records.flush()
        assert json.loads(lines.read_text())["who"] == "eve"


def test_what_is_no_text_is_looked_for_in_one_line(path: Path) -> None:
    with closing(Records(path)) as records:
        with records.trail.change(Event(action="yank", who="ann")):
            pass
        with pytest.raises(Invalid, match="UTF-8"):
            records.trail.find(user="\udcff")

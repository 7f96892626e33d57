"""Downloads are counted: by file and day, once a download, within bounds, and not at all where that is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import live
import pytest
from builders import make_wheel

from pypiserver_lite.records import Records, counts
from pypiserver_lite.records.counts import Counts
from pypiserver_lite.records.ledger import Ledger

DAY = 86400
TODAY = 20_000 * DAY
FILE = "ours-1.0-py3-none-any.whl"


class Clock:
    now = float(TODAY + 7)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.sqlite3"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as ledger:
        yield ledger


def test_what_waits_and_what_is_written_are_one_number(ledger: Ledger, clock: Clock) -> None:
    counted = Counts(ledger, lambda: None, clock)
    for _ in range(3):
        counted.count("/", "acme", "acme-1.tar.gz")
    counted.flush()
    clock.now += DAY
    counted.count("/", "acme", "acme-1.tar.gz")
    counted.count("/", "acme", "acme-2.tar.gz")
    counted.count("dev", "other", "other-2.tar.gz")
    for _ in range(2):
        assert counted.of_files("/", "acme") == {"acme-1.tar.gz": 4, "acme-2.tar.gz": 1}
        assert [count for _, count in counted.per_day("/", "acme", 3)] == [0, 3, 2]
        assert [count for _, count in counted.per_day(days=2)] == [3, 3]
        assert counted.most("/", 5) == [("acme", 5)] and counted.most(None, 1) == [("acme", 5)]
        counted.flush()
    assert [day for day, _ in counted.per_day(days=2)] == [date(2024, 10, 4), date(2024, 10, 5)]
    assert Counts(ledger, lambda: None, clock).of_files("dev", "other") == {"other-2.tar.gz": 1}


def test_of_two_processes_that_count_the_sum_is_kept(ledger: Ledger, path: Path) -> None:
    with closing(Ledger(path)) as other:
        both = [Counts(one, lambda: None) for one in (ledger, other)]
        for _ in range(5):
            for one in both:
                one.count("/", "acme", "acme-1.tar.gz")
                one.flush()
        assert both[0].of_files("/", "acme") == {"acme-1.tar.gz": 10}


def test_no_thread_loses_a_count(ledger: Ledger) -> None:
    counted = Counts(ledger, lambda: None)

    def work() -> None:
        for at in range(1000):
            counted.count("/", "acme", "acme-1.tar.gz")
            if at % 100 == 0:
                counted.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.of_files("/", "acme") == {"acme-1.tar.gz": 4000}


def test_what_waits_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_MOST", 3)
    counted = Counts(ledger, lambda: None)
    for at in range(10):
        counted.count("/", "acme", f"acme-{at}.tar.gz")
    assert len(counted.of_files("/", "acme")) == 3
    counted.count("/", "acme", "acme-0.tar.gz")
    assert counted.of_files("/", "acme")["acme-0.tar.gz"] == 2


def test_days_long_ago_are_told_apart_no_more_and_still_count(ledger: Ledger, clock: Clock) -> None:
    counted = Counts(ledger, lambda: None, clock)
    for _ in range(3):
        counted.count("/", "acme", "acme-1.tar.gz")
        counted.flush()
        clock.now += 300 * DAY
    counted.count("/", "acme", "acme-1.tar.gz")
    counted.flush()
    assert counted.of_files("/", "acme") == {"acme-1.tar.gz": 4}
    assert ledger.ask("SELECT day, count FROM downloads ORDER BY day") == [
        (0, 2),
        (20_600, 1),
        (20_900, 1),
    ]


def numbers(packages: Path) -> dict[str, int]:
    with closing(Records(packages / ".pypiserver-lite" / "records.sqlite3")) as records:
        return records.counts.of_files("/", "ours")


def test_a_download_counts_once_and_nothing_else_does(packages: Path) -> None:
    make_wheel(packages, payload=bytes(200_000))
    whole = f"/packages/{FILE}"
    with live.serve(packages=[packages]) as server:
        answer = live.ask(server, whole)
        assert answer.status == 200
        live.ask(server, whole, "HEAD")
        live.ask(server, f"{whole}.metadata")
        live.ask(server, "/simple/ours/")
        assert live.ask(server, whole, If_None_Match=answer.headers["etag"]).status == 304
        assert live.ask(server, whole, Range="bytes=100-").status == 206
        assert live.ask(server, whole, Range="bytes=-100").status == 206
        assert live.ask(server, "/packages/ours-2.0-py3-none-any.whl").status == 404
        assert live.ask(server, whole, Range="bytes=0-").status == 206
    # What waits is written as the server stops.
    assert numbers(packages) == {FILE: 2}


def test_the_files_of_upstreams_count_too(packages: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "upstream")
    with (
        live.serve(packages=[tmp_path / "upstream"]) as upstream,
        live.serve(packages=[packages], fallback_mode="cache", fallback_url=upstream.simple) as server,
    ):
        for _ in range(2):
            assert live.ask(server, f"/packages/ours/{FILE}").status == 200
    assert numbers(packages) == {FILE: 2}
    assert numbers(tmp_path / "upstream") == {FILE: 1}  # the second came from the cache


def test_where_it_is_said_nothing_is_counted_and_nothing_written(packages: Path) -> None:
    make_wheel(packages)
    with live.serve(packages=[packages], no_download_counts=True) as server:
        assert live.ask(server, f"/packages/{FILE}").status == 200
    assert not (packages / ".pypiserver-lite" / "records.sqlite3").exists()


@pytest.mark.parametrize("server", ["waitress", "granian", "gunicorn"])
def test_each_process_of_every_server_writes_what_it_counted_as_it_stops(packages: Path, server: str) -> None:
    make_wheel(packages)
    workers = None if server == "waitress" else 2
    with live.serve(packages=[packages], server=server, workers=workers) as running:
        for _ in range(10):
            assert live.ask(running, f"/packages/{FILE}").status == 200
    assert numbers(packages) == {FILE: 10}

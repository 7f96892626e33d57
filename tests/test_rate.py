"""How much is taken from upstreams: paced, counted and told."""

from __future__ import annotations

import pytest

from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.rate import Rate, Traffic


def test_one_budget_of_bytes_holds_over_all_downloads() -> None:
    now = [100.0]
    rate = Rate(1000, clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    for _ in range(50):
        rate.take(100)
    assert 4.8 <= now[0] - 100 <= 5.1
    assert Rate().piece == 2**16
    assert Rate(10_000).piece == 1000


def test_counters_add_up() -> None:
    traffic = Traffic()
    traffic.requested()
    traffic.received(10)
    traffic.cached(5)
    traffic.unchanged(7)
    tally = traffic.snapshot()
    assert (tally.requests, tally.received, tally.cached, tally.saved) == (1, 10, 5, 12)


def test_the_log_tells_totals_now_and_then_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pypiserver_lite")
    now = [0.0]
    traffic = Traffic(pause=600.0, clock=lambda: now[0])
    upstream = Upstream("http://127.0.0.1:1/simple/", traffic=traffic)
    upstream.close()
    assert caplog.messages == []  # nothing happened
    traffic.requested()
    traffic.received(2_500_000)
    now[0] = 599.0
    traffic.cached(4_000_000)
    assert caplog.messages == []
    now[0] = 601.0
    for _ in range(3):
        traffic.requested()
    assert len(caplog.messages) == 1
    assert "2 requests, 2.5 MB received; 4.0 MB of files handed out from the cache, 4.0 MB saved" in caplog.messages[0]
    traffic.unchanged(1_000_000)
    upstream.close()
    upstream.close()  # another upstream with the same counters
    assert len(caplog.messages) == 2
    assert "4 requests" in caplog.messages[1]
    assert "5.0 MB saved" in caplog.messages[1]

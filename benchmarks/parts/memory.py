"""Memory, as the system counts it."""

from __future__ import annotations

from collections.abc import Iterator

from bench import JSON, Bench, pages
from load import wrk
from table import Row, Target


def memory(bench: Bench) -> Iterator[Row]:
    """Idle over a small folder, and the most over the largest after 20,000 requests."""
    small = bench.folders.files(1000)
    ours, old = bench.ours(small), bench.pypiserver(small)
    figures = [ours.memory()], [old.memory()]
    yield Row("memory idle, 1,000 files", figures[0], "MB", "pypiserver", figures[1], target=Target("≤", 40, "MB"))
    bench.stop_all()
    large = bench.folders.files(bench.many)
    server = bench.ours(large)
    asked = 0
    while asked < 20_000:
        asked += wrk(server, pages(Accept=JSON), 2).requests
    old = bench.pypiserver(large, cached=True)
    for _ in range(3):
        old.get("/simple/asked0002/")
    most, theirs = [server.memory("VmHWM")], [old.memory("VmHWM")]
    what = f"memory at most, {bench.many:,} files, {asked:,} requests"
    yield Row(what, most, "MB", "pypiserver cached, 3 requests", theirs, target=Target("≤", 100, "MB"))

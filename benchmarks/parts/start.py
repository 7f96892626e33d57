"""From the command to the first page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import servers
from bench import Bench
from table import Row, Target

_PAGE = "/simple/asked0000/"


def first_page(bench: Bench, server: servers.Server) -> float:
    """Seconds from the start of a server to the end of its first page."""
    bench.start(server, _PAGE)
    seconds = server.answered - server.began
    bench.stop(server)
    return seconds


def start(bench: Bench) -> Iterator[Row]:
    """With nothing known about the files, and with everything known from last time."""
    for total, bound in ((1000, 0.25), (10_000, 0.3), (bench.many, 0.8)):
        folder = bench.folders.files(total)
        ours, old = [], []
        for _ in range(bench.rounds):
            fresh = bench.folders.empty("cache")
            ours.append(first_page(bench, servers.ours(bench.scratch, folder, cache=fresh)))
            old.append(first_page(bench, servers.pypiserver(bench.scratch, folder)))
        what = f"start to first page, {total:,} files"
        yield Row(what, ours, "s", "pypiserver", old, target=Target("≤", bound, "s"))
    yield from _second(bench, bench.folders.files(bench.many))


def _second(bench: Bench, folder: Path) -> Iterator[Row]:
    bench.stop(bench.ours(folder))
    again = [first_page(bench, servers.ours(bench.scratch, folder)) for _ in range(bench.rounds)]
    yield Row(f"second start, {bench.many:,} files", again, "s", target=Target("≤", 0.5, "s"))

"""Standing between clients and an upstream far away, against three others who do."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import caches
from bench import JSON, Bench
from caches import Between, Direct
from load import Ask, Entrant, race, timed
from slow_upstream import HOLDINGS, filename
from table import Row, Target
from visitor import Failed, Visitor, listed, together

from .pages import US, per_request

_CLIENTS = 8
_PROJECTS = 200
_WARM = 3
"""Warm passes in a round: one takes less than a tenth of a second."""
_PEERS: Mapping[str, Callable[[Bench], Between]] = {
    "nginx proxy_cache": caches.nginx,
    "devpi 6.20": caches.devpi,
    "proxpi 1.3": caches.proxpi,
}


@dataclass
class Figures:
    """What was measured of one way to get packages: by measure, round by round."""

    of: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    gone: str = ""
    """What clients got once the upstream was gone."""
    trouble: str = ""
    """Why nothing, or nothing more, was measured."""


def behind_upstream(bench: Bench) -> Iterator[Row]:
    """Two hundred pages and files, and files of 50 MB, cold and warm; and what is left without the upstream."""
    places: dict[str, Direct] = {"direct": Direct(bench), "ours": caches.ours(bench)}
    figures = {name: Figures() for name in (*places, *_PEERS)}
    for name, make in _PEERS.items():
        with _tolerated(name, figures[name]):
            places[name] = make(bench)
    for number in range(2 if bench.quick else 5):
        for measure in (_cold, _warm, _alone, _crowd):
            for name, place in places.items():
                if not figures[name].trouble:
                    with _tolerated(name, figures[name]):
                        measure(place, figures[name].of, number)
    for name, place in places.items():
        if isinstance(place, Between) and not figures[name].trouble:
            with _tolerated(name, figures[name]):
                figures[name].gone = _without_upstream(bench, place)
    yield from _rows(figures)


@contextmanager
def _tolerated(name: str, figures: Figures) -> Iterator[None]:
    """A peer that fails is no reason to tell nothing of the others."""
    try:
        yield
    except Exception as error:
        if name in ("ours", "direct"):
            raise
        figures.trouble = f"left out: {str(error)[:200]}"


def _cold(place: Direct, figures: dict[str, list[float]], number: int) -> None:
    before = place.asked()
    figures["cold"].append(timed(lambda: _fetch_all(place, number)))
    figures["cold requests"].append(place.asked() - before)


def _warm(place: Direct, figures: dict[str, list[float]], number: int) -> None:
    if isinstance(place, Between):
        before, used = place.asked(), place.server.cpu()
        for _ in range(_WARM):
            figures["warm"].append(timed(lambda: _fetch_all(place, number)))
        figures["warm cpu"].append(1000 * (place.server.cpu() - used) / _WARM)
        figures["warm requests"].append(place.asked() - before)


def _alone(place: Direct, figures: dict[str, list[float]], number: int) -> None:
    first, done = _fetch_big(place, f"big-{number}-alone", 1)
    figures["first"].append(first)
    figures["done"].append(done)


def _crowd(place: Direct, figures: dict[str, list[float]], number: int) -> None:
    if isinstance(place, Between):
        project = f"big-{number}-crowd"
        first, done = _fetch_big(place, project, _CLIENTS)
        figures["crowd first"].append(first)
        figures["crowd done"].append(done)
        figures["crowd downloads"].append(place.asked(f"/files/{project}/"))
        if number == 0:  # later rounds bring further projects
            figures["memory"].append(place.server.memory("VmHWM"))


def _fetch_all(place: Direct, number: int) -> None:
    """The page and the newest file of every project of a round, by eight clients."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for project in range(_PROJECTS):
        waiting.put(f"few-{number}-{project}")

    def client(visitor: Visitor) -> None:
        while True:
            try:
                project = waiting.get_nowait()
            except queue.Empty:
                return
            _visit(visitor, place, project)

    together(_CLIENTS, client)


def _visit(visitor: Visitor, place: Direct, project: str) -> None:
    """Page and newest file of a project. Raises Failed if the file is not the one that the page promises."""
    url, sha256 = listed(visitor.get(place.page(project)), filename(project))
    file = visitor.get(url)
    if file.status != 200 or hashlib.sha256(file.body).hexdigest() != sha256:
        raise Failed(f"status {file.status} and {file.size} bytes for {url}")


def _fetch_big(place: Direct, project: str, clients: int) -> tuple[float, float]:
    """The slowest client's seconds to the first byte of a file of 50 MB, and those until all have it."""
    with closing(Visitor()) as first:
        first.get(place.page(project))  # some peers break when many ask for one new page at once
    line, figures = threading.Barrier(clients), []

    def client(visitor: Visitor) -> None:
        url, _ = listed(visitor.get(place.page(project)), filename(project))
        line.wait(60)
        file = visitor.get(url, keep=False)
        if file.status != 200 or file.size != HOLDINGS["big"].size:
            raise Failed(f"status {file.status} and {file.size} bytes for {url}")
        figures.append((file.first, file.done))

    together(clients, client)
    return max(first for first, _ in figures), max(done for _, done in figures)


def _without_upstream(bench: Bench, place: Between) -> str:
    """What clients get: a page and a file that were asked for before, also after a restart; and a new name."""
    bench.stop(place.source)
    found = [_still_there(place), _answer_to_new(place, "few-9-0")]
    place.restart()
    return " / ".join([*found, "restarted", _still_there(place), _answer_to_new(place, "few-9-1")])


def _still_there(place: Between) -> str:
    visitor = Visitor()
    try:
        _visit(visitor, place, "few-0-0")
    except Failed as error:
        return f"not served ({str(error)[:40]})"
    finally:
        visitor.close()
    return "served"


def _answer_to_new(place: Between, project: str) -> str:
    visitor, began = Visitor(), time.monotonic()
    try:
        status = visitor.get(place.page(project)).status
    finally:
        visitor.close()
    return f"new name {status} in {time.monotonic() - began:.2f} s"


def _rows(figures: Mapping[str, Figures]) -> Iterator[Row]:
    direct = figures["direct"].of
    cold, first, done = direct["cold"], direct["first"], direct["done"]
    yield from _each(figures, "200 pages and files, cold", "cold", "s", "direct", cold, target=Target("≤", 1.15))
    yield from _each(figures, "… requests to the upstream", "cold requests", target=Target("≤", 400, "requests"))
    nginx = figures["nginx proxy_cache"].of["warm"]
    target = Target("≤", 1.5)
    yield from _each(figures, "200 pages and files, warm", "warm", "s", "nginx proxy_cache", nginx, target=target)
    yield from _each(figures, "… requests to the upstream", "warm requests", target=Target("≤", 0, "requests"))
    yield from _each(figures, "… processor time of the server", "warm cpu", "ms")
    for name in figures:
        beyond = [1000 * (one - other) for one, other in zip(figures[name].of["first"], first, strict=False)]
        figures[name].of["beyond"] = beyond if name != "direct" else []
    what = "first byte of 50 MB, beyond direct"
    yield from _each(figures, what, "beyond", "ms", target=Target("≤", 30, "ms"))
    what = "50 MB to 8 at once: downloads"
    yield from _each(figures, what, "crowd downloads", target=Target("≤", 1, "download"))
    yield from _each(figures, "… slowest first byte", "crowd first", "s", target=Target("≤", 0.15, "s"))
    yield from _each(figures, "… all done", "crowd done", "s", "one, direct", done, target=Target("≤", 1.15))
    yield from _each(figures, "memory at most", "memory", "MB", target=Target("≤", 80, "MB"))
    for name, found in figures.items():
        if found.gone or found.trouble:
            yield Row(f"upstream gone: {name}", note=found.gone or found.trouble)


def _each(
    figures: Mapping[str, Figures],
    what: str,
    measure: str,
    unit: str = "",
    peer: str = "",
    theirs: Sequence[float] = (),
    *,
    target: Target | None = None,
) -> Iterator[Row]:
    """A row for ours, and one for each peer, which has nothing to reach."""
    yield Row(what, figures["ours"].of[measure], unit, peer, theirs, target=target)
    for name in _PEERS:
        if figures[name].of[measure] and name != peer:
            yield Row(f"{name}: {what.removeprefix('… ')}", figures[name].of[measure], unit, peer, theirs)


def long_page(bench: Bench) -> Iterator[Row]:
    """A project of 5,000 files: cold against the upstream's own answer, warm against one that lies in the folder."""
    direct, between = Direct(bench), caches.ours(bench, packages=bench.folders.long_project(5000))
    between.server.settle()
    cold: list[float] = []
    theirs: list[float] = []
    for number in range(min(bench.rounds, 5)):
        theirs.append(_fetch_page(direct, f"many-{number}"))
        cold.append(_fetch_page(between, f"many-{number}"))
    yield Row("page of 5,000 upstream files, cold", cold, "s", "direct", theirs)
    paths = {"upstream": "/simple/many-0/", "local": "/simple/long/"}
    entrants = {name: Entrant(between.server, [Ask(path, {"Accept": JSON})], turns=100) for name, path in paths.items()}
    costs = race(entrants, bench.rounds, bench.seconds)
    figures = {name: per_request(found) for name, found in costs.items()}
    what = "page of 5,000 upstream files, warm"
    yield Row(what, figures["upstream"], US, "as many of the folder's", figures["local"], target=Target("≤", 1.1))
    lengths = [len(between.server.get(path, {"Accept": JSON})[1]) / 1e6 for path in paths.values()]
    yield Row("… its length", lengths[:1], "MB", "the folder's", lengths[1:])


def _fetch_page(place: Direct, project: str) -> float:
    visitor = Visitor()
    try:
        began = time.monotonic()
        answer = visitor.get(place.page(project))
        taken = time.monotonic() - began
        listed(answer, filename(project))
        return taken
    finally:
        visitor.close()

"""What people see: the home page, a project's page, and search."""

from __future__ import annotations

from collections.abc import Iterator

from bench import Bench
from data import asked
from load import Ask, Entrant, race, shuffled, timed
from table import Row, Target

from parts.pages import US, per_request

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def human_pages(bench: Bench) -> Iterator[Row]:
    """The home page and project pages that were shown before, against a Bottle route that returns as many bytes."""
    server = bench.ours(bench.folders.files(1000))
    asks = {
        "project page for people": shuffled([Ask(f"/project/{project}/", BROWSER) for project in asked()]),
        "home page": [Ask("/", BROWSER)],
        "search, one answer": [Ask("/search?q=asked0001", BROWSER)],
    }
    entrants = {}
    for what, some in asks.items():
        entrants[what] = Entrant(server, some)
        bare = bench.bare("bottle", len(server.get(some[0].path, BROWSER)[1]))
        entrants[f"bare {what}"] = Entrant(bare, [Ask("/simple/x/", BROWSER)])
    costs = race(entrants, bench.rounds, bench.seconds)
    for what in asks:
        ours, theirs = per_request(costs[what]), per_request(costs[f"bare {what}"])
        target = None if what == "home page" else Target("≤", 2.0)
        yield Row(what, ours, US, "Bottle route, as many bytes", theirs, target=target)


def search(bench: Bench) -> Iterator[Row]:
    """Searches that nobody made before, among many projects with summaries; wall-clock time."""
    server = bench.ours(bench.folders.projects(bench.many))
    for _ in range(100):  # until the summaries have been gathered
        server.get("/search?q=small", BROWSER)
    for what, words in (("few hits", "single{:05}"), ("all are hits", "single small {}"), ("no hit", "nothing{}")):
        times = [
            timed(lambda: server.get("/search?q=" + words.format(turn).replace(" ", "+"), BROWSER))  # noqa: B023
            for turn in range(bench.rounds * 5)
        ]
        yield Row(f"search of {bench.many:,} projects, {what}", times, "s", target=Target("≤", 0.1, "s"))

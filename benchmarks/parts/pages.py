"""Project pages and the list of projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import servers
from bench import HTML, JSON, Bench, pages
from data import asked
from load import Ask, Cost, Entrant, etag, race, shuffled, stays_open, timed
from table import Row, Target

US = "µs"


def per_request(costs: Sequence[Cost]) -> list[float]:
    """Microseconds of processor time for a request, round by round."""
    return [cost.per_request for cost in costs]


def project_pages(bench: Bench) -> Iterator[Row]:
    """A project page in each form, against what the server under it costs, and against pypiserver."""
    folder = bench.folders.files(1000)
    server = bench.ours(folder)
    costs = race(
        {
            "HTML": Entrant(server, pages(Accept=HTML)),
            "bottle": Entrant(bench.bare("bottle"), pages(Accept=HTML)),
            "JSON": Entrant(server, pages(Accept=JSON)),
            "wsgi": Entrant(bench.bare("wsgi"), pages(Accept=HTML)),
            "gzip": Entrant(server, pages(Accept=JSON, Accept_Encoding="gzip, deflate")),
            "old": Entrant(bench.pypiserver(folder), pages()),
            "old cached": Entrant(bench.pypiserver(folder, cached=True), pages()),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    for form in ("HTML", "JSON", "gzip"):
        what = f"project page, {form}"
        yield Row(what, figures[form], US, "Bottle route", figures["bottle"], target=Target("≤", 1.0))
        yield Row(what, figures[form], US, "WSGI function", figures["wsgi"], target=Target("≤", 1.15))
    yield Row("project page, 1,000 files", figures["HTML"], US, "pypiserver", figures["old"])
    yield Row("project page, 1,000 files", figures["HTML"], US, "pypiserver cached", figures["old cached"])


def unchanged(bench: Bench) -> Iterator[Row]:
    """304 instead of the page or the list, on a connection that stays open."""
    server = bench.ours(bench.folders.files(1000))
    page, listing = pages(Accept=HTML), [Ask("/simple/", {"Accept": HTML})]
    page_again = [Ask(ask.path, {**ask.headers, "If-None-Match": etag(server, ask)}) for ask in page]
    list_again = [Ask(ask.path, {**ask.headers, "If-None-Match": etag(server, ask)}) for ask in listing]
    costs = race(
        {
            "page": Entrant(server, page),
            "page 304": Entrant(server, page_again),
            "list": Entrant(server, listing),
            "list 304": Entrant(server, list_again),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    target = Target("<", 1.0)
    yield Row("304 of a page", figures["page 304"], US, "its own 200", figures["page"], target=target)
    yield Row("304 of the list (200 projects)", figures["list 304"], US, "its own 200", figures["list"], target=target)
    for what, asks in (("page", page_again), ("list", list_again)):
        stays = stays_open(server, asks[0])
        yield Row(f"304 of the {what}: connection", note="ok" if stays else "MISS", peer="stays open" if stays else "")


def size(bench: Bench) -> Iterator[Row]:
    """The same pages in a small and in a large folder; pypiserver there."""
    small, middle, large = (bench.folders.files(total) for total in (1000, 10_000, bench.many))
    few, many = bench.ours(small), bench.ours(large)
    entrants = {
        "few": Entrant(few, pages(Accept=JSON)),
        "many": Entrant(many, pages(Accept=JSON)),
        "old": Entrant(bench.pypiserver(large), pages(), turns=1),
        "old cached": Entrant(bench.pypiserver(large, cached=True), pages(), turns=3),
        "middle": Entrant(bench.ours(middle), pages(Accept=JSON)),
        "old middle": Entrant(bench.pypiserver(middle), pages(), turns=5),
    }
    costs = race(entrants, bench.rounds, bench.seconds)
    figures = {name: per_request(found) for name, found in costs.items()}
    what = f"project page, {bench.many:,} files"
    yield Row(what, figures["many"], US, "ours, 1,000 files", figures["few"], target=Target("≤", 1.1))
    yield Row(what, figures["many"], US, "pypiserver", figures["old"])
    yield Row(what, figures["many"], US, "pypiserver cached", figures["old cached"])
    yield Row("project page, 10,000 files", figures["middle"], US, "pypiserver", figures["old middle"])


def project_list(bench: Bench) -> Iterator[Row]:
    """The list of 5,000 projects, against as many ready bytes."""
    server = bench.ours(bench.folders.projects(5000))
    entrants = {}
    for form, accept in (("HTML", HTML), ("JSON", JSON)):
        ask = Ask("/simple/", {"Accept": accept})
        entrants[form] = Entrant(server, [ask])
        entrants[f"bare {form}"] = Entrant(bench.bare("bottle", len(server.get(ask.path, ask.headers)[1])), [ask])
    costs = race(entrants, bench.rounds, bench.seconds)
    for form in ("HTML", "JSON"):
        ours, theirs = per_request(costs[form]), per_request(costs[f"bare {form}"])
        what, target = f"list of 5,000 projects, {form}", Target("≥", 0.8)
        yield Row(what, ours, US, "Bottle route, as many bytes", theirs, as_rate=True, target=target)


def long_project(bench: Bench) -> Iterator[Row]:
    """The page of one project of 2,000 files."""
    folder, ask = bench.folders.long_project(2000), Ask("/simple/long/", {"Accept": JSON})
    cold = []
    for _ in range(bench.rounds):
        server = bench.ours(folder)
        cold.append(timed(lambda: server.get(ask.path, ask.headers)))  # noqa: B023 - called at once
        bench.stop(server)
    yield Row("page of 2,000 files, facts known, cold", cold, "s", target=Target("≤", 0.3, "s"))
    server = bench.ours(folder)
    bare = bench.bare("bottle", len(server.get(ask.path, ask.headers)[1]))
    costs = race({"ours": Entrant(server, [ask]), "bare": Entrant(bare, [ask])}, bench.rounds, bench.seconds)
    ours, theirs = per_request(costs["ours"]), per_request(costs["bare"])
    yield Row("page of 2,000 files, warm", ours, US, "Bottle route, as many bytes", theirs, target=Target("≤", 1.1))
    old = bench.start(servers.pypiserver(bench.scratch, folder), "/packages/")
    theirs = per_request([Entrant(old, [Ask("/simple/long/")], turns=3).once(1) for _ in range(bench.rounds)])
    yield Row("page of 2,000 files, warm", ours, US, "pypiserver", theirs)


def behind_passwords(bench: Bench) -> Iterator[Row]:
    """Pages for those who log in with a bcrypt password of cost 10."""
    from passlib.hash import bcrypt

    passwords = bench.scratch / "htpasswd"
    passwords.write_text(f"alice:{bcrypt.using(rounds=10).hash('open sesame')}\n")
    login = {"Accept": JSON, "Authorization": "Basic YWxpY2U6b3BlbiBzZXNhbWU="}
    folder = bench.folders.files(1000)
    closed = ("-P", str(passwords), "-a", "update,download,list")
    guarded = bench.start(servers.ours(bench.scratch, folder, *closed), "/health")
    costs = race(
        {
            "open": Entrant(bench.ours(folder), pages(Accept=JSON)),
            "login": Entrant(guarded, [Ask(ask.path, login) for ask in pages()]),
            "old": Entrant(bench.pypiserver(folder), pages()),
            "old login": Entrant(
                bench.pypiserver(folder, *closed), [Ask(ask.path, login) for ask in pages()], turns=10
            ),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    target = Target("≥", 0.85)
    what = "page behind bcrypt, cost 10"
    yield Row(what, figures["login"], US, "ours, open", figures["open"], as_rate=True, target=target)
    yield Row("pypiserver: " + what, figures["old login"], US, "pypiserver, open", figures["old"], as_rate=True)


def on_granian(bench: Bench) -> Iterator[Row]:
    """A page on granian with one worker, against nginx and against a bare function there."""
    folder = bench.folders.files(1000)
    server = bench.ours(folder, "--server", "granian")
    static = bench.folders.empty("static")
    for project in asked():
        (static / f"{project}.html").write_bytes(server.get(f"/simple/{project}/", {"Accept": HTML})[1])
    costs = race(
        {
            "page": Entrant(server, pages(Accept=HTML)),
            "bare": Entrant(bench.bare("granian"), pages(Accept=HTML)),
            "nginx": Entrant(
                bench.start(servers.nginx(bench.scratch, static)),
                shuffled([Ask(f"/{project}.html", {"Accept": HTML}) for project in asked()]),
            ),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    what = "project page on granian"
    for peer, name, limit in (("nginx, static", "nginx", 0.5), ("WSGI function on granian", "bare", 0.67)):
        yield Row(what, figures["page"], US, peer, figures[name], as_rate=True, target=Target("≥", limit))

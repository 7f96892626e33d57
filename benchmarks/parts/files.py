"""Files: small ones as installers fetch them, and a big one against nginx."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import servers
from bench import JSON, Bench
from data import asked, wheel_name
from load import Ask, Entrant, race, shuffled
from table import Row, Target

from .pages import US, per_request


def small_files(bench: Bench) -> Iterator[Row]:
    """Files of 1 KB, alone and as an installer asks: page, metadata, file."""
    folder = bench.folders.files(1000)
    wheels = {project: wheel_name(project, "1.4") for project in asked()}
    files = shuffled([Ask(f"/packages/{name}") for name in wheels.values()])
    visits, old_visits = [], []
    for project, name in wheels.items():
        page, file = Ask(f"/simple/{project}/", {"Accept": JSON}), Ask(f"/packages/{name}")
        visits += [page, Ask(f"/packages/{name}.metadata"), file]
        old_visits += [Ask(page.path), file]
    server = bench.ours(folder)
    # It watches its folder, and each file that is opened in a watched folder costs whoever opens it.
    old = bench.pypiserver(bench.folders.files(1000, copy="-watched"), cached=True)
    costs = race(
        {
            "file": Entrant(server, files),
            "bottle": Entrant(bench.bare("bottle"), [Ask("/simple/x/")]),
            "mix": Entrant(server, visits),
            "old file": Entrant(old, files),
            "old mix": Entrant(old, old_visits),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    target = Target("≤", 1.4)
    yield Row("file of 1 KB", figures["file"], US, "Bottle route", figures["bottle"], target=target)
    yield Row("page, metadata, file in turn", figures["mix"], US, "Bottle route", figures["bottle"], target=target)
    yield Row("file of 1 KB", figures["file"], US, "pypiserver cached", figures["old file"])
    yield Row("page, metadata, file in turn", figures["mix"], US, "pypiserver cached", figures["old mix"])


def big_file(bench: Bench) -> Iterator[Row]:
    """A file of 50 MB: how fast it comes, and the processor time for a megabyte at both ends."""
    folder = bench.folders.big_file(50)
    name = wheel_name("big", "1.0")
    ask = [Ask(f"/packages/{name}")]
    told = bench.ours(folder, "--sendfile-header", f"X-Accel-Redirect=/_files:{folder}", name="ours behind nginx")
    passing = f"proxy_pass http://127.0.0.1:{told.port}; proxy_http_version 1.1; proxy_set_header Connection '';"
    locations = f"location /packages/ {{ {passing} }} location /_files/ {{ internal; alias {folder}/; }}"
    front = bench.start(servers.nginx(bench.scratch, folder, locations))
    costs = race(
        {
            "ours": Entrant(bench.ours(folder), ask, connections=4),
            "nginx": Entrant(bench.start(servers.nginx(bench.scratch, folder)), [Ask(f"/{name}")], connections=4),
            "handed over": Entrant(front, ask, connections=4, behind=[told]),
            "old": Entrant(bench.start(servers.pypiserver(bench.scratch, folder), "/packages/"), ask, connections=4),
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: [cost.per_megabyte for cost in found] for name, found in costs.items()}
    speeds = {name: [cost.bytes / cost.seconds / 1e6 for cost in found] for name, found in costs.items()}
    what, what_else = "file of 50 MB", "file of 50 MB, --sendfile-header"
    for name, shown, limit in (("ours", what, 0.8), ("handed over", what_else, 0.95)):
        target = Target("≥", limit)
        yield Row(f"{shown}: speed", speeds[name], "MB/s", "nginx", speeds["nginx"], target=target)
        yield Row(f"{shown}: both ends", figures[name], "µs/MB", "nginx", figures["nginx"], as_rate=True, target=target)
    yield Row(f"{what}: speed", speeds["ours"], "MB/s", "pypiserver", speeds["old"])


_LENGTHS = (100_000, 3_000_000, 700_000, 2_000_000)


def kept_connections(bench: Bench) -> Iterator[Row]:
    """Files one after the other on four connections that live on: the longest wait of them all, as pip would see it."""
    folder = bench.folders.empty("kept")
    names = []
    for number, length in enumerate(_LENGTHS):
        names.append(f"kept{number}-1.0-py3-none-any.whl")
        (folder / names[-1]).write_bytes(bytes(length))
    server = bench.ours(folder)
    each = 500 if bench.quick else 5000
    with ThreadPoolExecutor(4) as clients:
        waits = list(clients.map(lambda client: _longest(server.port, names[client:] + names[:client], each), range(4)))
    target = Target("≤", 1.0, "s")
    yield Row(f"{4 * each:,} files of 0.1–3 MB, four connections: longest wait", [max(waits)], "s", target=target)


def _longest(port: int, names: Sequence[str], times: int) -> float:
    connection, longest = http.client.HTTPConnection("127.0.0.1", port, timeout=120), 0.0
    for number in range(times):
        began = time.monotonic()
        connection.request("GET", f"/packages/{names[number % len(names)]}")
        answer = connection.getresponse()
        while answer.read(2**20):
            pass
        longest = max(longest, time.monotonic() - began)
    connection.close()
    return longest

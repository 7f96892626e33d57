"""Many indexes in one server, and pages through a chain of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import servers
from bench import JSON, Bench, pages
from load import Ask, Entrant, race
from servers import Server
from table import Row, Target

from .pages import US, per_request
from .start import first_page

MANY = 50


def indexes(bench: Bench) -> Iterator[Row]:
    """What an index more costs at the start and in memory, and what a page costs through others and a policy."""
    yield from _each(bench)
    yield from _pages(bench)


def _served(bench: Bench, name: str, text: str) -> Server:
    return servers.configured(bench.scratch, text, bench.scratch / "indexes.cache", name)


def _each(bench: Bench) -> Iterator[Row]:
    top = f'packages = ["{bench.folders.files(1000)}"]\nupstreams = ["far"]\n'
    top += '[upstream.far]\nurl = "http://127.0.0.1:9/simple/"\n'
    more = top + "".join(f'[index.i{number}]\nupstreams = ["far"]\n' for number in range(MANY))
    bench.stop(bench.start(_served(bench, "one", top), "/health").settle())
    one, many = [], []
    for _ in range(bench.rounds):
        one.append(first_page(bench, _served(bench, "one", top)))
        many.append(first_page(bench, _served(bench, "many", more)))
    each = [(after - before) / MANY * 1000 for before, after in zip(one, many, strict=True)]
    yield Row(f"start, each of {MANY} indexes over one upstream", each, "ms", target=Target("≤", 5, "ms"))
    yield Row(f"start with {MANY} indexes more", many, "s", "one index", one)
    few, much = (bench.start(_served(bench, *said), "/health").settle() for said in (("one", top), ("many", more)))
    memory = [(much.memory() - few.memory()) / MANY]
    yield Row(f"memory, each of {MANY} indexes", memory, "MB", target=Target("≤", 0.3, "MB"))
    bench.stop_all()


def _pages(bench: Bench) -> Iterator[Row]:
    folder = bench.folders.files(1000)
    empty = [bench.folders.empty(f"level{number}") for number in range(2)]
    server = bench.start(_served(bench, "chain", _chain(folder, empty)), "/health").settle()
    costs = race(
        {
            "alone": Entrant(bench.ours(folder, "--disable-fallback"), pages(Accept=JSON)),
            "front": Entrant(server, pages(Accept=JSON)),
            **{name: Entrant(server, _below(name)) for name in ("side", "chain", "governed")},
        },
        bench.rounds,
        bench.seconds,
    )
    figures = {name: per_request(found) for name, found in costs.items()}
    page = "project page, JSON"
    yield Row(f"{page}, one of several indexes", figures["front"], US, "the only one", figures["alone"])
    yield Row(f"{page}, index with a name", figures["side"], US, "the only one", figures["alone"])
    yield Row(f"{page}, through a chain of three", figures["chain"], US, "index with a name", figures["side"])
    governed = figures["governed"], figures["side"]
    yield Row(f"{page}, governed", governed[0], US, "not governed", governed[1], target=Target("≤", 1.15))


def _chain(folder: Path, empty: list[Path]) -> str:
    lines = ["disable_fallback = true", f'packages = ["{folder}"]', '[index.side]\nbases = ["/"]']
    lines += [f'[index.middle]\npackages = ["{empty[0]}"]\nbases = ["/"]']
    lines += [f'[index.chain]\npackages = ["{empty[1]}"]\nbases = ["middle"]']
    lines += ['[index.governed]\nbases = ["/"]\n[index.governed.policy]\ndeny = ["left-pad", "asked0000>=99"]']
    return "\n".join(lines) + '\nwheels_only = false\nuntil = "2099-01-01"\n'


def _below(index: str) -> list[Ask]:
    return [Ask(f"/{index}{ask.path}", ask.headers) for ask in pages(Accept=JSON)]

"""Files that others put into the folder or take out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import HTML, Bench
from data import wheel, wheel_name
from load import timed
from servers import Server
from table import Row, Target


def change(bench: Bench) -> Iterator[Row]:
    """How long the next request takes that must know of a change in the largest folder."""
    folder = bench.folders.files(bench.many)
    contestants = [bench.ours(folder), bench.pypiserver(folder, cached=True)]
    project, name = "asked0001", wheel_name("asked0001", "9.0")
    page, listing = f"/simple/{project}/", "/simple/"
    added, news, gone = "newcomer", wheel_name("newcomer", "1.0"), b"newcomer"
    steps: list[tuple[str, Callable[[], object], str, Callable[[bytes], bool]]] = [
        ("file dropped in", lambda: drop(folder, name, project), page, lambda text: name.encode() in text),
        ("new project", lambda: drop(folder, news, added), listing, lambda text: gone in text),
        ("file removed", (folder / name).unlink, page, lambda text: name.encode() not in text),
        ("project removed", (folder / news).unlink, listing, lambda text: gone not in text),
    ]
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(bench.rounds if bench.quick else 5):
        for what, act, path, seen in steps:
            for server in contestants:
                server.get(path, {"Accept": HTML})
            time.sleep(1.5)
            act()
            for server in contestants:
                seconds.setdefault((what, server.name), []).append(see(server, path, seen))
    for what, *_ in steps:
        ours, old = (seconds[what, server.name] for server in contestants)
        shown = f"{what}, {bench.many:,} files: next request"
        yield Row(shown, ours, "s", "pypiserver cached", old, target=Target("≤", 0.2, "s"))


def drop(folder: Path, name: str, project: str) -> None:
    """Put a wheel into a folder in one step."""
    staged = folder / f".{name}"
    staged.write_bytes(wheel(project, name.split("-")[1]))
    staged.rename(folder / name)


def see(server: Server, path: str, seen: Callable[[bytes], bool]) -> float:
    """Seconds that the next request takes; if it does not show the change, those until one does (at most 20)."""
    answers: list[bytes] = []

    def until_seen() -> None:
        for _ in range(2000):
            answers.append(server.get(path, {"Accept": HTML})[1])
            if seen(answers[-1]):
                return
            time.sleep(0.01)
        raise RuntimeError(f"{server.name} does not see a change of its folder")

    return timed(until_seen)

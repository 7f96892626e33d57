"""However indexes and upstreams are arranged: exactly those are asked for a name that the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import faulty_upstream as faulty
import pytest
from builders import make_wheel, metadata
from filed import asked
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

NAMES = ("acme-lib", "acme", "their-lib")
UPSTREAMS = ("one", "two", "three")
INDEXES = ("top", "middle", "low")  # each may be based on those behind it
SIDES = (".metadata", ".asc", "")
PATTERNS = st.lists(st.sampled_from(["acme-*", "Acme_Lib", "acme*", "*-lib", "Their.Lib", "*"]), max_size=2)


class Upstream(NamedTuple):
    """One of them."""

    mode: str
    only: list[str]
    never: list[str]
    has: frozenset[str]

    def serves(self, name: str) -> bool:
        """Whether it may be asked for a name, read from the settings in the plainest way."""

        def means(patterns: list[str]) -> bool:
            return any(fnmatchcase(name, pattern.lower().replace("_", "-").replace(".", "-")) for pattern in patterns)

        return (not self.only or means(self.only)) and not means(self.never)


class Index(NamedTuple):
    """One of them."""

    upstreams: list[str]
    bases: list[str]


UPSTREAM = st.builds(
    Upstream,
    st.sampled_from(["redirect", "proxy", "cache"]),
    PATTERNS,
    PATTERNS,
    st.sets(st.sampled_from(NAMES)).map(frozenset),
).filter(lambda one: not set(one.only) & set(one.never))  # which is refused
ARRANGED = st.fixed_dictionaries(dict.fromkeys(UPSTREAMS, UPSTREAM))
SOME = st.lists(st.sampled_from(UPSTREAMS), unique=True, max_size=3)
CHAINED = st.fixed_dictionaries(
    {
        name: st.builds(
            Index, SOME, st.lists(st.sampled_from(INDEXES[at + 1 :]), unique=True) if at < 2 else st.just([])
        )
        for at, name in enumerate(INDEXES)
    }
)


def in_order(indexes: dict[str, Index], name: str) -> Iterator[str]:
    """The upstreams that an index asks one after the other."""
    yield from indexes[name].upstreams
    for base in indexes[name].bases:
        yield from in_order(indexes, base)


def expected(upstreams: dict[str, Upstream], order: list[str], name: str) -> tuple[list[str], str | None]:
    """Who is asked for a name, and who has it in the end, or is where clients are sent."""
    calls: list[str] = []
    for key in order:
        if upstreams[key].serves(name):
            if upstreams[key].mode == "redirect":
                return calls, key
            calls.append(key)
            if name in upstreams[key].has:
                return calls, key
    return calls, None


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each name."""
    return {name: make_wheel(tmp_path_factory.mktemp("made"), name, "1.0") for name in NAMES}


# Without shrinking, which would take minutes.
@settings(
    max_examples=30, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
@given(upstreams=ARRANGED, indexes=CHAINED)
def test_exactly_those_are_asked_that_may_be(
    upstreams: dict[str, Upstream],
    indexes: dict[str, Index],
    wheels: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with faulty.upstream() as server:
        for key, upstream in upstreams.items():
            for name in upstream.has:
                offer(server, key, name, wheels[name])
        text = "".join(
            f'[upstream.{key}]\nurl = "{server.base}{key}/"\nmode = "{one.mode}"\n'
            + (f"only = {one.only}\n" if one.only else "")
            + f"never = {one.never}\n"
            for key, one in upstreams.items()
        )
        text += "".join(
            f"[index.{key}]\nupstreams = {one.upstreams}\nbases = {one.bases or ['/']}\n"
            for key, one in indexes.items()
        )
        for key in INDEXES:
            # Anew for each, so that nothing is known already.
            with asked(tmp_path_factory.mktemp("index"), text) as client:
                for name in NAMES:
                    calls, found = expected(upstreams, list(in_order(indexes, key)), name)
                    sent = found is not None and upstreams[found].mode == "redirect"
                    server.requests.clear()
                    for side in SIDES:  # first: that a page was asked for must not matter
                        status = 404 if found is None or sent else 200
                        client.get(f"/{key}/packages/{name}/{wheels[name].name}{side}", status)
                    page = client.get(f"/{key}/simple/{name}/", 302 if sent else 404 if found is None else 200)
                    if sent:
                        assert page.headers["Location"] == f"{server.base}{found}/{name}/"
                    assert {path.split("/")[1] for path in server.paths()} == set(calls)
                    assert not [path for path in server.paths() if canonicalize_name(name) not in path]
                    files = {path.split("/")[1] for path in server.paths() if path.endswith((".whl", *SIDES[:2]))}
                    assert files == ({found} if found is not None and not sent else set())


def offer(server: faulty.FaultyUpstream, key: str, name: str, wheel: Path) -> None:
    """A wheel with all that may belong to it, at one of the upstreams."""
    folder = f"/{key}/files/{name}/"
    for side, data in (("", wheel.read_bytes()), (".metadata", metadata(name, "1.0")), (".asc", b"signed")):
        server.stored[f"{folder}{wheel.name}{side}"] = faulty.Stored(data)
    server.add(
        name, wheel.name, wheel.read_bytes(), metadata=metadata(name, "1.0"), gpg_sig=True, url=folder + wheel.name
    )
    server.stored[f"/{key}/{name}/"] = server.stored.pop(f"/simple/{name}/")

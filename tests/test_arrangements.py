"""However indexes and policies are put together: page and file agree, and nothing gets past a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import NormalizedName
from policed import Clock, governed, settings_of
from test_verdicts import a_file, policies

from pypiserver_lite.errors import Missing, Unavailable, Undecided
from pypiserver_lite.folder.nowhere import Nowhere
from pypiserver_lite.index import Index, Way
from pypiserver_lite.model import Content, File, Project, Side, Source, Stream
from pypiserver_lite.policy.explain import explain
from pypiserver_lite.policy.governed import Governed
from pypiserver_lite.policy.verdicts import Rules

FOO = NormalizedName("foo")
Files = Sequence[tuple[str, str, int]]


class Shelf(Nowhere):
    """A store with some files of one project, whose bytes say whose they are."""

    def __init__(self, label: str, files: Files, url: str = "") -> None:
        made = [
            a_file(version, f"foo-{version}{ending}", size=size, url=url, has_signature=True, hashes={"sha256": label})
            for version, ending, size in files
        ]
        self.label = label
        self.asked = 0
        self._project = None
        if made:
            versions = tuple(dict.fromkeys(file.version for file in made))
            self._project = Project(name=FOO, files=tuple(made), versions=versions)

    def names(self) -> Sequence[NormalizedName]:
        return (FOO,) if self._project else ()

    def project(self, name: NormalizedName) -> Project | None:
        self.asked += 1
        return self._project

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        project = self.project(name)
        if project is None:
            return None
        if filename not in project.by_filename:
            raise Missing(filename)
        data = self.label.encode()
        return Stream(read=lambda start, stop: (data[start:stop],), size=len(data))


some_files = st.lists(
    st.tuples(
        st.sampled_from(["1.0", "2.0", "2.1rc1", "1.0.0"]),
        st.sampled_from(["-py3-none-any.whl", ".tar.gz", ".zip"]),
        st.integers(0, 2000),
    ),
    max_size=4,
    unique_by=lambda file: file[:2],
)
some_policies = st.none() | policies
layers = st.lists(st.tuples(some_files, some_files, some_policies, st.booleans()), min_size=1, max_size=4)


def chain(parts: list[tuple[Files, Files, Any, bool]], policed: list[Governed | None]) -> tuple[Index, list[Shelf]]:
    """Indexes, each based on the one before it, with a folder and an upstream; and the upstreams."""
    index, upstreams = Index(), []
    for at, ((own, theirs, _, merges), policy) in enumerate(zip(parts, policed, strict=True)):
        upstream = Shelf(f"upstream {at}", theirs, url="https://example.test/")
        upstreams.append(upstream)
        way = Way(name=str(at), serves=lambda name: True, source=upstream)
        bases = [index] if at else []
        index = Index(
            Shelf(f"folder {at}", own),
            bases=bases,
            ways=[way],
            policy=policy,
            merge=(lambda name: True) if merges else None,
        )
    return index, upstreams


def page(index: Index) -> dict[str, File]:
    """The files that an index shows."""
    try:
        project = index.project(FOO)
    except Missing:
        return {}
    return dict(project.by_filename) if project is not None else {}


@given(layers)
@example([([], [], {}, False), ([("1.0", ".zip", 0)], [("1.0", ".tar.gz", 0)], None, False)])
@example([([], [], {}, False), ([], [("1.0", ".zip", 0)], {"allow": []}, False)])
def test_page_and_file_agree_and_rules_hold_however_indexes_are_based_on_each_other(parts: Any) -> None:
    clock = Clock()
    policed = [None if said is None else governed(clock, **said) for _, _, said, _ in parts]
    index, upstreams = chain(parts, policed)
    shown = page(index)
    every = {f"foo-{version}{ending}" for own, theirs, _, _ in parts for version, ending, _ in (*own, *theirs)}
    for filename in every:
        try:
            content = index.open(FOO, filename, ".asc")
        except Missing:
            content = None
        assert (filename in shown) == (content is not None)
        if isinstance(content, Stream):
            assert b"".join(content.read(0, None)).decode() == shown[filename].hashes["sha256"]
    # What the outermost policy hides is not shown, whatever lies below it.
    policy, said = policed[-1], parts[-1][2]
    if policy is not None:
        rules = Rules(settings_of(**said))
        for file in shown.values():
            assert rules.verdict(file, clock()) is None
        if policy.hides(FOO):
            assert not shown
            assert not any(upstream.asked for upstream in upstreams)
    # A name that a folder has and that nothing merges is nobody else's.
    if any(own for own, _, _, _ in parts) and not any(merges for _, _, _, merges in parts):
        assert not any(upstream.asked for upstream in upstreams)
        assert all(not file.url for file in shown.values())


@given(some_files, policies)
def test_trimming_twice_is_trimming_once(files: Any, said: Any) -> None:
    policy, shelf = governed(Clock(), **said), Shelf("folder", files)
    project = shelf.project(FOO)
    if project is None:
        return
    trimmed = policy.trim(project, shelf)
    assert policy.trim(trimmed, shelf) == trimmed
    shown, hidden = set(trimmed.by_filename), set(policy.verdicts(project, shelf))
    assert shown | hidden == set(project.by_filename) and not shown & hidden
    assert set(trimmed.versions) == {file.version for file in trimmed.files}


def two_bases(first: Source, **said: Any) -> Index:
    """An index over one whose policy says so and which asks `first`, and one without that asks the upstream `free`."""
    free = Shelf("free", [("1.0", ".tar.gz", 1)], url="https://example.test/")
    ways = [Way(name=name, serves=lambda name: True, source=source) for name, source in (("first", first), ("u", free))]
    bases = [Index(name="closed", ways=ways[:1], policy=governed(Clock(), **said)), Index(name="open", ways=ways[1:])]
    return Index(name="middle", bases=[Index(name="lower", bases=bases)])


@pytest.mark.parametrize(
    "rule", [{"deny": ["foo"]}, {"deny": ["foo>=0"]}, {"wheels_only": True}, {"licences": ["MIT"]}]
)
def test_what_one_base_hides_may_come_through_another_and_only_from_there(rule: dict[str, Any]) -> None:
    closed = Shelf("closed", [("1.0", ".tar.gz", 1), ("2.0", ".tar.gz", 1)], url="https://example.test/")
    index = two_bases(closed, **rule)
    assert {name: file.hashes["sha256"] for name, file in page(index).items()} == {"foo-1.0.tar.gz": "free"}
    content = index.open(FOO, "foo-1.0.tar.gz")
    assert isinstance(content, Stream) and b"".join(content.read(0, None)) == b"free"
    assert index.reserves(FOO) is None
    assert not closed.asked or rule != {"deny": ["foo"]}
    found = explain(index, FOO)
    assert found.kind == "upstream" and [
        (seen.index, bool(seen.hidden)) for seen in found.files if not seen.hidden
    ] == [("open", False)]
    with pytest.raises(Missing):
        index.open(FOO, "foo-2.0.tar.gz")


def test_nobody_answers_in_place_of_a_base_that_cannot_say_or_has_it_empty() -> None:
    class Silent(Shelf):
        def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
            raise Unavailable("not now")

    silent = Silent("closed", [("1.0", ".tar.gz", 1)], url="https://example.test/")
    project = silent.project(FOO)
    assert project is not None
    files = tuple(replace(file, core_metadata={}) for file in project.files)
    silent._project = replace(project, files=files)
    index = two_bases(silent, licences=["MIT"])
    with pytest.raises(Undecided):
        index.project(FOO)
    assert all(seen.hidden for seen in explain(index, FOO).files)
    silent._project = replace(project, files=(), versions=())
    assert page(two_bases(silent, licences=["MIT"])) == {}

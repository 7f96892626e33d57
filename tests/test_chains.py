"""Indexes based on indexes: they keep the promises of sources, and no name of a folder reaches an upstream."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_wheel, metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_contract import SourceContract
from test_contract import Folders
from wsgi_client import Answer, Client

from pypiserver_lite import make_app
from pypiserver_lite.index import Index
from pypiserver_lite.model import Source
from pypiserver_lite.web import Front

JSON = "application/vnd.pypi.simple.v1+json"


class TestIndexOnAnIndex(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        return Index(bases=[Index(bases=[Index(self.folder(files))])])


class TestIndexOnTwo(Folders, SourceContract):
    """One base has the files of one project, the other those of the other, and both some."""

    def make_source(self, files: Path, place: Path) -> Source:
        for path in sorted(files.iterdir()):
            for number in (1, 2) if "1.9" in path.name else (1,) if "1." in path.name else (2,):
                (place / str(number)).mkdir(exist_ok=True)
                (place / str(number) / path.name).write_bytes(path.read_bytes())
                os.utime(place / str(number) / path.name, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        return Index(bases=[Index(self.folder(place / "1")), Index(self.folder(place / "2"))])


class TestDiamond(Folders, SourceContract):
    def make_source(self, files: Path, place: Path) -> Source:
        for name in ("left", "right", "top"):
            (place / name).mkdir()
        below = Index(self.folder(files))
        sides = [Index(self.folder(place / name), bases=[below]) for name in ("left", "right")]
        return Index(self.folder(place / "top"), bases=sides)


NAMES = ("alpha", "beta", "gamma")


@dataclasses.dataclass(frozen=True)
class One:
    """An index of an arrangement: what its folder has, had and reserves, what it is based on, and whom it asks."""

    folder: bool
    has: frozenset[str]
    had: frozenset[str]
    private: frozenset[str]
    merges: frozenset[str]
    bases: tuple[int, ...]
    upstreams: tuple[str, ...]
    lost: bool
    """Whether its folder was replaced by an empty one."""


names = st.frozensets(st.sampled_from(NAMES), max_size=2)
few = st.just(frozenset[str]()) | names


@st.composite
def arrangements(draw: Any) -> tuple[One, ...]:
    """Up to four indexes, each based on some that come before it."""
    made: list[One] = []
    for number in range(draw(st.integers(1, 4))):
        folder = draw(st.booleans())
        some = names if folder else st.just(frozenset[str]())
        has = draw(some)
        made.append(
            One(
                folder=folder,
                has=has,
                had=draw(some),
                private=draw(few),
                merges=draw(few),
                bases=tuple(draw(st.lists(st.sampled_from(range(number)), max_size=2, unique=True)) if number else ()),
                upstreams=tuple(draw(st.lists(st.sampled_from(["cached", "passed", "sent"]), max_size=2, unique=True))),
                lost=bool(has) and draw(st.sampled_from([False] * 5 + [True])),
            )
        )
    # What an index reserves it cannot merge, and where it reserves nothing the root's reservations hold.
    return tuple(dataclasses.replace(one, merges=one.merges - (one.private or made[-1].private)) for one in made)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faulty.FaultyUpstream]:
    """An upstream that has all names: in the release 1.0, which folders have too, and in 9.0."""
    folder = tmp_path_factory.mktemp("theirs")
    with faulty.upstream() as server:
        for name in NAMES:
            for version in ("1.0", "9.0"):
                wheel = make_wheel(folder, name, version, "Summary: theirs")
                data, core = wheel.read_bytes(), metadata(name, version, "Summary: theirs")
                server.add(name, wheel.name, data, metadata=core)
        yield server


def make(place: Path, parts: tuple[One, ...], url: str) -> Path:
    """The folders and the file of settings of an arrangement; the last index is the one at the root."""
    labels = [f"i{number}" for number in range(len(parts) - 1)] + ["/"]
    tables, top = [f'[upstream.cached]\nurl = "{url}"', f'[upstream.passed]\nurl = "{url}"\nmode = "proxy"'], ""
    tables.append(f'[upstream.sent]\nurl = "{url}"\nmode = "redirect"')
    for number, (one, label) in enumerate(zip(parts, labels, strict=True)):
        lines = [f"bases = {json.dumps([labels[base] for base in one.bases])}"]
        lines += [f"upstreams = {json.dumps(one.upstreams)}"]
        if one.private:
            lines.append(f"private = {json.dumps(sorted(one.private))}")
        if one.folder:
            root = place / f"p{number}"
            root.mkdir()
            for name in sorted(one.has | one.had):
                make_wheel(root, name, "1.0", f"Summary: of {number}")
            lines.append(f'packages = ["p{number}"]')
        policy = [f"merge = {json.dumps(sorted(one.merges))}"] if one.merges else []
        if label == "/":
            top = "\n".join([*lines, *(["[policy]", *policy] if policy else [])])
        elif one.folder or one.bases or one.upstreams:
            tables += [f"[index.{label}]", *lines, *([f"[index.{label}.policy]", *policy] if policy else [])]
        else:
            tables += [f"[index.{label}]", f"upstreams = {json.dumps(['sent'])}", 'private = ["*"]']
    path = place / "index.toml"
    path.write_text("\n".join([top, *tables]) + "\n")
    return path


def chain(parts: tuple[One, ...], number: int) -> set[int]:
    """An index and all that it is based on."""
    found, todo = set(), [number]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += parts[one].bases
    return found


def guarded(parts: tuple[One, ...], number: int, name: str) -> bool:
    """Whether a folder of the chain has, had or reserves a name that no index on the way down to it merges."""
    one = parts[number]
    if number < len(parts) - 1 and not (one.folder or one.bases or one.upstreams):
        return True  # such an index is refused, and `make` has one in its place that reserves all names
    if name in one.merges:
        return False
    own = one.has | one.had | (one.private or parts[-1].private)  # the root's reservations hold where no others are
    return name in own or any(guarded(parts, base, name) for base in one.bases)


def everything(client: Client, place: str, name: str) -> Iterator[Answer]:
    """All that an index says of a name, and every file of it."""
    paths = [f"simple/{name}/", f"+simple/{name}/", f"{name}/json", f"pypi/{name}/json", f"project/{name}/"]
    paths += [f"pypi/{name}/9.0/json", f"project/{name}/9.0/", f"{name}/", "packages/", "simple/"]
    for version in ("1.0", "9.0"):
        for file in (f"{name}-{version}-py3-none-any.whl", f"{name}/{name}-{version}-py3-none-any.whl"):
            paths += [f"packages/{file}", f"packages/{file}.metadata"]
    for path in paths:
        for accept in (JSON, "text/html"):
            yield client.get(f"{place}/{path}", None, Accept=accept)
    calls: tuple[tuple[Any, ...], ...] = (
        ("package_releases", name, True),
        ("release_urls", name, "9.0"),
        ("release_data", name, "9.0"),
        ("search", {"name": name}),
    )
    for method, *values in calls:
        yield client.post(f"{place}/RPC2", xmlrpc.client.dumps(tuple(values), method).encode(), "text/xml", None)


def shows(answer: Answer, name: str, url: str, theirs: bytes) -> bool:
    """Whether anything in an answer is of the upstream's."""
    if answer.headers.get("location", "").startswith(url.removesuffix("simple/")):
        return True
    text = answer.body.decode("utf-8", "replace")
    marks = (hashlib.sha256(theirs).hexdigest(), f"{name}-9.0-py3", "Summary: theirs", ">theirs<", '"theirs"')
    asked_for = answer.status != 200  # a refusal may name what was asked for
    return answer.body == theirs or (not asked_for and any(mark in text for mark in marks))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(parts=arrangements(), again=st.booleans())
def test_no_arrangement_lets_an_upstream_show_a_name_that_a_folder_has_or_had(
    parts: tuple[One, ...], again: bool, upstream: faulty.FaultyUpstream
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path = make(place, parts, upstream.url)
        app = looked(path)
        for number, one in enumerate(parts):
            for name in one.had - one.has:
                (place / f"p{number}" / f"{name}-1.0-py3-none-any.whl").unlink()
        for site in app.sites.values():
            site.index.names()
        if again:
            app.close()
            app = looked(path)
        for number, one in enumerate(parts):
            if one.lost:
                (place / f"p{number}").rename(place / f"away{number}")
                (place / f"p{number}").mkdir()
        try:
            check(parts, upstream, app, place)
        finally:
            app.close()


def looked(path: Path) -> Front:
    """All indexes of a file, whose folders were looked at."""
    app = make_app(config=path, cache_dir=path.parent / "cache")
    for site in app.sites.values():
        site.index.names()
    return app


def check(parts: tuple[One, ...], upstream: faulty.FaultyUpstream, app: Front, place: Path) -> None:
    """See that all that the indexes of an arrangement say is as it must be."""
    client = Client(app)
    for number in range(len(parts)):
        at = "" if number == len(parts) - 1 else f"/i{number}"
        lost = any(parts[one].lost for one in chain(parts, number))
        for name in NAMES:
            theirs = upstream.stored[f"/files/{name}-1.0-py3-none-any.whl"].body
            answers = list(everything(client, at, name))
            if guarded(parts, number, name) or lost:
                bad = [answer.path for answer in answers if shows(answer, name, upstream.url, theirs)]
                assert not bad, (number, name)
            if lost:
                assert answers[0].status == 503 or name in _present(parts, number)
                continue
            if name in parts[number].has:  # an own file wins
                own = (place / f"p{number}" / f"{name}-1.0-py3-none-any.whl").read_bytes()
                listed = {file["filename"]: file for file in answers[0].json["files"]}
                digest = listed[f"{name}-1.0-py3-none-any.whl"]["hashes"]["sha256"]
                assert digest == hashlib.sha256(own).hexdigest()
                assert client.get(f"{at}/packages/{name}-1.0-py3-none-any.whl").body == own
            asks = any(parts[one].upstreams for one in chain(parts, number))
            merged = name in parts[number].merges or name not in _present(parts, number)
            if not guarded(parts, number, name) and asks and merged:
                sent = answers[0].headers.get("location") == f"{upstream.url}{name}/"
                assert sent or f"{name}-9.0-py3-none-any.whl" in answers[0].text


def _present(parts: tuple[One, ...], number: int) -> set[str]:
    return {name for one in chain(parts, number) if not parts[one].lost for name in parts[one].has}


def test_the_serial_of_an_index_grows_with_each_folder_that_it_is_based_on(tmp_path: Path) -> None:
    for name in ("own", "low", "side"):
        make_wheel(tmp_path / name, name)
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    path = tmp_path / "index.toml"
    path.write_text(
        'disable_fallback = true\n[index.low]\npackages = ["low"]\n[index.side]\npackages = ["side"]\n'
        '[index.top]\npackages = ["own"]\nbases = ["low", "side"]\n[index.far]\nbases = ["top"]\n'
    )
    app = make_app(config=path, cache_dir=tmp_path / "cache")
    client = Client(app)

    def serial(index: str) -> int:
        page = client.get(f"/{index}/simple/", Accept=JSON)
        assert page.json["meta"]["_last-serial"] == int(page.headers["X-PyPI-Last-Serial"])
        return int(page.headers["X-PyPI-Last-Serial"])

    for folder in ("own", "low", "side"):
        before = serial("top"), serial("far")
        until = time.monotonic() + 20
        make_wheel(tmp_path / folder, "new")
        while serial("top") <= before[0] or serial("far") <= before[1]:
            assert time.monotonic() < until
            time.sleep(0.2)
    app.close()


def test_a_file_is_kept_for_ever_only_where_no_index_may_change_it(tmp_path: Path) -> None:
    for name in ("mutable", "mutable/inner", "fixed"):
        make_wheel(tmp_path / name, name.rpartition("/")[2])
    (tmp_path / "link").symlink_to(tmp_path / "mutable")
    path = tmp_path / "index.toml"
    path.write_text(
        "disable_fallback = true\n"
        '[index.prod]\npackages = ["mutable"]\npasswords = "htpasswd"\nbases = ["inner"]\n'
        '[index.inner]\npackages = ["mutable/inner"]\n[index.beside]\npackages = ["link"]\nbases = ["inner"]\n'
        '[index.top]\nbases = ["fixed", "prod"]\n[index.far]\nbases = ["top"]\n'
        '[index.fixed]\npackages = ["fixed"]\n[index.replaced]\npackages = ["other"]\noverwrite = true\n'
        '[index.sure]\nbases = ["replaced"]\ncache_control = 60\n[index.unsure]\nbases = ["replaced"]\n'
    )
    live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    make_wheel(tmp_path / "other", "other")
    app = make_app(config=path, cache_dir=tmp_path / "cache")
    client = Client(app)

    def control(index: str, name: str) -> str:
        return str(client.get(f"/{index}/packages/{name}/{name}-1.0-py3-none-any.whl").headers["Cache-Control"])

    for index in ("prod", "beside", "top", "far"):
        assert control(index, "mutable") == "no-cache", index
    assert control("inner", "inner") == control("unsure", "other") == "no-cache"
    assert control("sure", "other") == "max-age=60"
    assert control("fixed", "fixed") == "max-age=31536000, immutable"
    app.close()


def test_pages_for_people_show_what_the_bases_have(tmp_path: Path) -> None:
    make_wheel(tmp_path / "own", "ours", "2.0", "Requires-Dist: below", "Requires-Dist: nowhere", "Summary: On top")
    make_wheel(tmp_path / "low", "ours", "1.0", "Summary: Older")
    make_wheel(tmp_path / "low", "below", "1.0", "Summary: Far below")
    path = tmp_path / "index.toml"
    path.write_text(
        'disable_fallback = true\n[index.low]\npackages = ["low"]\n'
        '[index.top]\npackages = ["own"]\nbases = ["low"]\n[index.far]\nbases = ["top"]\n'
    )
    app = make_app(config=path, cache_dir=tmp_path / "cache")
    client = Client(app)
    for index in ("top", "far"):
        page = client.get(f"/{index}/project/ours/").text
        assert all(f"../../project/ours/{version}/" in page for version in ("1.0", "2.0"))
        assert 'href="../../project/below/"' in page and "project/nowhere" not in page
        facts = client.get(f"/{index}/pypi/ours/json").json
        assert sorted(facts["releases"]) == ["1.0", "2.0"] and facts["info"]["summary"] == "On top"
        assert client.get(f"/{index}/pypi/ours/1.0/json").json["info"]["summary"] == "Older"
        wait = time.monotonic() + 20
        while "Far below" not in client.get(f"/{index}/search?q=far+below").text:
            assert time.monotonic() < wait
            time.sleep(0.05)
        assert "2 projects" in client.get(f"/{index}/").text
        assert re.findall('href="([^"]*)"', client.get(f"/{index}/packages/").text) == [
            *("below-1.0-py3-none-any.whl", "ours-1.0-py3-none-any.whl", "ours-2.0-py3-none-any.whl"),
        ]
    assert "ours/2.0" not in client.get("/low/project/ours/").text
    app.close()

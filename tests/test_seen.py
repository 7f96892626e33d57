"""An index as somebody sees it who may list a part of it: whatever is asked of it, the rest is not there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite import site
from pypiserver_lite.config import load
from pypiserver_lite.errors import Denied, PypiServerLiteError
from pypiserver_lite.index import Index
from pypiserver_lite.policy.explain import explain, lines
from pypiserver_lite.seen import Seen

SETTINGS = """\
packages = ["packages"]
private = ["secret-*"]
upstreams = ["far"]
cache_dir = "cache"

[upstream.far]
url = "http://127.0.0.1:9/simple/"

[index.over]
packages = ["over"]
bases = ["/"]
policy.deny = ["secret-denied", "shown-denied"]
policy.cooldown = "0s"
private = ["secret-t*"]
policy.merge = ["secret-merged"]
"""
HIDDEN = ("secret-tool", "secret-over", "secret-denied", "secret-merged", "secret-gone", "secret-none", "far-away")
ABSENT = NormalizedName("hidden-and-never-here")


def shows(name: str) -> bool:
    return name.startswith("shown-")


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[site.Sites]:
    for name in ("secret-tool", "secret-denied", "secret-merged", "secret-gone", "shown-lib", "shown-denied"):
        builders.make_wheel(tmp_path / "packages", name)
    for name in ("secret-over", "secret-tool", "shown-over"):
        builders.make_wheel(tmp_path / "over", name, "2.0")
    (tmp_path / "i.toml").write_text(SETTINGS)
    sites = site.build_all(load.of_file(tmp_path / "i.toml", {}))
    sites.by_name["/"].index.names()
    (tmp_path / "packages" / "secret_gone-1.0-py3-none-any.whl").unlink()
    yield sites
    sites.close()


def said(call: Any) -> object:
    try:
        return call()
    except PypiServerLiteError as error:
        return type(error), str(error)


def plain(value: object, name: str) -> str:
    return repr(value).replace(name, "NAME")


@pytest.mark.parametrize("index", ["/", "over"])
def test_whatever_is_asked_of_it_says_the_same_of_what_is_hidden_and_of_what_is_nowhere(
    sites: site.Sites, index: str
) -> None:
    whole = sites.by_name[index].index
    seen = Seen(whole, shows)
    asked = 0
    for part in (seen, *seen.bases):
        for method in sorted(set(dir(Index)) - {"unheard"}):
            call = getattr(part, method)
            if method.startswith("__") or not callable(call) or "name" not in inspect.signature(call).parameters:
                continue
            more: dict[str, Any] = {"filename": "secret_tool-1.0-py3-none-any.whl", "own": None}
            more |= {"asked": True, "side": "", "reason": "it is so"}
            known = inspect.signature(call).parameters
            if "projects" in known or "file" in known:
                continue  # of what somebody has already
            arguments = {key: value for key, value in more.items() if key in known}
            for hidden in HIDDEN:
                asked += 1
                of_hidden = said(lambda: call(name=NormalizedName(hidden), **arguments))  # noqa: B023
                of_absent = said(lambda: call(name=ABSENT, **arguments))  # noqa: B023
                assert plain(of_hidden, hidden) == plain(of_absent, ABSENT), (method, hidden)
    assert asked > 100


@pytest.mark.parametrize("index", ["/", "over"])
def test_lists_and_explanations_know_nothing_of_it(sites: site.Sites, index: str) -> None:
    whole = sites.by_name[index].index
    seen = Seen(whole, shows)
    assert seen.names() == tuple(name for name in whole.names() if shows(name)) and seen.names() is seen.names()
    assert all(shows(name) for name, _ in seen.filenames()) and list(seen.filenames())
    assert seen.find(NormalizedName("shown-lib")) is whole.find(NormalizedName("shown-lib"))
    assert seen.state() is whole.state()
    assert all(not way.serves(NormalizedName(name)) for way in seen.all_ways() for name in HIDDEN)
    for store in seen.stores():
        assert all(map(shows, store.names()))
        for name in HIDDEN:
            assert store.project(NormalizedName(name)) is None
            assert store.open(NormalizedName(name), f"{name}-1.0-py3-none-any.whl") is None
    nothing = list(lines(explain(seen, ABSENT)))
    for name in HIDDEN:
        assert [line.replace(name, ABSENT) for line in lines(explain(seen, NormalizedName(name)))] == nothing


def test_who_has_not_logged_in_is_asked_to(sites: site.Sites) -> None:
    seen = Seen(sites.by_name["over"].index, shows, nobody=True)
    for name in (*HIDDEN, ABSENT):
        for ask in (seen.find, seen.project, seen.expect, lambda name: seen.open(name, "x")):
            with pytest.raises(Denied) as caught:
                ask(NormalizedName(name))
            assert caught.value.challenge and name not in str(caught.value)
    assert seen.find(NormalizedName("shown-lib")) is not None

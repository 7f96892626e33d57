"""Which upstream is asked for which name, by whom, and in how much time: what follows from the settings alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from filed import config_of
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import NormalizedName

from pypiserver_lite.config.settings import Config
from pypiserver_lite.policy.routing import Route
from pypiserver_lite.site import routes

WORDS = st.text("ab-", min_size=1, max_size=4)
PATTERNS = st.lists(
    st.one_of(
        WORDS,
        st.builds("{}*".format, WORDS),
        st.builds("*{}".format, WORDS),
        st.builds("{}?{}*".format, WORDS, WORDS),
        st.builds("[ab]{}".format, WORDS),
        st.just("*"),
    ),
    max_size=3,
)
ROUTES = st.builds(Route, PATTERNS, PATTERNS)


@given(ROUTES, ROUTES, st.text("ab-", min_size=1, max_size=6))
def test_two_routes_that_one_name_goes_may_meet(one: Route, other: Route, name: str) -> None:
    if one.serves(NormalizedName(name)) and other.serves(NormalizedName(name)):
        assert one.may_meet(other)
        assert other.may_meet(one)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (Route(["acme-*"]), Route([], ["acme-*"]), False),
        (Route(["acme-*"]), Route([], ["Acme_*"]), False),
        (Route(["acme-x-*", "acme"]), Route([], ["acme*"]), False),
        (Route(["acme-*"]), Route(["torch", "nvidia-*"]), False),
        (Route(["torch"]), Route(["torch-*"]), False),
        (Route(["*-stubs"]), Route(["*-plugin"]), False),
        (Route(["torch"]), Route(["t*"]), True),
        (Route(["acme-*"]), Route(), True),
        (Route(), Route([], ["acme-*"]), True),
        (Route(["*-stubs"]), Route(["types-*"]), True),
    ],
)
def test_routes_that_are_kept_apart_are_seen_to_be(one: Route, other: Route, meet: bool) -> None:
    assert one.may_meet(other) is meet
    assert other.may_meet(one) is meet


def shares(config: Config) -> dict[str, int]:
    """By name."""
    return {upstream.name: count for upstream, count in routes.shares(config).items()}


UP = '[upstream.{}]\nurl = "http://127.0.0.1:9/{}/"\n'


def up(name: str, *lines: str) -> str:
    """The table of an upstream."""
    return "\n".join([UP.format(name, name), *lines, ""])


def index(name: str, *lines: str) -> str:
    """The table of an index."""
    return "\n".join([f"[index.{name}]", *lines, ""])


def test_calls_are_divided_among_all_that_a_chain_may_ask_for_one_name(tmp_path: Path) -> None:
    text = (
        'upstreams = ["public"]\n'
        + up("public")
        + up("two", 'mirrors = ["http://127.0.0.1:9/more/"]')
        + up("alone")
        + index("base", 'bases = ["/"]', 'upstreams = ["two"]')
        + index("top", 'bases = ["base", "/"]')
        + index("other", 'upstreams = ["alone"]')
    )
    assert shares(config_of(tmp_path, text)) == {"public": 2, "two": 2, "alone": 1}


def test_upstreams_that_are_never_asked_for_the_same_name_have_all_calls(tmp_path: Path) -> None:
    text = (
        'upstreams = ["corp", "public"]\n'
        + up("corp", 'only = ["acme-*"]')
        + up("public", 'never = ["acme-*"]', 'mode = "proxy"')
    )
    assert shares(config_of(tmp_path, text)) == {"corp": 1, "public": 1}


def test_who_is_only_redirected_to_takes_no_calls(tmp_path: Path) -> None:
    text = 'upstreams = ["corp", "public"]\n' + up("corp") + up("public", 'mode = "redirect"')
    assert shares(config_of(tmp_path, text)) == {"corp": 1}


def test_flags_divide_them_among_all_of_theirs(tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1:9/{number}/" for number in range(3)]
    config = config_of(tmp_path, f'packages = ["."]\nfallback_url = {urls}\nfallback_mode = "proxy"\n')
    assert set(shares(config).values()) == {3}


REDIRECT = up("public", 'mode = "redirect"')


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('upstreams = ["public"]\n' + REDIRECT, set()),
        ('upstreams = ["public"]\n' + REDIRECT + "[policy]\n", set()),
        ('upstreams = ["public"]\n' + REDIRECT + "[policy]\nmerge = ['torch']\n", {"public"}),
        # A policy of an index above reaches down, one of another index does not.
        (
            'upstreams = ["public"]\n' + REDIRECT + index("top", 'bases = ["/"]', "policy.cooldown = '7d'"),
            {"public"},
        ),
        (
            'upstreams = ["public"]\n'
            + REDIRECT
            + up("other", 'mode = "redirect"')
            + index("side", 'upstreams = ["other"]', "policy.cooldown = '7d'"),
            {"other"},
        ),
    ],
)
def test_redirect_upstreams_are_asked_only_where_a_policy_reaches_them(
    text: str, asked: set[str], tmp_path: Path
) -> None:
    config = config_of(tmp_path, text)
    assert {upstream.name for upstream in routes.asked(config)} == asked
    said = [remark for remark in routes.remarks(config) if "a policy governs" in remark]
    assert len(said) == len(asked)
    assert all(f"upstream.{name}.mode is redirect" in remark for name, remark in zip(asked, said, strict=True))


def test_a_redirect_before_others_is_remarked(tmp_path: Path) -> None:
    text = REDIRECT + up("corp", 'only = ["acme-*"]')
    (remark,) = routes.remarks(config_of(tmp_path, 'upstreams = ["public", "corp"]\n' + text))
    assert "hear nothing of corp" in remark
    assert list(routes.remarks(config_of(tmp_path, 'upstreams = ["corp", "public"]\n' + text))) == []
    apart = text.replace('"redirect"', '"redirect"\nnever = ["acme-*"]')
    assert list(routes.remarks(config_of(tmp_path, 'upstreams = ["public", "corp"]\n' + apart))) == []


def test_what_is_said_of_asking_one_that_is_not_asked_is_remarked(tmp_path: Path) -> None:
    text = 'upstreams = ["public"]\n' + REDIRECT + 'rate = "1MB"\nttl = 600\nhosts = ["a"]\n'
    (remark,) = routes.remarks(config_of(tmp_path, text))
    assert remark.startswith("upstream.public.rate, upstream.public.hosts: without effect")
    assert "without effect" not in str(list(routes.remarks(config_of(tmp_path, text + "[policy]\ncooldown = '7d'\n"))))

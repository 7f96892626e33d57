"""What a search finds, in which order, and that it takes no time."""

from __future__ import annotations

import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.search import LONGEST_QUERY, Catalogue


def catalogue(**summaries: str) -> Catalogue:
    """A catalogue of these projects; ``_`` stands for ``-``."""
    named = {NormalizedName(name.replace("_", "-")): summary for name, summary in summaries.items()}
    return Catalogue(names=tuple(sorted(named)), summaries={name: text for name, text in named.items() if text})


SHOP = catalogue(
    requests="Talks HTTP",
    requests_oauthlib="OAuth for it",
    aio_requests="",
    http="Nothing but a name",
    urllib4="Another HTTP library",
    zebra="Stripes for Requests",
)


def test_the_very_name_comes_first_then_what_begins_so_then_the_rest() -> None:
    assert list(SHOP.find("requests")) == ["requests", "requests-oauthlib", "aio-requests", "zebra"]
    assert list(SHOP.find("http")) == ["http", "requests", "urllib4"]


@pytest.mark.parametrize("query", ["Requests_OAuthlib", "requests.oauthlib", "requests oauthlib", " OAUTHLIB requests"])
def test_a_name_is_found_in_any_spelling(query: str) -> None:
    assert SHOP.find(query)[0] == "requests-oauthlib"


def test_all_words_must_be_there_in_name_and_summary_together() -> None:
    assert list(SHOP.find("urllib4 library")) == ["urllib4"]
    assert list(SHOP.find("library another")) == ["urllib4"]
    assert list(SHOP.find("urllib4 stripes")) == []


def test_no_words_find_everything() -> None:
    for query in ("", "  \t"):
        assert list(SHOP.find(query)) == sorted(SHOP.names)


@pytest.mark.parametrize("query", ["%", "\\", "[", ".*", "---", "'; drop", "\0", "é", "x" * 100_000, "a " * 100_000])
def test_no_query_means_anything_but_its_letters(query: str) -> None:
    found = SHOP.find(query)
    words = query[:LONGEST_QUERY].lower().split()
    assert all(all(word in name or word in SHOP.hit(name).summary.lower() for word in words) for name in found)


def test_a_hit_has_its_summary_as_far_as_known() -> None:
    assert SHOP.hit(NormalizedName("zebra")).summary == "Stripes for Requests"
    assert SHOP.hit(NormalizedName("aio-requests")).summary == ""

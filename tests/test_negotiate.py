"""Which form of the simple API a client gets (PEP 691)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offers import HTML, JSON, TEXT

from pypiserver_lite.errors import NotAcceptable
from pypiserver_lite.simple.negotiate import Form, negotiate

PIP = f"{JSON.value}, {HTML.value}; q=0.1, text/html; q=0.01"


LATEST = "application/vnd.pypi.simple.latest"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, TEXT),  # G6
        ("", TEXT),
        ("*/*", TEXT),
        ("*", TEXT),
        (PIP, JSON),  # G2, G4
        (PIP.replace("0.1,", "0.2,"), JSON),  # uv
        (f"{JSON.value}, */*;q=0.1", JSON),  # poetry
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),  # browsers
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", TEXT),  # old Java
        ("text/html", TEXT),
        (HTML.value, HTML),
        (JSON.value.upper(), JSON),
        (f"{LATEST}+json", JSON),  # G3
        (f"{LATEST}+html", HTML),
        (f"text/html, {HTML.value}, {JSON.value}", JSON),  # G5
        (f"text/html, {HTML.value}", HTML),
        ("application/*", JSON),
        ("application/*, text/*", JSON),
        ("text/*", TEXT),
        ("text/html, */*", TEXT),
        ("text/html;q=0, */*", JSON),  # G4: q=0 excludes, and the specific range decides
        (f"{JSON.value};q=0, application/*", HTML),
        ("text/*;q=0.5, text/html;q=0.1, application/*;q=0.2", JSON),
        (f"{JSON.value};q=0.123, text/html;q=0.124", TEXT),
        (f"{JSON.value};q=0.1, {JSON.value};q=0.9, text/html;q=0.5", JSON),
        (f" ,, {HTML.value} ; Q = 0.5 ,;, /, a/, ;q=1,text/html;q=x,{JSON.value};q=2000", HTML),  # G8
        ("text/html; charset=utf-8; level=1", TEXT),
        ("nonsense", TEXT),
        ("x" * 100_000, TEXT),
    ],
)
def test_the_form_is_the_one_the_client_likes_best(accept: str | None, form: Form) -> None:
    assert negotiate(accept) is form


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "*/*;q=0", "application/json", f"{JSON.value}-x"])
def test_a_client_that_takes_none_of_the_forms_is_told(accept: str) -> None:  # G7
    with pytest.raises(NotAcceptable, match=re.escape(JSON.value)):
        negotiate(accept)


def test_format_beats_accept() -> None:  # G9
    for form in Form:
        assert negotiate("image/png", form.value) is form
        assert negotiate(PIP, form.value.replace("+", " ")) is form
    assert negotiate("text/html", f"{LATEST}+json") is JSON
    for unknown in ("", "json", "*/*", "text/html;q=1", "text/plain"):
        with pytest.raises(NotAcceptable):
            negotiate("*/*", unknown)


@given(st.text(st.sampled_from("aq*/;,=. 01+-ä\0") | st.characters()))
def test_no_header_is_an_error_of_ours(accept: str) -> None:  # G8
    try:
        assert negotiate(accept) in Form
    except NotAcceptable:
        pass


def test_content_types() -> None:  # G1, G2, H1
    assert JSON.content_type == "application/vnd.pypi.simple.v1+json"
    assert HTML.content_type == "application/vnd.pypi.simple.v1+html; charset=utf-8"
    assert TEXT.content_type == "text/html; charset=utf-8"

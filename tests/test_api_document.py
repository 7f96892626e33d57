"""The API is as its OpenAPI document says: what that allows is answered as it says, and what it does not is refused."""

from __future__ import annotations

from typing import Any

import live
import pytest
from builders import make_wheel
from hypothesis import HealthCheck, given, settings
from logins import basic
from packaging.utils import NormalizedName

from pypiserver_lite import make_app
from pypiserver_lite.web.openapi import document

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (the group 'basics')")

checks = pytest.importorskip("schemathesis.checks")

ANN = {"Authorization": basic("ann", "right"), "Accept-Encoding": "identity"}
DOCUMENT = document(root=True, cookie="pypiserver-lite-00000000")
OPERATIONS = [(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("api")
    make_wheel(folder / "packages", "ours", "1.0")
    make_wheel(folder / "packages", "gone", "1.0")
    passwords = live.write_htpasswd(folder / "htpasswd", ann="right", bob="his")
    app = make_app(
        folder / "packages", passwords=passwords, admin=["ann"], disable_fallback=True, cache_dir=folder / "cache"
    )
    app.site.store.remove(NormalizedName("gone"), "1.0")
    loaded = schemathesis.openapi.from_wsgi("/-/api/openapi.json", app)
    loaded.config.update(base_url="http://localhost/")  # what it makes of a relative one is none
    return loaded


def told(schema: Any, path: str, method: str, mode: str, *but: Any) -> None:
    """Ask what an operation may be asked, or what it may not, and compare each answer with the document."""
    strategy = schema[path][method].as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode))

    @given(case=strategy)
    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        # Who guesses is told to wait instead of 401, which is another test's.
        case.call_and_validate(headers=ANN, excluded_checks=[checks.ignored_auth, *but])

    check()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_document_allows_is_answered_as_it_says(schema: Any, path: str, method: str) -> None:
    # To schemathesis a line break may follow what $ ends, which no password has.
    told(schema, path, method, "POSITIVE", *([checks.positive_data_acceptance] if method == "put" else []))


@pytest.mark.parametrize(
    ("path", "method"),
    [one for one in OPERATIONS if {"parameters", "requestBody"} & DOCUMENT["paths"][one[0]][one[1]].keys()],
)
def test_what_the_document_does_not_allow_is_refused(schema: Any, path: str, method: str) -> None:
    # A path may be so odd that it is none of the API's.
    told(schema, path, method, "NEGATIVE", checks.content_type_conformance)

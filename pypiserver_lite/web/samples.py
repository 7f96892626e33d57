"""A project with everything and one with nothing, to try templates on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone

from packaging.utils import NormalizedName

from ..config.values import shown_size
from ..model import File, Project
from ..records import Event, Published, Token
from ..site import Storage
from ..upstream.health import Health
from ..upstream.room import Usage
from .indexes import Listed
from .overviews import AtAGlance, bars, moment_of
from .trails import Filters
from .user_desk import Known
from .viewers import Field

NAME = NormalizedName("sample")
MOMENT = datetime(2020, 2, 2, 2, 2, 2, tzinfo=timezone.utc)


def _file(filename: str, yanked: str | None) -> File:
    return File(
        filename=filename,
        project=NAME,
        version="1.0",
        size=1000,
        hashes={"sha256": "0" * 64},
        requires_python=">=3.10",
        uploaded=MOMENT,
        yanked=yanked,
        core_metadata={},
        has_signature=True,
    )


RICH = Project(
    name=NAME,
    files=(_file("sample-1.0.tar.gz", "a reason"), _file("sample-1.0-py3-none-any.whl", None)),
    versions=("1.0", *(f"0.{number}" for number in range(20))),
    status="archived",
    reason="finished",
)
PUBLISHED = ({"sample-1.0.tar.gz": Published("ann", MOMENT, "")},)
BARE = Project(name=NAME, status="quarantined")
INDEXES = [Listed(name="team/dev", title="Sample", description="One of ours", href="team/dev/", bases=("/",))]
CONFIRM = {
    "title": "Yank sample 1.0",
    "means": ["It is only a sample."],
    "things": ["sample-1.0.tar.gz"],
    "fields": [Field(name="reason", label="Reason"), Field(name="to", label="To", choices=["prod"], needed=True)],
    "button": "Yank",
    "final": True,
    "wrong": "no",
    "back": "../",
}
SENT = [("sample-1.0.tar.gz", "stored", "../project/sample/1.0/", True), ("a.txt", "no", "", False)]
EVENT = Event(
    action="yank",
    when=MOMENT,
    who="ann",
    token="ci",  # noqa: S106 - its name
    address="192.0.2.1",
    index="/",
    project="sample",
    version="1.0",
    files=(("sample-1.0.tar.gz", ""),),
    outcome="refused",
    reason="a reason",
    id=1,
)
TOKEN = Token(
    id=1,
    name="ci",
    user="ann",
    may=frozenset({"upload"}),
    indexes=("/",),
    projects=("sample",),
    created=MOMENT,
    by="ann",
    expires=MOMENT,
    used=MOMENT.date(),
)
BARE_TOKEN = replace(TOKEN, user=None, may=None, indexes=(), projects=(), expires=None, used=None)
LOOK = AtAGlance(
    index="/",
    storage=Storage(projects=1, files=2, size=1000, free=10**9),
    read=(1, 2),
    events=[EVENT],
    per_day=[(MOMENT.date(), 1)],
    most=[("sample", 1)],
    upstreams=[Health(name="pypi", address="example.org", answered=1.6e9, failures=1, open=True)],
    traffic={"requests": 1, "received": 1000, "cached": 1000, "saved": 1000},
    cache=Usage(limit=1000, kinds={"files": (1, 1000)}),
    uptime=100_000.0,
    faults=["nothing can be said"],
)
BARE_LOOK = replace(
    LOOK, storage=None, events=(), per_day=(), most=(), upstreams=(), traffic=None, cache=None, uptime=1.0, faults=()
)


def administration() -> Iterator[tuple[str, dict[str, object]]]:
    """The pages of administration, each with much to show and with nothing."""
    for is_root, look in ((True, LOOK), (False, BARE_LOOK)):
        here: dict[str, object] = {"here": "admin/", "is_root": is_root, "wrong": "" if is_root else "no"}
        shown = {"bars": bars(look.per_day, 600, 120), "chart": (600, 120), "size": shown_size, "moment": moment_of}
        yield "admin", {**here, **shown, "look": look, "others": [("dev", "../../dev/-/admin/")] if is_root else []}
        filters = {"filters": Filters(), "actions": ["yank"], "outcomes": ["done"], "indexes": ["/"] if is_root else []}
        more = "before=1" if is_root else ""
        yield "admin-trail", {**here, **filters, "events": look.events, "more": more}
        yield "admin-names", {**here, "names": [NAME] if is_root else []}
        yield "admin-owners", {**here, "name": NAME, "owners": ["ann"] if is_root else [], "inherits": not is_root}
        known = Known(name="ann", locked=is_root, may=[("upload", "own"), ("list", "")] if is_root else ())
        yield "admin-users", {**here, "known": [known]}
        yield "tokens", {**here, "tokens": [(TOKEN, True), (BARE_TOKEN, False)] if is_root else [], "all": is_root}
        ticked = {"chosen": ["upload"], "rights": ["upload"], "indexes": ["/"] if is_root else []}
        yield "token-new", {**here, **ticked, "form": {}, "for_others": is_root}
    yield "token", {"token": TOKEN, "secret": "pypl_sample", "address": "http://127.0.0.1:8080/", "wrong": ""}


METADATA = b"""\
Metadata-Version: 2.4
Name: Sample
Version: 1.0
Summary: One line
Author-email: Ann <ann@example.org>
License-Expression: MIT
Keywords: one,two
Classifier: Topic :: Sample
Project-URL: Source, https://example.org/
Requires-Dist: other>=1
Requires-Dist: more; extra == "x"
Provides-Extra: x
Description-Content-Type: text/plain

A description.
"""

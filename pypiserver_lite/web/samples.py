"""A project with everything and one with nothing, to try templates on."""

from __future__ import annotations

from datetime import datetime, timezone

from packaging.utils import NormalizedName

from ..model import File, Project
from .indexes import Listed
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

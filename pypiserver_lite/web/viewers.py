"""Whom a page is for, and where those go for whom it could be more."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

LONGEST_NEXT = 2000
"""Characters of the address that a sign-in leads on to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Somebody who signed in. Pages for them are made for each request, and kept by nobody."""

    name: str
    csrf: str
    """What their forms bring."""
    admin: bool = False
    """Whether they may administer this index."""


def sign_in_link(onward: str) -> str:
    """From an index's root to its page for signing in, and from there on to an address that begins there too."""
    return f"-/sign-in?next={quote(onward, safe='/')}" if 0 < len(onward) <= LONGEST_NEXT else "-/sign-in"

"""Whom a page is for, what its forms ask, and where those go for whom it could be more."""

from __future__ import annotations

from collections.abc import Sequence
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
    acts: Sequence[tuple[str, str]] = ()
    """What they may do to the release that the page shows: texts, and links from the index's root."""
    admin: bool = False
    """Whether they may administer this index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a form, as a template shows it."""

    name: str
    label: str
    value: str = ""
    choices: Sequence[str] = ()
    """The values it may have; none: any text."""
    needed: bool = False
    kind: str = "text"
    """As HTML has it."""
    fills: str = "off"
    """What a browser may fill in by itself, as HTML has it."""
    fixed: bool = False
    """Whether it is only shown."""


def sign_in_link(onward: str) -> str:
    """From an index's root to its page for signing in, and from there on to an address that begins there too."""
    return f"-/sign-in?next={quote(onward, safe='/')}" if 0 < len(onward) <= LONGEST_NEXT else "-/sign-in"

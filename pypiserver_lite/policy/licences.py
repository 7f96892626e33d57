"""What a release says of its licence, and whether that is allowed. Pure.

A release says it in its SPDX expression (PEP 639), else in its License field
if that names a licence, else in its classifiers, else in whatever the License
field holds. What is not known is not allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from ..metadata import About

_LONGEST = 200  # characters of what names a licence; longer ones are the licence itself
_CLASSIFIER = "License :: "
_DEEPEST = 20  # brackets in an expression

# What people write, without "the", "licence", "version" and punctuation, and what it means in SPDX's words.
_MEANT = {
    "0bsd": "0BSD",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache software 2.0": "Apache-2.0",
    "asl 2.0": "Apache-2.0",
    "boost software 1.0 bsl-1.0": "BSL-1.0",
    "bsd 2-clause": "BSD-2-Clause",
    "2-clause bsd": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "cc0 1.0 universal public domain dedication": "CC0-1.0",
    "eclipse public 1.0 epl-1.0": "EPL-1.0",
    "eclipse public 2.0 epl-2.0": "EPL-2.0",
    "european union public 1.2 eupl": "EUPL-1.2",
    "gnu affero general public v3": "AGPL-3.0-only",
    "gnu affero general public v3 or later agplv3+": "AGPL-3.0-or-later",
    "agplv3": "AGPL-3.0-only",
    "agplv3+": "AGPL-3.0-or-later",
    "gnu general public v2 gplv2": "GPL-2.0-only",
    "gnu general public v2 or later gplv2+": "GPL-2.0-or-later",
    "gnu general public v3 gplv3": "GPL-3.0-only",
    "gnu general public v3 or later gplv3+": "GPL-3.0-or-later",
    "gplv2": "GPL-2.0-only",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "gnu lesser general public v2 lgplv2": "LGPL-2.0-only",
    "gnu lesser general public v2 or later lgplv2+": "LGPL-2.0-or-later",
    "gnu lesser general public v3 lgplv3": "LGPL-3.0-only",
    "gnu lesser general public v3 or later lgplv3+": "LGPL-3.0-or-later",
    "lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later",
    "isc iscl": "ISC",
    "isc": "ISC",
    "mit": "MIT",
    "expat": "MIT",
    "mit no attribution mit-0": "MIT-0",
    "mozilla public 1.1 mpl": "MPL-1.1",
    "mozilla public 2.0 mpl": "MPL-2.0",
    "mozilla public 2.0": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "unlicense": "Unlicense",
    "universal permissive upl": "UPL-1.0",
    "wtfpl": "WTFPL",
    "zlib/libpng": "Zlib",
    "zpl 2.1": "ZPL-2.1",
}


class Said(NamedTuple):
    """What a release says of its licence; all empty if nothing."""

    expression: str = ""
    """In SPDX's words."""
    field: str = ""
    """Anything: a name, or the whole text."""
    classifiers: tuple[str, ...] = ()
    """What stands after the last ``::``."""

    @classmethod
    def by(cls, about: About) -> Said:
        """What core metadata says."""
        lines = (line for line in about.listed("classifiers") if line.startswith(_CLASSIFIER))
        kinds = (line.rsplit(" :: ", 1)[-1].strip() for line in lines)
        return cls(
            " ".join(about.text("license_expression").split()),
            _named(about.text("license")),
            tuple(kind for kind in kinds if kind != "OSI Approved"),
        )

    def text(self) -> str:
        """The same, to be kept."""
        return json.dumps([self.expression, self.field, self.classifiers])

    @classmethod
    def of_text(cls, text: str) -> Said | None:
        """What was kept; ``None`` if that is not it."""
        try:
            expression, field, classifiers = json.loads(text)
            return cls(str(expression), str(field), tuple(map(str, classifiers)))
        except (ValueError, TypeError):
            return None


def _named(field: str) -> str:
    """The License field if it names a licence; one with lines is its text."""
    text = field.strip()
    return "" if "\n" in text or len(text) > _LONGEST or text.upper() == "UNKNOWN" else " ".join(text.split())


class Allowed:
    """Licences by SPDX expressions, or by the very words in which releases name them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = {_plain(text) for text in texts}
        self._expressions = {expression for text in texts if (expression := _spdx(text))}

    def refuses(self, said: Said | None) -> str | None:
        """Why a release that says this is not allowed, as the rest of a sentence; ``None`` if it is."""
        if said is None:
            return "its licence is not known, for its metadata cannot be read"
        if said.expression:
            return None if self._takes(said.expression) else _refused(said.expression)
        if said.field and (_spdx(said.field) or _plain(said.field) in self._texts):
            return None if self._takes(said.field) else _refused(said.field)
        if said.classifiers:
            return None if all(map(self._takes, said.classifiers)) else _refused(", ".join(said.classifiers))
        return _refused(said.field) if said.field else "it does not say which licence it has"

    def _takes(self, text: str) -> bool:
        if _plain(text) in self._texts:
            return True
        expression = _spdx(text)
        return expression is not None and (expression in self._expressions or self._holds(expression))

    def _holds(self, expression: str) -> bool:
        """Whether what an expression asks for can be had with what is allowed."""
        words = re.findall(r"[()]|[^\s()]+", expression)
        if words.count("(") > _DEEPEST:
            return False
        at = 0

        def several() -> bool:
            nonlocal at
            holds = together()
            while at < len(words) and words[at] == "OR":
                at += 1
                holds = together() or holds
            return holds

        def together() -> bool:
            nonlocal at
            holds = one()
            while at < len(words) and words[at] == "AND":
                at += 1
                holds = one() and holds
            return holds

        def one() -> bool:
            nonlocal at
            word, at = words[at], at + 1
            if word == "(":
                holds = several()
                at += 1
                return holds
            if words[at : at + 1] == ["WITH"]:
                at += 2  # an exception only permits more
                return f"{word} WITH {words[at - 1]}" in self._expressions or self._has(word)
            return self._has(word)

        return several()

    def _has(self, licence: str) -> bool:
        # "or any later version" leaves the choice to whoever takes it.
        return licence in self._expressions or licence.removesuffix("+") in self._expressions


def _refused(text: str) -> str:
    return f"its licence, {text[:_LONGEST]}, is not among those allowed"


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _canonical(text: str) -> str | None:
    if len(text) > _LONGEST or text.count("(") > _DEEPEST:
        return None
    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, RecursionError):
        return None


def _spdx(text: str) -> str | None:
    """What a text means in SPDX's words; ``None`` if that cannot be told."""
    words = re.sub(r"\b(the|licen[cs]e|version)\b|[(),]", " ", text.lower()[:_LONGEST])
    # Each word once: many a name has its short form behind it.
    spelled = (" ".join(dict.fromkeys(re.sub(r"\bv\.? ?(?=[0-9])", v, words).split())) for v in ("v", ""))
    return _canonical(text) or next(filter(None, map(_MEANT.get, spelled)), None)

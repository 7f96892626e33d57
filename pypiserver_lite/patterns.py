"""Names of projects, and patterns of names, in the form in which both are compared (PEP 503). Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from packaging.utils import NormalizedName


def normalized(patterns: Iterable[str]) -> list[str]:
    """Patterns in the form of normalised names (PEP 503); empty ones mean nothing and are left out."""
    return [re.sub(r"[-_.]+", "-", pattern.strip()).lower() for pattern in patterns if pattern.strip()]


class Names:
    """Projects by name, or by patterns such as ``acme-*``.

    A pattern is compared in the normalised form of names (PEP 503), so that
    ``Acme.*`` and ``acme_*`` mean the same.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._expressions = {pattern: fnmatch.translate(one) for pattern in patterns for one in normalized([pattern])}
        self._match = re.compile("|".join(self._expressions.values())).match if self._expressions else None

    def has(self, name: NormalizedName) -> bool:
        """Whether the project is one of them."""
        return self._match is not None and self._match(name) is not None

    def pattern(self, name: NormalizedName) -> str | None:
        """The first of the patterns that means a project, as it was given."""
        return next((pattern for pattern, text in self._expressions.items() if re.match(text, name)), None)

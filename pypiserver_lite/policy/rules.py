"""Which names are meant, and who may be asked for them: decided before anybody is asked. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable

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


class Reserved:
    """Names that are an index's own though they have no files: those of the `patterns`, and those once had.

    `had` tells whether a name is or was in a folder of ours.
    """

    def __init__(self, patterns: Iterable[str], had: Callable[[NormalizedName], bool] = lambda name: False) -> None:
        self._had = had
        self._names = Names(patterns)

    def refuses(self, name: NormalizedName) -> str | None:
        """Why nobody else may be asked for this name; ``None`` if they may."""
        if self._names.has(name):
            return f"{name} is reserved for this index (--private '{self._names.pattern(name)}'), and has no files here"
        if self._had(name):
            return (
                f"{name} was here and has no files any more, or links that are not served (see the log); "
                "'pypiserver-lite names' can let it go"
            )
        return None

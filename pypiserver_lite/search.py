"""Finding projects by words: names first, then what they say about themselves. Pure, and fast without a database.

Looking through 100,000 names and summaries takes some ten milliseconds; a
`Catalogue` is immutable, so that pages made of it can be kept by identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.utils import NormalizedName, canonicalize_name

LONGEST_QUERY = 200
"""Characters of a query that are looked at."""
MOST_WORDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A project that was found."""

    name: NormalizedName
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """The names of all projects, sorted, and the summaries of those whose are known."""

    names: Sequence[NormalizedName]
    summaries: Mapping[NormalizedName, str] = field(default_factory=dict)
    _texts: Sequence[tuple[NormalizedName, str]] = field(init=False, repr=False)
    """Each name with all that is searched of its project, in small letters."""

    def __post_init__(self) -> None:
        texts = tuple((name, f"{name}\n{self.summaries.get(name, '').lower()}") for name in self.names)
        object.__setattr__(self, "_texts", texts)

    def find(self, query: str) -> Sequence[NormalizedName]:
        """The projects that have all words of `query`; every project if there is none.

        First the one of that very name, in any spelling, then names that
        begin with it, then names with all its words in them, then those
        whose name and summary together have them; each group by name.
        """
        words = query[:LONGEST_QUERY].lower().split()[:MOST_WORDS]
        if not words:
            return self.names
        # A name is spelled one way here, whatever the separators were.
        spelled = [str(canonicalize_name(word)).strip("-") or word for word in words]
        found = self._texts
        for word, spelling in zip(words, spelled, strict=True):
            found = [pair for pair in found if word in pair[1] or (word != spelling and spelling in pair[1])]
        start = "-".join(spelled)
        groups: tuple[list[NormalizedName], ...] = [], [], [], []
        for name, _ in found:
            if name.startswith(start):
                groups[name != start].append(name)
            elif start in name or (len(spelled) > 1 and all(spelling in name for spelling in spelled)):
                groups[2].append(name)
            else:
                groups[3].append(name)
        return [name for group in groups for name in group]

    def hit(self, name: NormalizedName) -> Hit:
        """A name with its summary."""
        return Hit(name=name, summary=self.summaries.get(name, ""))

"""Which names an upstream is asked for, and whether two upstreams may be asked for the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.utils import NormalizedName

from ..patterns import Names, normalized


class Route:
    """The names that one of the patterns `only` means (none: every name), but none of the patterns `never`."""

    def __init__(self, only: Iterable[str] = (), never: Iterable[str] = ()) -> None:
        self._only = normalized(only) or ["*"]
        self._never = normalized(never)
        self._all = self._only == ["*"] and not self._never
        self._only_names, self._never_names = Names(self._only), Names(self._never)

    def serves(self, name: NormalizedName) -> bool:
        """Whether a name goes this way."""
        return self._all or (self._only_names.has(name) and not self._never_names.has(name))

    def may_meet(self, other: Route) -> bool:
        """Whether a name may go both ways. Not every two routes that no name goes are found out."""
        return any(may_meet(ours, theirs) for ours in self._left_by(other) for theirs in other._left_by(self))

    def _left_by(self, other: Route) -> list[str]:
        """The patterns of which a name may be left by what is never meant here and there."""
        return [only for only in self._only if not any(_covers(never, only) for never in self._never + other._never)]


def _covers(wide: str, narrow: str) -> bool:
    """Whether each name that one pattern means is surely one of the other's."""
    if re.search(r"[?\[]", wide):
        return wide == narrow
    # What a star of `wide` takes in of `narrow`, written out, it takes in whatever that means.
    return re.fullmatch(".*".join(map(re.escape, wide.split("*"))), narrow) is not None


def may_meet(one: str, other: str) -> bool:
    """Whether a name may be meant by both of two normalised patterns; not every two that no name is are found out."""
    for plain, pattern in ((one, other), (other, one)):
        if not re.search(r"[*?\[]", plain):
            return Names([pattern]).has(NormalizedName(plain))
    (begins, ends), (other_begins, other_ends) = _fixed(one), _fixed(other)
    return (begins.startswith(other_begins) or other_begins.startswith(begins)) and (
        ends.endswith(other_ends) or other_ends.endswith(ends)
    )


def _fixed(pattern: str) -> tuple[str, str]:
    """What every name of a pattern begins and ends with."""
    parts = re.split(r"[*?\[\]]", pattern)
    return parts[0], parts[-1]

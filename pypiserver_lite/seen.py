"""An index as somebody sees it who may list some of its projects alone: the others are not there.

Nothing is checked in any route. All that an index is made of is made anew for
them: its folder and its bases without those projects, its upstreams without
those names. So whatever asks this index, now or later, hears of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from packaging.utils import NormalizedName

from .errors import Denied
from .index import Elsewhere, Index, Way
from .model import Content, Held, Opener, Policy, Project, Side, State, Verdict

Shows = Callable[[NormalizedName], bool]
"""Whether a project may be listed, if it is there."""


class Seen(Index):
    """The part of the index `whole` that `shows` tells.

    `nobody`: whoever sees it has not logged in, and a login could show more.
    Then they hear Denied, with a challenge, of every other name; else it is a
    name that is not here.
    """

    def __init__(self, whole: Index, shows: Shows, *, nobody: bool = False, ways: dict[int, Way] | None = None) -> None:
        ways = {} if ways is None else ways  # one that several indexes have is one here too
        self._all, self._shows_name, self._nobody = whole, shows, nobody
        super().__init__(
            None if whole.own is None else _Held(whole.own, shows),
            name=whole.name,
            bases=[Seen(base, shows, ways=ways) for base in whole.bases],
            ways=[ways.setdefault(id(way), _narrowed(way, shows)) for way in whole.ways],
            reserved=lambda name: whole.reserved(name) if shows(name) else None,
            merge=lambda name: shows(name) and whole.merges(name),
            policy=None if whole.policy is None else _Policy(whole.policy, shows),
            changed=whole.changed,
        )
        self.shares = whole.shares
        self._listed: tuple[Sequence[NormalizedName], Sequence[NormalizedName]] = (), ()

    def expect(self, name: NormalizedName) -> None:
        """Raise Denied if whoever sees this index has to log in to ask for a project."""
        if self._nobody and not self._shows_name(name):
            raise Denied("a user name and password are needed here", challenge=True)

    def names(self) -> Sequence[NormalizedName]:
        """Those of the whole that may be listed: the same object while that does not change."""
        names, listed = self._all.names(), self._listed
        if listed[0] is not names:
            listed = self._listed = names, tuple(filter(self._shows_name, names))
        return listed[1]

    def state(self, now: float | None = None) -> State:
        """The state of the whole: it does not tell of which project it is."""
        return self._all.state(now)

    def keeps_apart(self, name: NormalizedName) -> bool:
        """As in the whole; not what is not seen."""
        return self._shows_name(name) and self._all.keeps_apart(name)

    # What is shown is the very same as in the whole: so what is kept of it is.

    def find(self, name: NormalizedName) -> Project | Elsewhere | None:
        """As in the whole; ``None`` for what is not seen, or Denied."""
        self.expect(name)
        return self._all.find(name) if self._shows_name(name) else None

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """As in the whole; ``None`` for what is not seen, or Denied."""
        self.expect(name)
        return self._all.open(name, filename, side) if self._shows_name(name) else None

    def local(self, name: NormalizedName) -> Project | None:
        """As in the whole; ``None`` for what is not seen."""
        return self._all.local(name) if self._shows_name(name) else None


class _Held:
    """A store of which some projects are not there."""

    def __init__(self, store: Held, shows: Shows) -> None:
        self._store, self._shows = store, shows
        self._listed: tuple[Sequence[NormalizedName], Sequence[NormalizedName]] = (), ()

    def names(self) -> Sequence[NormalizedName]:
        names, listed = self._store.names(), self._listed
        if listed[0] is not names:
            listed = self._listed = names, tuple(filter(self._shows, names))
        return listed[1]

    def filenames(self) -> Iterator[tuple[NormalizedName, str]]:
        shown: tuple[NormalizedName | None, bool] = None, False
        for name, filename in self._store.filenames():
            if name != shown[0]:
                shown = name, self._shows(name)
            if shown[1]:
                yield name, filename

    def project(self, name: NormalizedName) -> Project | None:
        return self._store.project(name) if self._shows(name) else None

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        return self._store.open(name, filename, side) if self._shows(name) else None

    def state(self, now: float | None = None) -> State:
        return self._store.state(now)


class _Policy:
    """A policy that says nothing of what is not seen."""

    def __init__(self, policy: Policy, shows: Shows) -> None:
        self._policy, self._shows = policy, shows

    def governs(self, name: NormalizedName) -> bool:
        return self._shows(name) and self._policy.governs(name)

    def hides(self, name: NormalizedName) -> Verdict | None:
        return self._policy.hides(name) if self._shows(name) else None

    def names(self, names: Sequence[NormalizedName]) -> Sequence[NormalizedName]:
        return self._policy.names(names)

    def trim(self, project: Project, source: Opener) -> Project:
        return self._policy.trim(project, source)

    def verdicts(self, project: Project, source: Opener) -> Mapping[str, Sequence[Verdict]]:
        return self._policy.verdicts(project, source)

    def token(self) -> object:
        return self._policy.token()

    def changed(self) -> int:
        return self._policy.changed()


def _narrowed(way: Way, shows: Shows) -> Way:
    return replace(way, serves=lambda name: shows(name) and way.serves(name))

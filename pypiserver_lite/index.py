"""An index: the files of its own folder and of the indexes it is based on, then what upstreams have.

That order is the safety promise against dependency confusion. An upstream is
asked for a name only if no folder of the chain has it, ever had it or
reserves it, unless `merges` names it: that of each index in whose folder it
lies, or of one based on them. No index merges what it has as `private`. A
source that cannot answer ends the search instead of letting the next one
answer for it.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from packaging.utils import NormalizedName

from .emptied import Emptied
from .errors import Missing
from .kept import Kept
from .model import SERIALS_SINCE, SETTLES, Content, File, Held, Policy, Project, Side, Source, State
from .refusing import Refusing
from .releases import joined

_FILE_WEIGHT = 200  # bytes, nearly: a list's entry and a dictionary's


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """An upstream as an index asks it."""

    name: str
    """As the settings call it."""
    serves: Callable[[NormalizedName], bool]
    """Whether it may be asked for a name."""
    source: Source | None
    """Whom to ask; ``None``: nobody, clients are only sent there."""
    address: str | None = None
    """Where clients are sent for a name that nothing governs, with a slash at its end; ``None``: nowhere."""
    url: str = field(default="", repr=False)
    """Its address; may hold a password."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A project's page at an upstream that clients ask themselves."""

    address: str


def _nothing(name: NormalizedName) -> None:
    return None


def _never(name: NormalizedName) -> bool:
    return False


class Index(Refusing):
    """A `Source` over its `own` store, its `bases` and the `ways` to upstreams, each asked in order.

    `reserved` tells why nobody else may be asked for a name that has no file
    in `own`, ``None`` if they may; `merge` for which names upstreams are
    asked all the same, unless they are `private`. `policy` governs all of it, in what is based on this
    index too. `name` is what the settings call it, and `changed` the second
    since 1970 at which they were changed last.
    """

    def __init__(
        self,
        own: Held | None = None,
        *,
        name: str = "/",
        bases: Sequence[Index] = (),
        ways: Sequence[Way] = (),
        reserved: Callable[[NormalizedName], str | None] = _nothing,
        merge: Callable[[NormalizedName], bool] | None = None,
        private: Callable[[NormalizedName], bool] | None = None,
        policy: Policy | None = None,
        changed: int = 0,
    ) -> None:
        self.name = name
        self.own = own
        self.bases: tuple[Index, ...] = tuple(bases)
        self.ways = tuple(ways)
        self.policy = policy
        self.changed = changed
        self._changed = self._least = max(0, changed - SERIALS_SINCE)
        self._settles = changed + SETTLES if changed else math.inf
        self.reserved = reserved
        self.chain: frozenset[str] = frozenset((name,)).union(*(base.chain for base in self.bases))
        self.shares = self.chain
        """Of the indexes of its chain those that whoever may list this one may list too, if not all."""
        self._merge, self._private = merge or _never, private or _never
        self.here, self.upstreams = Here(self), Upstreams(self)
        self._emptied = Emptied(self._shows)
        self._plain = policy is None and not self.bases
        own_policy = () if policy is None else (policy,)
        self.policies: tuple[Policy, ...] = (*own_policy, *(one for base in self.bases for one in base.policies))
        stores = (*(() if own is None else (own,)), *(store for base in self.bases for store in base.stores()))
        self._stores = tuple({id(store): store for store in stores}.values())
        self._joined = Kept[Project](lambda project: _FILE_WEIGHT * len(project.files))
        # One value, so that no thread pairs one state's parts with another's names.
        self._known: tuple[tuple[Sequence[NormalizedName], ...], Sequence[NormalizedName]] = (), ()
        self._states: tuple[tuple[object, ...], State] | None = None

    @property
    def governed(self) -> bool:
        """Whether a policy, its own or one of a base's, may hide anything of it."""
        return bool(self.policies)

    def merges(self, name: NormalizedName) -> bool:
        """Whether upstreams are asked for a name, whatever the folders of the chain have, had or reserve."""
        return self._merge(name) and not self._private(name)

    def keeps_apart(self, name: NormalizedName) -> bool:
        """Whether a name that is to be merged is private, which wins."""
        return self._merge(name) and self._private(name)

    def expect(self, name: NormalizedName) -> None:
        """Raise Denied if whoever sees this index has to log in to ask for a project."""

    def names(self) -> Sequence[NormalizedName]:
        """Every project of the folders, sorted; the same object while no folder's set changed.

        Left out are those that the policy hides as a whole, and those of
        which it hides every file, as soon as that is found out. What
        upstreams have is found by name.
        """
        parts: tuple[Sequence[NormalizedName], ...] = () if self.own is None else (self.own.names(),)
        parts += tuple(base.names() for base in self.bases)
        if len(parts) == 1:
            names = parts[0]  # the very object of the folder
        else:
            known = self._known
            if len(known[0]) != len(parts) or any(map(operator.is_not, known[0], parts)):
                known = self._known = parts, tuple(sorted(set[NormalizedName]().union(*parts)))
            names = known[1]
        return names if self.policy is None else self._emptied.without(self.policy.names(names), self.state())

    def _shows(self, name: NormalizedName) -> bool:
        """Whether any file is shown of a project that the folders have."""
        governs = self.policy is not None and self.policy.governs(name)
        return not governs or self._local(name, self.own_project(name))[0] is not None

    def filenames(self) -> Iterator[tuple[NormalizedName, str]]:
        """Every file of the folders: its project and its name, in the order of `names`."""
        if self._plain:
            yield from () if self.own is None else self.own.filenames()
            return
        for name in self.names():
            project = self.local(name)
            for file in project.files if project is not None else ():
                yield name, file.filename

    def state(self, now: float | None = None) -> State:
        """The state of all stores of the chain as one: the very same object while nothing changed.

        It is another one too when a policy's clock has ticked. Mirrors hear of what settings and policies change as
        well: no serial is older than that.
        """
        if self._settles < math.inf and (time.time() if now is None else now) >= self._settles:
            # Who read all within that second may have read it before the change.
            self._least, self._settles = self._changed + 1, math.inf
        least = self._least
        if len(self._stores) == 1 and not self.policies:
            state: State = self._stores[0].state(now)
            if state.serial >= least:
                return state
        states = tuple(store.state(now) for store in self._stores)
        for policy in self.policies:
            least = max(least, policy.changed() - SERIALS_SINCE)
        parts = (*states, *(policy.token() for policy in self.policies))
        known = self._states
        if (
            known is None
            or known[1].serial < least
            or len(known[0]) != len(parts)
            or any(map(operator.is_not, known[0], parts))
        ):
            latest = max(states, key=lambda state: (state.serial, state.settled), default=State(0, True))
            known = self._states = parts, State(max(latest.serial, least), latest.settled)
        return known[1]

    def all_ways(self, told: Container[str] | None = None) -> tuple[Way, ...]:
        """Its ways and those of its bases, in the order in which they are asked; of `told` indexes only, if given."""
        own = self.ways if told is None or self.name in told else ()
        return (*own, *(way for base in self.bases for way in base.all_ways(told)))

    def stores(self) -> tuple[Held, ...]:
        """Its own store and those of its bases, each once, in the order in which they win."""
        return self._stores

    def project(self, name: NormalizedName) -> Project | None:
        """The project as this index shows it, or ``None`` if it has none. Raises as `find` does."""
        found = self.find(name)
        return None if isinstance(found, Elsewhere) else found

    def find(self, name: NormalizedName) -> Project | Elsewhere | None:
        """The project as this index shows it, or where clients are sent for it; ``None`` if nobody has it.

        Raises Missing for one that nobody may be asked for, Hidden for one of which the policy leaves nothing,
        Unavailable.
        """
        own = self.own_project(name)
        if own is not None and not self.bases and not self.merges(name):
            shown = own if self.policy is None else self.policy.trim(own, self.here)
            if shown.files:
                return shown
        local, reason = self._local(name, own)
        if reason is not None:
            if local is None:
                raise self.gone(name, reason)
            return local
        remote = self.remote(name, asked=False)
        if not isinstance(remote, Project):
            if local is None and self.policies and (hidden := self.hidden(name)):
                raise hidden
            return local or remote
        if self.policies and local is None and not remote.files and (hidden := self.hidden(name)):
            raise hidden
        if local is None and not remote.files and not self.tells(name):
            raise self.unheard(name)
        return remote if local is None else self._join(name, local, remote)

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file that `project` lists, or what belongs to it; ``None`` if no source has the project.

        Raises Missing, Hidden, Unavailable.
        """
        if not self._plain or self.merges(name):
            return self._open_listed(name, filename, side)
        content = None if self.own is None else self.own.open(name, filename, side)
        if content is not None:
            return content
        reason = self.reserved(name)
        if reason is not None:
            raise Missing(reason)
        return self._open_remote(name, filename, side, asked=False)

    def _open_listed(self, name: NormalizedName, filename: str, side: Side) -> Content | None:
        """The very file that the page lists: another source may have another one of its name."""
        project = self.project(name)
        if project is None:
            return None
        file = project.by_filename.get(filename)
        if file is None:
            raise self.hidden(name, filename) or Missing(f"{name} has no file of that name")
        if file.url:
            return self._open_remote(name, filename, side, asked=False)
        content = self._open_local(file, side)
        if content is None:
            raise Missing(f"{filename} is not here any more")
        return content

    def reserves(self, name: NormalizedName) -> str | None:
        """Why no upstream is asked for a name that has no file in the folders; ``None`` if one may be."""
        verdict = None if self.policy is None else self.policy.hides(name)
        if verdict is not None:
            return f"{name} is hidden here by {verdict}"
        if reason := self._keeps(name):
            return reason
        # What one base hides may come from another.
        asked = any(way.serves(name) for way in self.ways)
        reasons = [] if asked else [base.reserves(name) for base in self.bases]
        return reasons[0] if reasons and all(reasons) else None

    def _keeps(self, name: NormalizedName) -> str | None:
        """Why a name is the own one of an index of the chain; ``None`` if it is none's, or merged."""
        if self.merges(name):
            return None
        return self.reserved(name) or next(filter(None, (base._keeps(name) for base in self.bases)), None)

    def local(self, name: NormalizedName) -> Project | None:
        """What the folders show of a project, whatever upstreams have; ``None`` for nothing. Raises Unavailable."""
        return self._local(name, self.own_project(name))[0]

    def own_project(self, name: NormalizedName) -> Project | None:
        """What its own folder has of a project, whatever the policy says. Raises Unavailable."""
        return None if self.own is None else self.own.project(name)

    def _local(self, name: NormalizedName, own: Project | None) -> tuple[Project | None, str | None]:
        """What the folders show of a project, of which the own one has `own`, and why no upstream may be asked."""
        whole, reason = self.untrimmed(name, own)
        if whole is None or self.policy is None:
            return whole, reason
        shown = self.policy.trim(whole, self.here)
        return shown if shown.files else None, reason

    def untrimmed(self, name: NormalizedName, own: Project | None) -> tuple[Project | None, str | None]:
        """As `_local`, before this index's own policy."""
        reason = self.reserved(name) if own is None else f"{name} is this index's own"
        found = [] if own is None else [own]
        for base in self.bases:
            project, its_reason = base._local(name, base.own_project(name))
            found += [] if project is None else [project]
            reason = reason or its_reason
        if self.merges(name):
            reason = None
        if not found:
            return None, reason
        return found[0] if len(found) == 1 else self._join(name, *found), reason

    def remote(self, name: NormalizedName, *, asked: bool) -> Project | Elsewhere | None:
        """What the upstreams show of a project; those that clients are sent to are `asked` where that is governed."""
        return self.offers(name, asked=asked)[0]

    def offers(self, name: NormalizedName, *, asked: bool) -> tuple[Project | Elsewhere | None, bool]:
        """What the upstreams show of a project; and whether policies hide all of it, so that others may be asked."""
        found, _, hides = self._search(name, asked=asked)
        if self.policy is None or not isinstance(found, Project):
            return found, hides
        shown = self.policy.trim(found, self.upstreams)
        if found.files and not shown.files:
            verdicts = self.policy.verdicts(found, self.upstreams).values()
            # Nobody answers in place of a source that cannot say.
            hides = not any(verdict.undecided for some in verdicts for verdict in some)
        return shown, hides

    def untrimmed_remote(self, name: NormalizedName, *, asked: bool) -> Project | Elsewhere | None:
        """As `remote`, before this index's own policy; but for a name that it hides as a whole, nobody is asked."""
        return self._search(name, asked=asked)[0]

    def _search(self, name: NormalizedName, *, asked: bool) -> tuple[Project | Elsewhere | None, Index | None, bool]:
        """The same; the base through which it comes, if it does; and whether policies of bases hide all of it.

        A policy governs what comes through its index alone: of what a base hides, the next one is asked.
        """
        if self.policy is not None and self.policy.hides(name):
            return None, None, False
        asked = self.asks(name, asked)
        found = self.of_ways(name, asked=asked)
        if found is not None:
            return found, None, False
        hidden: tuple[Project | Elsewhere | None, Index | None, bool] = None, None, False
        for base in self.bases:
            found, hides = base.offers(name, asked=asked)
            if found is not None and not hides:
                return found, base, False
            if found is not None and hidden[0] is None:
                hidden = found, base, True
        return hidden

    def of_ways(self, name: NormalizedName, *, asked: bool) -> Project | Elsewhere | None:
        """What the first of its own upstreams has that has a project."""
        for way in self.ways:
            if way.serves(name):
                if way.address is not None and not asked:
                    return Elsewhere(f"{way.address}{name}/")
                project = None if way.source is None else way.source.project(name)
                if project is not None:
                    return project
        return None

    def asks(self, name: NormalizedName, asked: bool) -> bool:
        """Whether upstreams are asked for a name that clients are else sent to them for."""
        return asked or self.merges(name) or (self.policy is not None and self.policy.governs(name))

    def _open_local(self, file: File, side: Side) -> Content | None:
        """A file of the folders: of the first that shows one of its name, as in a join."""
        name, filename = file.project, file.filename
        if self.own is not None and not self.bases:
            return self.own.open(name, filename, side)
        sources = [] if self.own is None else [(self.own_project(name), partial(self.own.open, name, filename, side))]
        sources += [
            (base._local(name, base.own_project(name))[0], partial(base._open_local, file, side)) for base in self.bases
        ]
        opens = (opens for project, opens in sources if project is not None and filename in project.by_filename)
        found = next(opens, None)
        return None if found is None else found()

    def _open_remote(self, name: NormalizedName, filename: str, side: Side, *, asked: bool) -> Content | None:
        """A file of the upstream that has the project first."""
        if self.policy is not None and self.policy.hides(name):
            return None
        asked = self.asks(name, asked)
        for way in self.ways:
            if way.serves(name):
                if way.address is not None and not asked:
                    return None
                content = None if way.source is None else way.source.open(name, filename, side)
                if content is not None:
                    return content
        base = self._search(name, asked=asked)[1] if self.bases else None
        return None if base is None else base._open_remote(name, filename, side, asked=asked)

    def _join(self, name: NormalizedName, *projects: Project) -> Project:
        """Several projects of one name as one; of two files that are the same part of a release the first wins."""
        key = name, len(projects)
        return self._joined.find(key, projects) or self._joined.get(key, projects, partial(joined, projects))


class Here:
    """Opens what the folders of an index and its bases show, before the policy of the index itself."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file, or what belongs to it; ``None`` if there is none. Raises Unavailable."""
        project, _ = self._index.untrimmed(name, self._index.own_project(name))
        file = None if project is None else project.by_filename.get(filename)
        return None if file is None else self._index._open_local(file, side)


class Upstreams:
    """Opens what the upstreams of an index and its bases have."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file, or what belongs to it; ``None`` if no upstream has the project. Raises Missing, Unavailable."""
        return self._index._open_remote(name, filename, side, asked=True)

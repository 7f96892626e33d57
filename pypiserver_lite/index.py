"""An index: the files of its own folder and of the indexes it is based on, then what upstreams have.

That order is the safety promise against dependency confusion. An upstream is
asked for a name only if no folder of the chain has it, ever had it or
reserves it, unless `merges` names it: that of each index in whose folder it
lies, or of one based on them. A source that cannot answer ends the search
instead of letting the next one answer for it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from packaging.utils import NormalizedName

from . import dists
from .errors import Missing
from .kept import Kept
from .model import Content, File, Project, Side, Source, State, Store

_FILE_WEIGHT = 200  # bytes, nearly: a list's entry and a dictionary's


class Verdict(Protocol):
    """Why something is hidden."""

    def __str__(self) -> str:
        """A part of a sentence: which rule, and what of the file or project it means."""


class Policy(Protocol):
    """What an index shows of what it has."""

    def governs(self, name: NormalizedName) -> bool:
        """Whether a rule may hide a file of this project."""

    def hides(self, name: NormalizedName) -> Verdict | None:
        """Why the whole project is hidden, whatever files it has; ``None`` if it is not."""

    def trim(self, project: Project) -> Project:
        """The project without the files that are hidden now: the very same object while both stay the same."""

    def verdict(self, file: File) -> Verdict | None:
        """Why a file is hidden now; ``None`` if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    url: str = ""
    """Its address; may hold a password."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A project's page at an upstream that clients ask themselves."""

    address: str


def _nothing(name: NormalizedName) -> None:
    return None


def _never(name: NormalizedName) -> bool:
    return False


class Index:
    """A `Source` over its `own` store, its `bases` and the `ways` to upstreams, each asked in order.

    `reserved` tells why nobody else may be asked for a name that has no file
    in `own`, ``None`` if they may; `merges` for which names upstreams are
    asked all the same. `policy` governs all of it, in what is based on this
    index too.
    """

    def __init__(
        self,
        own: Store | None = None,
        *,
        bases: Sequence[Index] = (),
        ways: Sequence[Way] = (),
        reserved: Callable[[NormalizedName], str | None] = _nothing,
        merges: Callable[[NormalizedName], bool] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.own = own
        self.bases = tuple(bases)
        self.ways = tuple(ways)
        self.policy = policy
        self._reserved = reserved
        self._merges = merges or _never
        self._plain = policy is None and not self.bases
        self._governed: bool = policy is not None or any(base._governed for base in self.bases)
        self._joined = Kept[Project](lambda project: _FILE_WEIGHT * len(project.files))
        # One value, so that no thread pairs one state's parts with another's names.
        self._known: tuple[tuple[Sequence[NormalizedName], ...], Sequence[NormalizedName]] = (), ()
        self._states: tuple[tuple[State, ...], State] | None = None

    def names(self) -> Sequence[NormalizedName]:
        """Every project of the folders, sorted; the same object while no folder's set changed.

        What upstreams have is found by name.
        """
        parts: tuple[Sequence[NormalizedName], ...] = () if self.own is None else (self.own.names(),)
        parts += tuple(base.names() for base in self.bases)
        if len(parts) == 1 and self.policy is None:
            return parts[0]  # the very object of the folder
        known = self._known
        if len(known[0]) != len(parts) or any(map(operator.is_not, known[0], parts)):
            every: set[NormalizedName] = set().union(*parts)
            hides = _nothing if self.policy is None else self.policy.hides
            known = self._known = parts, tuple(sorted(name for name in every if hides(name) is None))
        return known[1]

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
        """The state of all stores of the chain as one: the very same object while nothing changed."""
        states = tuple(store.state(now) for store in self.stores())
        if len(states) == 1:
            return states[0]
        known = self._states
        if known is None or len(known[0]) != len(states) or any(map(operator.is_not, known[0], states)):
            latest = max(states, key=lambda state: (state.serial, state.settled), default=State(0, True))
            known = self._states = states, State(latest.serial, latest.settled)
        return known[1]

    def all_ways(self) -> tuple[Way, ...]:
        """Its ways and those of its bases, in the order in which they are asked."""
        return (*self.ways, *(way for base in self.bases for way in base.all_ways()))

    def stores(self) -> tuple[Store, ...]:
        """Its own store and those of its bases, each once, in the order in which they win."""
        own = () if self.own is None else (self.own,)
        every = (*own, *(store for base in self.bases for store in base.stores()))
        return tuple({id(store): store for store in reversed(every)}.values())[::-1]

    def project(self, name: NormalizedName) -> Project | None:
        """The project as this index shows it, or ``None`` if it has none. Raises as `find` does."""
        found = self.find(name)
        return None if isinstance(found, Elsewhere) else found

    def find(self, name: NormalizedName) -> Project | Elsewhere | None:
        """The project as this index shows it, or where clients are sent for it; ``None`` if nobody has it.

        Raises Missing for one that is hidden or that nobody may be asked for, Unavailable.
        """
        own = self._own(name)
        if own is not None and self._plain and not self._merges(name):
            return own
        local, reason = self._local(name, own)
        if reason is not None:
            if local is None:
                raise Missing(self._hidden(name) or reason)
            return local
        remote = self._remote(name, asked=False)
        if not isinstance(remote, Project):
            if local is None and (hidden := self._hidden(name)):
                raise Missing(hidden)
            return local or remote
        if self._governed and local is None and not remote.files:
            raise Missing(f"no file of {name} is shown here; 'pypiserver-lite explain {name}' says why")
        return remote if local is None else self._join(name, local, remote)

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file that `project` lists, or what belongs to it; ``None`` if no source has the project.

        Raises Missing, Unavailable.
        """
        if self._governed:
            self._check(name, filename)
        content, has = self._open_own(name, filename, side)
        if content is not None:
            return content
        if has and not self._merges(name):
            raise Missing(f"{name} has no file of that name")
        _, reason = self._local(name, self._own(name))
        if reason is not None:
            raise Missing(f"{name} has no file of that name" if has else reason)
        content = self._open_remote(name, filename, side, asked=False)
        if content is None and has:
            raise Missing(f"{name} has no file of that name")
        return content

    def reserves(self, name: NormalizedName) -> str | None:
        """Why no upstream is asked for a name that has no file in the folders; ``None`` if one may be."""
        if self._merges(name):
            return None
        return self._reserved(name) or next(filter(None, (base.reserves(name) for base in self.bases)), None)

    def local(self, name: NormalizedName) -> Project | None:
        """What the folders show of a project, whatever upstreams have; ``None`` for nothing. Raises Unavailable."""
        return self._local(name, self._own(name))[0]

    def _own(self, name: NormalizedName) -> Project | None:
        return None if self.own is None else self.own.project(name)

    def _local(self, name: NormalizedName, own: Project | None) -> tuple[Project | None, str | None]:
        """What the folders show of a project, of which the own one has `own`, and why no upstream may be asked."""
        reason = self._reserved(name) if own is None else f"{name} is this index's own"
        found = [] if own is None else [own]
        for base in self.bases:
            project, its_reason = base._local(name, base._own(name))
            found += [] if project is None else [project]
            reason = reason or its_reason
        if self._merges(name):
            reason = None
        if not found:
            return None, reason
        shown = self._trimmed(found[0] if len(found) == 1 else self._join(name, *found))
        return shown if shown.files or self.policy is None else None, reason

    def _remote(self, name: NormalizedName, *, asked: bool) -> Project | Elsewhere | None:
        """What the upstreams show of a project; those that clients are sent to are `asked` where that is governed."""
        if self.policy is not None and self.policy.hides(name):
            return None
        asked = asked or self._merges(name) or (self.policy is not None and self.policy.governs(name))
        for way in self.ways:
            if way.serves(name):
                if way.address is not None and not asked:
                    return Elsewhere(f"{way.address}{name}/")
                project = None if way.source is None else way.source.project(name)
                if project is not None:
                    return self._trimmed(project)
        for base in self.bases:
            found = base._remote(name, asked=asked)
            if found is not None:
                return self._trimmed(found) if isinstance(found, Project) else found
        return None

    def _open_own(self, name: NormalizedName, filename: str, side: Side) -> tuple[Content | None, bool]:
        """A file of the folders, and whether any of them has the project."""
        has = False
        try:
            content = None if self.own is None else self.own.open(name, filename, side)
        except Missing:
            content, has = None, True
        for base in self.bases if content is None else ():
            content, its = base._open_own(name, filename, side)
            has = has or its
            if content is not None:
                break
        return content, has or content is not None

    def _open_remote(self, name: NormalizedName, filename: str, side: Side, *, asked: bool) -> Content | None:
        """A file of the upstream that has the project first."""
        asked = asked or self._merges(name) or (self.policy is not None and self.policy.governs(name))
        for way in self.ways:
            if way.serves(name):
                if way.address is not None and not asked:
                    return None
                content = None if way.source is None else way.source.open(name, filename, side)
                if content is not None:
                    return content
        for base in self.bases:
            content = base._open_remote(name, filename, side, asked=asked)
            if content is not None:
                return content
        return None

    def _check(self, name: NormalizedName, filename: str) -> None:
        """Raise Missing for a file that `project` does not list."""
        project = self.project(name)
        if project is not None and filename not in project.by_filename:
            raise Missing(f"{name} has no file of that name here, or this index's policy hides it")

    def _trimmed(self, project: Project) -> Project:
        """A project without what the policy hides; nobody else is asked for one that has nothing left."""
        return project if self.policy is None else self.policy.trim(project)

    def _hidden(self, name: NormalizedName) -> str | None:
        """Which policy of the chain hides a whole project, in a sentence; ``None`` if none does."""
        verdict = None if self.policy is None else self.policy.hides(name)
        if verdict is not None:
            return f"{name} is hidden here: {verdict}"
        return next(filter(None, (base._hidden(name) for base in self.bases)), None)

    def _join(self, name: NormalizedName, *projects: Project) -> Project:
        """Several projects of one name as one; of two files that are the same part of a release the first wins."""
        return self._joined.get((name, len(projects)), projects, _join, projects)


def _join(projects: Sequence[Project]) -> Project:
    files: dict[str, File] = {}
    parts: set[object] = set()
    for project in projects:
        new = [file for file in project.files if file.filename not in files and _part(file) not in parts]
        files.update((file.filename, file) for file in new)
        parts.update(map(_part, new))
    versions = {version for project in projects for version in project.versions}
    first = next((project for project in projects if project.status != "active"), projects[0])
    return Project(
        name=projects[0].name,
        files=tuple(sorted(files.values(), key=lambda file: (dists.version_key(file.version), file.filename))),
        versions=tuple(sorted(versions, key=dists.version_key)),
        status=first.status,
        reason=first.reason,
    )


def _part(file: File) -> object:
    return dists.part_of_release(file.filename, file.project) or file.filename

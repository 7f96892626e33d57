"""What an index says of what it does not show: which rule hides it, to those who may hear of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from packaging.utils import NormalizedName

from .errors import Hidden, Missing, Undecided
from .model import Opener, Policy, Project, Verdict

_Why = tuple[str, Verdict]
"""What is hidden (a file, or a project as a whole), and the rule that does it."""


class Refusing(ABC):
    """An index with regard to that. Whoever derives from it sets the attributes, and does what the rest asks for."""

    policy: Policy | None
    policies: Sequence[Policy]
    """That and those of its bases."""
    bases: Sequence[Refusing]
    reserved: Callable[[NormalizedName], str | None]
    here: Opener
    upstreams: Opener
    chain: frozenset[str]
    """The names of the index and of all that it is based on."""
    shares: frozenset[str]
    """Of these those that whoever may list this index may list too."""

    @abstractmethod
    def own_project(self, name: NormalizedName) -> Project | None:
        """What its own folder has of a project, whatever the policy says."""

    @abstractmethod
    def untrimmed(self, name: NormalizedName, own: Project | None) -> tuple[Project | None, str | None]:
        """What the folders have before this index's own policy, and why no upstream may be asked."""

    @abstractmethod
    def asks(self, name: NormalizedName, asked: bool) -> bool:
        """Whether upstreams are asked that clients are else sent to."""

    @abstractmethod
    def of_ways(self, name: NormalizedName, *, asked: bool) -> object:
        """What the first of its own upstreams has that has a project."""

    @abstractmethod
    def offers(self, name: NormalizedName, *, asked: bool) -> tuple[object, bool]:
        """What the upstreams show of a project, and whether policies hide all of it, so that others may be asked."""

    def gone(self, name: NormalizedName, reason: str) -> Missing | Undecided:
        """Why a name that no upstream may be asked for has no page."""
        if self.reserved(name) is None and not self.tells(name):
            return self.unheard(name)
        return (self.hidden(name) if self.policies else None) or Missing(reason)

    def tells(self, name: NormalizedName, filename: str | None = None) -> bool:
        """Whether whoever may list this index may hear of what is hidden of a project: not what is another's alone."""
        if self.shares == self.chain:
            return True
        own = self.own_project(name)
        return own is not None and (filename is None or filename in own.by_filename)

    def hidden(self, name: NormalizedName, filename: str | None = None) -> Hidden | Undecided | None:
        """Which rule hides a file, or the newest of a project without any; ``None``: none does, or it is not told.

        Undecided if it may be shown once a rule can tell.
        """
        if not self.tells(name, filename):
            return None
        if filename is None and self.shares != self.chain:
            own = self.own_project(name)
            filename = own.files[-1].filename if own is not None else None
        found = self.why_here(name, filename)
        if not _is_undecided(found) and self.untrimmed(name, self.own_project(name))[1] is None:
            found = _foremost(found, self.why_upstream(name, filename, asked=False))
        if found is None:
            return None
        what, verdict = found
        if verdict.undecided:
            return Undecided(f"{what} is not shown by {verdict}; try again shortly")
        return Hidden(f"{what} is hidden here by {verdict}; 'pypiserver-lite explain {name}' says more")

    def why_here(self, name: NormalizedName, filename: str | None) -> _Why | None:
        """What of the folders' is hidden, and the rule that does it: this index's own, else one of a base's."""
        hidden = self._whole(name)
        if hidden is not None:
            return hidden
        whole, _ = self.untrimmed(name, self.own_project(name))
        mine = self._ruled(whole, self.here, filename)
        return _foremost(mine, *(base.why_here(name, filename) for base in self.bases))

    def why_upstream(self, name: NormalizedName, filename: str | None, *, asked: bool) -> _Why | None:
        """As `why_here`, of what upstreams have; none is asked that is not asked for the project."""
        hidden = self._whole(name)
        if hidden is not None:
            return hidden
        asked = self.asks(name, asked)
        found = self.of_ways(name, asked=asked)
        reasons = [self._ruled(found, self.upstreams, filename)]
        for base in self.bases if found is None else ():
            why, (found, hides) = base.why_upstream(name, filename, asked=asked), base.offers(name, asked=asked)
            reasons += [self._ruled(found, self.upstreams, filename), why]
            if found is not None and not hides:
                break
        return _foremost(*reasons)

    def _whole(self, name: NormalizedName) -> _Why | None:
        verdict = None if self.policy is None else self.policy.hides(name)
        return None if verdict is None else (name, verdict)

    def _ruled(self, found: object, source: Opener, filename: str | None) -> _Why | None:
        """Which file of a project this index's own policy hides (the foremost, if none is named), and why."""
        if self.policy is None or not isinstance(found, Project):
            return None
        hidden = self.policy.verdicts(found, source)
        names = [filename] if filename else [file.filename for file in reversed(found.files)]
        return _foremost(*((what, hidden[what][0]) for what in names if what in hidden))

    @staticmethod
    def unheard(name: NormalizedName) -> Missing:
        """What is said of a project that whoever asks may not hear of."""
        return Missing(f"no project {name} here")


def _is_undecided(why: _Why | None) -> bool:
    return why is not None and why[1].undecided


def _foremost(*reasons: _Why | None) -> _Why | None:
    """The first reason, but one that may not hold for long before all that do: then nobody can say now."""
    return next(filter(_is_undecided, reasons), None) or next(filter(None, reasons), None)

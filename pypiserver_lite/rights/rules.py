"""Who may do what: the rules of an index, asked in one place. Pure.

The first rule that names an action for whoever asks, the project and the
index decides; what no rule names, nobody may. A token narrows what its user
may, but never to less than what everybody may without a login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from packaging.utils import NormalizedName

from ..config.indexes import ROOT, Rule
from ..config.values import RIGHTS
from ..model import Restriction, User
from ..patterns import Names

ACTIONS = RIGHTS
"""All there is to be allowed: ``list download upload yank remove push admin``."""
CHANGES = ("upload", "yank", "remove", "push")
"""What ``update`` means, which ``-a`` and the routes of changes speak of: any of these."""
ANYBODY, USERS, OWNER = "*", "users", "owner"
"""Words for who a rule is about: without a login, with one, and whoever published a project first."""

Owners = Callable[[], frozenset[str] | None]
"""Who owns the project in question; ``None``: nobody does, and it has and had no files.

The first who may list it, and upload as an owner, may have it.
"""

_SEVERAL = {"update": CHANGES, "form": ("download", *CHANGES)}
"""Words that mean any of several rights: of who changes something, and of who sends a form that may be a push too."""
_MOST = 1024  # users, with their tokens, whose views and rights are remembered


class Decision(NamedTuple):
    """Whether somebody may do something."""

    allowed: bool
    by: str
    """What decided, for the operator: ``rule 2, FILE, line 14``, ``-a update``, ``--admin``, or that nothing did."""
    why: str
    """The same for whoever asked: it names no file."""
    by_owning: bool = False
    """It is so for who owns the project, or will, for it is nobody's yet."""


class _Part(NamedTuple):
    """Names that are told by what was said first of them."""

    steps: tuple[tuple[bool, tuple[str, ...]], ...]
    rest: bool
    """What is said of every other name."""
    within: tuple[str, ...] = ()
    """What a token is limited to; nothing: it is not."""

    @property
    def whole(self) -> bool:
        return self.rest and not self.steps and not self.within

    @property
    def nothing(self) -> bool:
        return not self.rest and not self.steps

    def has(self, name: NormalizedName) -> bool:
        if self.within and not _names(self.within).has(name):
            return False
        return next((said for said, patterns in self.steps if _names(patterns).has(name)), self.rest)


@dataclass(frozen=True, slots=True)
class View:
    """The part of an index that somebody sees; equal ones show the same. Hashable."""

    parts: tuple[_Part, ...]
    nobody: bool
    """Whether they have not logged in, so that a login may show more."""

    def shows(self, name: NormalizedName) -> bool:
        """Whether a project may be listed, if it is there."""
        return any(part.has(name) for part in self.parts)


@lru_cache(maxsize=_MOST)
def _names(patterns: tuple[str, ...]) -> Names:
    return Names(patterns)


class _Ready(NamedTuple):
    """A rule as it is asked."""

    number: int
    rule: Rule
    may: frozenset[str]
    may_not: frozenset[str]
    names: frozenset[str]
    """Users, groups resolved."""
    words: frozenset[str]
    """`ANYBODY`, `USERS`, `OWNER`."""

    def says(self, action: str) -> bool | None:
        """What it says of an action; ``None``: nothing."""
        return True if action in self.may else False if action in self.may_not else None

    def means(self, user: str | None, action: str) -> bool:
        """Whether it is about a user (``None``: nobody who logged in), whatever they own.

        What anybody may is not to administer: that is only for whom a rule means by name, or as users.
        """
        if ANYBODY in self.words and action != "admin":
            return True
        return user is not None and (USERS in self.words or user in self.names)

    def concerns(self, project: NormalizedName | None) -> bool:
        """Whether it is about a project; about the whole index if that is ``None``."""
        return not self.rule.projects or (project is not None and _names(self.rule.projects).has(project))

    @property
    def by(self) -> str:
        return ", ".join(filter(None, (f"rule {self.number}" if self.number else "", self.rule.place)))

    @property
    def why(self) -> str:
        return f"by rule {self.number}" if self.number else "by this index's settings"


class RuleBook:
    """The rules of the index `index`, in order; those that name other indexes are left out.

    `groups` are users by the name of their group, `admins` those who may
    everything. Unknown groups have nobody in them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        groups: Mapping[str, Iterable[str]] = {},
        *,
        index: str = ROOT,
        admins: Iterable[str] = (),
        by_flags: bool = False,
    ) -> None:
        self.index = index
        self.admins = frozenset(admins)
        self.by_flags = by_flags
        """Whether this is what ``-a`` and ``-P`` say, and no file says more."""
        self._rules = tuple(
            _ready(0 if by_flags else number, rule, groups)
            for number, rule in enumerate(rules, 1)
            if not rule.indexes or index in rule.indexes
        )
        self.listing = (
            self.admins,
            tuple(
                (said, ready.names, ready.words, ready.rule.projects)
                for ready in self._rules
                if (said := ready.says("list")) is not None
            ),
        )
        """What decides who may list what; equal where the same may."""
        self.open = frozenset(action for action in (*ACTIONS, *_SEVERAL, "reload") if self._is_open(action))
        """What everybody may, whoever they are, in the whole index: then nobody need say who they are."""
        self.by_project = any(ready.rule.projects and ready.says("list") is not None for ready in self._rules)
        """Whether some may list a part of the index alone."""
        self.view = lru_cache(maxsize=_MOST)(self._view)
        """What a `User` (``None``: nobody who logged in) may list; ``None``: the whole index."""
        self.reaches = lru_cache(maxsize=_MOST)(self._reaches)
        """Whether a `User` (or ``None``) may do an action, ``update``, ``form`` or ``reload`` with any project."""

    @classmethod
    def of_flags(
        cls, protected: Iterable[str], *, open: bool = False, index: str = ROOT, admins: Iterable[str] = ()
    ) -> RuleBook:
        """What ``-a`` says: `protected` actions are for users, others for everybody; ``update`` only if `open`."""
        protected = frozenset(protected)
        rules = []
        for word, actions in (("list", ("list",)), ("download", ("download",)), ("update", CHANGES)):
            closed = word in protected or (word == "update" and not open)
            who = (USERS,) if closed else (ANYBODY,)
            rules.append(Rule(who=who, may=frozenset(actions), place=f"-a {word}" if closed else f"no -a {word}"))
        return cls(rules, index=index, admins=admins, by_flags=True)

    def decide(
        self, user: User | None, action: str, project: NormalizedName | None, owners: Owners = frozenset
    ) -> Decision:
        """Whether somebody (``None``: nobody who logged in) may do an action with a project (``None``: the index).

        `owners` is asked only if it matters. For ``push``, which is asked of
        where something goes to, ``upload`` is enough.
        """
        token = None if user is None else user.token
        if user is None or token is None:
            return self._of_user(None if user is None else user.name, action, project, owners)
        decision = self._of_token(token, action, project)
        if decision.allowed and token.user is not None:
            decision = self._of_user(token.user, action, project, owners)
        # Whatever anybody may, they could do as well without it.
        anybody = decision if decision.allowed else self._of_user(None, action, project, owners)
        return anybody if anybody.allowed else decision

    def _of_token(self, token: Restriction, action: str, project: NormalizedName | None) -> Decision:
        """What a token says by itself."""
        shown = f"the token {token.name!r}"
        refused = self._limit(token, action)
        if refused is None and token.projects and (project is None or not _names(token.projects).has(project)):
            refused = "is for other projects"
        return Decision(refused is None, shown, shown if refused is None else f"{shown} {refused}")

    def _limit(self, token: Restriction, action: str) -> str | None:
        """Why a token is not for an action here, whatever the project; ``None``: it is."""
        may = token.may
        if may is None and token.user is None:
            return "is for nothing"
        if may is not None and action not in may and not (action == "push" and "upload" in may):
            return f"is for {', '.join(sorted(may)) or 'nothing'} only"
        if action == "admin" and token.projects:
            return "is for some projects only, and who administers does so for all of the index"
        return "is for other indexes" if token.indexes and self.index not in token.indexes else None

    def lists(self, user: User | None, project: NormalizedName) -> bool:
        """Whether somebody may list a project, if it is there."""
        view = self.view(user)
        return self.reaches(user, "list") and (view is None or view.shows(project))

    def why_not(self, user: User, action: str) -> str:
        """Why a user may not do an action with any project, for them: `reaches` says that they may not."""
        # Of several actions a token may be for one that no rule allows: then another is what it could be meant for.
        asked = () if user.token is None else _SEVERAL.get(action, (action,))
        limits = [limit for one in asked if user.token and (limit := self._limit(user.token, one)) is not None]
        return f"this token {limits[0]}" if limits else "no rule of this index allows it"

    def _of_user(self, user: str | None, action: str, project: NormalizedName | None, owners: Owners) -> Decision:
        if user is not None and user in self.admins:
            return Decision(True, "--admin", "as an admin")
        decision = self._first(user, action, project, owners)
        if action == "push" and not decision.allowed:
            upload = self._first(user, "upload", project, owners)
            return upload if upload.allowed else decision
        return decision

    def _first(self, user: str | None, action: str, project: NormalizedName | None, owners: Owners) -> Decision:
        """What the first rule says that is about all this."""
        for ready in self._rules:
            said = ready.says(action)
            if said is None or not ready.concerns(project):
                continue
            if ready.means(user, action):
                return Decision(said, ready.by, ready.why)
            if OWNER in ready.words and user is not None and project is not None:
                own = owners()
                if own is None and action == "upload" and said and self.lists(User(name=user), project):
                    # Others would hear by it that the name is free: for them it is as one that is here.
                    return Decision(True, ready.by, ready.why, by_owning=True)
                if own is not None and user in own:
                    return Decision(said, ready.by, ready.why, by_owning=True)
        return Decision(False, "no rule", "no rule of this index allows it")

    def _is_open(self, action: str) -> bool:
        if action == "update":
            return all(map(self._is_open, CHANGES))
        if action == "form":
            return self._is_open("download") or self._is_open("update")
        if action == "reload":
            return self._is_open(self.reloading)
        if action == "admin":
            return False
        for ready in self._rules:
            said = ready.says(action)
            if said is False:
                return False
            if said and ANYBODY in ready.words and not ready.rule.projects:
                return True
        return action == "push" and self._is_open("upload")

    @property
    def reloading(self) -> str:
        """The right that is needed to have the settings read again."""
        return "upload" if self.by_flags and not self.admins else "admin"

    def _reaches(self, user: User | None, action: str) -> bool:
        if action in _SEVERAL:
            return any(self._reaches(user, one) for one in _SEVERAL[action])
        if action == "reload":
            return self.decide(user, self.reloading, None).allowed
        if action in self.open:
            return True
        token = None if user is None else user.token
        if user is not None and token is not None:
            own = token.user is None or self._ever(token.user, action)
            return (own and self._limit(token, action) is None) or self._ever(None, action)
        return self._ever(None if user is None else user.name, action)

    def _ever(self, user: str | None, action: str) -> bool:
        """Whether there may be a project that a user may do it with; rules that overlap are not looked into."""
        if user is not None and user in self.admins:
            return True
        for ready in self._rules:
            said = ready.says(action)
            if said is None or (action == "admin" and ready.rule.projects):
                continue
            owns = OWNER in ready.words and user is not None
            if said and (owns or ready.means(user, action)):
                return True
            if said is False and ready.means(user, action) and not ready.rule.projects:
                break
        return action == "push" and self._ever(user, "upload")

    def _view(self, user: User | None) -> View | None:
        token = None if user is None else user.token
        if "list" in self.open or (not self.by_project and token is None):
            return None  # whoever passed the gate lists all
        parts = []
        if user is None:
            parts.append(self._part(None))
        elif token is None:
            parts.append(self._part(user.name))
        else:
            if self._limit(token, "list") is None:
                own = self._part(token.user) if token.user is not None else _Part((), True)
                parts.append(own._replace(within=token.projects))
            parts.append(self._part(None))
        parts = [part for part in dict.fromkeys(parts) if not part.nothing]
        return None if any(part.whole for part in parts) else View(tuple(parts), nobody=user is None)

    def _part(self, user: str | None) -> _Part:
        """What rules say of a user's right to list, in order; no more than makes a difference."""
        if user is not None and user in self.admins:
            return _Part((), True)
        steps: list[tuple[bool, tuple[str, ...]]] = []
        rest = False
        for ready in self._rules:
            said = ready.says("list")
            if said is None or not ready.means(user, "list"):
                continue
            if not ready.rule.projects:
                rest = said
                break
            steps.append((said, ready.rule.projects))
        while steps and steps[-1][0] == rest:
            steps.pop()
        return _Part(tuple(steps), rest)

    def told(self, user: str | None, action: str) -> Iterator[tuple[bool, tuple[str, ...], str, bool]]:
        """What the rules say of a user's right to do an action, in order, for the operator.

        Each is whether they may, with which projects (none: all others), by
        what, and whether only for what they own.
        """
        if user is not None and user in self.admins:
            yield True, (), "--admin", False
            return
        for ready in self._rules:
            said = ready.says(action)
            owns = OWNER in ready.words and user is not None and not ready.means(user, action)
            if said is None or not (owns or ready.means(user, action)):
                continue
            yield said, ready.rule.projects, ready.by, owns
            if not ready.rule.projects and not owns:
                return

    def every(self) -> Iterator[tuple[Rule, str]]:
        """The rules of this index in order, each with what it is called, for the operator."""
        yield from ((ready.rule, ready.by) for ready in self._rules)


def _ready(number: int, rule: Rule, groups: Mapping[str, Iterable[str]]) -> _Ready:
    names: set[str] = set()
    for who in rule.who:
        if who.startswith("@"):
            names.update(groups.get(who[1:], ()))
        elif who not in (ANYBODY, USERS, OWNER):
            names.add(who)
    return _Ready(
        number,
        rule,
        rule.may,
        rule.may_not,
        frozenset(names),
        frozenset((ANYBODY, USERS, OWNER)).intersection(rule.who),
    )

"""The rules of a policy: which of a project's files are hidden at a moment, why, and until when. Pure.

They are asked in the order of `ORDER`: first what no time changes, last what
has to be found out. What is not known counts against a file. An exemption
beats them all until its last day is over.
"""

from __future__ import annotations

import fnmatch
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from packaging.utils import NormalizedName

from .. import dists
from ..config.indexes import PolicySettings
from ..config.values import Choice, shown_size
from ..model import File, Verdict
from .licences import Allowed, Said

ORDER = ("deny", "allow", "wheels_only", "prereleases", "size", "until", "cooldown", "licences")
"""The rules by name; the first that hides a file is the reason that is shown."""

_HOUR = 3600  # seconds


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file besides what its page says."""

    seen: float | None = None
    """When it was first seen, in seconds since 1970; ``None``: now. It counts where the upload time is not known."""
    licence: Said | None = None
    """What its release says of its licence; ``None``: that is not known."""


NOTHING = Known()


class _Choices:
    """Some choices, found by the name of a project."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._named: dict[str, list[Choice]] = {}
        self._patterns = []
        for choice in choices:
            if re.search(r"[*?\[]", choice.pattern):
                self._patterns.append((re.compile(fnmatch.translate(choice.pattern)).match, choice))
            else:
                self._named.setdefault(choice.pattern, []).append(choice)

    def of(self, name: NormalizedName) -> tuple[Choice, ...]:
        """Those that mean this project or releases of it."""
        return (*self._named.get(name, ()), *(choice for match, choice in self._patterns if match(name)))


class Rules:
    """The rules of `settings`. Moments are seconds since 1970."""

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self.deny = _Choices(settings.deny)
        self.allow = None if settings.allow is None else _Choices(settings.allow)
        self.exempt = _Choices(settings.exempt)
        self.until = None if settings.until is None else settings.until.timestamp()
        self.licences = None if settings.licences is None else Allowed(settings.licences)
        self.names = self.allow is not None or any(not choice.specifier for choice in settings.deny)
        """Whether whole projects may be hidden, whatever files they have."""
        self.times = settings.cooldown is not None or settings.until is not None
        """Whether it matters when a file was uploaded."""
        self._ends = sorted(_end(choice) for choice in settings.exempt)
        steps = [] if settings.licences is None else [_HOUR]
        steps += [] if settings.cooldown is None else [min(_HOUR, max(1, settings.cooldown // 10))]
        self._step = min(steps, default=0)
        self._every = (
            self.times
            or settings.wheels_only
            or not settings.prereleases
            or settings.size is not None
            or settings.licences is not None
        )

    def governs(self, name: NormalizedName) -> bool:
        """Whether a file of this project may be hidden at some time."""
        if self._every or self.deny.of(name):
            return True
        return self.allow is not None and not any(not choice.specifier for choice in self.allow.of(name))

    def hides(self, name: NormalizedName, now: float) -> Verdict | None:
        """Why the whole project is hidden, whatever files it has; ``None`` if it is not."""
        if not self.names or any(now < _end(choice) for choice in self.exempt.of(name)):
            return None
        for choice in self.deny.of(name):
            if not choice.specifier:
                return Verdict(rule="deny", reason=f"{name} is denied ('{choice}')")
        if self.allow is not None and not self.allow.of(name):
            return Verdict(rule="allow", reason=f"{name} is not among the projects that are allowed")
        return None

    def hides_until(self, now: float) -> float:
        """The next moment after which `hides` may say something else of any project; infinite if there is none."""
        return next((end for end in self._ends if end > now), math.inf) if self.names else math.inf

    def changed(self, now: float) -> int:
        """The last second up to `now` as of which time may have changed what is hidden; 0 if there is none.

        It does not depend on the files, so that all who have these rules say the same: the end of an exemption is
        such a second, and where files are shown later on (after a cooldown, or once a licence is known) each whole
        hour is one, or oftener each tenth of a shorter cooldown.
        """
        ended = bisect_right(self._ends, now)
        last = math.ceil(self._ends[ended - 1]) if ended else 0
        return max(last, int(now) // self._step * self._step) if self._step else last

    def of(self, name: NormalizedName) -> ProjectRules:
        """Those of one project."""
        return ProjectRules(self, name)

    def verdict(self, file: File, now: float, known: Known = NOTHING) -> Verdict | None:
        """Why a file is hidden: the first rule that hides it; ``None`` if none does."""
        return next(self.of(file.project).verdicts(file, now, known), None)


class ProjectRules:
    """The rules as they hold for one project."""

    def __init__(self, rules: Rules, name: NormalizedName) -> None:
        self._rules, self._name = rules, name
        self._deny = rules.deny.of(name)
        self._allow = None if rules.allow is None else rules.allow.of(name)
        self._exempt = rules.exempt.of(name)

    def exempts(self, file: File, now: float) -> bool:
        """Whether an exemption names this file, and has not ended."""
        return any(now < _end(choice) and _means(choice, file, False) for choice in self._exempt)

    def verdicts(self, file: File, now: float, known: Known = NOTHING) -> Iterator[Verdict]:
        """Every rule that hides a file, in `ORDER`; none if it is shown."""
        yield from self.plain(file, now, known)
        if self._rules.licences is not None and not self.exempts(file, now):
            yield from self.licence(known.licence)

    def plain(self, file: File, now: float, known: Known = NOTHING) -> Iterator[Verdict]:
        """As `verdicts`, without the licence, which takes long to find out."""
        if self.exempts(file, now):
            return
        settings = self._rules.settings
        for choice in self._deny:
            if _means(choice, file, True):
                yield Verdict(rule="deny", reason=f"{self._name} {file.version} is denied ('{choice}')")
                break
        if self._allow is not None and not any(_means(choice, file, False) for choice in self._allow):
            what = f"{self._name} {file.version}" if self._allow else self._name
            yield Verdict(rule="allow", reason=f"{what} is not among what is allowed")
        if settings.wheels_only and not file.filename.endswith(".whl"):
            yield Verdict(rule="wheels_only", reason="it is no wheel")
        if not settings.prereleases:
            valid, version, _ = dists.version_key(file.version)
            if not valid:
                yield Verdict(rule="prereleases", reason=f"whether {file.version!r} is a pre-release cannot be told")
            elif version.is_prerelease:
                yield Verdict(rule="prereleases", reason=f"{file.version} is a pre-release")
        if settings.size is not None:
            if file.size is None:
                yield Verdict(rule="size", reason=f"its size is not known, and {shown_size(settings.size)} are allowed")
            elif file.size > settings.size:
                allowed = shown_size(settings.size)
                yield Verdict(rule="size", reason=f"it has {shown_size(file.size)}, and {allowed} are allowed")
        yield from self._by_time(file, now, known)

    def _by_time(self, file: File, now: float, known: Known) -> Iterator[Verdict]:
        rules = self._rules
        if not rules.times:
            return
        moment, said = _came(file, now, known)
        came = f"uploaded {_shown(moment)}" if said else f"first seen {_shown(moment)}, its upload time is not known"
        if rules.until is not None and moment > rules.until:
            yield Verdict(rule="until", reason=f"{came}, which is after {_shown(rules.until)}")
        cooldown = rules.settings.cooldown
        if cooldown is not None and now < moment + cooldown:
            yield Verdict(rule="cooldown", reason=f"{came}, shown from {_shown(_minute(moment + cooldown))} on")

    def licence(self, said: Said | None, *, later: bool = False) -> Iterator[Verdict]:
        """Why a file of a release that says this of its licence is hidden; `later`: that may be known before long."""
        allowed = self._rules.licences
        if allowed is not None and said is None and later:
            yield Verdict(rule="licences", reason="its licence is not known yet, or cannot be read now", undecided=True)
            return
        reason = None if allowed is None else allowed.refuses(said)
        if reason is not None:
            yield Verdict(rule="licences", reason=reason)

    def lasts(self, file: File, now: float, known: Known = NOTHING) -> float:
        """The next moment after `now` at which other rules may hide a file than now; infinite if there is none."""
        moments = [_end(choice) for choice in self._exempt if _means(choice, file, False)]
        if self._rules.times:
            moment, _ = _came(file, now, known)
            moments.append(moment + (self._rules.settings.cooldown or 0))
            if file.uploaded is not None:
                moments.append(file.uploaded.timestamp())  # of the future, so far
        return min((moment for moment in moments if moment > now), default=math.inf)


def needs_seen(file: File, now: float) -> bool:
    """Whether it is not known when a file was uploaded: nobody said, or said what cannot be."""
    return file.uploaded is None or file.uploaded.timestamp() > now


def _came(file: File, now: float, known: Known) -> tuple[float, bool]:
    """From when on a file counts as here, and whether that is its upload."""
    if file.uploaded is not None and not needs_seen(file, now):
        return file.uploaded.timestamp(), True
    return (now if known.seen is None else min(known.seen, now)), False


def _means(choice: Choice, file: File, unsure: bool) -> bool:
    """Whether a choice means a file of its project; `unsure` where the file's version is none that can be compared."""
    if not choice.specifier:
        return True
    valid, version, _ = dists.version_key(file.version)
    return choice.specifier.contains(version, prereleases=True) if valid else unsure


def _end(choice: Choice) -> float:
    return math.inf if choice.until is None else choice.until.timestamp()


def _minute(moment: float) -> float:
    """The whole minute that is not before a moment: what is said to be shown then is."""
    return math.ceil(moment / 60) * 60


def _shown(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "in a year that no calendar has"

"""What an index shows of what it has: its policy applied to projects and their files.

A trimmed project is kept, and stays the very same object, until a moment
comes at which a rule may say something else.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.utils import NormalizedName

from ..config.indexes import PolicySettings
from ..kept import Kept
from ..model import File, Opener, Project, Verdict
from .licensing import Licensing
from .verdicts import Known, Rules, needs_seen

_FILE_WEIGHT = 1000  # bytes, nearly: of a file, which may be held by nobody else
_MOST_BYTES = 32 * 2**20  # as much as is kept of an upstream, or each page that comes from there were trimmed anew

Hidden = Mapping[str, tuple[Verdict, ...]]
"""File names, each with every rule that hides the file, in order."""


@dataclass(frozen=True, slots=True)
class _Trimmed:
    project: Project | None
    """``None``: nothing is hidden. The whole project is not for this to keep: whoever has it may let it go."""
    hidden: Hidden
    since: float
    until: float

    @property
    def weight(self) -> int:
        return 0 if self.project is None else _FILE_WEIGHT * (len(self.project.files) + len(self.hidden))


class Governed:
    """The rules of `settings` as an index asks them.

    `licensing` finds out about licences, and remembers when files were first
    seen. With `note` false nothing is remembered as seen. `clock` tells
    seconds since 1970. Safe for threads.
    """

    def __init__(
        self,
        settings: PolicySettings,
        licensing: Licensing,
        *,
        note: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = Rules(settings)
        self._licensing = licensing
        self._note, self._clock = note, clock
        self._trimmed = Kept[_Trimmed](lambda kept: kept.weight, most_bytes=_MOST_BYTES)
        self._listed: tuple[Sequence[NormalizedName], Sequence[NormalizedName], float, float] = (), (), 0.0, math.inf
        self._lock = threading.Lock()
        # What stands for all that was told, since when, and the moment until which it holds.
        self._told: tuple[object, float, float] = object(), 0.0, math.inf

    def governs(self, name: NormalizedName) -> bool:
        """Whether a rule may hide a file of this project."""
        return self._rules.governs(name)

    def hides(self, name: NormalizedName) -> Verdict | None:
        """Why the whole project is hidden, whatever files it has; ``None`` if it is not."""
        return self._rules.hides(name, self._clock()) if self._rules.names else None

    def names(self, names: Sequence[NormalizedName]) -> Sequence[NormalizedName]:
        """Those that are not hidden as a whole: the very same object while both stay the same."""
        if not self._rules.names:
            return names
        now = self._clock()
        before, shown, since, until = self._listed
        if before is not names or not since <= now < until:
            listed = tuple(name for name in names if self._rules.hides(name, now) is None)
            shown = shown if shown == listed else listed
            self._listed = names, shown, now, self._rules.hides_until(now)
        return shown

    def trim(self, project: Project, source: Opener) -> Project:
        """The project without the files that are hidden now: the very same object while both stay the same.

        `source` opens its files, for what their core metadata says.
        """
        return self._kept(project, source).project or project

    def verdicts(self, project: Project, source: Opener) -> Hidden:
        """The files of a project that are hidden now, each with every rule that hides it, in order."""
        return self._kept(project, source).hidden

    def token(self) -> object:
        """The very same object while no rule says something else of anything that was asked before."""
        now = self._clock()
        token, since, until = self._told
        if since <= now < until:
            return token
        with self._lock:
            if self._told[0] is token:
                self._told = object(), now, math.inf
            return self._told[0]

    def changed(self) -> int:
        """The last second as of which time may have changed what is hidden; the same in every process."""
        return self._rules.changed(self._clock())

    def _kept(self, project: Project, source: Opener) -> _Trimmed:
        # The folders' files and an upstream's are two projects of one name.
        key = (project.name, bool(project.files) and bool(project.files[0].url))
        now = self._clock()
        kept = self._trimmed.find(key, (project,))
        if kept is None or not kept.since <= now < kept.until:
            before = self._trimmed.find(key)
            kept = self._made(project, source, now, before)
            if kept.weight < _MOST_BYTES // 2:  # or it is too large for whoever has it to keep it, too
                self._trimmed.put(key, kept, (project,))
            if before is not None and before.hidden != kept.hidden:
                with self._lock:
                    self._told = object(), now, self._told[2]
        if kept.until < self._told[2]:
            with self._lock:
                token, since, until = self._told
                self._told = token, since, min(until, kept.until)
        return kept

    def _made(self, project: Project, source: Opener, now: float, before: _Trimmed | None) -> _Trimmed:
        hidden, until = self._judged(project, source, now)
        if not hidden:
            return _Trimmed(None, hidden, now, until)
        shown = tuple(file for file in project.files if file.filename not in hidden)
        versions = {file.version for file in shown}
        kept = tuple(version for version in project.versions if version in versions)
        trimmed = replace(project, files=shown, versions=kept)
        if before is not None and before.project == trimmed:
            trimmed = before.project
        return _Trimmed(trimmed, hidden, now, until)

    def _judged(self, project: Project, source: Opener, now: float) -> tuple[Hidden, float]:
        rules, hidden, until = self._rules.of(project.name), {}, math.inf
        unsure = [file for file in project.files if needs_seen(file, now)] if self._rules.times else ()
        memory = self._licensing.remembered
        seen = memory.seen(unsure, now, origin=project.origin, note=self._note) if unsure else {}
        asked: list[File] = []
        for file in project.files:
            known = Known(seen.get(file.filename))
            until = min(until, rules.lasts(file, now, known))
            verdicts = tuple(rules.plain(file, now, known))
            if verdicts:
                hidden[file.filename] = verdicts
            elif self._rules.licences is not None and not rules.exempts(file, now):
                asked.append(file)
        if asked:
            # Not those of releases that are hidden anyway: they would be fetched for nothing.
            versions = list(dict.fromkeys(file.version for file in reversed(asked)))
            licences = self._licensing.of(project, versions, source)
            until = min(until, licences.until)
            for file in asked:
                said, later = licences.said.get(file.version), file.version in licences.later
                verdicts = tuple(rules.licence(said, later=later))
                if verdicts:
                    hidden[file.filename] = verdicts
        return hidden, until

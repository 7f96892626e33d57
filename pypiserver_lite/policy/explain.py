"""Why an index shows what it shows of a project: who has it, who was asked, and every file with what hides it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from packaging.utils import NormalizedName

from .. import dists
from ..config.values import public
from ..errors import Unavailable
from ..index import Index, Way
from ..model import File, Opener, Project, Verdict
from ..releases import part
from .fits import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file that a source has, and whether it gets through."""

    file: File
    index: str
    """In whose folder it lies, or whose upstream has it."""
    upstream: str | None = None
    """The upstream by its name; ``None``: the folder has it."""
    hidden: tuple[tuple[str, Verdict], ...] = ()
    """Which index hides it by which rules, in order; nothing if it is shown."""
    named: bool = True
    """Whether whoever asks may hear of that index."""

    def under(self, index: str, *verdicts: Verdict) -> Seen:
        """The same, hidden by an index."""
        return replace(self, hidden=(*self.hidden, *((index, verdict) for verdict in verdicts)))

    @property
    def is_hidden_for_sure(self) -> bool:
        """Whether it is hidden, and not only until a rule can tell."""
        return bool(self.hidden) and not any(verdict.undecided for _, verdict in self.hidden)

    @property
    def place(self) -> str:
        """Who has it, in words."""
        if not self.named:
            return "a base" if self.upstream is None else "an upstream"
        return f"the folder of {self.index}" if self.upstream is None else f"the upstream {self.upstream}"


@dataclass(frozen=True, slots=True)
class Step:
    """What was found at one place, in order."""

    index: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything about one project in one index."""

    index: str
    name: NormalizedName
    kind: str
    """Whose it is: ``folder``, ``base``, ``upstream`` or ``merged``; ``elsewhere`` if clients are sent there,
    ``hidden`` if it is as a whole, ``nowhere``; ``unknown`` if an upstream cannot say."""
    why: str
    """How that comes, in a sentence without its end."""
    steps: tuple[Step, ...] = ()
    files: tuple[Seen, ...] = ()
    """The newest version first."""

    def of(self, version: str) -> Explanation:
        """The same about one release alone."""
        files = tuple(seen for seen in self.files if dists.same_version(seen.file.version, version))
        return replace(self, files=files)

    def as_json(self, target: Target | None = None) -> dict[str, Any]:
        """All of it for programs; with a `target`, which files fit."""
        return {
            "index": self.index,
            "name": self.name,
            "owner": {"kind": self.kind, "why": self.why},
            "steps": [step.text for step in self.steps],
            "files": [_file_json(seen, target) for seen in self.files],
        }


def _file_json(seen: Seen, target: Target | None) -> dict[str, Any]:
    file = seen.file
    facts: dict[str, Any] = {
        "filename": file.filename,
        "version": file.version,
        "index": seen.index if seen.named else None,
        "upstream": seen.upstream if seen.named else None,
        "shown": not seen.hidden,
        "hidden": [{"index": index, "rule": verdict.rule, "reason": verdict.reason} for index, verdict in seen.hidden],
        "size": file.size,
        "upload-time": file.uploaded.isoformat() if file.uploaded else None,
        "requires-python": file.requires_python,
        "yanked": file.yanked is not None,
    }
    if target is not None:
        reason = target.refuses(file)
        facts |= {"fits": reason is None, "does-not-fit": reason}
    return facts


@dataclass(slots=True)
class _Walk:
    """A walk over an index and what it is based on, in the order in which the index itself asks."""

    name: NormalizedName
    may: Callable[[str], bool]
    """Whether whoever asks may hear of an index by its name."""
    steps: list[Step] = field(default_factory=list)
    failed: Unavailable | None = None
    sent: Way | None = None

    def say(self, index: Index, text: str) -> None:
        if self.may(index.name):
            self.steps.append(Step(index.name, text))

    def seen(self, index: Index, project: Project, upstream: str | None = None) -> list[Seen]:
        named = self.may(index.name)
        return [Seen(file=file, index=index.name, upstream=upstream, named=named) for file in project.files]

    def told(self, files: list[Seen]) -> list[Seen]:
        """Without what an index has hidden, or hides, of which whoever asks may not hear."""
        return [
            seen
            for seen in files
            if (seen.named or not seen.hidden) and all(self.may(index) for index, _ in seen.hidden)
        ]

    def here(self, index: Index) -> list[Seen]:
        """What the folders have."""
        own = None if index.own is None else index.own.project(self.name)
        groups = [self.seen(index, own) if own is not None else []]
        if own is not None:
            self.say(index, f"the folder of {index.name} has {_counted(own)}")
        elif (reason := index.reserved(self.name)) is not None:
            self.say(index, f"{index.name}: {reason}")
        if index.keeps_apart(self.name):
            self.say(index, f"{index.name} has it as 'private', so its 'merge' is not for this name")
        groups += [self.here(base) for base in index.bases]
        merged = _first_wins(groups, index)
        whole, _ = index.untrimmed(self.name, own)
        return self._ruled(merged, whole, index, index.here)

    def upstream(self, index: Index, *, asked: bool) -> list[Seen] | None:
        """What the first upstream has that has the project; ``None`` if none does."""
        verdict = None if index.policy is None else index.policy.hides(self.name)
        if verdict is not None:
            self.say(index, f"{index.name} asks no upstream, for it hides the project by {verdict}")
            return None
        asked = index.asks(self.name, asked)
        found: list[Seen] | None = None
        hidden: list[Seen] | None = None
        sources = [partial(self._of, way, index, asked) for way in index.ways]
        sources += [partial(self.upstream, base, asked=asked) for base in index.bases]
        for source in sources:
            if found is None and self.failed is None and self.sent is None:
                found = source()
                if found and all(seen.is_hidden_for_sure for seen in found):
                    # A policy governs what comes through its index alone.
                    hidden, found = [*(hidden or []), *found], None
        if found is None and hidden is None:
            return None
        found = [*(found or []), *(hidden or [])]
        return self._ruled(found, index.untrimmed_remote(self.name, asked=asked), index, index.upstreams)

    def _of(self, way: Way, index: Index, asked: bool) -> list[Seen] | None:
        if not way.serves(self.name):
            self.say(index, f"the upstream {way.name} is not asked for this name (its 'only' or 'never')")
            return None
        if way.address is not None and not asked:
            self.say(index, f"clients are sent to the upstream {way.name}, {public(way.address)}")
            self.sent = way
            return None
        if way.source is None:
            return None
        try:
            project = way.source.project(self.name)
        except Unavailable as error:
            self.failed = error
            self.say(index, f"the upstream {way.name} cannot say: {error}")
            return None
        if project is None:
            self.say(index, f"the upstream {way.name} does not have it")
            return None
        self.say(index, f"the upstream {way.name} has {_counted(project)}")
        return self.seen(index, project, way.name)

    def _ruled(self, files: list[Seen], whole: object, index: Index, source: Opener) -> list[Seen]:
        if index.policy is None or not isinstance(whole, Project):
            return files
        hidden = index.policy.verdicts(whole, source)
        return [
            seen
            if seen.hidden or seen.file.filename not in hidden
            else seen.under(index.name, *hidden[seen.file.filename])
            for seen in files
        ]


def _first_wins(groups: Iterable[list[Seen]], index: Index) -> list[Seen]:
    """Several sources as one: of two files that are the same part of a release, that of the first is shown."""
    taken: dict[object, Seen] = {}
    found = []
    for group in groups:
        new: dict[object, Seen] = {}
        for seen in group:
            keys = (("file", seen.file.filename), ("part", part(seen.file)))
            winner = None if seen.hidden else next((taken[key] for key in keys if key in taken), None)
            if winner is not None:
                reason = f"{winner.file.filename} of {winner.place} comes first"
                seen = seen.under(index.name, Verdict(rule="order", reason=reason))
            elif not seen.hidden:
                new.update((key, seen) for key in keys)
            found.append(seen)
        taken.update(new)
    return found


def _counted(project: Project) -> str:
    count = len(project.files)
    return f"{count} file" + ("" if count == 1 else "s")


def explain(index: Index, name: NormalizedName, may: Callable[[str], bool] | None = None) -> Explanation:
    """Why an index shows what it shows of a project, for somebody who `may` list this index and some of its bases.

    Of others it tells what this index shows, and nothing else: not even whether there is more. ``None`` means that
    all may be told. Asks whom the index asks. Raises Unavailable for a folder.
    """
    walk = _Walk(name, may or (lambda index: True))
    here = walk.here(index)
    own = None if index.own is None else index.own.project(name)
    _, reason = index.untrimmed(name, own)
    theirs = (walk.upstream(index, asked=False) if reason is None else None) or []
    files = walk.told(_first_wins([here, theirs], index))
    here, theirs = [seen for seen in files if seen.upstream is None], [seen for seen in files if seen.upstream]
    if not files and not all(map(walk.may, index.chain)):
        # Whom it asked and why it did not would tell what a base has, or reserves.
        walk.steps.clear()
        reason = reason and index.reserved(name)
        kind, why = _owner(index, walk, here, theirs, reason)
        if kind == "nowhere" and reason is None:
            why = f"nothing of {name} is shown here"
    else:
        kind, why = _owner(index, walk, here, theirs, reason)
    files.sort(key=lambda seen: (dists.version_key(seen.file.version), seen.file.filename), reverse=True)
    return Explanation(index=index.name, name=name, kind=kind, why=why, steps=tuple(walk.steps), files=tuple(files))


def _owner(index: Index, walk: _Walk, here: list[Seen], theirs: list[Seen], reason: str | None) -> tuple[str, str]:
    """Whose a project is, and how that comes."""
    hidden = None if index.policy is None else index.policy.hides(walk.name)
    if here:
        first = next((seen for seen in here if seen.index == index.name), here[0])
        kind = "folder" if first.index == index.name else "base"
        if reason is not None:
            return kind, f"{first.place} has it, so no upstream is asked for it"
        if theirs:
            return "merged", f"{first.place} has it, {theirs[0].place} too, and 'merge' shows both"
        return kind, f"{first.place} has it; 'merge' lets upstreams be asked as well"
    if theirs:
        return "upstream", f"no folder has it, {theirs[0].place} does"
    if hidden is not None:
        return "hidden", f"not here, and never asked upstream, by {hidden}"
    if reason is not None:
        return "nowhere", f"not here, and never asked upstream: {reason}"
    if walk.sent is not None:
        return "elsewhere", f"no folder has it; clients are sent to the upstream {walk.sent.name}"
    if walk.failed is not None:
        return "unknown", f"no folder has it, and an upstream cannot say: {walk.failed}"
    if index.all_ways():
        return "nowhere", "no folder has it, nor any upstream that is asked for it"
    return "nowhere", "no folder has it, and no upstream is asked"


def lines(explanation: Explanation, target: Target | None = None) -> Iterator[str]:
    """The same as text, in lines."""
    yield f"{explanation.name} in the index {explanation.index}: {explanation.why}"
    yield from (f"  {step.text}" for step in explanation.steps)
    for seen in explanation.files:
        said = "shown" if not seen.hidden else "hidden"
        if seen.file.yanked is not None:
            said += ", yanked" + (f" ({seen.file.yanked})" if seen.file.yanked else "")
        if target is not None:
            reason = target.refuses(seen.file)
            said += ", fits" if reason is None else f", does not fit: {reason}"
        yield f"{seen.file.filename}  {said}"
        yield from (f"    by {index}, {verdict}" for index, verdict in seen.hidden)

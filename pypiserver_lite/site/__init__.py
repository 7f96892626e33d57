"""The composition root: a `Config` becomes a `Site` for each index. The only place that names concrete classes."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from packaging.utils import NormalizedName

from ..config.indexes import ROOT, PolicySettings
from ..config.settings import Config, IndexSettings
from ..config.told import told
from ..config.values import NO_PASSWORDS, Sendfile
from ..errors import ConfigError, Missing
from ..folder.nowhere import Nowhere
from ..folder.store import Folder
from ..folder.together import Together
from ..index import Index, Way
from ..kept import Turnstile
from ..model import KeptUp, Store
from ..patterns import Names
from ..policy.governed import Governed
from ..policy.licensing import Licensing
from ..policy.remembered import Remembered
from ..policy.rules import Reserved
from ..records import Records
from ..rights.gate import Gate
from ..rights.rules import RuleBook
from ..rights.who import Passwords
from .folders import Changeable, build_folder, check_apart, find_sendfile, make_folder
from .limits import cache_dir, largest_upload, open_records, records_file, threads
from .routes import chain, remarks
from .upstreams import Closable, Upstreams, build_cache

if TYPE_CHECKING:
    from ..upstream.health import Health
    from ..upstream.room import Usage
    from ..upstream.source import Remote

__all__ = [
    "VERSION",
    "Closable",
    "Site",
    "Sites",
    "Storage",
    "build",
    "build_all",
    "build_cache",
    "build_folder",
    "largest_upload",
    "offline",
    "online",
    "open_records",
    "records_file",
    "remarks",
    "rights",
    "threads",
]

_log = logging.getLogger("pypiserver_lite")

VERSION = "0.1.0"
"""Of this package; pyproject.toml reads it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What the folders of an index itself hold; sizes in bytes."""

    projects: int
    files: int
    size: int
    """Of the files that were read until now."""
    free: int | None
    """What the disk has left for uploads; ``None``: nobody can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything a running index consists of."""

    name: str
    """The index's; ``/`` for the one at the root."""
    config: Config
    settings: IndexSettings
    """Those of this index, of `config`."""
    index: Index
    """What clients see: the folders, then whatever is asked after them."""
    store: Store
    """Where uploads go."""
    reading: KeptUp
    """What is read in the background of all that the index has."""
    gate: Gate
    records: Records
    """Who did what; those of the whole server."""
    remotes: tuple[Remote, ...]
    """The upstreams that are asked for clients, in order; none if clients are sent there themselves."""
    page_cache_control: str
    file_cache_control: str
    whole: bool = True
    """Whether all of the index is seen; else `index` is what somebody sees of it."""
    sendfile: Sendfile | None = None
    """Who sends files in our place; its folders are resolved, as the paths of files are."""
    owned: tuple[Closable, ...] = ()
    """What ends with this site."""
    started: float = field(default_factory=time.monotonic)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("pypiserver_lite"))

    def ways(self) -> tuple[Way, ...]:
        """The upstreams of the index and of its bases, each once, in the order in which they are asked."""
        return tuple(dict.fromkeys(self.index.all_ways()))

    def told_ways(self) -> tuple[Way, ...]:
        """Those of them that whoever may list this index may hear of: not those of a base that is closed to them."""
        return tuple(dict.fromkeys(self.index.all_ways(self.index.shares)))

    def health(self) -> tuple[Health, ...]:
        """How those of `told_ways` do that are asked for clients."""
        return tuple(cast("Remote", way.source).health(way.name) for way in self.told_ways() if way.source is not None)

    def stale(self, name: NormalizedName) -> float | None:
        """Seconds since an upstream confirmed a project that is served only because it does not answer now."""
        for remote in self.remotes:
            age = remote.stale(name)
            if age is not None:
                return age
        return None

    def uptime(self) -> float:
        """Seconds since this site was built."""
        return time.monotonic() - self.started

    def state(self) -> dict[str, object]:
        """Numbers for monitoring; of a part of the index those alone that tell nothing of the rest."""
        if not self.whole:
            return {"projects": len(self.index.names())}
        done, total = self.reading.progress()
        numbers: dict[str, object] = {"projects": len(self.index.names()), "facts": {"done": done, "total": total}}
        traffic = self.traffic()
        if traffic is None:
            return numbers
        return {**numbers, "upstream": traffic, "upstreams": list(map(asdict, self.health()))}

    def storage(self) -> Storage | None:
        """What the folders of the index itself hold; ``None`` if it has none. Raises Unavailable."""
        store = self.store
        if not isinstance(store, Folder):
            return None
        try:
            free = shutil.disk_usage(store.stage()).free
        except OSError:
            free = None
        return Storage(projects=len(store.names()), files=store.progress()[1], size=store.size(), free=free)

    def kept(self) -> tuple[NormalizedName, ...]:
        """The names that are this index's own without having files any more, sorted. Raises Unavailable."""
        return self.store.kept() if isinstance(self.store, Folder) else ()

    def release(self, name: NormalizedName) -> None:
        """Let a name that has no files any more be looked for upstream. Raises Missing, Conflict, Unavailable."""
        if not isinstance(self.store, Folder):
            raise Missing("this index has no folder, so no names of its own")
        self.store.release([name])

    def cache_use(self) -> Usage | None:
        """What lies in the cache of the upstreams' files, counted on disk; ``None`` if nothing is kept."""
        if all(upstream.mode != "cache" for upstream in chain(self.config, self.name)):
            return None
        return build_cache(self.config).usage()

    def traffic(self) -> dict[str, object] | None:
        """What was fetched from the upstreams so far; ``None`` if none is asked."""
        return asdict(self.remotes[0].traffic.snapshot()) if self.remotes else None

    def close(self) -> None:
        """Stop background work and close what is open."""
        for thing in self.owned:
            thing.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What several indexes use, and those of a later reading of the settings too."""

    slow: Turnstile
    """What may wait long passes it, of all kinds together."""
    folders: dict[object, Folder] = field(default_factory=dict)
    gates: dict[Path | None, Gate] = field(default_factory=dict)
    """Who can log in, by password file; what they may is for the rules of each index to say."""
    memories: dict[Path, Licensing] = field(default_factory=dict)
    """What policies remember, by its database."""
    records: dict[tuple[Path | None, Path | None], Records] = field(default_factory=dict)
    """Those of the server, by their file and the audit log."""
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Sites:
    """The sites of all indexes of a configuration, which share what they can."""

    config: Config
    by_name: Mapping[str, Site]
    """The one at the root is ``/``."""
    owned: tuple[Closable, ...]
    shared: Shared
    upstreams: Upstreams

    def close(self, *, but: Sites | None = None) -> None:
        """Stop background work and close what is open, of all of them, `but` what others use too."""
        _close(self.owned, but)


def build(config: Config) -> Site:
    """The site of the index at the root alone. Raises ConfigError, naming the flag, for what cannot be used."""
    builder = _Builder(config)
    try:
        site = builder.site(ROOT)
    except BaseException:
        builder.close()
        raise
    return replace(site, owned=tuple(builder.owned))


def build_all(config: Config, before: Sites | None = None, *, recording: bool = True) -> Sites:
    """The sites of all indexes, with what they can use of those `before`; what may surprise of them goes to the log.

    Where not `recording`, they are only looked at: nothing is written in the packages folders, nothing in the log.
    Raises ConfigError, naming the setting, for what cannot be used.
    """
    check_apart(config)
    builder = _Builder(config, before, recording=recording)
    try:
        sites = {name: builder.site(name) for name in (ROOT, *config.indexes)}
    except BaseException:
        builder.close()
        raise
    for remark in remarks(config) if recording else ():
        _log.warning("%s", remark)
    return Sites(config, sites, tuple(builder.owned), builder.shared, builder.upstreams)


@contextmanager
def offline(config: Config, name: str = ROOT) -> Iterator[Index]:
    """An index as it is seen without a server: no upstream is asked, and nothing is remembered. Raises ConfigError."""
    with closing(_Builder(config, recording=False, offline=True)) as builder:
        yield builder.index(name)


@contextmanager
def rights(config: Config, name: str = ROOT) -> Iterator[Gate]:
    """Who may do what in an index, as it is seen without a server. Raises ConfigError."""
    with closing(_Builder(config, recording=False, offline=True)) as builder:
        builder.index(name)
        yield builder.gate(name)


@contextmanager
def online(config: Config, name: str = ROOT) -> Iterator[Index]:
    """An index beside its server: its upstreams are asked for what the server asks them. Raises ConfigError."""
    with closing(_Builder(config)) as builder:
        yield builder.index(name)


def _close(things: Iterable[Closable], but: Sites | None) -> None:
    """Close `things` that no others use."""
    for thing in things:
        if but is None or all(thing is not other for other in but.owned):
            thing.close()


class _Builder:
    """Makes sites, and each thing that several of them use once."""

    def __init__(
        self, config: Config, before: Sites | None = None, *, recording: bool = True, offline: bool = False
    ) -> None:
        self._config, self._recording, self._offline = config, recording, offline
        self._before = before
        if before is None:
            # What may wait long, of all kinds together, leaves an eighth of the threads to what is at hand.
            self.shared = Shared(slow=Turnstile(max(1, threads(config) * 7 // 8)))
        else:
            self.shared = Shared(slow=before.shared.slow, started=before.shared.started)
        self.owned: list[Closable] = []
        self._gates: dict[str, Gate] = {}
        self._indexes: dict[str, Index] = {}
        self._stores: dict[str, Store] = {}
        self._reserved: dict[str, Reserved] = {}
        self._changeable = Changeable(config)
        self._changed = _changed(config.file)
        earlier = None if before is None else before.upstreams
        self.upstreams = Upstreams(config, self.shared.slow, self.owned, earlier)

    def close(self) -> None:
        """Close what was made so far, of a site that cannot be."""
        _close(self.owned, self._before)

    def site(self, name: str) -> Site:
        """The site of one index. Raises ConfigError."""
        config, settings = self._config, self._config.of(name)
        with told(config, name):
            records = self._records()
            gate = self.gate(name)
            sendfile = find_sendfile(config, settings)
        # The folders come last, so that settings that contradict each other leave nothing open.
        index = self.index(name)
        index.shares = frozenset(other for other in index.chain if other == name or self._lists(other, gate))
        folders = tuple(store for store in index.stores() if isinstance(store, Folder))
        return Site(
            name=name,
            config=config,
            settings=settings,
            index=index,
            store=self._stores[name],
            reading=folders[0] if len(folders) == 1 else Together(folders),
            gate=gate,
            records=records,
            remotes=_asked(index),
            # Behind a login nothing may end up in a cache that others share (RFC 9111 section 3.5).
            page_cache_control="no-cache" if "list" in gate.book.open else "private, no-cache",
            file_cache_control=self._file_cache_control(name, gate),
            sendfile=sendfile,
            started=self.shared.started,
        )

    def _file_cache_control(self, name: str, gate: Gate) -> str:
        config, seconds = self._config, self._config.of(name).cache_control
        folders = (path for one in config.chain(name) for path in config.of(one).packages)
        if seconds is not None:
            control = f"max-age={seconds}"
        elif any(map(self._changeable.has, folders)):
            # A client that had the old file for a year would call the new one tampered with.
            control = "no-cache"
        else:
            control = "max-age=31536000, immutable"
        return control if "download" in gate.book.open else f"private, {control}"

    def _lists(self, name: str, gate: Gate) -> bool:
        """Whether all whom a gate lets list may list another index, and the same of it."""
        its = self.gate(name)
        return "list" in its.book.open or (its.shares_logins(gate) and its.book.listing == gate.book.listing)

    def _records(self) -> Records:
        config, known = self._config, self.shared.records
        key = records_file(config), config.server.audit_log
        if key not in known:
            earlier = self._before.shared.records.get(key) if self._before is not None else None
            known[key] = earlier or open_records(config, changing=self._recording)
            if self._recording and (config.rules or any(config.of(name).passwords for name in (ROOT, *config.indexes))):
                known[key].keep_room()  # else nobody may change anything here
            self.owned.append(known[key])
        return known[key]

    def gate(self, name: str) -> Gate:
        """Who may do what in one index. Raises ConfigError."""
        if name not in self._gates:
            book, passwords = _book(self._config, name), self._config.of(name).passwords
            path = None if passwords == NO_PASSWORDS else passwords
            known, earlier = self.shared.gates, self._before.shared.gates if self._before is not None else {}
            if path not in known:
                # Logins that hold are remembered there, and guesses counted, for all that one password file lets in.
                known[path] = earlier.get(path) or Gate(
                    None if path is None else Passwords(path),
                    book,
                    workers=threads(self._config),
                    within=self.shared.slow,
                )
            records = self._records()
            self._gates[name] = known[path].alike(
                book, tokens=records.tokens, owners=self._owners(name), tell=records.trail.wrong_login
            )
        return self._gates[name]

    def _owners(self, name: str) -> Callable[[NormalizedName], frozenset[str] | None]:
        """Who owns a project of an index: of the first in its chain that knows; ``None``: it is anybody's yet.

        What has files, or had some, and no owner is nobody's. What is returned raises Unavailable.
        """
        # Nothing of this builder: it knows all that was before, which is to be let go.
        chain, stores, records = self._config.chain(name), self._stores, self._records()

        def owners(project: NormalizedName) -> frozenset[str] | None:
            for one in chain:
                store = stores[one]
                if found := records.owners.of(one, project):
                    return found
                if store.project(project) is not None or (isinstance(store, Folder) and store.had(project)):
                    # A server that was killed may have published it, and not come to settle whose it is.
                    return records.owners.of(one, project, lapsed=True)
            return None

        return owners

    def index(self, name: str) -> Index:
        """One index alone. Raises ConfigError."""
        if name in self._indexes:
            return self._indexes[name]
        settings = self._config.of(name)
        bases = [self.index(base) for base in settings.bases]
        with told(self._config, name):
            ways = self.upstreams.ways(settings)
            store = self._store(settings)
        if self._offline:
            ways = tuple(map(_recalled, ways))
        reserved = Reserved(settings.private, store.had if isinstance(store, Folder) else lambda name: False)
        policy = settings.policy
        index = Index(
            store,
            name=name,
            bases=bases,
            ways=ways,
            reserved=reserved.refuses,
            merge=Names(policy.merge).has if policy is not None and policy.merge else None,
            private=Names(settings.private).has,
            policy=None if policy is None else self._governed(policy),
            changed=self._changed,
        )
        self._indexes[name], self._stores[name] = index, store
        return index

    def _governed(self, policy: PolicySettings) -> Governed:
        path, memories = cache_dir(self._config) / "policies.sqlite3", self.shared.memories
        if path not in memories:
            known = self._before.shared.memories.get(path) if self._before is not None else None
            # Who waits for licences leaves most threads to others.
            waiting = Turnstile(max(1, threads(self._config) // 8), within=self.shared.slow)
            # Those who look share the places of whoever waits for an upstream.
            memories[path] = known or Licensing(
                Remembered(path), waiting, threads=max(2, min(threads(self._config) // 16, 6))
            )
            self.owned.append(memories[path])
        return Governed(policy, memories[path], note=self._recording)

    def _store(self, settings: IndexSettings) -> Store:
        if not settings.packages:
            return Nowhere()
        key = settings.packages, settings.hash_algo, settings.follow_links, cache_dir(self._config)
        folders = self.shared.folders
        if key not in folders:
            known = self._before.shared.folders.get(key) if self._before is not None else None
            folders[key] = known or make_folder(self._config, settings, self.shared.slow, recording=self._recording)
            self.owned.append(folders[key])
        return folders[key]


def _changed(file: Path | None) -> int:
    """The second at which a file of settings was last changed or put in its place; 0 if there is none."""
    try:
        facts = None if file is None else file.stat()
    except OSError:
        return 0  # it is gone since it was read
    # As with folders: the time of the last status change cannot be set, and is none on Windows.
    return 0 if facts is None else int(facts.st_mtime if os.name == "nt" else facts.st_ctime)


def _recalled(way: Way) -> Way:
    """A way that leads no further than to what is kept of the upstream."""
    from ..upstream.recalled import Recalled

    return way if way.source is None else replace(way, source=Recalled(cast("Remote", way.source)))


def _asked(index: Index) -> tuple[Remote, ...]:
    """The upstreams of an index and its bases that are asked for clients, each once."""
    return tuple(cast("Remote", way.source) for way in dict.fromkeys(index.all_ways()) if way.source is not None)


def _book(config: Config, name: str) -> RuleBook:
    """Who may do what in an index. Raises ConfigError."""
    settings = config.of(name)
    protected, passwords = settings.authenticate, settings.passwords
    if settings.admin and passwords in (None, NO_PASSWORDS):
        raise ConfigError(f"--admin {settings.admin[0]} needs a password file: add -P FILE")
    if config.ruled(name):
        return RuleBook(config.rules, config.groups, index=name, admins=settings.admin)
    if passwords == NO_PASSWORDS:
        if protected:
            listed = ",".join(sorted(protected))
            raise ConfigError(f"-P . means that nobody can log in, but -a {listed} asks for it; add -a . to open up")
        return RuleBook.of_flags((), open=True, index=name)
    if not protected:
        raise ConfigError("-a . lets anybody upload; say so twice: add -P .")
    needless = protected - {"update"}
    if passwords is None and needless:
        raise ConfigError(f"-a {','.join(sorted(needless))} needs a password file: add -P FILE")
    return RuleBook.of_flags(protected, index=name, admins=settings.admin)

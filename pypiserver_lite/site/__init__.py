"""The composition root: a `Config` becomes a `Site` for each index. The only place that names concrete classes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from packaging.utils import NormalizedName

from ..config.indexes import ROOT, PolicySettings
from ..config.settings import Config, IndexSettings
from ..config.values import NO_PASSWORDS, Sendfile
from ..errors import ConfigError
from ..folder.nowhere import Nowhere
from ..folder.store import Folder
from ..folder.together import Together
from ..index import Index, Way
from ..kept import Turnstile
from ..model import KeptUp, Store
from ..policy.governed import Governed
from ..policy.licensing import Licensing
from ..policy.remembered import Remembered
from ..policy.rules import Names, Reserved
from ..rights.gate import Gate
from ..rights.may import Rules
from ..rights.who import Passwords
from .folders import build_folder, check_apart, find_sendfile, make_folder
from .limits import cache_dir, largest_upload, threads
from .routes import remarks
from .upstreams import Upstreams, build_cache, build_remotes

if TYPE_CHECKING:
    from ..upstream.health import Health
    from ..upstream.source import Remote

__all__ = [
    "VERSION",
    "Closable",
    "Site",
    "Sites",
    "build",
    "build_all",
    "build_cache",
    "build_folder",
    "build_remotes",
    "largest_upload",
    "offline",
    "remarks",
    "threads",
]

_log = logging.getLogger("pypiserver_lite")

VERSION = "0.1.0"
"""Of this package; pyproject.toml reads it here."""


class Closable(Protocol):
    """What has something open."""

    def close(self) -> None:
        """Close it."""


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
    shares: frozenset[str]
    """The indexes that this one is based on, and itself, which whoever may list this one may list too."""
    reading: KeptUp
    """What is read in the background of all that the index has."""
    gate: Gate
    remotes: tuple[Remote, ...]
    """The upstreams that are asked for clients, in order; none if clients are sent there themselves."""
    page_cache_control: str
    file_cache_control: str
    sendfile: Sendfile | None = None
    """Who sends files in our place; its folders are resolved, as the paths of files are."""
    owned: tuple[Closable, ...] = ()
    """What ends with this site."""
    started: float = field(default_factory=time.monotonic)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("pypiserver_lite"))

    def ways(self) -> tuple[Way, ...]:
        """The upstreams of the index and of its bases, each once, in the order in which they are asked."""
        return tuple(dict.fromkeys(self.index.all_ways()))

    def health(self) -> tuple[Health, ...]:
        """How those of them do that are asked for clients."""
        return tuple(cast("Remote", way.source).health(way.name) for way in self.ways() if way.source is not None)

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
        """Numbers for monitoring."""
        done, total = self.reading.progress()
        numbers: dict[str, object] = {"projects": len(self.index.names()), "facts": {"done": done, "total": total}}
        traffic = self.traffic()
        if traffic is None:
            return numbers
        return {**numbers, "upstream": traffic, "upstreams": list(map(asdict, self.health()))}

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
    gates: dict[object, Gate] = field(default_factory=dict)
    memories: dict[Path, Licensing] = field(default_factory=dict)
    """What policies remember, by its database."""
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

    def health(self) -> tuple[Health, ...]:
        """How the upstreams do that are asked for clients of any index."""
        return self.upstreams.health()

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
    builder = _Builder(config, offline=True)
    try:
        yield builder.index(name)
    finally:
        builder.close()


def _close(things: Iterable[Closable], but: Sites | None) -> None:
    """Close `things` that no others use."""
    for thing in things:
        if but is None or all(thing is not other for other in but.owned):
            thing.close()


class _Builder:
    """Makes sites, and each thing that several of them use once."""

    def __init__(self, config: Config, before: Sites | None = None, *, recording: bool = True) -> None:
        self._config, self._recording = config, recording

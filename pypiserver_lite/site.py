"""The composition root: a `Config` becomes a `Site`. The only place that names concrete classes."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs
from packaging.utils import NormalizedName

from .config.settings import Config
from .config.values import NO_PASSWORDS, Sendfile
from .errors import ConfigError
from .folder.memory import Memory
from .folder.store import Folder
from .index import Index
from .kept import Turnstile
from .model import KeptUp, Source, Store
from .policy.rules import Reserved, Withheld
from .rights.gate import Gate
from .rights.may import Rules
from .rights.who import Passwords

if TYPE_CHECKING:
    from .upstream.cache import Cache
    from .upstream.source import Remote

VERSION = "0.1.0"
"""Of this package; pyproject.toml reads it here."""

_ANSWER = 11.0  # seconds that an answer of upstreams may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything a running index consists of."""

    config: Config
    index: Source
    """What clients see: the folders, then whatever is asked after them."""
    store: Store
    """Where uploads go."""
    reading: KeptUp
    """The same, for what is read of it in the background."""
    gate: Gate
    reserved: Reserved
    """Names that no upstream is asked for."""
    remotes: tuple[Remote, ...]
    """The upstreams that are asked for clients, in order; none if clients are sent there themselves."""
    page_cache_control: str
    file_cache_control: str
    sendfile: Sendfile | None = None
    """Who sends files in our place; its folders are resolved, as the paths of files are."""
    started: float = field(default_factory=time.monotonic)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("pypiserver_lite"))

    def fallback(self, name: NormalizedName) -> str | None:
        """Where to send clients for a project that is not here, or ``None`` if they are to go nowhere else."""
        settings = self.config.index
        if settings.disable_fallback or settings.fallback_mode != "redirect" or self.reserved.refuses(name):
            return None
        return f"{settings.fallback_url[0] if settings.fallback_url else _default_upstream()}{name}/"

    def upstreams(self) -> tuple[str, ...]:
        """The upstreams' addresses, in the order in which they are asked; none if nobody is. May hold passwords."""
        if self.config.index.disable_fallback:
            return ()
        return self.config.index.fallback_url or (_default_upstream(),)

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
        return numbers if traffic is None else {**numbers, "upstream": traffic}

    def traffic(self) -> dict[str, object] | None:
        """What was fetched from the upstreams so far; ``None`` if none is asked."""
        return asdict(self.remotes[0].traffic.snapshot()) if self.remotes else None

    def close(self) -> None:
        """Stop background work and close what is open."""
        self.reading.close()
        for remote in self.remotes:
            remote.close()


def _default_upstream() -> str:
    from .upstream import default_upstream

    return default_upstream()


def build(config: Config) -> Site:
    """A site of these settings. Raises ConfigError, naming the flag, for what cannot be used."""
    # What may wait long, of all kinds together, leaves an eighth of the threads to what is at hand.
    slow = Turnstile(max(1, threads(config) * 7 // 8))
    gate = _gate(config, slow)
    sendfile = _sendfile(config)
    remotes = build_remotes(config, slow)
    # Last, so that settings that contradict each other leave nothing open.
    folder = build_folder(config, slow)
    reserved = Reserved(config.index.private, folder.had)
    return Site(
        config=config,
        index=Index([folder, Withheld(Index(remotes), reserved)]) if remotes else folder,
        store=folder,
        reading=folder,
        gate=gate,
        reserved=reserved,
        remotes=remotes,
        # Behind a login nothing may end up in a cache that others share (RFC 9111 section 3.5).
        page_cache_control="private, no-cache" if gate.rules.needs_login("list") else "no-cache",
        file_cache_control=_file_cache_control(config, gate),
        sendfile=sendfile,
    )


def _file_cache_control(config: Config, gate: Gate) -> str:
    if config.index.cache_control is not None:
        control = f"max-age={config.index.cache_control}"
    elif config.index.overwrite or gate.rules.open or config.index.passwords is not None:
        # Whoever may update may remove a file and publish another of its name: a client that had the old one for a
        # year would call the new one tampered with.
        control = "no-cache"
    else:
        control = "max-age=31536000, immutable"
    return f"private, {control}" if gate.rules.needs_login("download") else control


def build_folder(config: Config, slow: Turnstile | None = None) -> Folder:
    """The packages folders alone. Raises ConfigError for one that cannot be served."""
    roots = [_folder(path) for path in config.index.packages]
    return Folder(
        roots,
        _memory(config),
        hash_algo=config.index.hash_algo,
        workers=threads(config),
        within=slow,
        follow_links=config.index.follow_links,
        copies=_cache_dir(config) / "names",
    )


def _folder(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"the packages folder {path} does not exist; make it (mkdir -p {path}) or name another"
        ) from error
    except OSError as error:
        raise ConfigError(f"the packages folder {path} cannot be reached by this user: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"the packages folder {path} is not a folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(f"the packages folder {path} cannot be read by this user")
    return path


def _sendfile(config: Config) -> Sendfile | None:
    if config.server.sendfile_header is None:
        return None
    roots = [path.resolve() for path in config.index.packages]
    mappings = [(prefix, folder.resolve()) for prefix, folder in config.server.sendfile_header.mappings]
    for _, folder in mappings:
        if not any(folder == root or folder in root.parents or root in folder.parents for root in roots):
            raise ConfigError(f"--sendfile-header: {folder} holds none of the packages folders, nor lies in one")
    return Sendfile(config.server.sendfile_header.header, tuple(mappings))


def _gate(config: Config, slow: Turnstile) -> Gate:
    protected = config.index.authenticate
    if config.index.passwords == NO_PASSWORDS:
        if protected:
            listed = ",".join(sorted(protected))
            raise ConfigError(f"-P . means that nobody can log in, but -a {listed} asks for it; add -a . to open up")
        return Gate(None, Rules(frozenset(), open=True))
    if not protected:
        raise ConfigError("-a . lets anybody upload; say so twice: add -P .")
    if config.index.passwords is None:
        needless = protected - {"update"}
        if needless:
            raise ConfigError(f"-a {','.join(sorted(needless))} needs a password file: add -P FILE")
        return Gate(None, Rules(protected))
    passwords = Passwords(config.index.passwords)
    passwords.check()
    return Gate(passwords, Rules(protected), workers=threads(config), within=slow)


def threads(config: Config) -> int:
    """Requests worked on at once. uv alone asks for fifty, each may wait for an upstream, and half may wait."""
    waits = not config.index.disable_fallback and config.index.fallback_mode != "redirect"
    return config.server.threads or (104 if waits else 16)


def _cache_dir(config: Config) -> Path:
    if config.server.cache_dir is not None:
        return config.server.cache_dir
    try:
        return platformdirs.user_cache_path("pypiserver-lite").expanduser()  # older ones leave the ~
    except RuntimeError as error:
        raise ConfigError("--cache-dir: this user has no home to keep it in; name a folder") from error


def _memory(config: Config) -> Memory:
    return Memory(_cache_dir(config) / "facts.sqlite3")


def build_cache(config: Config) -> Cache:
    """Where the upstreams' pages and files are kept."""
    from .upstream.cache import Cache

    return Cache(_cache_dir(config) / "upstream", config.server.cache_size)


def build_remotes(config: Config, slow: Turnstile | None = None) -> tuple[Remote, ...]:
    """The upstreams that are asked for clients, in order. Raises ConfigError for settings that do not go together."""
    settings = config.index
    if settings.disable_fallback:
        return ()
    if settings.fallback_mode == "redirect":
        if len(settings.fallback_url) > 1:
            raise ConfigError("several --fallback-url need --fallback-mode proxy or cache: clients go to one place")
        if any("@" in url.split("/")[2] for url in settings.fallback_url):
            raise ConfigError(
                "--fallback-url holds a password that every client would be sent; leave it out, or add "
                "--fallback-mode proxy or cache"
            )
        return ()
    # An HTTP client takes longer to import than everything else together.
    from .upstream.client import Upstream
    from .upstream.rate import Rate, Traffic
    from .upstream.source import Remote
    from .upstream.ways import find

    rate, traffic = Rate(settings.fallback_rate), Traffic()
    # Half of the threads at most wait for upstreams and their readers, so that what is here never waits with them.
    workers = max(1, threads(config) // 2)
    turnstile = Turnstile(workers, within=slow)
    cache = build_cache(config) if settings.fallback_mode == "cache" else None
    urls = settings.fallback_url or (_default_upstream(),)
    ways = find(settings.fallback_ca, settings.fallback_proxy)
    calls = max(1, workers // len(urls))
    upstreams = [
        Upstream(
            url,
            netrc=settings.netrc,
            hosts=settings.fallback_host,
            ways=ways,
            # Who asks for a page waits for all that may be asked before it, and pip gives up after 15 seconds.
            page=_ANSWER / len(urls),
            calls=calls,
            room=workers,
            rate=rate,
            traffic=traffic,
        )
        for url in urls
    ]
    mode: Literal["proxy", "cache"] = "cache" if cache else "proxy"
    return tuple(
        Remote(upstream, mode=mode, cache=cache, turnstile=turnstile, ttl=settings.cache_ttl) for upstream in upstreams
    )

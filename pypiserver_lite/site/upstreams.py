"""The upstreams that the settings name, made of what `upstream` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

from packaging.utils import NormalizedName

from ..config.indexes import UpstreamSettings
from ..config.settings import Config, IndexSettings
from ..errors import ConfigError
from ..index import Way
from ..kept import Turnstile
from ..policy.rules import Names
from .limits import cache_dir, governs, threads

if TYPE_CHECKING:
    from ..upstream.cache import Cache
    from ..upstream.rate import Traffic
    from ..upstream.source import Remote

_ANSWER = 11.0  # seconds that an answer of upstreams may take


def _default_upstream() -> str:
    from ..upstream import default_upstream

    return default_upstream()


def build_cache(config: Config) -> Cache:
    """Where the upstreams' pages and files are kept."""
    from ..upstream.cache import Cache

    return Cache(cache_dir(config) / "upstream", config.server.cache_size)


def build_remotes(config: Config) -> tuple[Remote, ...]:
    """The upstreams that the index at the root asks for clients, in order. Raises ConfigError."""
    upstreams = Upstreams(config, Turnstile(max(1, threads(config))))
    return tuple(cast("Remote", way.source) for way in upstreams.ways(config.index) if way.source is not None)


class Upstreams:
    """The upstreams of a configuration, each made when an index first asks it. Raises ConfigError."""

    def __init__(self, config: Config, slow: Turnstile) -> None:
        self._config = config
        self._slow = slow
        self._made: dict[object, Way] = {}
        self._cache: Cache | None = None
        self._turnstile: Turnstile | None = None
        self._traffic: Traffic | None = None

    def ways(self, settings: IndexSettings) -> tuple[Way, ...]:
        """The upstreams of an index, in the order in which they are asked."""
        asked = self._config.asked_by(settings)
        if settings.upstreams is None and len(asked) > 1 and asked[0].mode == "redirect":
            raise ConfigError("several --fallback-url need --fallback-mode proxy or cache: clients go to one place")
        return tuple(self._way(upstream, len(asked)) for upstream in asked)

    def _way(self, upstream: UpstreamSettings, among: int) -> Way:
        if upstream not in self._made:
            self._made[upstream] = self._make(upstream, among)
        return self._made[upstream]

    def _make(self, upstream: UpstreamSettings, among: int) -> Way:
        only, never = Names(upstream.only or ("*",)), Names(upstream.never)
        url = str(upstream.url or _default_upstream())
        redirects = upstream.mode == "redirect"
        if redirects and "@" in url.split("/")[2]:
            raise ConfigError(
                "--fallback-url holds a password that every client would be sent; leave it out, or add "
                "--fallback-mode proxy or cache"
            )
        return Way(
            name=upstream.name,
            serves=(lambda name: True) if not upstream.only and not upstream.never else _chosen(only, never),
            source=None if redirects and not governs(self._config) else self._remote(upstream, url, among),
            address=url if redirects else None,
            url=url,
        )

    def _remote(self, upstream: UpstreamSettings, url: str, among: int) -> Remote:
        # An HTTP client takes longer to import than everything else together.
        from ..upstream.client import Upstream
        from ..upstream.rate import Rate, Traffic
        from ..upstream.source import Remote
        from ..upstream.ways import find

        # Half of the threads at most wait for upstreams and their readers, so that what is here never waits with them.
        workers = max(1, threads(self._config) // 2)
        self._turnstile = self._turnstile or Turnstile(workers, within=self._slow)
        self._traffic = self._traffic or Traffic()
        if upstream.mode == "cache":
            self._cache = self._cache or build_cache(self._config)
        client = Upstream(
            url,
            netrc=upstream.netrc,
            hosts=upstream.hosts,
            ways=find(upstream.ca, upstream.proxy),
            # Who asks for a page waits for all that may be asked before it, and pip gives up after 15 seconds.
            page=_ANSWER / among,
            calls=max(1, workers // among),
            room=workers,
            rate=Rate(upstream.rate),
            traffic=self._traffic,
        )
        mode: Literal["proxy", "cache"] = "cache" if upstream.mode == "cache" else "proxy"
        cache = self._cache if mode == "cache" else None
        return Remote(client, mode=mode, cache=cache, turnstile=self._turnstile, ttl=upstream.ttl)

    def close(self) -> None:
        """Close idle connections."""
        for way in self._made.values():
            if way.source is not None:
                cast("Remote", way.source).close()


def _chosen(only: Names, never: Names) -> Callable[[NormalizedName], bool]:
    return lambda name: only.has(name) and not never.has(name)

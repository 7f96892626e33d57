"""The upstreams that the settings name, made of what `upstream` has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from ..config.indexes import FLAGS, UpstreamSettings
from ..config.settings import Config, IndexSettings
from ..errors import ConfigError
from ..index import Way
from ..kept import Turnstile
from ..policy.routing import Route
from .limits import cache_dir, threads
from .routes import asked, shares

if TYPE_CHECKING:
    from ..upstream.cache import Cache
    from ..upstream.client import Upstream
    from ..upstream.rate import Rate, Traffic
    from ..upstream.source import Remote

_ANSWER = 11.0  # seconds that an answer of upstreams may take: pip gives up after 15
_SILENCE = 10.0  # seconds until a file begins to come, or goes on


def _default_upstream() -> str:
    from ..upstream import default_upstream

    return default_upstream()


def build_cache(config: Config) -> Cache:
    """Where the upstreams' pages and files are kept."""
    from ..upstream.cache import Cache

    return Cache(cache_dir(config) / "upstream", config.server.cache_size)


class Closable(Protocol):
    """What has something open."""

    def close(self) -> None:
        """Close it."""


def _kept_in(config: Config) -> tuple[Path, int]:
    return cache_dir(config), config.server.cache_size


class Upstreams:
    """The upstreams of a configuration, each made when an index first asks it, and shared by all that do.

    Whoever made them closes what is added to `owned`. What they can use of
    those of an earlier configuration, `before`, they go on with: pages in
    memory, connections, and what is known of who is down.
    """

    def __init__(self, config: Config, slow: Turnstile, owned: list[Closable], before: Upstreams | None = None) -> None:
        self._config = config
        self._slow, self._owned = slow, owned
        self._asked, self._shares = asked(config), shares(config)
        self._made: dict[UpstreamSettings, Way] = {}
        self._cache: Cache | None = None
        self._turnstile: Turnstile | None = None
        self._traffic: Traffic | None = None
        self._flags_rate: Rate | None = None
        self._before: Mapping[UpstreamSettings, Way] = {}
        if before is not None:
            self._turnstile, self._traffic = before._turnstile, before._traffic
            if config.index.fallback_rate == before._config.index.fallback_rate:
                self._flags_rate = before._flags_rate
            if _kept_in(config) == _kept_in(before._config):
                self._cache = before._cache
            self._before = {upstream: way for upstream, way in before._made.items() if self._is_as(before, upstream)}

    def _is_as(self, before: Upstreams, upstream: UpstreamSettings) -> bool:
        """Whether one that was made before would be made alike now."""
        return (
            self._shares.get(upstream) == before._shares.get(upstream)
            and (upstream.mode != "cache" or self._cache is not None)
            and (upstream.ca, upstream.netrc) == (None, None)  # which may have changed
        )

    def ways(self, settings: IndexSettings) -> tuple[Way, ...]:
        """The upstreams of an index, in the order in which they are asked. Raises ConfigError."""
        upstreams = self._config.asked_by(settings)
        if settings.upstreams is None and len(upstreams) > 1 and upstreams[0].mode == "redirect":
            raise ConfigError("several --fallback-url need --fallback-mode proxy or cache: clients go to one place")
        return tuple(map(self._way, upstreams))

    def _way(self, upstream: UpstreamSettings) -> Way:
        if upstream not in self._made:
            way = self._made[upstream] = self._before.get(upstream) or self._make(upstream)
            if way.source is not None:
                self._owned.append(cast("Remote", way.source))
        return self._made[upstream]

    def _make(self, upstream: UpstreamSettings) -> Way:
        url = str(upstream.url or _default_upstream())
        redirects = upstream.mode == "redirect"
        if redirects and "@" in url.split("/")[2]:
            raise ConfigError(
                "--fallback-url holds a password that every client would be sent; leave it out, or add "
                "--fallback-mode proxy or cache"
            )
        return Way(
            name=upstream.name,
            serves=Route(upstream.only, upstream.never).serves,
            source=self._remote(upstream) if upstream in self._asked else None,
            address=url if redirects else None,
            url=url,
        )

    def _remote(self, upstream: UpstreamSettings) -> Remote:
        # An HTTP client takes longer to import than everything else together.
        from ..upstream.rate import Traffic
        from ..upstream.source import Remote

        # Half of the threads at most wait for upstreams and their readers, so that what is here never waits with them.
        workers = max(1, threads(self._config) // 2)
        self._turnstile = self._turnstile or Turnstile(workers, within=self._slow)
        self._traffic = self._traffic or Traffic()
        if upstream.mode == "cache":
            self._cache = self._cache or build_cache(self._config)
        mode: Literal["proxy", "cache"] = "cache" if upstream.mode == "cache" else "proxy"
        cache = self._cache if mode == "cache" else None
        clients = self._clients(upstream, workers, self._traffic)
        return Remote(*clients, mode=mode, cache=cache, turnstile=self._turnstile, ttl=upstream.ttl)

    def _clients(self, upstream: UpstreamSettings, workers: int, traffic: Traffic) -> list[Upstream]:
        """One for each address."""
        from ..upstream.client import Upstream
        from ..upstream.ways import find

        ways, rate = find(upstream.ca, upstream.proxy, upstream.spelling), self._rate(upstream)
        given = (upstream.username, upstream.password or "") if upstream.username is not None else None
        return [
            Upstream(
                str(url or _default_upstream()),
                netrc=upstream.netrc,
                hosts=upstream.hosts,
                # Only the server of `url` is known to be the one that they are for.
                credentials=given if at == 0 else None,
                spelling=upstream.spelling,
                ways=ways,
                # The first that is silent ends a search, but for further addresses, which need time to be asked, too;
                # that several take their time has the bound of the request.
                page=_ANSWER / (len(upstream.urls) - at),
                read=_SILENCE / len(upstream.urls),
                calls=max(1, workers // self._shares[upstream]),
                room=workers,
                rate=rate,
                traffic=traffic,
            )
            for at, url in enumerate(upstream.urls)
        ]

    def _rate(self, upstream: UpstreamSettings) -> Rate:
        """A budget for each upstream, but one for all that flags name."""
        from ..upstream.rate import Rate

        if upstream.spelling is not FLAGS:
            return Rate(upstream.rate)
        self._flags_rate = self._flags_rate or Rate(upstream.rate)
        return self._flags_rate

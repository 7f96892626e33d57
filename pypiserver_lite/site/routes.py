"""Who asks whom: which upstreams each index comes to, in what order, and which of them this server asks itself.

All of it follows from the settings alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..config.indexes import ROOT, PolicySettings, UpstreamSettings
from ..config.settings import Config
from ..policy.routing import Route

_ASKING = ("ttl", "rate", "hosts", "ca", "proxy")
"""How this server asks an upstream."""
_DEFAULT = UpstreamSettings(name="")


def chain(config: Config, name: str) -> tuple[UpstreamSettings, ...]:
    """The upstreams of an index and of its bases, each once, in the order in which they are asked."""
    found: dict[UpstreamSettings, None] = {}
    seen: set[str] = set()

    def add(index: str) -> None:
        if index not in seen:
            seen.add(index)
            found.update(dict.fromkeys(config.asked_by(config.of(index))))
            for base in config.of(index).bases:
                add(base)

    add(name)
    return tuple(found)


def asked(config: Config) -> frozenset[UpstreamSettings]:
    """The upstreams that this server asks itself: not those that all clients are sent to, whatever they ask for."""
    return frozenset(upstream for name in _names(config) for upstream in _asked_for(config, name))


def shares(config: Config) -> Mapping[UpstreamSettings, int]:
    """Of each that is asked: how many upstreams may be asked one after the other for one name.

    It is one of them, and so are those that stand in a chain with it and serve some name that it serves too.
    """
    every = asked(config)
    routes = {upstream: Route(upstream.only, upstream.never) for upstream in every}
    found: dict[UpstreamSettings, int] = {}
    for together in {tuple(up for up in chain(config, name) if up in every) for name in _names(config)}:
        for upstream in together:
            meeting = sum(up is upstream or routes[up].may_meet(routes[upstream]) for up in together)
            found[upstream] = max(found.get(upstream, 0), meeting)
    return found


def remarks(config: Config) -> Iterator[str]:
    """What may surprise of upstreams with ``mode = "redirect"``, each in a sentence."""
    proxied: dict[UpstreamSettings, list[str]] = {}
    hiding: dict[tuple[UpstreamSettings, tuple[str, ...]], list[str]] = {}
    for name in _names(config):
        upstreams = chain(config, name)
        for upstream in _asked_for(config, name):
            if upstream.mode == "redirect":
                proxied.setdefault(upstream, []).append(name)
        for at, upstream in enumerate(upstreams):
            route = Route(upstream.only, upstream.never)
            behind = (up for up in upstreams[at + 1 :] if route.may_meet(Route(up.only, up.never)))
            hidden = tuple(up.name for up in behind)
            if upstream.mode == "redirect" and hidden and not _rules(config.of(name).policy):
                hiding.setdefault((upstream, hidden), []).append(name)
    every = asked(config)
    for upstream in config.upstreams.values():
        said = [upstream.spelling.called(key) for key in _ASKING if getattr(upstream, key) != getattr(_DEFAULT, key)]
        if upstream.mode == "redirect" and upstream not in every and said:
            yield f"{', '.join(said)}: without effect, for clients are sent there and this server asks nothing of it"
    for upstream, names in proxied.items():
        yield (
            f"{upstream.spelling.called('mode')} is redirect, but what a policy governs or merges is asked for by this "
            f"server, since no policy reaches a page at another server: in the index {', '.join(names)}"
        )
    for (upstream, hidden), names in hiding.items():
        yield (
            f"{upstream.spelling.called('mode')} is redirect: for the names that it serves clients are sent there and "
            f"hear nothing of {', '.join(hidden)} behind it, in the index {', '.join(names)}"
        )


def _asked_for(config: Config, name: str) -> tuple[UpstreamSettings, ...]:
    """Of an index's chain, those that are asked for the sake of this index."""
    governs = _rules(config.of(name).policy)
    return tuple(upstream for upstream in chain(config, name) if governs or upstream.mode != "redirect")


def _rules(policy: PolicySettings | None) -> bool:
    """Whether a policy says anything."""
    return policy is not None and policy != PolicySettings()


def _names(config: Config) -> tuple[str, ...]:
    return (ROOT, *config.indexes)

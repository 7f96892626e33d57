"""What may not be meant in the settings, and what in them has no effect: said at the start, and by ``check``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from ..config import settings
from ..config.indexes import ROOT
from ..config.server import OTHER_SERVERS
from ..config.settings import Config
from ..config.values import NO_PASSWORDS
from ..patterns import normalized
from ..policy.routing import may_meet
from ..records import may_write
from ..site.limits import records_file
from ..site.routes import asked
from ..web.browsers import is_loopback

_ASKING = ("cache_size", "cache_ttl", "fallback_rate", "fallback_host", "fallback_ca", "fallback_proxy", "netrc")
"""Settings of how this server asks an upstream."""


def remarks(config: Config) -> Iterator[str]:
    """What may not be meant, and what has no effect."""
    if config.server.server in OTHER_SERVERS:
        yield f"--server {config.server.server}: waitress runs instead"
    if config.server.backend is not None:
        yield f"--backend {config.server.backend} has no effect: the folder is always kept indexed"
    yield from _of_asking(config)
    for url in () if config.index.disable_fallback else config.index.fallback_url:
        if not url.endswith(("/simple/", "/+simple/")):
            yield f"--fallback-url {url!r}: this is asked for NAME/ below it; most indexes have that below /simple/"
    for name in (ROOT, *config.indexes):
        if config.of(name).passwords == NO_PASSWORDS and not is_loopback(config.server.host):
            yield (
                f"{_of(name)}-P . -a . with --host {config.server.host}: whoever reaches this port may publish and "
                "remove packages; name a password file with -P FILE, or listen on 127.0.0.1"
            )
    yield from _of_indexes(config)
    yield from _of_folders(config)
    yield from _of_records(config)


def _of_asking(config: Config) -> Iterator[str]:
    index, why = config.index, ""
    idle: tuple[str, ...] = _ASKING
    if index.upstreams is not None:
        why, idle = "for with 'upstreams' it is said of each, in [upstream.NAME]", _ASKING[1:]
    elif index.disable_fallback:
        why, idle = (
            "for with --disable-fallback this server asks no upstream",
            ("fallback_url", "fallback_mode", *_ASKING),
        )
    elif index.fallback_mode == "redirect" and asked(config).isdisjoint(config.asked_by(index)):
        why = "for with --fallback-mode redirect this server asks no upstream"
    given = [name for name in idle if config.value(name) != settings.default(name)]
    if "cache_size" in given and any(upstream.mode == "cache" for upstream in config.upstreams.values()):
        given.remove("cache_size")
    if why and given:
        yield f"{', '.join(map(settings.flag, given))}: without effect, {why}"


def _of_indexes(config: Config) -> Iterator[str]:
    used = {upstream.name for name in (ROOT, *config.indexes) for upstream in config.asked_by(config.of(name))}
    for name in config.upstreams:
        if name not in used:
            yield f"the upstream {name} is asked by no index; name it in 'upstreams' of one"
    for name in (ROOT, *config.indexes):
        yield from _of_open(config, name)
        policy = config.of(name).policy
        if policy is None:
            continue
        if policy.merge and not any(config.asked_by(config.of(each)) for each in config.chain(name)):
            yield f"{_of(name)}'merge' has no effect, for no upstream is asked"
        elif policy.merge:
            yield from _of_merge(config, name, policy.merge)
        for choice in policy.exempt:
            if choice.until is not None and choice.until <= datetime.now(timezone.utc):
                yield f"{_of(name)}the exemption {choice} has ended"


def _of_open(config: Config, name: str) -> Iterator[str]:
    """Of an index through which anybody gets what one that it is based on keeps behind a login."""
    for base in config.of(name).bases:
        closed = config.of(base).authenticate - config.of(name).authenticate
        open_ = [action for action in ("list", "download") if action in closed]
        if open_:
            yield f"{_of(name)}anybody may {' and '.join(open_)} what {base} has, which asks for a login itself"


def _of_merge(config: Config, name: str, merge: tuple[str, ...]) -> Iterator[str]:
    """Of names that upstreams are asked for though they may be somebody's own."""
    if "*" in merge:
        yield (
            f'{_of(name)}merge = ["*"] has upstreams asked for every name: whoever registers that of a project of '
            "yours there, with a higher version, is installed; name the projects that are meant"
        )
    for base in config.of(name).bases:
        never, _ = reserved(config, base)
        if opened := sorted(_met(never - set(config.of(name).private), merge)):
            yield f"{_of(name)}'merge' has upstreams asked for {', '.join(opened)} too, which {base} reserves"


def reserved(config: Config, name: str) -> tuple[set[str], set[str]]:
    """The patterns of names that no upstream is asked for, and those of which 'merge' makes exceptions."""
    index, policy = config.of(name), config.of(name).policy
    of_bases = [reserved(config, base) for base in index.bases]
    theirs = set[str]().union(*(never for never, _ in of_bases)) - set(index.private)
    opened = _met(theirs, policy.merge) if policy is not None else set()
    never = set(index.private) | theirs - opened
    return never, opened.union(*(opened for _, opened in of_bases)) - never


def _met(private: set[str], merge: Iterable[str]) -> set[str]:
    """Of patterns those of which a name may be merged."""
    merged = normalized(merge)
    return {
        pattern for pattern in private if any(may_meet(own, one) for own in normalized([pattern]) for one in merged)
    }


def _of_folders(config: Config) -> Iterator[str]:
    """Of two indexes over one folder, with other rules."""
    for one, two in itertools.combinations((ROOT, *config.indexes), 2):
        shared = [path for path in config.of(one).packages if path in config.of(two).packages]
        differ = [key for key in ("passwords", "authenticate", "overwrite") if _differ(config, one, two, key)]
        if shared and differ:
            yield (
                f"the indexes {one} and {two} share {shared[0]} and differ in {', '.join(differ)}: what one lets a "
                "user publish, replace, yank or remove there is so in both"
            )


def _of_records(config: Config) -> Iterator[str]:
    """Of a server that lets somebody change something which it could not put on record."""
    file = records_file(config)
    changed = any(config.of(name).packages and config.of(name).passwords for name in (ROOT, *config.indexes))
    if changed and file is not None and not may_write(file):
        yield (
            f"the records in {file.parent} cannot be written by this user, so all changes are refused; name another "
            "folder with --state-dir"
        )


def _differ(config: Config, one: str, two: str, key: str) -> bool:
    return bool(getattr(config.of(one), key) != getattr(config.of(two), key))


def _of(name: str) -> str:
    return "" if name == ROOT else f"the index {name}: "

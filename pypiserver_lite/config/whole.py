"""What does not fit together in the settings of several indexes: names, bases and upstreams."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from .indexes import ROOT, check_name
from .lines import Path
from .rows import near
from .settings import Config
from .values import NO_PASSWORDS, RIGHTS, masked

_DEEPEST, _MOST_WAYS = 100, 1000  # of indexes over indexes


def index_table(name: str) -> Path:
    """The table of an index in the file; the top for the one at the root."""
    return () if name == ROOT else ("index", name)


def rule_table(number: int) -> Path:
    """The table of a rule by its number, counted from 1."""
    return ("rule", str(number))


def _both(private: Iterable[str], merge: Iterable[str]) -> list[str]:
    """Of the patterns `private` those of which one of `merge` means some names too, or all.

    Not every two that overlap are found: of ``a*`` and ``*b`` neither means the other. There `private` wins.
    """
    merged = [re.sub(r"[-_.]+", "-", pattern).lower() for pattern in merge]
    return [pattern for pattern in private if any(_means(pattern, other) for other in merged)]


def _means(pattern: str, merged: str) -> bool:
    own = re.sub(r"[-_.]+", "-", pattern).lower()
    return own == merged or fnmatch.fnmatchcase(own, merged) or fnmatch.fnmatchcase(merged, own)


def faults(config: Config) -> Iterator[tuple[Path, str | None, str]]:
    """What is wrong, with its table and key, ``None`` for the table itself; only the first is sure."""
    names = [ROOT, *config.indexes]
    for name in config.upstreams:
        if not re.fullmatch(r"(?!fallback(-\d+)?$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name, re.ASCII):
            yield (("upstream", name), None, "a name has letters, digits and . _ - between them")
    for name in config.indexes:
        table = index_table(name)
        base = urlsplit(config.server.server_base_url).path.rstrip("/")
        reason = check_name(name, config.server.health_endpoint, base)
        if reason:
            yield (table, None, reason)
        index = config.indexes[name]
        if "/" in name and name.split("/")[0] in config.indexes:
            yield (table, None, f"/{name}/ would hide a page of the index {name.split('/')[0]}")
        if not (index.packages or index.bases or index.upstreams):
            yield (table, None, "it has nothing to serve; give it packages, bases or upstreams")
    for name in names:
        index, table = config.of(name), index_table(name)
        for base in index.bases:
            if base not in names:
                yield (table, "bases", f"there is no index {masked(base)}{near(base, names)}")
        for upstream in index.upstreams or ():
            if upstream not in config.upstreams:
                known = near(upstream, config.upstreams) or "; give it a table, [upstream.NAME]"
                yield (table, "upstreams", f"there is no upstream {masked(upstream)}{known}")
        if index.policy is not None and (twice := _both(index.private, index.policy.merge)):
            yield (
                (*table, "policy"),
                "merge",
                f"{', '.join(twice)} is 'private' here, so no upstream is asked; leave such names out of one of them",
            )
    yield from _rights(config)
    for name in names:
        circle = _circle(name, config)
        if circle:
            yield (index_table(name), "bases", f"they lead back to itself: {' → '.join(circle)}")
    for name, (depth, ways) in _woven(config).items():
        if depth > _DEEPEST or ways > _MOST_WAYS:
            much = f"through {depth} indexes, one behind the other" if depth > _DEEPEST else f"in {ways} ways"
            yield (index_table(name), "bases", f"they lead to others {much}; each request would go there")


def _rights(config: Config) -> Iterator[tuple[Path, str | None, str]]:
    """What is wrong with the rules of who may do what."""
    names = [ROOT, *config.indexes]
    for number, rule in enumerate(config.rules, 1):
        table, all_of_them = rule_table(number), frozenset(RIGHTS)
        if not rule.who:
            yield (table, None, "it says nothing of who it is about; add who = [...]")
        if not rule.may and not rule.may_not:
            yield (table, None, "it says nothing; add may = [...], or may_not = [...]")
        if twice := rule.may & rule.may_not:
            reason = f"{_listed(twice)} stands in 'may' too; what they may not stands in a rule above that"
            yield (table, "may_not", reason)
        for word in rule.who:
            if word.startswith("@") and word[1:] not in config.groups:
                known = near(word[1:], config.groups) or "; name its users in [groups]"
                yield (table, "who", f"there is no group {masked(word[1:])}{known}")
        for index in rule.indexes:
            if index not in names:
                yield (table, "indexes", f"there is no index {masked(index)}{near(index, names)}")
        said = rule.may | rule.may_not
        if "owner" in rule.who and (wrong := said - {"upload", "yank", "remove", "push"}):
            reason = f"to own a project is to upload, yank, remove or push it; {_listed(wrong)} is not about owners"
            yield (table, "who", reason)
        if "admin" in said and said != all_of_them and rule.projects:
            yield (table, "projects", "to administer is not about projects; make another rule of it")
        if "admin" in rule.may and rule.may != all_of_them and "*" in rule.who:
            yield (table, "who", "whoever administers has a login; name users or groups, or say 'users'")
        for index in names:
            if rule.indexes and index not in rule.indexes:
                continue
            if config.of(index).passwords in (None, NO_PASSWORDS) and set(rule.who) != {"*"}:
                reason = f"it is about people who log in, and nobody can in the index {index}: add passwords = FILE"
                yield (table, "who", f"{reason}, an htpasswd file")
            if place := config.origins.get((index, "authenticate")):
                reason = f"it says who may do what in the index {index}, and so does {place}; leave one of them out"
                yield (table, None, reason)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word for word in RIGHTS if word in set(words))


def _woven(config: Config) -> dict[str, tuple[int, int]]:
    """How deep the bases of each index lie, and in how many ways they are come to; there are no circles."""
    known: dict[str, tuple[int, int]] = {}
    waiting = [ROOT, *config.indexes]
    while waiting:
        bases = config.of(waiting[-1]).bases
        unknown_yet = [base for base in bases if base not in known]
        waiting.extend(unknown_yet)
        if not unknown_yet:
            deep, ways = [known[base][0] for base in bases], [known[base][1] for base in bases]
            known[waiting.pop()] = 1 + max(deep, default=0), 1 + sum(ways)
    return known


def _circle(name: str, config: Config) -> list[str]:
    """The way from an index over its bases back to itself; nothing if there is none."""
    ways = [[name]]
    seen = set()
    while ways:
        way = ways.pop()
        for base in config.of(way[-1]).bases:
            if base == name:
                return [*way, base]
            if base not in seen:
                seen.add(base)
                ways.append([*way, base])
    return []

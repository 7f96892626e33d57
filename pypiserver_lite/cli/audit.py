"""``audit`` and ``records``: who did what, and a copy of what is on record."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..config import load
from ..config.values import parse_count, parse_duration, parse_moment
from ..dists import normalize
from ..errors import ConfigError
from ..records import ACTIONS, OUTCOMES, Event, Records
from .recorded import add_folders, gathered, none_yet, opened, shown
from .which import index_of

_AUDIT = """Show who did what, the newest first: every change with its end, and what was refused.

  pypiserver-lite audit --since 7d
  pypiserver-lite audit --in ./packages --user alice --action upload
  pypiserver-lite audit --project acme-tools --json | jq .files

A change that stays 'begun' was cut off: what it did, the folder shows."""

_RECORDS = """Copy the records: the audit trail, tokens, owners, download counts.

  pypiserver-lite records backup /backup/records.sqlite3
  pypiserver-lite records backup /backup/records.sqlite3 --in ./packages

The copy is whole and of one moment, and servers run on meanwhile. To put it back, stop the servers, remove
records.sqlite3 and what else begins with that name in the folder of --state-dir (default: .pypiserver-lite in the first
packages folder), and copy it there as records.sqlite3."""

_PORTION = 500  # events that are asked for at once


def audit(argv: Sequence[str]) -> int:
    """``audit``: show the audit trail."""
    parser = load.make_parser("pypiserver-lite audit", _AUDIT, names=["config", "state_dir"])
    add_folders(parser)
    parser.add_argument("--since", metavar="WHEN", default=None, help="a span of time such as 7d or 12h, or a date")
    parser.add_argument("--user", metavar="USER", default=None, help="what this user did; cli:LOGIN for verbs")
    parser.add_argument("--project", metavar="NAME", default=None, help="what was done to this project")
    parser.add_argument("--index", metavar="NAME", default=None, help="what was done in this index; / is the root's")
    parser.add_argument("--action", choices=ACTIONS, default=None, help="this kind of event alone")
    parser.add_argument("--outcome", choices=OUTCOMES, default=None, help="what ended so alone")
    parser.add_argument("--limit", metavar="N", default=None, help="the newest N (default: all)")
    parser.add_argument("--json", action="store_true", default=False, help="a line of JSON each")
    given = vars(parser.parse_args(list(argv)))
    wanted = {name: given.pop(name) for name in ("user", "project", "index", "action", "outcome")}
    since, limit, as_json = given.pop("since"), given.pop("limit"), given.pop("json")
    config = gathered(given)
    if wanted["project"] is not None:
        wanted["project"] = normalize(wanted["project"])
    if wanted["index"] is not None:
        wanted["index"] = index_of(config, wanted["index"])
    moment = None if since is None else _moment(since)
    with contextlib.closing(shown(config)) as records:
        try:
            most = None if limit is None else parse_count(limit)
        except ValueError as error:
            raise ConfigError(f"--limit: {error}") from error
        for event in _found(records, wanted, moment, most):
            print(json.dumps(event.as_json()) if as_json else _line(event))
    return 0


def _found(
    records: Records, wanted: dict[str, str | None], since: datetime | None, most: int | None
) -> Iterator[Event]:
    """Events in portions: a trail may be long, and who pipes it into ``head`` needs no more than that of it."""
    before = None
    while most is None or most > 0:
        portion = _PORTION if most is None else min(most, _PORTION)
        events = records.trail.find(
            since=since,
            user=wanted["user"],
            project=wanted["project"],
            index=wanted["index"],
            action=wanted["action"],
            outcome=wanted["outcome"],
            before=before,
            limit=portion,
        )
        yield from events
        if len(events) < portion:
            return
        before = events[-1].id
        most = None if most is None else most - portion


def _moment(since: str) -> datetime:
    try:
        return datetime.now(timezone.utc) - timedelta(seconds=parse_duration(since))
    except ValueError:
        pass
    try:
        return parse_moment(since)
    except ValueError:
        raise ConfigError(f"--since: {since[:50]!r} is neither a span of time such as 7d nor a date") from None


def _line(event: Event) -> str:
    assert event.when is not None
    return f"{event.when:%Y-%m-%d %H:%M:%S}Z {event}"


def records(argv: Sequence[str]) -> int:
    """``records``: copy what is on record."""
    parser = load.make_parser("pypiserver-lite records", _RECORDS, names=["config", "state_dir"])
    add_folders(parser)
    parser.add_argument("action", choices=("backup",), metavar="backup", help="what to do")
    parser.add_argument("file", metavar="FILE", type=Path, help="where the copy goes; it is never written over")
    given = vars(parser.parse_args(list(argv)))
    _, file = given.pop("action"), given.pop("file")
    with contextlib.closing(opened(gathered(given))) as found:
        if none := none_yet(found):
            raise ConfigError(none)
        found.backup(file)
    print(f"{file}: a copy of {found.path}", file=sys.stderr)
    return 0

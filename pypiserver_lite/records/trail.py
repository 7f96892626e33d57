"""The audit trail: who did what, when and from where, and what was refused.

A change is on record before it happens, and how it ended after it. Refusals,
which a stranger can cause, are kept within bounds; changes for ever.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from ..errors import NoSpace, PypiServerLiteError, Unavailable
from ..kept import Kept
from ..observe import audit, veiled
from .ledger import Ledger
from .lines import Lines
from .moments import after, moment, stamp

ACTIONS = (
    *("login", "upload", "yank", "unyank", "remove", "push", "reload"),
    *("token-create", "token-revoke", "password", "user-delete", "owner", "release"),
    *("list", "download", "update", "admin"),
)
"""What an event may be about; the last ones are refused alone: ``update`` is a change before it is known which."""
OUTCOMES = ("begun", "done", "refused", "failed")
"""How it ended: one that stays ``begun`` was cut off, and what it did can be seen in the folder alone."""

KEPT_REFUSALS = 50_000
A_SECOND, OF_ONE = 20, 5
"""Refusals that are taken in one second: of all addresses, and of one; and as many logins that were wrong."""
_WAITING = 1000  # refusals that are not written yet
_LONGEST = {"who": 260, "token": 100, "address": 64, "client": 200, "project": 214, "version": 255, "reason": 500}
_COLUMNS = "id, moment, who, token, address, client, action, place, project, version, files, outcome, reason"
_NONE: Mapping[str, Published] = MappingProxyType({})

_log = logging.getLogger(__name__)
_client: ContextVar[str] = ContextVar("client", default="")


@contextmanager
def sent_by(client: str) -> Iterator[None]:
    """Have wrong logins meanwhile be those of a client: who tells of them does not know it."""
    before = _client.set(client)
    try:
        yield
    finally:
        _client.reset(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done, or refused."""

    action: str
    """One of `ACTIONS`."""
    when: datetime | None = None
    """Aware, in UTC; ``None`` until it is recorded."""
    who: str = ""
    """The user, ``token:NAME`` for a token of no user, ``cli:LOGIN`` for a verb; nothing for nobody.

    Of a refused login, the name that was claimed.
    """
    token: str = ""
    """The name of the token that stood in for a password."""
    address: str = ""
    client: str = ""
    """The User-Agent's first 200 printable characters."""
    index: str = ""
    """The index by name, ``/`` for the root's; of a push, the one that it goes to."""
    project: str = ""
    version: str = ""
    files: tuple[tuple[str, str], ...] = ()
    """Names of files, each with its SHA-256 in hex where that is known."""
    outcome: str = ""
    """One of `OUTCOMES`."""
    reason: str = ""
    """Why it was refused or failed; of a yank its reason, of a push where from, of a token or password whose."""
    id: int = 0
    """Its number in the trail; later ones are larger."""

    def as_json(self) -> dict[str, object]:
        """The event as it stands in JSON lines and answers."""
        return {
            "id": self.id,
            "when": None if self.when is None else self.when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": self.action,
            "outcome": self.outcome,
            **{name: getattr(self, name) for name in ("who", "token", "address", "client")},
            **{name: getattr(self, name) for name in ("index", "project", "version")},
            "files": [{"name": name, "sha256": digest or None} for name, digest in self.files],
            "reason": self.reason,
        }

    def __str__(self) -> str:
        """One line for the log, in which nothing that a client sends can be taken for something else."""
        begins = f"{self.action} {self.outcome}"
        came = f"from {_quiet(self.address) or '-'} of user {self.who!a}"
        came += f" (token {self.token!a})" if self.token else ""
        came += f", client {self.client!a}" if self.client else ""
        what = " ".join(filter(None, (self.project, self.version)))
        what += f" in {self.index}" if self.index and what else ""
        names = ", ".join(name for name, _ in self.files)
        more = ": ".join(_quiet(text) for text in (what, names, self.reason) if text)
        return f"{begins}: {came}" + (f": {more}" if more else "")


class Published(NamedTuple):
    """Who put a file in an index, and when."""

    who: str
    when: datetime
    sha256: str
    """Of the file as it was; another file of that name may have been put in its place by hand."""


class Change:
    """A change under way: what is set here is recorded with its end."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.files: tuple[tuple[str, str], ...] = event.files
        """What was changed: names, each with its SHA-256 where that is known."""
        self.published: tuple[str, ...] = ()
        """The names of those that the index has from now on by this change."""
        self.reason = event.reason


class Trail:
    """The audit trail in a `ledger`, and in `lines` besides; `later` is told when there is something to `flush`.

    Safe for threads and processes.
    """

    def __init__(
        self, ledger: Ledger, lines: Lines | None, later: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger, self._lines, self._later, self._clock = ledger, lines, later, clock
        self._uploads = Kept[tuple[object, Mapping[str, Published]]](lambda known: 200 * len(known[1]) + 100)
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque(maxlen=_WAITING)
        self._saying = threading.Lock()
        self._unsaid: deque[Event] = deque(maxlen=_WAITING)  # on record, but not on `lines` yet
        self._second, self._dropped = 0, 0
        # Wrong logins are throttled; what else is refused costs a stranger nothing, and does not crowd them out.
        self._logins, self._others = Counter[str](), Counter[str]()

    @contextmanager
    def change(self, event: Event) -> Iterator[Change]:
        """Put a change on record as begun, have it happen, and put on record how it ended.

        Raises Unavailable if it cannot be put on record: then the body does not
        run. What the body raises goes on: of ours the words become the reason.
        A body that is cut off leaves the event as begun.
        """
        event = self._begin(_trimmed(replace(event, when=after(self._clock()), outcome="begun")))
        change = Change(event)
        try:
            yield change
        except BaseException as error:
            words = str(error) if isinstance(error, PypiServerLiteError) else type(error).__name__
            self._end(replace(event, outcome="failed", reason=words))
            raise
        self._end(replace(event, outcome="done", files=change.files, reason=change.reason), change.published)

    def refused(self, event: Event) -> None:
        """Put on record, some seconds later, that something was refused. Never raises, never waits for a disk.

        Of a flood, some are kept: `OF_ONE` a second from one address, `A_SECOND` in all; and of wrong logins as many.
        """
        event = _trimmed(replace(event, when=after(self._clock()), outcome="refused"))
        with self._lock:
            second = int(self._clock())
            if second != self._second:
                self._second = second
                self._logins.clear()
                self._others.clear()
            taken, sender = self._logins if event.action == "login" else self._others, _sender(event.address)
            if taken.total() >= A_SECOND or taken[sender] >= OF_ONE:
                self._dropped += 1
                return
            taken[sender] += 1
            if self._ledger.path is not None:
                self._waiting.append(event)
            elif self._lines is not None:
                self._unsaid.append(event)  # no other place is there for it
        audit.warning("%s", event)
        self._later()

    def wrong_login(self, what: str, user: str, address: str) -> None:
        """Put on record that somebody could not show that they are `user`. Never raises, never waits for a disk."""
        self.refused(Event(action="login", who=user, address=address, client=_client.get(), reason=what))

    def find(
        self,
        *,
        since: datetime | None = None,
        user: str | None = None,
        project: str | None = None,
        action: str | None = None,
        index: str | None = None,
        outcome: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Event]:
        """Events, the newest first, of those that fit everything that is given.

        For the next page, `before` is the `Event.id` of the last. Raises Unavailable.
        """
        wanted: list[tuple[str, object]] = [
            ("moment >= ?", None if since is None else stamp(since)),
            ("who = ?", user),
            ("project = ?", project),
            ("action = ?", action),
            ("place = ?", index),
            ("outcome = ?", outcome),
            ("id < ?", before),
        ]
        given = [(text, value) for text, value in wanted if value is not None]
        where = " AND ".join(text for text, _ in given) or "1"
        rows = self._ledger.ask(
            f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - texts of ours
            [*(value for _, value in given), limit],
        )
        return [_event(row) for row in rows]

    def uploads(self, index: str, project: str) -> Mapping[str, Published]:
        """Who published the files of a project in an index, by file name: the very same object while that stays so.

        Raises Unavailable.
        """
        state = self._ledger.state()
        if not any(state):
            return _NONE
        known = self._uploads.find((index, project))
        if known is not None and known[0] == state:
            return known[1]
        rows = self._ledger.ask(
            "SELECT filename, who, moment, sha256 FROM published WHERE place = ? AND project = ?", (index, project)
        )
        found: Mapping[str, Published] = {
            name: Published(who, moment(when), sha256) for name, who, when, sha256 in rows
        }
        found = known[1] if known is not None and known[1] == found else found
        self._uploads.put((index, project), (state, found))
        return found

    def flush(self) -> None:
        """Write the refusals that wait. Raises Unavailable; then they wait on."""
        with self._lock:
            events, self._waiting = self._waiting, deque(maxlen=_WAITING)
            dropped, self._dropped = self._dropped, 0
        if dropped:
            audit.warning("%d more refusals are not on record: they came too fast", dropped)
        if events:
            self._record(events)
        with self._saying:
            while self._lines is not None and self._unsaid:
                event = self._unsaid[0]
                self._lines.write(event.as_json())
                with self._lock:
                    if self._unsaid[0] is event:  # else it gave way to newer ones
                        self._unsaid.popleft()

    def _record(self, events: deque[Event]) -> None:
        try:
            with self._ledger.changing() as connection:
                recorded = [replace(event, id=_insert(connection, event)) for event in events]
                connection.execute(
                    "DELETE FROM events WHERE outcome = 'refused' AND id <= (SELECT id FROM events "
                    "WHERE outcome = 'refused' ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (KEPT_REFUSALS,),
                )
        except Unavailable:
            with self._lock:
                self._waiting.extendleft(reversed(events))
            raise
        if self._lines is not None:
            with self._lock:
                self._unsaid.extend(recorded)

    def after_fork(self) -> None:
        """In a child process: what waits is its parent's to write."""
        self._forget()
        self._uploads.clear()

    def _begin(self, event: Event) -> Event:
        try:
            return self._begun(event)
        except NoSpace:
            # What makes room on a full disk is not refused for want of it.
            if event.action != "remove" or not self._ledger.give_room():
                raise
        return self._begun(event)

    def _begun(self, event: Event) -> Event:
        with self._ledger.changing() as connection:
            event = replace(event, id=_insert(connection, event))
        if self._lines is not None:
            try:
                self._lines.write(event.as_json())
            except Unavailable as error:
                self._end(replace(event, outcome="failed", reason=str(error)))
                raise
        return event

    def _end(self, event: Event, published: Sequence[str] = ()) -> None:
        """Put the end of a change on record. It has happened, whatever the disk says now: never raises for that."""
        event = _trimmed(event)
        try:
            with self._ledger.changing() as connection:
                connection.execute(
                    "UPDATE events SET outcome = ?, reason = ?, files = ? WHERE id = ?",
                    (event.outcome, event.reason, _files(event), event.id),
                )
                if event.outcome == "done":
                    _note_published(connection, event, published)
            if self._lines is not None:
                self._lines.write(event.as_json())
        except Unavailable as error:
            _log.error("the end of what is on record as begun cannot be put there (%s): %s", error, event)
        if event.action == "remove":
            self._ledger.keep_room()
        audit.log(logging.INFO if event.outcome == "done" else logging.WARNING, "%s", event)


def _note_published(connection: sqlite3.Connection, event: Event, published: Sequence[str]) -> None:
    digests = dict(event.files)
    connection.executemany(
        "INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?, ?, ?)",
        [(event.index, event.project, name, event.who, _stamp(event), digests.get(name, "")) for name in published],
    )
    if event.action == "remove":
        connection.executemany(
            "DELETE FROM published WHERE place = ? AND project = ? AND filename = ?",
            [(event.index, event.project, name) for name in digests],
        )


def _insert(connection: sqlite3.Connection, event: Event) -> int:
    row = (
        *(_stamp(event), event.who, event.token, event.address, event.client, event.action),
        *(event.index, event.project, event.version, _files(event), event.outcome, event.reason),
    )
    added = connection.execute(f"INSERT INTO events ({_COLUMNS}) VALUES (NULL{', ?' * len(row)})", row).lastrowid  # noqa: S608
    assert added is not None
    return added


def _event(row: Sequence[object]) -> Event:
    names = _COLUMNS.split(", ")
    values = {"index" if name == "place" else name: value for name, value in zip(names, row, strict=True)}
    values["when"] = moment(values.pop("moment"))
    values["files"] = tuple((name, digest) for name, digest in json.loads(str(values["files"])))
    return Event(**values)  # type: ignore[arg-type]  # as they were inserted


def _files(event: Event) -> str:
    return json.dumps(event.files, separators=(",", ":"))


def _stamp(event: Event) -> int:
    assert event.when is not None
    return stamp(event.when)


def _trimmed(event: Event) -> Event:
    """With texts from outside as SQLite takes them, of a bounded length, and with no token in them."""
    texts = {name: veiled(str(getattr(event, name)))[:longest] for name, longest in _LONGEST.items()}
    texts["client"] = "".join(filter(str.isprintable, veiled(str(event.client))))[: _LONGEST["client"]]
    return replace(event, **{name: text.encode("utf-8", "replace").decode() for name, text in texts.items()})  # type: ignore[arg-type]


def _sender(address: str) -> str:
    """Who is counted for what comes from an address: one machine may have all of a /64 of IPv6."""
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or int(parsed) >> 64)


def _quiet(text: str) -> str:
    """A text from outside that begins no line of its own."""
    return text.encode("unicode_escape").decode("ascii")

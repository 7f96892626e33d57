"""Finding out what addresses a host has, and connecting to one of them: each within its time, whatever is broken."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, cast

from ..errors import Late, Unavailable
from ..kept import Kept, start

Address = tuple[Any, ...]
"""As `socket.getaddrinfo` has it, of no port."""

_REMEMBERED = 30.0  # seconds; nobody tells for how long an answer of the resolver is good
_LOST = 60.0  # seconds after which a look-up is not waited for any more, but begun anew
_MEMORY = 2**18  # bytes
_MOST_FOREIGN = 8  # look-ups at once, of hosts that one upstream's pages name
_STAGGER = 0.25  # seconds, RFC 8305 section 5
_MOST_TRIED = 20  # addresses of one host
_BEGUN = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}


class Unreachable(Unavailable):
    """No connection to the upstream came about."""


def spelled_out(host: str) -> list[Address]:
    """The addresses that a host is without anybody being asked: oddly spelled ones too, none of a name."""
    try:
        return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return []


def _resolved(host: str) -> Sequence[Address]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)


class _Question:
    """A host that the system is asked for since a moment of the clock; `whose` page named it."""

    def __init__(self, whose: object, since: float) -> None:
        self.whose, self.since = whose, since
        self.answer: Sequence[Address] | OSError | UnicodeError | None = None


class Hosts:
    """The addresses of hosts as `ask` tells them, and connections to these. Safe to share between threads.

    The system's resolver knows no time limit, and one name server that is gone makes each of its answers take five
    seconds. So it is asked from a thread, by one look-up a host, for all who wait for that; they need not wait to the
    end for it to be of use, since it is remembered for half a minute, by `clock`.
    """

    def __init__(
        self, ask: Callable[[str], Sequence[Address]] = _resolved, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask, clock
        self._changed = threading.Condition()
        self._questions: dict[str, _Question] = {}
        self._known = Kept[tuple[Sequence[Address], float]](lambda known: 0, most_bytes=_MEMORY)

    def find(self, host: str, timeout: float, whose: object = None) -> Sequence[Address]:
        """Every address of a host. Raises Unreachable, Busy, or Late after `timeout` seconds.

        Of hosts that the pages of one upstream name, `whose`, only a few are looked up at once, or it would take
        everybody's threads.
        """
        found, since = self._known.find(host) or ((), 0.0)
        if found and self._clock() - since < _REMEMBERED:
            return found
        found = spelled_out(host)
        if found:
            return found
        until = time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(lambda: self._may_ask(host, whose), timeout):
                raise Late(f"the address of {host} cannot be found out in time")
            question = self._questions.get(host)
            if question is None or self._clock() - question.since >= _LOST:
                question = _Question(whose, self._clock())
                start("resolve", self._look_up, host, question)
                self._questions[host] = question
            if not self._changed.wait_for(lambda: question.answer is not None, until - time.monotonic()):
                raise Late(f"the address of {host} cannot be found out in time")
        if isinstance(question.answer, (OSError, UnicodeError)) or not question.answer:
            raise Unreachable(f"the upstream's host {host} has no address here")
        return question.answer

    def _may_ask(self, host: str, whose: object) -> bool:
        if whose is None or host in self._questions:
            return True
        lost = self._clock() - _LOST
        return sum(asked.whose is whose and asked.since > lost for asked in self._questions.values()) < _MOST_FOREIGN

    def _look_up(self, host: str, question: _Question) -> None:
        answer: Sequence[Address] | OSError | UnicodeError = OSError()
        try:
            answer = self._ask(host)
        except (OSError, UnicodeError) as error:
            answer = error
        finally:
            with self._changed:
                question.answer = answer
                if self._questions.get(host) is question:
                    del self._questions[host]
                if not isinstance(answer, (OSError, UnicodeError)):
                    self._known.put(host, (answer, self._clock()))
                self._changed.notify_all()

    def connect(self, host: str, port: int, found: Sequence[Address], timeout: float, options: Any) -> socket.socket:
        """A connection to one of the addresses `found`, as `connected` has it; if none is there, they are forgotten."""
        try:
            return connected(host, port, found, timeout, options)
        except Unavailable:
            self._known.drop(host)
            raise


HOSTS = Hosts()
"""Those of this process."""


def connected(host: str, port: int, found: Sequence[Address], timeout: float, options: Any) -> socket.socket:
    """A connection to the address that is there first, within `timeout` seconds. Raises Unreachable, Late.

    Families take turns, and another address is tried beside those that have not answered for a quarter of a second
    (RFC 8305): a network whose IPv6 leads nowhere costs no more than that.
    """
    until = time.monotonic() + timeout
    untried = _in_turn(found)[:_MOST_TRIED]
    failed: OSError | None = None
    with selectors.DefaultSelector() as trying:
        try:
            while untried or trying.get_map():
                if untried:
                    try:
                        trying.register(_begun(untried.pop(0), port, options), selectors.EVENT_WRITE)
                    except OSError as error:
                        failed = error
                        continue
                left = max(until - time.monotonic(), 0.0)
                for key, _ in trying.select(min(left, _STAGGER) if untried else left):
                    connection = cast(socket.socket, key.fileobj)
                    trying.unregister(connection)
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not code:
                        connection.settimeout(timeout)
                        return connection
                    connection.close()
                    failed = OSError(code, os.strerror(code))
                if time.monotonic() >= until:
                    raise Late(f"the upstream's host {host} does not answer")
        finally:
            for key in list(trying.get_map().values()):
                cast(socket.socket, key.fileobj).close()
    if isinstance(failed, TimeoutError):  # of the system's own patience
        raise Late(f"the upstream's host {host} does not answer") from failed
    raise Unreachable(f"the upstream's host {host} cannot be reached") from failed


def _in_turn(found: Sequence[Address]) -> list[Address]:
    """One of each family after the other, beginning with the one that the system prefers (RFC 8305 section 4)."""
    families: dict[int, list[Address]] = {}
    for entry in found:
        families.setdefault(entry[0], []).append(entry)
    return [entry for entry in chain.from_iterable(zip_longest(*families.values())) if entry is not None]


def _begun(entry: Address, port: int, options: Any) -> socket.socket:
    """A socket that is connecting. Raises OSError."""
    family, kind, protocol, _, address = entry
    connection = socket.socket(family, kind, protocol)
    try:
        for option in options or ():
            connection.setsockopt(*option)
        connection.setblocking(False)
        code = connection.connect_ex((address[0], port, *address[2:]))
        if code not in _BEGUN:
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection

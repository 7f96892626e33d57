"""What wrong logins cost those who send them, so that they cost others nothing."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ..errors import Busy
from ..kept import Kept, Turnstile

_RECORD, _FORGIVEN = 100, 600.0  # wrong logins that a record holds at most, and seconds until one of them is forgotten


class Network(NamedTuple):
    """What one guesser can use at no cost, and what one may have who means it."""

    own: str
    """An IPv4 address, a whole /64 of IPv6."""
    wide: str
    """The same, but a /48 of IPv6: customers get one of these or less."""
    block: str
    """A /16 of IPv4, a /32 of IPv6: seldom more than one provider's."""


def network_of(address: str) -> Network:
    """The network of an address; of anything else, itself."""
    try:
        parsed = ipaddress.ip_address(address[:64])
    except ValueError:
        return Network(address[:64], address[:64], address[:64])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        bits = int(parsed)
        own, wide, block = (ipaddress.IPv6Address(bits >> free << free) for free in (64, 80, 96))
        return Network(f"{own}/64", f"{wide}/48", f"{block}/32")
    text = str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return Network(text, text, ".".join(text.split(".")[:2]))


class Allowance:
    """What each key may do, such as wrong logins: `most` at once, and as many again for every `window` seconds.

    Bounded: of very many keys, those that were asked about last are known.
    """

    _BYTES = 3 * 2**20

    def __init__(self, most: int, window: float) -> None:
        self._most, self._each = most, window / most
        self._debts = Kept[tuple[float, float]](lambda debt: 0, most_bytes=self._BYTES)
        self._lock = threading.Lock()

    def debt(self, key: Hashable, now: float) -> float:
        """What time has not made good yet; 0: nothing."""
        debt, since = self._debts.find(key) or (0.0, now)
        return max(0.0, debt - (now - since) / self._each)

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until this key may try again; 0: now."""
        return max(0.0, (self.debt(key, now) - self._most + 1) * self._each)

    def note(self, key: Hashable, now: float) -> None:
        """Count one."""
        with self._lock:
            self._debts.put(key, (min(self.debt(key, now) + 1, self._most), now))


class _Caller:
    """One who waits for an answer to a login, in a thread of the server."""

    def __init__(self, login: Hashable, network: Network) -> None:
        self.login, self.network = login, network
        self.called = threading.Event()
        """It is this one's turn, or there is an answer, or somebody else was let in instead."""
        self.turn = False
        self.answer: bool | None = None


class Desk:
    """Where logins are verified, `at_once` at a time, and once for all who bring the same at the same time.

    `places` callers at most are here, which is what wrong logins can hold of
    the server's threads; `within` is a turnstile that they pass besides. Half
    of the places, one at least, are for different logins from one network, or
    from all that sent wrong ones lately. Whoever sent the fewest of those is
    next, counting what came from its wider networks too; when there is no
    room, whoever sent the most gives way, and among equals whoever has others
    here, then the latest. So those who guess, from however many addresses,
    keep out one another, and of others only whom nothing tells from them: new
    ones of a block like theirs. Bounded as `Allowance` is.
    """

    def __init__(
        self,
        at_once: int,
        places: int,
        patience: float,
        clock: Callable[[], float],
        within: Turnstile | None = None,
    ) -> None:
        self._places, self._share, self._patience = places, max(1, places // 2), patience
        self._at_once = min(at_once, max(1, places - 1))  # so that there is a place to wait in
        self._clock, self._within = clock, within
        self._own, self._wide, self._block = (Allowance(_RECORD, _RECORD * _FORGIVEN) for _ in range(3))
        self._here: list[_Caller] = []  # in the order in which they came
        self._lock = threading.Lock()

    def ask(self, login: Hashable, network: Network, verify: Callable[[], bool]) -> bool:
        """What `verify` says, or said to another who brought the same `login`.

        Raises Busy for those who have no place, or no turn within `patience` seconds; and what `verify` raises.
        """
        caller = _Caller(login, network)
        with self._lock:
            self._let_in(caller)
            self._call()
        try:
            caller.called.wait(self._patience)
        finally:
            with self._lock:
                if not caller.turn:
                    self._let_go(caller)
        if caller.turn:
            self._verify(caller, verify)
        if caller.answer is None:
            raise Busy("too many logins are being checked; try again in a few seconds")
        return caller.answer

    def _verify(self, caller: _Caller, verify: Callable[[], bool]) -> None:
        try:
            caller.answer = verify()
        finally:
            with self._lock:
                for one in [one for one in self._here if one.login == caller.login]:
                    one.answer = caller.answer
                    if one.answer is False:
                        self._note(one.network)
                    self._let_go(one)
                self._call()

    def _note(self, network: Network) -> None:
        now = self._clock()
        self._own.note(network.own, now)
        self._wide.note(network.wide, now)
        self._block.note(network.block, now)

    def _let_in(self, caller: _Caller) -> None:
        """Give a place, if need be that of another who waits. Raises Busy if all of those have more right to theirs."""
        now = self._clock()
        noted = self._own.debt(caller.network.own, now) > 0
        others = [one for one in self._here if one.login != caller.login]
        rivals = [
            one
            for one in others
            if one.network.own == caller.network.own or (noted and self._own.debt(one.network.own, now) > 0)
        ]
        if len({one.login for one in rivals}) < self._share:
            if self._has_room():
                self._here.append(caller)
                return
            rivals = self._here
        ranks = self._ranks([*self._here, caller])
        worst = max((one for one in [*rivals, caller] if not one.turn), key=ranks.__getitem__)
        # Who wants several at once when there is no room gives way from now on, even if no login was wrong yet.
        several = any(one.network == worst.network and one.login != worst.login for one in self._here)
        if several and not self._own.debt(worst.network.own, now):
            self._own.note(worst.network.own, now)
        if worst is caller:
            raise Busy("too many logins wait to be checked; try again in a few seconds")
        self._here.remove(worst)
        self._here.append(caller)  # who takes over the place in `within` too
        worst.called.set()

    def _has_room(self) -> bool:
        if len(self._here) >= self._places:
            return False
        if self._within is not None:
            try:
                self._within.enter()
            except Busy:
                return False
        return True

    def _ranks(self, callers: list[_Caller]) -> dict[_Caller, tuple[float, ...]]:
        """The lower, the sooner: wrong logins, its own and the wider networks', others of the same, who came when.

        Each guess may come from another address of a block, while anybody mistypes now and then: so the sum counts,
        and the own ones only among equals.
        """
        now, before = self._clock(), Counter[str]()
        ranks: dict[_Caller, tuple[float, ...]] = {}
        for number, one in enumerate(callers):
            own, wide, block = one.network
            debt = self._own.debt(own, now)
            ranks[one] = debt + self._wide.debt(wide, now) + self._block.debt(block, now), debt, before[own], number
            before[own] += 1
        return ranks

    def _call(self) -> None:
        """Tell the next whose turn it is, while any processor is free for them."""
        while True:
            busy = {one.login for one in self._here if one.turn}
            ranks = self._ranks(self._here)
            waiting = [one for one in self._here if one.login not in busy]
            if not waiting or len(busy) >= self._at_once:
                return
            following = min(waiting, key=ranks.__getitem__)
            following.turn = True
            following.called.set()

    def _let_go(self, caller: _Caller) -> None:
        if caller in self._here:
            self._here.remove(caller)
            if self._within is not None:
                self._within.leave()
        caller.called.set()

"""The loop that moves bytes for all connections: what is watched for, and one turn of it.

wasyncore asks everything that is open, on every turn, what it waits for. Here
it is asked again only after something happened to it, so a turn costs the
same among a thousand quiet connections as among ten.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Any

from waitress import wasyncore

_IN, _OUT = 1, 4  # POLLIN and POLLOUT, as epoll has them too
_ENDED = 8 | 16 | 32  # POLLERR, POLLHUP, POLLNVAL


class Loop(dict[int, Any]):
    """What wasyncore calls a map: everything that is open, by descriptor. Changed by the thread of the loop alone.

    A channel that a worker owns stays watched, although it wants no bytes
    then: most clients send none before they have their answer, and the loop
    need not be woken for that. If some come all the same, the channel is told
    (`unwanted`) and watched no more, until it is touched.
    """

    def __init__(self) -> None:
        super().__init__()
        self._poll: Any = None
        self._unit = 1.0
        if hasattr(select, "epoll"):
            self._poll = select.epoll()
        elif hasattr(select, "poll"):
            self._poll, self._unit = select.poll(), 1000.0
        self._watched: dict[int, int] = {}
        self._due: set[Any] = set()
        self._touched: deque[Any] = deque()

    def __setitem__(self, descriptor: int, thing: Any) -> None:
        super().__setitem__(descriptor, thing)
        self._due.add(thing)

    def __delitem__(self, descriptor: int) -> None:
        self._due.discard(self.get(descriptor))
        super().__delitem__(descriptor)
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def touch(self, thing: Any) -> None:
        """From any thread, before the loop is woken: ask `thing` again what it waits for."""
        self._touched.append(thing)

    def turn(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for events, and handle each once."""
        if self._poll is None:  # Windows, where everything is asked on every turn
            self._due.clear()
            self._touched.clear()
            wasyncore.poll(timeout, self)
            return
        while self._touched:
            self._due.add(self._touched.popleft())
        for thing in tuple(self._due):
            self._watch(thing)
        for descriptor, flags in self._poll.poll(timeout * self._unit):
            thing = self.get(descriptor)
            if thing is not None:
                self._due.add(thing)
                self._handle(descriptor, thing, flags)

    def close(self) -> None:
        """Let go of what the system keeps for this loop."""
        if hasattr(self._poll, "close"):
            self._poll.close()

    def _watch(self, thing: Any) -> None:
        if not thing.accepting:  # whether to accept depends on the time and on all others
            self._due.discard(thing)
        descriptor = thing._fileno
        if descriptor not in self or self[descriptor] is not thing:  # closed since
            return
        flags = _IN if thing.readable() else 0
        if thing.writable() and not thing.accepting:
            flags |= _OUT
        before = self._watched.get(descriptor)
        if flags == before or (not flags and before == _IN and getattr(thing, "patient", False)):
            return
        self._watched[descriptor] = flags
        if before is None:
            self._poll.register(descriptor, flags)
        else:
            self._poll.modify(descriptor, flags)

    def _handle(self, descriptor: int, thing: Any, flags: int) -> None:
        if flags & (_IN | _OUT):
            # What a connection still holds is read before it is believed to be gone.
            if flags & _IN:
                if thing.readable():
                    wasyncore.read(thing)
                else:
                    thing.unwanted = True
            if flags & _OUT and self.get(descriptor) is thing:
                wasyncore.write(thing)
        elif flags & _ENDED:
            thing.handle_close()

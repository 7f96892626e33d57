"""What requests upwards have from the request in hand: whom it has passed, and when its answer should begin.

Two indexes that point at each other would ask in circles, so every request
upwards carries ``Via`` (RFC 9110 section 7.6.3) with a random name of this
process, after the names of the servers of our kind that the request in hand
has passed. Nothing else of a client's request goes up. All that is asked for
it before its answer begins shares one time.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import Loop

OWN = f"pypiserver-lite-{secrets.token_hex(8)}"
"""This process, as other servers see it."""

_MOST = 4  # a circle through a server of several processes need not meet the same one again
_NAME = re.compile(r"(?<![0-9A-Za-z-])pypiserver-lite-[0-9a-f]{16}(?![0-9A-Za-z-])", re.ASCII)
_passed: ContextVar[tuple[str, ...]] = ContextVar("passed", default=())
_until: ContextVar[float] = ContextVar("until", default=math.inf)


def servers_of(via: str | None) -> tuple[str, ...]:
    """The servers of our kind that a request has passed, first one first."""
    return tuple(_NAME.findall(via[:4000])) if via else ()


def is_loop(via: str | None) -> bool:
    """Whether a request with this ``Via`` has been here before, or goes on for so long that it must be in a circle."""
    passed = servers_of(via)
    return OWN in passed or len(passed) > _MOST


@contextmanager
def carrying(via: str | None, seconds: float = 12.0) -> Iterator[None]:
    """Requests upwards inside the block are made for a request that came with this ``Via``. Raises Loop.

    Its answer should begin within `seconds`: pip waits for 15.
    """
    if is_loop(via):
        raise Loop("this request has been here before: two indexes point at each other")
    passed, until = _passed.set(servers_of(via)), _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _passed.reset(passed)
        _until.reset(until)


def left() -> float:
    """Seconds until the answer to the request in hand should begin; infinite if there is none."""
    return _until.get() - time.monotonic()


def go_on(seconds: float) -> None:
    """Whoever asked does not wait for it: what is asked for from here on in this context may take so long."""
    _until.set(time.monotonic() + seconds)


def answered() -> None:
    """The answer has begun: what is asked for from here on in this context has its own time."""
    _until.set(math.inf)


def via() -> str:
    """The field to send now."""
    return ", ".join(f"1.1 {name}" for name in (*_passed.get(), OWN))

"""How much of its time a busy server spends on looking at what may have changed."""

from __future__ import annotations

_LOOK = 0.00001  # seconds that a slow look at one folder or file takes


class Budget:
    """A share of the time that passes, to be spent on one kind of work; what is not spent is saved up to `burst`.

    Work that others' interrupted costs no more than it would if it were slow,
    that is `slow` seconds and a little for each look, or it would hide changes.
    """

    def __init__(self, share: float, burst: float, slow: float) -> None:
        self._share, self._burst, self._slow = share, burst / share, slow
        self.empty_until = 0.0
        """When (`monotonic`) there is something to spend again."""

    def spend(self, began: float, ended: float, looks: int) -> None:
        """Account for work of so many looks. Threads that race here may overspend a little."""
        seconds = min(ended - began, self._slow + looks * _LOOK)
        self.empty_until = max(self.empty_until, began - self._burst) + seconds / self._share

"""What may be done without a login, and what only with one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of an index for its actions: ``update``, ``download`` and ``list``."""

    protected: frozenset[str]
    """The actions that need a login."""
    open: bool = False
    """Whether the operator said that anyone may upload; else ``update`` needs a login, listed or not."""

    def needs_login(self, action: str) -> bool:
        """Whether `action` is for known users only."""
        return action in self.protected or (action == "update" and not self.open)

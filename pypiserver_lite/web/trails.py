"""Which events of the audit trail somebody asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from ..config.values import parse_duration
from ..dists import try_normalize
from ..errors import Invalid
from ..records import ACTIONS, OUTCOMES

_NAMES = ("since", "user", "project", "action", "outcome", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which events of the trail are asked for; what is not given is empty."""

    since: str = ""
    user: str = ""
    project: str = ""
    action: str = ""
    outcome: str = ""
    index: str = ""
    before: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """As a query has them. Raises Invalid."""
        before = query.get("before")
        if before is not None and not re.fullmatch("[0-9]{1,15}", before, re.ASCII):
            raise Invalid("before: the number of an event is expected")
        return replace(cls.as_written(query), before=None if before is None else int(before))

    @classmethod
    def as_written(cls, query: Mapping[str, str]) -> Filters:
        """The texts of a query, whatever they are."""
        since, user, project, action, outcome, index = (query.get(name, "").strip() for name in _NAMES)
        return cls(since=since, user=user, project=project, action=action, outcome=outcome, index=index)

    def asked(self) -> dict[str, object]:
        """The same as the trail is asked. Raises Invalid."""
        for name, known in (("action", ACTIONS), ("outcome", OUTCOMES)):
            if (text := getattr(self, name)) and text not in known:
                raise Invalid(f"{name}: {text[:60]!a} is none of {', '.join(known)}")
        try:
            seconds = parse_duration(self.since) if self.since else None
        except ValueError as error:
            raise Invalid(f"since: {error}") from error
        given: dict[str, object] = {name: getattr(self, name) or None for name in _NAMES}
        given["since"] = None if seconds is None else datetime.now(timezone.utc) - timedelta(seconds=seconds)
        given["project"] = try_normalize(self.project) or self.project or None  # as it is on record
        return {**given, "before": self.before}

    def query(self, before: int) -> str:
        """The query of the next page."""
        return urlencode({**{name: text for name in _NAMES if (text := getattr(self, name))}, "before": before})

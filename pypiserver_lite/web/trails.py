"""Which events of the audit trail somebody asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from ..config.values import parse_duration
from ..dists import try_normalize
from ..errors import Invalid
from ..records import ACTIONS, OUTCOMES


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
        given = {
            name: query.get(name, "").strip() for name in ("since", "user", "project", "action", "outcome", "index")
        }
        for name, known in (("action", ACTIONS), ("outcome", OUTCOMES)):
            if given[name] and given[name] not in known:
                raise Invalid(f"{name}: {given[name][:60]!a} is none of {', '.join(known)}")
        before = query.get("before")
        if before is not None and not re.fullmatch("[0-9]{1,15}", before, re.ASCII):
            raise Invalid("before: the number of an event is expected")
        given["project"] = try_normalize(given["project"]) or given["project"]  # as it is on record
        return cls(**given, before=None if before is None else int(before))

    def asked(self) -> dict[str, object]:
        """The same as the trail is asked. Raises Invalid."""
        try:
            seconds = parse_duration(self.since) if self.since else None
        except ValueError as error:
            raise Invalid(f"since: {error}") from error
        since = None if seconds is None else datetime.now(timezone.utc) - timedelta(seconds=seconds)
        names = ("user", "project", "action", "outcome", "index")
        return {"since": since, "before": self.before, **{name: getattr(self, name) or None for name in names}}

    def query(self, before: int) -> str:
        """The query of the next page."""
        names = ("since", "user", "project", "action", "outcome", "index")
        return urlencode({**{name: text for name in names if (text := getattr(self, name))}, "before": before})

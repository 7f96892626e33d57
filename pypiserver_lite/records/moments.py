"""Moments as the file has them: whole microseconds since 1970."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def stamp(moment: datetime) -> int:
    """The microseconds of an aware moment."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(microseconds: object) -> datetime:
    """The moment of some microseconds, in UTC."""
    return EPOCH + timedelta(microseconds=int(str(microseconds)))


def after(seconds: float) -> datetime:
    """The moment that a clock of seconds since 1970 shows."""
    return moment(int(seconds * 1e6))

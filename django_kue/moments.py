"""Times in Redis are whole Unix milliseconds; people get aware datetimes in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(milliseconds=1)


def moment(ms: int | str | bytes) -> datetime:
    """Unix milliseconds as an aware datetime.

    Raises:
        ValueError, OverflowError: it isn't a number, or is outside the years 1 to 9999.
    """
    return EPOCH + timedelta(milliseconds=int(ms))


def moment_or_none(ms: int | str | bytes | None) -> datetime | None:
    return moment(ms) if ms else None


def milliseconds(at: datetime) -> int:
    """The last whole millisecond that isn't after a moment."""
    return (at - EPOCH) // TICK


def milliseconds_up(at: datetime) -> int:
    """The first whole millisecond that isn't before a moment."""
    return -((EPOCH - at) // TICK)

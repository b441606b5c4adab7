"""A time as the client has it → as other wires write it. A time is milliseconds since 1970 or a caller's RFC 3339 text.

Promises  nothing raises: a time that cannot be read, or that the form has no place for, is None.
Limits    a text without a zone is UTC; fractions of a second count to the microsecond.
"""

from __future__ import annotations

import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["iso_utc", "nanoseconds"]

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND: Final = datetime.timedelta(microseconds=1)
NANOSECONDS_MAX: Final = 2**64 - 1


def iso_utc(timestamp: int | str) -> str | None:
    """ISO 8601 in UTC, of the years 1 to 9999."""
    try:
        if isinstance(timestamp, str):
            return _moment(timestamp).isoformat()
        return (EPOCH + datetime.timedelta(milliseconds=timestamp)).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return None


def nanoseconds(timestamp: int | str) -> int | None:
    """Nanoseconds since 1970 that fit 64 bits without a sign: to the year 2554."""
    if isinstance(timestamp, str):
        try:
            value = (_moment(timestamp) - EPOCH) // MICROSECOND * 1000
        except (ValueError, OverflowError):
            return None
    else:
        value = timestamp * 1_000_000
    return value if 0 < value <= NANOSECONDS_MAX else None


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC)

"""When an event happened, by the server's clock: senders' clocks are wrong by hours, or have never been set.

    both times   received + (timestamp - sent_at), which takes the sender's error out; only within `DELAY_MS_MAX`:
                 two times that are further apart are not of one clock, and then the timestamp stands as it is
    offset       received - offset, if there is no pair of times
    timestamp    as it is
    none         received

Promises  a time that no event of a live sender has – more than `AHEAD_MS_MAX` ahead, or before `CLOCKS_SET_MS`, where
          clocks begin that nobody has set – is not believed: it becomes the time of receipt.
          A historical migration keeps its times, however old.
"""

from __future__ import annotations

import datetime
from typing import Final

__all__ = ["milliseconds", "sent_at_of_query", "when"]

AHEAD_MS_MAX: Final = 23 * 3_600_000
DELAY_MS_MAX: Final = 366 * 86_400_000  # how long a sender may keep an event before it is sent
CLOCKS_SET_MS: Final = 1_009_843_200_000  # 2002: clocks that were never set begin in 1970, 1980, 2000 or 2001
QUERY_FROM_MS: Final = 1_609_459_200_000  # 2021: what is earlier in the query string is no time

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)
_NUMBER_MAX: Final = 1e15  # beyond the year 33,000 it is no time
_MS_FROM: Final = 10**11  # a number of seconds as large as this lies beyond the year 5000
_DIGITS_MAX: Final = 20


def milliseconds(text: str, *, zone_needed: bool = False) -> int | None:
    """An ISO 8601 time, or a number of seconds or milliseconds, as milliseconds since 1970; None if it is no time.

    Args:
        text: as sent.
        zone_needed: take neither numbers nor a time without a zone, which is UTC else.
    """
    if text[4:5] != "-":
        return None if zone_needed else _from_number(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        if zone_needed:
            return None
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MILLISECOND


def _from_number(text: str) -> int | None:
    whole, _, _ = text.partition(".")
    if not (whole.isascii() and whole.isdigit()) or len(whole) > _DIGITS_MAX:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if not number < _NUMBER_MAX:
        return None
    return int(number if number >= _MS_FROM else number * 1000)


def sent_at_of_query(text: bytes) -> int | None:
    """The milliseconds of the parameter `_` or `sent_at`; None if they cannot be the time of a request."""
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        return None
    sent_at = int(text)
    return sent_at if sent_at >= QUERY_FROM_MS else None


def when(
    timestamp: int | None, *, received_at: int, sent_at: int | None, offset: int | None, historical: bool
) -> tuple[int, bool]:
    """The time of an event, and whether what the sender said of it was believed.

    Args:
        timestamp: of the event, by the sender's clock.
        received_at: by ours.
        sent_at: of the request, by the sender's clock; None if it is not to be used.
        offset: how long ago it was.
        historical: whether the events are old on purpose.
    """
    if timestamp is None:
        happened = received_at if offset is None else received_at - offset
    elif sent_at is not None and not historical and -AHEAD_MS_MAX <= sent_at - timestamp <= DELAY_MS_MAX:
        happened = received_at + timestamp - sent_at
    elif offset is not None and not historical:
        happened = received_at - offset
    else:
        happened = timestamp
    if happened > received_at + AHEAD_MS_MAX or (happened < CLOCKS_SET_MS and not historical):
        return received_at, False
    return happened, True

"""What a caller says about an event besides its properties: its time, id and level → what the native wire takes.

Promises  nothing raises, and nothing comes out that would make the server refuse the event: what cannot be used is
          None (or the empty text), and the event goes without it.
Limits    a number is milliseconds since 1970, whatever its size: seconds are not guessed. A text is only seen to begin
          like a date; its reader is the server. `timestamp()` and `str()` of a caller's class are called here.
"""

from __future__ import annotations

import sys

from leeward.scrub.values import bounded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

__all__ = ["event_id_of", "level_of", "sorted_out", "timestamp_of"]

KEYWORDS: Final = frozenset({"distinct_id", "timestamp", "uuid", "session_id", "correlation_id", "level"})
ID_CHARS_MAX: Final = 128
TIME_CHARS_MAX: Final = 64
TIME_MS_MAX: Final = 2**63 - 1
LEVELS: Final = {
    **{level: level for level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")},
    "WARNING": "WARN",  # as `logging` calls them
    "CRITICAL": "FATAL",
}


def timestamp_of(value: Any) -> int | str | None:
    """Milliseconds since 1970, or an RFC 3339 text as it is; a time without a zone is UTC. None if it is no time."""
    try:
        time = _time_of(value)
    except Exception:
        # Boundary: NaN, or whatever a caller's class does when it is asked.
        return None
    return time if type(time) is not int or -TIME_MS_MAX <= time <= TIME_MS_MAX else None


def _time_of(value: Any) -> int | str | None:
    kind = type(value)
    if kind is bool:
        return None
    if issubclass(kind, str):
        return _rfc3339(bounded_text(value))
    return int(value) if issubclass(kind, (int, float)) else _instant_ms(value)


def _rfc3339(text: str) -> str | None:
    year, month, day = text[:4], text[5:7], text[8:10]
    is_date = text[4:5] == text[7:8] == "-" and (year + month + day).isdecimal() and len(year + month + day) == 8
    return text if is_date and text.isascii() and len(text) <= TIME_CHARS_MAX else None


def _instant_ms(value: Any) -> int:
    """Of a datetime, or of whatever has its `timestamp()`; the module itself is there if such a value is."""
    utcoffset = getattr(value, "utcoffset", None)
    if utcoffset is not None and utcoffset() is None:
        value = value.replace(tzinfo=sys.modules["datetime"].timezone.utc)
    time_s: float = value.timestamp()
    return round(time_s * 1000)


def event_id_of(value: Any) -> str | None:
    """The text of `value` if it can be an event's id: 1 to 128 characters that survive UTF-8 and hold no secret."""
    try:
        text = str(value)
        text.encode()
    except Exception:
        # Boundary: a lone surrogate, or whatever a caller's class does when it is asked.
        return None
    return text if 0 < len(text) <= ID_CHARS_MAX and bounded_text(text) == text else None


def level_of(value: Any) -> str:
    """DEBUG, INFO, WARN, ERROR or FATAL, in any case and with the words of `logging`; empty for anything else."""
    return LEVELS.get(bounded_text(value).upper(), "")


def sorted_out(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What every call understands, and the names of what none does."""
    known = {name: value for name, value in keywords.items() if name in KEYWORDS}
    return known, [name for name in keywords if name not in KEYWORDS]

"""Untrusted values → short, honest text: bounded, one direction, nothing invisible. Escaping is the template's job.

Limits  What is cut says how much is missing. An event is shown in at most about 12 KiB, however large it is, and at a
        cost that does not grow with it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import msgspec

__all__ = [
    "block",
    "bytes_text",
    "count",
    "cut",
    "duration",
    "event_json",
    "iso",
    "preview",
    "preview_line",
    "utc",
    "visible",
]

PREVIEW_CHARS_MAX: Final = 160
FIELD_CHARS_MAX: Final = 1_000
STACK_CHARS_MAX: Final = 6_000
JSON_CHARS_MAX: Final = 4_000
_FORMAT_BYTES_MAX: Final = 16 * 1024
_FIELDS_MAX: Final = 60
_SPACE: Final = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line

# Control characters, and those that turn the direction of the text around them or cannot be seen: shown as JSON would.
_HIDDEN: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0xAD,
    0x61C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
)
_IN_LINE: Final = {code: f"\\u{code:04x}" for code in _HIDDEN}
_IN_BLOCK: Final = {code: text for code, text in _IN_LINE.items() if code not in {0x09, 0x0A}}


def visible(value: object) -> str:
    """One line: hidden characters are shown, and what is too long is cut."""
    return cut(str(value), FIELD_CHARS_MAX).translate(_IN_LINE)


def block(value: str, chars_max: int) -> str:
    """Several lines, with their breaks kept."""
    return cut(value, chars_max).translate(_IN_BLOCK)


def cut(text: str, chars_max: int) -> str:
    """The text, or its beginning and how much is missing."""
    if len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}… ({count(len(text) - chars_max)} more characters)"


def count(number: float) -> str:
    """A whole number with thousands separators."""
    return f"{number:,.0f}"


def bytes_text(number: int) -> str:
    """A size with its unit, in powers of 1,024."""
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            digits = 0 if unit == "B" or size >= 100 else 1
            return f"{size:,.{digits}f}{_SPACE}{unit}"
        size /= 1024
    return f"{size:,.1f}{_SPACE}GiB"


def duration(seconds: float) -> str:
    """A duration as a person says it: 412 ms, 1.24 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}{_SPACE}ms"
    if seconds < 60:
        return f"{seconds:.2f}{_SPACE}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}{_SPACE}min {int(seconds % 60)}{_SPACE}s"
    return f"{count(seconds // 3600)}{_SPACE}h {int(seconds % 3600 // 60)}{_SPACE}min"


_YEAR_9999_MS: Final = 253_402_300_799_000


def _moment(time_ms: int) -> datetime.datetime:
    held = min(max(time_ms, 0), _YEAR_9999_MS)
    return datetime.datetime.fromtimestamp(held / 1000, datetime.UTC)


def iso(time_ms: int) -> str:
    """For `<time datetime>`."""
    return _moment(time_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"


def utc(time_ms: int, form: str) -> str:
    """What the reader sees before the script turns it into their own zone."""
    return _moment(time_ms).strftime(form)


def preview(value: Any) -> str:
    """The beginning of a payload in one line. Of raw bytes only the beginning is ever looked at."""
    if isinstance(value, msgspec.Raw):
        raw = bytes(memoryview(value)[: PREVIEW_CHARS_MAX * 4 + 4])
        text = raw.decode("utf-8", "ignore")
    else:
        text = msgspec.json.encode(_bounded(value)).decode()
    return preview_line(text)


def preview_line(text: str) -> str:
    """The beginning of a text in one line."""
    line = " ".join(text[: PREVIEW_CHARS_MAX * 2].split()).translate(_IN_LINE)
    return line if len(line) <= PREVIEW_CHARS_MAX else line[:PREVIEW_CHARS_MAX] + "…"


def event_json(event: Mapping[str, Any]) -> str:
    """The whole event as indented JSON text. What is too long is cut, and says so."""
    small, large = {}, {}
    for name, value in islice(event.items(), _FIELDS_MAX):
        if isinstance(value, msgspec.Raw) and len(memoryview(value)) > _FORMAT_BYTES_MAX:
            large[name] = value
        else:
            small[name] = _bounded(value)
    parts = [block(_indented(msgspec.json.encode(small)), 2 * JSON_CHARS_MAX)]
    for name, value in large.items():
        size = len(memoryview(value))
        begin = bytes(memoryview(value)[:JSON_CHARS_MAX]).decode("utf-8", "ignore")
        parts.append(
            f"{name}, the first {count(JSON_CHARS_MAX)} of {count(size)} bytes:\n{block(begin, JSON_CHARS_MAX)}"
        )
    return "\n\n".join(parts)


def _indented(encoded: bytes) -> str:
    try:
        return msgspec.json.format(encoded, indent=2).decode()
    except (msgspec.DecodeError, RecursionError):  # raw bytes that are no JSON, or nested too deeply to be indented
        return encoded.decode("utf-8", "replace")


def _bounded(value: Any, depth: int = 4) -> Any:
    """Strings, lists and objects that JSON can carry and a page can show. Raw bytes stay as they came."""
    if isinstance(value, str):
        return cut(value, FIELD_CHARS_MAX).encode("utf-8", "replace").decode()
    if isinstance(value, msgspec.Raw):
        if len(memoryview(value)) > _FORMAT_BYTES_MAX:
            return f"({count(len(memoryview(value)))} bytes, not shown)"
        return value
    if depth and isinstance(value, Mapping):
        return {_bounded(str(name)): _bounded(item, depth - 1) for name, item in islice(value.items(), _FIELDS_MAX)}
    if depth and isinstance(value, (list, tuple)):
        return [_bounded(item, depth - 1) for item in value[:_FIELDS_MAX]]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return cut(repr(value), FIELD_CHARS_MAX).encode("utf-8", "replace").decode()

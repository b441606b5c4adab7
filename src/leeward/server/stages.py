"""What every event passes between its decoder and the door, in this order: bounds → secrets → category → size. Pure.

Promises  An event comes out as it went in, but for what a stage changed; each change is named in `attributes`:
          `leeward.changed` says what was cut or replaced, `leeward.removed` where a secret stood.
          Events of language models may hold longer texts: prompts are what they are about.
"""

from __future__ import annotations

import operator
from typing import Any, Final

import msgspec

from leeward.issues.category import category
from leeward.model import Dropped, Event
from leeward.scrub.bounds import AI_STRING_BYTES_MAX, DEPTH_MAX, STRING_BYTES_MAX, bound
from leeward.scrub.raw import clean_column, clean_json
from leeward.scrub.secrets import HEX, TEXT_CHARS_MIN
from leeward.wire.text import has_replacement

__all__ = ["AI_EVENT_BYTES_MAX", "EVENT_BYTES_MAX", "bounded", "settled"]

EVENT_BYTES_MAX: Final = 1 << 20
AI_EVENT_BYTES_MAX: Final = 8 << 20
REPLACED: Final = "characters that cannot be stored were replaced by U+FFFD"
# Every text that a caller may fill as it likes; what is left out is one of a few, or was made here.
_TEXTS: Final = (
    *("name", "distinct_id", "session_id", "device_id", "correlation_id", "trace_id", "span_id", "parent_span_id"),
    *("service", "provider", "model", "unit", "status"),
    *("error_type", "error_message", "error_stack", "error_fingerprint"),
)
_texts_of: Final = operator.attrgetter(*_TEXTS)
_PAYLOADS: Final = ("data", "attributes", "error_rest")
# Resource and scope are the same in all spans of a process: texts that were found without a secret, as they stand.
REMEMBERED_MAX: Final = 1_024
REMEMBERED_CHARS_MAX: Final = 5_000
COLUMN_CHARS_MAX: Final = 64
_clean_columns: Final[set[str]] = set()  # the same for names, models, services
_clean_attributes: Final[set[str]] = set()
SURELY_WITHIN_CHARS: Final = 1_000  # too short for 1,000 keys, a number of 1,000 digits or a string that is too long
Seen = dict[str, tuple[str, list[str]]]
_ENCODE: Final = msgspec.json.Encoder().encode


def bounded(event: Event, *, repaired: bool) -> tuple[Event, list[str]] | Dropped:
    """The event within the limits of its payloads, and what was changed for it.

    Args:
        event: as a decoder mapped it.
        repaired: whether broken text was replaced anywhere in its request.
    """
    changes: list[str] = []
    if not (_is_small(event.data) and _is_small(event.attributes) and _is_small(event.error_rest)):
        string_bytes_max = AI_STRING_BYTES_MAX if _is_of_a_model(event) else STRING_BYTES_MAX
        fields: dict[str, Any] = {}
        for name in _PAYLOADS:
            text: str = getattr(event, name)
            if not _is_small(text):
                raw = text.encode()
                within = bound(raw, string_bytes_max)
                if isinstance(within, Dropped):
                    return within
                if within[0] is not raw:
                    fields[name] = within[0].decode()
                    changes += within[1]
        if fields:
            event = msgspec.structs.replace(event, **fields)
    if repaired and has_replacement(event.data.encode()):
        changes.append(REPLACED)
    return event, changes


def _is_small(text: str) -> bool:
    """Whether a payload is within all limits for the sake of its size alone."""
    return len(text) <= SURELY_WITHIN_CHARS and text.count("{") + text.count("[") <= DEPTH_MAX


def settled(event: Event, changes: list[str], *, scrub: bool = True, seen: Seen | None = None) -> Event | Dropped:
    """The event without secrets, in its category, with its changes told; or why it is refused.

    Args:
        event: within bounds.
        changes: what was changed for that.
        scrub: whether secrets are taken out.
        seen: attributes that were looked at before in this request. Resource and scope are the same in all its spans.
    """
    fields: dict[str, Any] = {}
    removed: list[str] = []
    if scrub:
        _take_secrets_out(event, fields, removed, {} if seen is None else seen)
    if event.kind == "exception" and not event.error_category:
        fields["error_category"] = category(
            event.error_type, event.error_message, status=event.status, provider=event.provider
        )
    if changes or removed:
        told = _told(fields.get("attributes", event.attributes), changes, removed)
        fields["attributes"] = told
    if fields:
        event = msgspec.structs.replace(event, **fields)
    size = len(event.data) + len(event.attributes) + len(event.error_rest) + len(event.error_stack)
    if size > EVENT_BYTES_MAX and size > (size_max := _event_bytes_max(event)):
        return Dropped("event_too_large", f"the event has {size} characters; at most {size_max} are taken")
    return event


def _event_bytes_max(event: Event) -> int:
    return AI_EVENT_BYTES_MAX if _is_of_a_model(event) else EVENT_BYTES_MAX


def _is_of_a_model(event: Event) -> bool:
    return bool(event.model) or event.name.startswith("$ai_")


def _take_secrets_out(event: Event, fields: dict[str, Any], removed: list[str], seen: Seen) -> None:
    if len(event.data) > 2:
        _clean_payload("data", event.data, fields, removed)
    if event.attributes:
        cleaned, paths = _cleaned_attributes(event.attributes, seen)
        if paths:
            fields["attributes"] = cleaned
            removed += paths
    if event.error_rest:
        _clean_payload("error_rest", event.error_rest, fields, removed)
    for index, text in enumerate(_texts_of(event)):
        if len(text) >= TEXT_CHARS_MIN and text not in _clean_columns and text.strip(HEX):
            cleaned, changed = clean_column(text)
            if changed:
                fields[_TEXTS[index]] = cleaned
                removed.append(_TEXTS[index])
            elif len(text) <= COLUMN_CHARS_MAX:
                if len(_clean_columns) >= REMEMBERED_MAX:
                    _clean_columns.clear()
                _clean_columns.add(text)


def _cleaned_attributes(text: str, seen: Seen) -> tuple[str, list[str]]:
    if text in _clean_attributes:
        return text, []
    found = seen.get(text)
    if found is None:
        raw = text.encode()
        clean, paths = clean_json(raw)
        found = seen[text] = (clean.decode(), [f"attributes.{path}" for path in paths]) if paths else (text, [])
        if not paths and len(text) <= REMEMBERED_CHARS_MAX:  # what holds a secret is forgotten with the request
            if len(_clean_attributes) >= REMEMBERED_MAX:
                _clean_attributes.clear()
            _clean_attributes.add(text)
    return found


def _clean_payload(name: str, text: str, fields: dict[str, Any], removed: list[str]) -> None:
    raw = text.encode()
    clean, paths = clean_json(raw)
    if clean is not raw:
        fields[name] = clean.decode()
        removed += [f"{name}.{path}" for path in paths]


def _told(attributes: str, changes: list[str], removed: list[str]) -> str:
    entries = []
    if changes:
        entries.append('"leeward.changed":' + _ENCODE(changes).decode())
    if removed:
        entries.append('"leeward.removed":' + _ENCODE(removed).decode())
    before = attributes[:-1].rstrip() if attributes else "{"
    return f"{before}{'' if before == '{' else ','}{','.join(entries)}}}"

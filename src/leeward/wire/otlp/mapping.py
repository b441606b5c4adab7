"""What spans, log records and points have in common on their way to `model.Event`: where they come from, whose they are,
what went wrong, and ids for what has none.

Promises  equal records of different requests have equal ids if they say when they were; the second of two equal records
          of one request has an id of its own. A record that says no time is known by its request's bytes and its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from leeward.wire.exceptions import cut_message, cut_stack
from leeward.wire.otlp.records import Source

__all__ = [
    "FIELD_CHARS_MAX",
    "NOBODY",
    "NS_IN_MS",
    "SPAN_ID_CHARS",
    "TRACE_ID_CHARS",
    "Failure",
    "Origin",
    "Request",
    "Whose",
    "exception_of",
    "hex_id",
    "json_text",
    "level_of",
    "members",
    "whose",
]

ORIGIN_CHARS_MAX: Final = 4_096  # of resource and scope as JSON
ORIGIN_TEXT_CHARS_MAX: Final = 512
PUNCTUATION: Final = 4  # of a member
FIELD_CHARS_MAX: Final = 200
TRACE_ID_CHARS: Final = 32
SPAN_ID_CHARS: Final = 16
NS_IN_MS: Final = 1_000_000
ID_BYTES: Final = 16

DISTINCT_ID: Final = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "ai.telemetry.metadata.userId",
    "posthogDistinctId",
)
SESSION_ID: Final = ("session.id", "langfuse.session.id", "ai.telemetry.metadata.sessionId", "sessionId")
DEVICE_ID: Final = ("device.id",)
CORRELATION_ID: Final = ("correlation.id", "correlation_id")
NAMES: Final = frozenset((*DISTINCT_ID, *SESSION_ID, *DEVICE_ID, *CORRELATION_ID))

LEVELS: Final = {
    **dict.fromkeys(("TRACE", "DEBUG", "VERBOSE"), "DEBUG"),
    **dict.fromkeys(("INFO", "INFORMATION", "NOTICE", "LOG"), "INFO"),
    **dict.fromkeys(("WARN", "WARNING"), "WARN"),
    **dict.fromkeys(("ERROR", "ERR"), "ERROR"),
    **dict.fromkeys(("FATAL", "CRITICAL", "ALERT", "EMERGENCY"), "FATAL"),
}

_ENCODE: Final = msgspec.json.Encoder().encode


class Whose(NamedTuple):
    """Who and what a record belongs to, as far as its attributes say."""

    distinct_id: str = ""
    session_id: str = ""
    device_id: str = ""
    correlation_id: str = ""


NOBODY: Final = Whose()


class Failure(NamedTuple):
    """What an exception's columns hold."""

    type: str
    message: str
    stack: str


class Origin(msgspec.Struct, gc=False):
    """A source as its records need it, made once a request.

    `members` is the beginning of the attributes column: an object's members, without braces. It stands in every record,
    so it is short: long texts in it are cut, and what does not fit is left out and counted. `identity` is of all of it.
    """

    members: str
    identity: str
    service: str
    whose: Whose
    by_kind: dict[int, str]


class Request:
    """One request while its records are mapped: what they share, and which of them were met before."""

    def __init__(self, project: int, received_at: int, digest: bytes) -> None:
        self.project = project
        self.received_at = received_at
        self._digest = digest
        self._seen: dict[bytes, int] = {}
        self._source: Source | None = None
        self._origin = Origin("", "", "", NOBODY, {})

    def origin(self, source: Source) -> Origin:
        """The source's origin. Records of one source follow each other."""
        if source is not self._source:
            self._source = source
            self._origin = _origin(source)
        return self._origin

    def id_of(self, *identity: object) -> str:
        """An id for a record that is known by *identity*, its time among it."""
        digest = hashlib.blake2b(_ENCODE(identity), digest_size=ID_BYTES).digest()
        before = self._seen.get(digest, 0)
        self._seen[digest] = before + 1
        if before:
            digest = hashlib.blake2b(b"%b%d" % (digest, before), digest_size=ID_BYTES).digest()
        return f"h:{digest.hex()}"

    def id_at(self, index: int) -> str:
        """An id for a record without a time, the *index*-th of the request."""
        return f"h:{hashlib.blake2b(b'%b%d' % (self._digest, index), digest_size=ID_BYTES).hexdigest()}"


def _origin(source: Source) -> Origin:
    scope = {
        "name": source.scope_name,
        "version": source.scope_version,
        "attributes": source.scope_attributes,
        "schema_url": source.scope_schema_url,
    }
    said = {
        "resource": source.resource,
        "resource_schema_url": source.resource_schema_url,
        "scope": {key: value for key, value in scope.items() if value},
    }
    present = {key: value for key, value in said.items() if value}
    whole = members(present)
    return Origin(
        whole if len(whole) <= ORIGIN_CHARS_MAX else members(_shortened(present, ORIGIN_CHARS_MAX)[0]),
        hashlib.blake2b(whole.encode(), digest_size=ID_BYTES).hexdigest(),
        text_of(source.resource, ("service.name",)),
        whose(source.resource, NOBODY),
        {},
    )


def _shortened(values: Mapping[str, Any], room: int) -> tuple[dict[str, Any], int]:
    """As many of the values as there is room for, in their order, long texts cut; and how much room is left."""
    kept: dict[str, Any] = {}
    left_out = 0
    for name, value in values.items():
        if isinstance(value, dict):
            short: Any
            short, rest = _shortened(value, room - len(name) - PUNCTUATION)
        else:
            short = f"{value[:ORIGIN_TEXT_CHARS_MAX]} [cut: {len(value)} characters]" if _is_long(value) else value
            rest = room - len(name) - PUNCTUATION - len(json_text(short))
        if rest < 0:
            left_out += 1
        else:
            kept[name], room = short, rest
    if left_out:
        kept["leeward.left_out"] = left_out
    return kept, room


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > ORIGIN_TEXT_CHARS_MAX


def json_text(value: Any) -> str:
    """A JSON value as text."""
    return _ENCODE(value).decode()


def members(values: Mapping[str, Any]) -> str:
    """An object's members, without braces."""
    return _ENCODE(values)[1:-1].decode()


def whose(attributes: Mapping[str, Any], default: Whose) -> Whose:
    """Whose a record with these attributes is; *default* is what its resource says."""
    if NAMES.isdisjoint(attributes):
        return default
    return Whose(
        text_of(attributes, DISTINCT_ID) or default.distinct_id,
        text_of(attributes, SESSION_ID) or default.session_id,
        text_of(attributes, DEVICE_ID) or default.device_id,
        text_of(attributes, CORRELATION_ID) or default.correlation_id,
    )


def text_of(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these that is a text, or a whole number as ids may be, as a column takes it."""
    for name in names:
        value = attributes.get(name)
        if value and type(value) in {str, int}:
            return str(value)[:FIELD_CHARS_MAX]
    return ""


def exception_of(attributes: dict[str, Any]) -> Failure:
    """The error's columns; what they hold whole is taken out of *attributes*."""
    texts = [_taken(attributes, name, cut) for name, cut in EXCEPTION]
    return Failure(*texts)


def _taken(attributes: dict[str, Any], name: str, cut: Callable[[str], str]) -> str:
    value = attributes.get(name)
    if type(value) is not str:
        return ""
    text = cut(value)
    if text == value:
        del attributes[name]
    return text


def _cut_type(text: str) -> str:
    return text[:FIELD_CHARS_MAX]


EXCEPTION: Final = (
    ("exception.type", _cut_type),
    ("exception.message", cut_message),
    ("exception.stacktrace", cut_stack),
)


def hex_id(digits: str, chars: int) -> str:
    """An id of the protocol: so many hex digits, not all of them zero; else none."""
    return digits if len(digits) == chars and digits.strip("0") else ""


def level_of(word: Any) -> str:
    """A level as a sender calls it → as leeward does, or "" for one that it does not know."""
    return LEVELS.get(word.upper(), "") if type(word) is str else ""

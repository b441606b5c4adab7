"""Parts of OTLP messages in protobuf's binary form: attributes, values, and the resource and scope around an item.

Written out by hand because it runs where a span ends, in the program's own time: OpenTelemetry's encoder needs four to
six times as long for a span, and brings the protobuf package along, whose version other packages quarrel about.

Promises  what a program put into attributes and texts is bounded and cleaned of secrets by `scrub/values` first, so
          every value here is plain and finite; broken text becomes question marks. Nothing is logged.
Differs   from OpenTelemetry's encoder: bytes travel as text, NaN and infinities in attributes as their names, integers
          beyond 64 bits as text; links keep their trace state. The result is otherwise the same message.
"""

from __future__ import annotations

from struct import Struct

from opentelemetry.attributes import BoundedAttributes

from leeward.scrub.values import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = ["any_value", "bounded_attributes", "double", "field", "fixed64", "key_values", "request", "text", "varint"]

KEYS_REMEMBERED_MAX: Final = 4_096  # attribute names, encoded; then it starts anew
HEADS_REMEMBERED_MAX: Final = 256  # resources and scopes; programs have a handful
INT_MAX: Final = 2**63 - 1
MASK: Final = 2**64 - 1

_double = Struct("<d").pack
_fixed64 = Struct("<Q").pack
_keys: dict[str, bytes] = {}
# By identity, with the object itself, so that nobody else can have that identity meanwhile.
_heads: dict[int, tuple[object, bytes, bytes]] = {}


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_SMALL: Final = tuple(_varint(value) for value in range(2_048))


def varint(value: int) -> bytes:
    """An unsigned integer."""
    return _SMALL[value] if value < 2_048 else _varint(value)


def fixed64(tag: bytes, value: int | None) -> bytes:
    """A fixed64 field; nothing for what is unset."""
    return tag + _fixed64(value) if value else b""


def double(tag: bytes, value: float) -> bytes:
    """A double field, zero included."""
    return tag + _double(value)


def field(tag: bytes, content: bytes) -> bytes:
    """A message or bytes field, empty ones included."""
    return tag + varint(len(content)) + content


def text(tag: bytes, value: str | None) -> bytes:
    """A string field; nothing for what is empty."""
    return field(tag, value.encode("utf-8", "replace")) if value else b""


def bounded_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """A bounded, clean, plain copy of what a program called attributes."""
    if not attributes:
        return {}
    given = attributes.copy() if isinstance(attributes, BoundedAttributes) else dict(attributes)
    plain = bounded(given)
    return plain if type(plain) is dict else {"…": plain}


def key_values(tag: bytes, plain: Mapping[str, Any]) -> bytes:
    """A repeated KeyValue field of plain values."""
    parts = []
    for key, value in plain.items():
        body = (_keys.get(key) or _key(key)) + field(b"\x12", any_value(value))
        parts.append(tag + varint(len(body)) + body)
    return b"".join(parts)


def any_value(value: Any) -> bytes:
    """The content of an AnyValue."""
    kind = type(value)
    if kind is str:
        return field(b"\x0a", value.encode("utf-8", "replace"))
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + varint(value & MASK) if value <= INT_MAX else field(b"\x0a", str(value).encode())
    if kind is float:
        return b"\x21" + _double(value)
    if kind is list:
        return field(b"\x2a", b"".join([field(b"\x0a", any_value(item)) for item in value]))
    if kind is dict:
        return field(b"\x32", key_values(b"\x0a", value))
    return b""  # None


def request(resource: Resource | None, scope: InstrumentationScope | None, items: bytes) -> bytes:
    """An export request with these items (fields number 2, with their tags) of one scope of one resource."""
    scope_head, scope_end = _scope(scope)
    resource_head, resource_end = _resource(resource)
    inner = field(b"\x12", scope_head + items + scope_end)
    return field(b"\x0a", resource_head + inner + resource_end)


def _key(key: str) -> bytes:
    """A KeyValue's key field."""
    encoded = field(b"\x0a", key.encode("utf-8", "replace"))
    if len(_keys) >= KEYS_REMEMBERED_MAX:
        _keys.clear()
    _keys[key] = encoded
    return encoded


def _resource(resource: Resource | None) -> tuple[bytes, bytes]:
    """What stands before and behind the scopes of a resource."""
    if resource is None:
        return field(b"\x0a", b""), b""
    known = _heads.get(id(resource))
    if known is not None:
        return known[1], known[2]
    content = key_values(b"\x0a", bounded_attributes(resource.attributes))
    return _remember(resource, field(b"\x0a", content), text(b"\x1a", resource.schema_url))


def _scope(scope: InstrumentationScope | None) -> tuple[bytes, bytes]:
    """What stands before and behind the items of a scope."""
    if scope is None:
        return field(b"\x0a", b""), b""
    known = _heads.get(id(scope))
    if known is not None:
        return known[1], known[2]
    content = text(b"\x0a", scope.name) + text(b"\x12", scope.version)
    content += key_values(b"\x1a", bounded_attributes(scope.attributes))
    return _remember(scope, field(b"\x0a", content), text(b"\x1a", scope.schema_url))


def _remember(owner: object, head: bytes, end: bytes) -> tuple[bytes, bytes]:
    if len(_heads) >= HEADS_REMEMBERED_MAX:
        _heads.clear()
    _heads[id(owner)] = (owner, head, end)
    return head, end

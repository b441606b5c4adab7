"""Values → the native wire's bytes, for the client: standard library only, nothing imported until it is used.

Promises  the result is one compact line of valid UTF-8 JSON, whatever text went in: a lone surrogate comes out as
          U+FFFD, a pair of surrogates as the character that it means. Absent fields are left out.
Expects   values that `scrub/values` has bounded; others raise TypeError, ValueError or RecursionError.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["batch", "batch_id", "event", "load", "uuid7"]

_encode: Callable[[Any, int], Iterable[str]] | None = None


def load() -> Callable[[Any, int], Iterable[str]]:
    """Import and build the JSON encoder; called by `init`, so that the first capture does not pay for it."""
    global _encode  # noqa: PLW0603 - one encoder per process, built once; building it twice is harmless
    if _encode is None:
        from json import encoder  # noqa: PLC0415 - brings re: not at import

        plain = encoder.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
        try:
            # JSONEncoder.encode() builds this callable anew for every call; kept, it saves a fifth of the time.
            _encode = encoder.c_make_encoder(  # type: ignore[attr-defined]
                None, plain.default, encoder.encode_basestring, None, ":", ",", False, False, False
            )
        except TypeError:
            # Another interpreter: no accelerator, or one with other arguments.
            _encode = _by_public_encoder(plain.encode)
    return _encode


def _by_public_encoder(encode: Callable[[Any], str]) -> Callable[[Any, int], Iterable[str]]:
    return lambda value, _level: (encode(value),)


def event(
    name: str,
    properties: dict[str, Any],
    *,
    id: str,
    timestamp_ms: int,
    kind: str = "",
    level: str = "",
    distinct_id: str = "",
    session_id: str = "",
    device_id: str = "",
    correlation_id: str = "",
    trace_id: str = "",
    span_id: str = "",
    error: dict[str, Any] | None = None,
) -> bytes:
    """One event as a JSON object. `error` has the wire's fields type, message, stack, category, fingerprint."""
    fields: dict[str, Any] = {"event_type": name, "id": id, "timestamp": timestamp_ms}
    if kind:
        fields["kind"] = kind
    if level:
        fields["level"] = level
    if distinct_id:
        fields["distinct_id"] = distinct_id
    if session_id:
        fields["session_id"] = session_id
    if device_id:
        fields["device_id"] = device_id
    if correlation_id:
        fields["correlation_id"] = correlation_id
    if trace_id:
        fields["trace_id"] = trace_id
    if span_id:
        fields["span_id"] = span_id
    if error:
        fields["error"] = error
    if properties:
        fields["data"] = properties
    text = "".join((_encode or load())(fields, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def batch(batch_id: str, events: Sequence[bytes], client: bytes | None = None) -> bytes:
    """A batch of events that are bytes already, joined as they are; `client` is the sender's own JSON object, if any.

    `batch_id` consists of `[A-Za-z0-9._:-]` and needs no escaping.
    """
    tail = b"]}" if client is None else b'],"client":' + client + b"}"
    return b'{"batch_id":"' + batch_id.encode("ascii") + b'","events":[' + b",".join(events) + tail


def batch_id(events: Sequence[bytes]) -> str:
    """The batch's name, derived from its bytes: the same events have the same name, also after a restart.

    So a repeat is recognised by the server, and one name can never stand for two contents.
    """
    from hashlib import sha256  # noqa: PLC0415 - only the worker sends, and it has OpenSSL loaded by then

    return sha256(b",".join(events)).hexdigest()[:32]


def uuid7(now_ms: int, random_bytes: bytes) -> str:
    """A UUIDv7 (RFC 9562) of this millisecond and ten random bytes: ordered by time, to the millisecond."""
    time_hex = f"{now_ms & 0xFFFFFFFFFFFF:012x}"
    random_hex = random_bytes.hex()
    return (
        f"{time_hex[:8]}-{time_hex[8:]}-7{random_hex[:3]}-"
        f"{'89ab'[random_bytes[1] & 3]}{random_hex[4:7]}-{random_hex[7:19]}"
    )

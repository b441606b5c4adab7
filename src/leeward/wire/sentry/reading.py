"""JSON from senders who may send anything: typed where it is as it should be, and otherwise whatever can be read of it.

Promises  a member of another type than expected counts as absent, for itself alone; nothing raises. The numbers that are
          kept go through as they are spelled: they stay `Raw`.
"""

from __future__ import annotations

import functools
from typing import Any, Final, Generic, TypeVar

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.wire.text import has_too_many_members

__all__ = [
    "ABSENT",
    "RECORDS_MAX",
    "Reader",
    "encode",
    "is_given",
    "loose",
    "members",
    "split_list",
    "too_many_records",
]

RECORDS_MAX: Final = 10_000  # of a whole request
ABSENT: Final = msgspec.Raw(b"")

_SALVAGE_LEVELS: Final = 4

_T = TypeVar("_T", bound=msgspec.Struct)
_DECODE = msgspec.json.Decoder().decode
_DECODE_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DECODE_LIST = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode: Final = msgspec.json.Encoder().encode


class Reader(Generic[_T]):
    """Reads JSON objects as one kind of Struct, all of whose fields have defaults."""

    def __init__(self, struct: type[_T]) -> None:
        self._struct = struct
        self._decode = msgspec.json.Decoder(struct).decode
        self._fields = {
            field.encode_name: (field.name, msgspec.json.Decoder(field.type).decode)
            for field in msgspec.structs.fields(struct)
        }

    def read(self, raw: bytes | msgspec.Raw) -> _T | Dropped:
        """The object, or why it is none."""
        try:
            try:
                return self._decode(raw)
            except msgspec.ValidationError:
                if has_too_many_members(bytes(raw)):
                    return Dropped("too_many_keys", "it has too many keys")
                return self._read_each(raw)
        except RecursionError:
            return Dropped("too_deep", "it is nested too deeply")
        except msgspec.ValidationError:
            return Dropped("invalid_event", "it must be a JSON object")
        except msgspec.DecodeError as error:
            return Dropped("invalid_json", f"it is not valid JSON: {error}")

    def read_or_default(self, raw: bytes | msgspec.Raw) -> _T:
        """The object; one without anything in it for what is none."""
        if not raw:
            return self._struct()
        found = self.read(raw)
        return self._struct() if isinstance(found, Dropped) else found

    def _read_each(self, raw: bytes | msgspec.Raw) -> _T:
        known: dict[str, Any] = {}
        for key, value in _DECODE_MEMBERS(raw).items():
            if key in self._fields:
                name, decode = self._fields[key]
                try:
                    known[name] = decode(value)
                except (msgspec.DecodeError, RecursionError):
                    continue  # it counts as absent
        return self._struct(**known)


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is there and not null."""
    return bytes(raw) not in {b"", b"null"}


def loose(raw: bytes | msgspec.Raw, levels: int = _SALVAGE_LEVELS) -> Any:
    """The value; where a part of it has no place in memory (1e999), that part is None, down to some levels."""
    try:
        return _DECODE(raw)
    except (msgspec.DecodeError, RecursionError):
        if levels == 0 or has_too_many_members(bytes(raw)):
            return None
    for decode in (_DECODE_MEMBERS, _DECODE_LIST):
        try:
            parts = decode(raw)
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(parts, dict):
            return {key: loose(part, levels - 1) for key, part in parts.items()}
        return [loose(part, levels - 1) for part in parts]
    return None


def members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of an object as they are written; none of what is no object, or has too many."""
    try:
        return _DECODE_MEMBERS(raw) if raw and not has_too_many_members(bytes(raw)) else {}
    except (msgspec.DecodeError, RecursionError):
        return {}


def split_list(raw: bytes | msgspec.Raw) -> list[msgspec.Raw] | Dropped:
    """The items of an array as they are written, without those that are null, or why it is none.

    Raises:
        ProtocolError: 413 `payload_too_large`: there are more than `RECORDS_MAX`. Found before as many values are made.
    """
    text = bytes(raw)
    try:
        if text.count(b",") < RECORDS_MAX:
            found = _DECODE_LIST(text)
        else:
            found = [item for item in msgspec.structs.astuple(_decode_bounded()(text)) if item]
    except msgspec.ValidationError:
        if text.lstrip(b" \t\r\n")[:1] == b"[":
            raise too_many_records() from None
        return Dropped("invalid_event", "it must be a JSON array")
    except RecursionError:
        return Dropped("too_deep", "it is nested too deeply")
    except msgspec.DecodeError as error:
        return Dropped("invalid_json", f"it is not valid JSON: {error}")
    return [item for item in found if is_given(item)]


def too_many_records() -> ProtocolError:
    """The refusal of a request with more records than one may bring."""
    return ProtocolError(f"The envelope has more than {RECORDS_MAX} records", code="payload_too_large", status=413)


@functools.cache
def _decode_bounded() -> Any:
    # An array of at most RECORDS_MAX items as a Struct: unlike a list's limit, it stops at the item that is one too many.
    # Made when it is needed: it takes 40 ms, and few envelopes are that large.
    fields = [(f"item_{index}", msgspec.Raw, ABSENT) for index in range(RECORDS_MAX)]
    struct = msgspec.defstruct("_Bounded", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct).decode

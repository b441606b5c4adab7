"""The `client` field of a native batch: what a client says of itself, so that its losses can be told.

A client numbers the events of one run 1, 2, 3, … over all its batches. With a batch it says between which numbers the
batch's events lie, not necessarily without gaps, and what it lost by itself since it last said so.

The field is an account of events and no part of them: whatever is wrong with it, the batch is taken.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

__all__ = ["NUMBER_MAX", "PROCESS_PATTERN", "REASONS_MAX", "REASON_PATTERN", "ClientReport", "decode_client"]

NUMBER_MAX: Final = 2**53  # beyond it, not every reader of JSON is exact
REASONS_MAX: Final = 16
PROCESS_PATTERN: Final = "[A-Za-z0-9._-]{1,64}"
REASON_PATTERN: Final = "[a-z0-9_]{1,40}"

_Number = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]


class ClientReport(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of it: which run of a client, the highest number in the batch, losses by reason, none of them 0."""

    process: str
    highest: int
    lost: dict[str, int]


class _LostIn(msgspec.Struct):
    reason: Annotated[str, Meta(pattern=rf"^{REASON_PATTERN}\Z")]
    count: Annotated[int, Meta(ge=0, le=NUMBER_MAX)]


class _ClientIn(msgspec.Struct):
    """The field as it came. Fields that are not known here are of a newer client."""

    process: Annotated[str, Meta(pattern=rf"^{PROCESS_PATTERN}\Z")]
    first: _Number
    last: _Number
    lost: Annotated[list[_LostIn], Meta(max_length=REASONS_MAX)] = []


_DECODE = msgspec.json.Decoder(_ClientIn).decode


def decode_client(raw: bytes) -> ClientReport | None:
    """Decode the field; None when it is not what it should be."""
    try:
        said = _DECODE(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if said.first > said.last:
        return None
    lost: dict[str, int] = {}
    for entry in said.lost:
        if entry.count:
            lost[entry.reason] = lost.get(entry.reason, 0) + entry.count
    return ClientReport(said.process, said.last, lost)

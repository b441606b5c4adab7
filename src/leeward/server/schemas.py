"""What goes in and out of the native API, as Structs: the route table names them, handlers build them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from leeward.gateway.circuits import ProviderStatus
from leeward.wire.client import NUMBER_MAX, PROCESS_PATTERN, REASON_PATTERN, REASONS_MAX

__all__ = [
    "BatchAnswer",
    "BatchIn",
    "BatchStatus",
    "ClientIn",
    "ClientInfo",
    "ClientList",
    "DeadLetterInfo",
    "DeadLetterList",
    "ErrorFields",
    "EventIn",
    "Health",
    "IngestAnswer",
    "IngestResult",
    "KeyCreate",
    "KeyInfo",
    "KeyList",
    "KeyQuota",
    "LostIn",
    "NewKey",
    "ProjectCreate",
    "ProjectInfo",
    "ProjectList",
    "ProviderList",
    "QueryAnswer",
    "RefusedEvent",
    "Replayed",
]

Quota = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_Dollars = Annotated[float, msgspec.Meta(ge=0.01, le=1_000_000)]
_Name = Annotated[str, msgspec.Meta(max_length=200)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ErrorFields(msgspec.Struct):
    """What went wrong, where an event is an error. Other fields are kept too."""

    type: str = ""
    message: str = ""
    stack: str = ""
    category: Literal["network", "authentication", "provider", "mcp", "channel", "other"] = "other"
    provider: str = ""
    status: int | str = ""
    fingerprint: str = ""


class EventIn(msgspec.Struct):
    """One event. Only `event_type` is required, or `event`, which is its older name.

    What `data` says of provider, model, tokens, duration, status, value and unit counts where the event itself does not
    say it. Other fields of the top level come out again under `attributes`.
    """

    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    event: _Name = ""
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    id: Annotated[str, msgspec.Meta(max_length=128)] = ""
    timestamp: float | str | None = None
    kind: Literal["event", "exception", "span", "log", "metric"] | None = None
    level: Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"] | None = None
    distinct_id: _Name = ""
    session_id: _Name = ""
    device_id: _Name = ""
    correlation_id: _Name = ""
    trace_id: _Name = ""
    span_id: _Name = ""
    parent_span_id: _Name = ""
    service: _Name = ""
    provider: _Name = ""
    model: _Name = ""
    status: float | str | None = None
    duration_ms: float | None = None
    value: float | None = None
    unit: _Name = ""
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    error: ErrorFields | None = None


class LostIn(msgspec.Struct):
    """How many events a client lost for a reason."""

    reason: Annotated[str, msgspec.Meta(pattern=f"^{REASON_PATTERN}$")]
    count: Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]


class ClientIn(msgspec.Struct):
    """What a client says of itself, so that losses on the way can be told.

    `process` names one run of a client, which numbers its events 1, 2, 3, … over all its batches. The events of this
    batch lie between `first` and `last`, not necessarily without gaps. `lost` is what the client lost by itself since it
    last said so. It counts once for a batch id. A field that is not so is ignored; it never refuses a batch.
    """

    process: Annotated[str, msgspec.Meta(pattern=f"^{PROCESS_PATTERN}$")]
    first: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    last: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    lost: Annotated[list[LostIn], msgspec.Meta(max_length=REASONS_MAX)] = []


class BatchIn(msgspec.Struct):
    """Events under an id that makes a repeat of the batch known."""

    events: Annotated[list[EventIn], msgspec.Meta(min_length=1, max_length=1000)]
    batch_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._:-]{1,128}$")] = ""
    client: ClientIn | None = None


class IngestResult(msgspec.Struct, omit_defaults=True):
    """What became of one event."""

    success: bool
    id: str = ""
    key: str = ""
    code: str = ""
    error: str = ""


class RefusedEvent(msgspec.Struct):
    """One event of a request that was not taken, by its place in the request."""

    index: int
    code: str
    error: str


class IngestAnswer(msgspec.Struct):
    """`results` is given for fewer than 100 events; from 100 on `errors` lists what was refused."""

    accepted: int
    total: int
    duplicates: int
    timestamp: int
    retention_seconds: int
    results: list[IngestResult] | msgspec.UnsetType = msgspec.UNSET
    errors: list[RefusedEvent] | msgspec.UnsetType = msgspec.UNSET


class BatchAnswer(msgspec.Struct):
    """What became of a batch; the same for the same batch, but for its status."""

    batch_id: str
    status: Literal["completed", "processing", "failed"]
    accepted: int
    total: int
    duplicates: int
    event_count: int
    timestamp: int
    events: list[str]
    errors: list[RefusedEvent]


class BatchStatus(msgspec.Struct):
    """Where a batch stands."""

    batch_id: str
    event_count: int
    timestamp: int
    status: Literal["completed", "processing", "failed"]
    events: list[str]
    errors: list[RefusedEvent]
    updated_at: int


class QueryAnswer(msgspec.Struct):
    """One page of events, newest first unless asked otherwise."""

    count: int
    events: list[dict[str, Any]]
    next_cursor: str | None


class ClientInfo(msgspec.Struct):
    """One run of a client.

    `highest` is the highest number of its events, `received` how many of them arrived, `lost` what it says that it lost,
    by reason. `missing` are the others up to the highest: on their way, or lost without its knowing.
    """

    process: str
    first_seen: int
    last_seen: int
    highest: int
    received: int
    lost: dict[str, int]
    missing: int


class ClientList(msgspec.Struct):
    """Clients that number their events and were seen lately: those with losses or missing events first.

    `count` are listed. `total`, `lost` and `missing` are of all, listed or not.
    """

    count: int
    clients: list[ClientInfo]
    total: int
    lost: int
    missing: int


class KeyCreate(msgspec.Struct, forbid_unknown_fields=True):
    """The key to make. Without a name it is called as its scope; without numbers it is not limited."""

    scope: Literal["write", "read", "chat", "admin"]
    name: str = ""
    project: str = "default"
    per_minute: Quota | None = None
    per_day: Quota | None = None
    requests_per_minute: Quota | None = None
    tokens_per_day: Quota | None = None
    usd_per_day: _Dollars | None = None


class KeyQuota(msgspec.Struct, forbid_unknown_fields=True):
    """How many events a key may bring, a minute and a UTC day; and what it may ask of the gateway: requests a minute,
    tokens and US dollars a UTC day. Null is no limit, and what is left out stays.
    """

    per_minute: Quota | msgspec.UnsetType | None = msgspec.UNSET
    per_day: Quota | msgspec.UnsetType | None = msgspec.UNSET
    requests_per_minute: Quota | msgspec.UnsetType | None = msgspec.UNSET
    tokens_per_day: Quota | msgspec.UnsetType | None = msgspec.UNSET
    usd_per_day: _Dollars | msgspec.UnsetType | None = msgspec.UNSET


class KeyInfo(msgspec.Struct):
    """A key, without its secret."""

    id: str
    project: str
    name: str
    scope: str
    last4: str
    created_at: int
    revoked_at: int | None
    per_minute: int | None = None
    per_day: int | None = None
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    usd_per_day: float | None = None


class NewKey(msgspec.Struct):
    """A new key with its secret, shown this once."""

    id: str
    key: str
    project: str
    name: str
    scope: str


class KeyList(msgspec.Struct):
    """All keys."""

    count: int
    keys: list[KeyInfo]


class ProjectCreate(msgspec.Struct, forbid_unknown_fields=True):
    """The project to make."""

    name: str


class ProviderList(msgspec.Struct):
    """Every provider, in the order of the configuration."""

    count: int
    providers: list[ProviderStatus]


class ProjectInfo(msgspec.Struct):
    """A project; its number stands in Sentry addresses."""

    id: int
    name: str
    created_at: int


class ProjectList(msgspec.Struct):
    """All projects."""

    count: int
    projects: list[ProjectInfo]


class DeadLetterInfo(msgspec.Struct):
    """Events that the store refuses, and why."""

    id: str
    count: int
    at: int
    reason: str
    batch_ids: list[str]


class DeadLetterList(msgspec.Struct):
    """All events that wait because the store refuses them."""

    count: int
    letters: list[DeadLetterInfo]
    unreadable: list[str]


class Replayed(msgspec.Struct):
    """How many events went back into the log."""

    replayed: int


class Health(msgspec.Struct):
    """healthy and degraded answer 200, unhealthy 503."""

    status: Literal["healthy", "degraded", "unhealthy"]
    parts: dict[str, dict[str, Any]]

"""The one table of everything that the server answers: method, path, scope, where the key stands, what goes in and out.

Dispatch, the access check, the OpenAPI document, the reference page and the start-up self-check are all driven by it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from leeward.wire.client import NUMBER_MAX, PROCESS_PATTERN, REASON_PATTERN, REASONS_MAX

__all__ = ["ROUTES", "Route"]

Scope = Literal["public", "write", "read", "chat", "admin"]
KeyIn = Literal["none", "header", "header or session"]


_Name = Annotated[str, msgspec.Meta(max_length=200)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


# -- what goes in and out --------------------------------------------------------------------------------------------


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
    """The key to make. Without a name it is called as its scope."""

    scope: Literal["write", "read", "chat", "admin"]
    name: str = ""
    project: str = "default"


class KeyInfo(msgspec.Struct):
    """A key, without its secret."""

    id: str
    project: str
    name: str
    scope: str
    last4: str
    created_at: int
    revoked_at: int | None


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


# -- the table -------------------------------------------------------------------------------------------------------


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `handler` is the name under which the application registers the function that answers."""

    method: Literal["GET", "POST", "DELETE", "PATCH"]
    path: str
    scope: Scope
    handler: str
    summary: str
    key_in: KeyIn = "header"
    takes: Any = None
    gives: Any = None
    refuses: Any = None  # what a 400 may hold instead of the common form
    statuses: tuple[int, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()  # of the query string: (name, meaning)
    page: bool = False  # HTML for people: refused with a way to sign in, and only for known hosts


QUERY_PARAMETERS: Final = (
    ("start", "Received at or after; milliseconds since 1970 or RFC 3339. Default: 24 hours ago."),
    ("end", "Received before; milliseconds since 1970 or RFC 3339. Default: now."),
    ("limit", "How many events, 1 to 1000. Default: 100."),
    ("order", "desc (newest first, the default) or asc."),
    ("cursor", "`next_cursor` of the last answer."),
    ("wait_ms", "How long to wait until everything acknowledged is visible, 0 to 5000. Default: 5000."),
    ("event_type", "Only events of this name."),
    ("kind", "event, exception, span, log or metric."),
    ("level", "DEBUG, INFO, WARN, ERROR or FATAL."),
    ("category", "Errors of this category."),
    ("distinct_id", "Only of this person."),
    ("session_id", "Only of this session."),
    ("correlation_id", "Only with this correlation id."),
    ("trace_id", "Only of this trace."),
    ("batch_id", "Only of this batch."),
)

CLIENTS_PARAMETERS: Final = (
    ("limit", "How many clients, 1 to 1000. Default: 100."),
    ("wait_ms", "How long to wait until everything acknowledged is counted, 0 to 5000. Default: 5000."),
)

_BODY_STATUSES: Final = (400, 408, 413, 415)
_INGEST_STATUSES: Final = (*_BODY_STATUSES, 401, 403, 429, 503)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/telemetry/ingest",
        scope="write",
        handler="ingest",
        summary="Send one event, or an array of 1 to 1000. Answered when they are on stable storage.",
        takes=EventIn | list[EventIn],
        gives=IngestAnswer,
        refuses=IngestAnswer,
        statuses=_INGEST_STATUSES,
    ),
    Route(
        method="POST",
        path="/api/telemetry/batch",
        scope="write",
        handler="batch",
        summary="Send a batch of at most 1000 events under an id; the same batch again is stored once.",
        takes=BatchIn,
        gives=BatchAnswer,
        statuses=(*_INGEST_STATUSES, 409),
    ),
    Route(
        method="GET",
        path="/api/telemetry/batch/{id}",
        scope="read",
        handler="batch_status",
        summary="Ask what became of a batch.",
        gives=BatchStatus,
        statuses=(401, 403, 429, 404, 503),
    ),
    Route(
        method="GET",
        path="/api/telemetry/query",
        scope="read",
        handler="query",
        summary="Read events by time and filters, page by page. Sees everything acknowledged before it was asked.",
        gives=QueryAnswer,
        statuses=(400, 401, 403, 429, 503),
        parameters=QUERY_PARAMETERS,
    ),
    Route(
        method="GET",
        path="/api/telemetry/clients",
        scope="read",
        handler="clients",
        summary="Ask whether clients lost events, or events of theirs are missing. Only of clients that number their events.",
        gives=ClientList,
        statuses=(400, 401, 403, 429, 503),
        parameters=CLIENTS_PARAMETERS,
    ),
    Route(
        method="GET",
        path="/api/keys",
        scope="admin",
        handler="keys_list",
        summary="List the keys, without their secrets.",
        gives=KeyList,
        statuses=(401, 403, 429),
    ),
    Route(
        method="POST",
        path="/api/keys",
        scope="admin",
        handler="keys_create",
        summary="Make a key. The answer is the only place where it is ever shown.",
        takes=KeyCreate,
        gives=NewKey,
        statuses=(*_BODY_STATUSES, 401, 403, 429, 404),
    ),
    Route(
        method="DELETE",
        path="/api/keys/{id}",
        scope="admin",
        handler="keys_revoke",
        summary="Revoke a key; it holds from the next request.",
        gives=KeyInfo,
        statuses=(401, 403, 429, 404),
    ),
    Route(
        method="GET",
        path="/api/projects",
        scope="admin",
        handler="projects_list",
        summary="List the projects.",
        gives=ProjectList,
        statuses=(401, 403, 429),
    ),
    Route(
        method="POST",
        path="/api/projects",
        scope="admin",
        handler="projects_create",
        summary="Make a project.",
        takes=ProjectCreate,
        gives=ProjectInfo,
        statuses=(*_BODY_STATUSES, 401, 403, 429, 409),
    ),
    Route(
        method="GET",
        path="/api/dead-letters",
        scope="admin",
        handler="dead_letters_list",
        summary="List the events that the store refuses.",
        gives=DeadLetterList,
        statuses=(401, 403, 429),
    ),
    Route(
        method="POST",
        path="/api/dead-letters/{id}",
        scope="admin",
        handler="dead_letters_replay",
        summary="Put refused events back into the log, to be loaded again.",
        gives=Replayed,
        statuses=(401, 403, 429, 404, 503),
    ),
    Route(
        method="GET",
        path="/metrics",
        scope="read",
        handler="metrics",
        summary="Counters and gauges for Prometheus.",
        statuses=(401, 403, 429),
    ),
    Route(
        method="GET",
        path="/health",
        scope="public",
        key_in="none",
        handler="health",
        summary="How every part is: healthy and degraded answer 200, unhealthy 503.",
        gives=Health,
        statuses=(503,),
    ),
    Route(method="GET", path="/livez", scope="public", key_in="none", handler="livez", summary="The process answers."),
    Route(
        method="GET",
        path="/readyz",
        scope="public",
        key_in="none",
        handler="readyz",
        summary="Events are accepted. Does not wait for the store.",
        statuses=(503,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        scope="public",
        key_in="none",
        handler="openapi",
        summary="This API's description, from its route table.",
    ),
    Route(
        method="GET",
        path="/docs",
        scope="public",
        key_in="none",
        handler="docs",
        summary="The reference page; works offline.",
        page=True,
    ),
    Route(
        method="GET",
        path="/static/{id}",
        scope="public",
        key_in="none",
        handler="page",
        summary="Styles and scripts of the pages.",
        page=True,
    ),
    Route(
        method="GET",
        path="/login",
        scope="public",
        key_in="none",
        handler="page",
        summary="Sign in with a key.",
        page=True,
    ),
    Route(
        method="POST",
        path="/login",
        scope="public",
        key_in="none",
        handler="page",
        summary="Sign in with a key, or with the token of a one-time link.",
        page=True,
    ),
    Route(
        method="GET",
        path="/login/{id}",
        scope="public",
        key_in="none",
        handler="page",
        summary="The one-time sign-in link.",
        page=True,
    ),
    Route(
        method="POST",
        path="/logout",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="Sign out.",
        page=True,
    ),
    Route(
        method="GET",
        path="/",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="Overview: events per minute, the last events, the state of log and store.",
        page=True,
    ),
    Route(
        method="GET",
        path="/overview",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="The changing part of the overview.",
        page=True,
    ),
)

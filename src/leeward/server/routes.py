"""The one table of everything that the server answers: method, path, scope, where the key stands, what goes in and out.

Dispatch, the access check, the OpenAPI document, the reference page and the start-up self-check are all driven by it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from leeward.server.chaos import ChaosInfo, ChaosList, ChaosSet
from leeward.server.refusals import RefusalList
from leeward.server.schemas import (
    BatchAnswer,
    BatchIn,
    BatchStatus,
    ClientList,
    DeadLetterList,
    EventIn,
    Health,
    IngestAnswer,
    KeyCreate,
    KeyInfo,
    KeyList,
    KeyQuota,
    NewKey,
    ProjectCreate,
    ProjectInfo,
    ProjectList,
    ProviderList,
    QueryAnswer,
    Replayed,
)

__all__ = ["ROUTES", "Route", "Wire", "wire_beside"]

Scope = Literal["public", "write", "read", "chat", "admin"]
KeyIn = Literal["none", "header", "header or session", "basic", "wire"]
Wire = Literal["native", "posthog", "otlp", "sentry", "openai"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `handler` is the name under which the application registers the function that answers.

    A path may have one `{id}` in the place of a whole segment. `key_in` says where the key stands: `header` is ours
    (Bearer or X-API-Key), `basic` the password of HTTP's basic form, and `wire` the place that the protocol has for it,
    in body, query or a header of its own, where its handler finds it. `wire` also rules the form of refusals.
    """

    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH"]
    path: str
    scope: Scope
    handler: str
    summary: str
    key_in: KeyIn = "header"
    wire: Wire = "native"
    cors: bool = False  # browsers of any site may call it; no cookie counts here
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

_NATIVE: Final[tuple[Route, ...]] = (
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
        method="PATCH",
        path="/api/keys/{id}",
        scope="admin",
        handler="keys_set_quota",
        summary="Set how much a key may do; it holds from the next request.",
        takes=KeyQuota,
        gives=KeyInfo,
        statuses=(*_BODY_STATUSES, 401, 403, 429, 404),
    ),
    Route(
        method="GET",
        path="/api/refusals",
        scope="read",
        handler="refusals_list",
        summary="Ask what was refused lately, in any protocol, why, and what to do about it.",
        gives=RefusalList,
        statuses=(401, 403, 429),
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
    Route(
        method="GET",
        path="/providers",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="How each provider is, what its calls came to, and what callers got meanwhile.",
        page=True,
    ),
    Route(
        method="GET",
        path="/providers/part",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="The changing part of the page about providers.",
        page=True,
    ),
    Route(
        method="POST",
        path="/providers/fault",
        scope="admin",
        key_in="header or session",
        handler="page",
        summary="Switch a provider's fault on or off.",
        page=True,
    ),
    Route(
        method="GET",
        path="/refused",
        scope="read",
        key_in="header or session",
        handler="page",
        summary="What was refused lately, and what to do about it.",
        page=True,
    ),
)


# -- other protocols: described by their own specifications, so the OpenAPI document leaves them out ------------------------


def _foreign(
    wire: Wire,
    method: Literal["GET", "POST"],
    path: str,
    handler: str,
    summary: str,
    *,
    scope: Scope = "write",
    key_in: KeyIn = "wire",
) -> Route:
    """A path of another protocol: browsers of any site may call it, and its handler bears the protocol's name."""
    return Route(
        method=method,
        path=path,
        scope=scope,
        key_in=key_in,
        wire=wire,
        cors=True,
        handler=f"{wire}_{handler}",
        summary=summary,
    )


def _posthog(method: Literal["GET", "POST"], path: str, handler: str, summary: str) -> Route:
    """Events: the key is in the body, or in the query string."""
    return _foreign("posthog", method, path, handler, summary)


def _posthog_quiet(method: Literal["GET", "POST"], path: str, handler: str, summary: str) -> Route:
    """What PostHog has and leeward has not: the same harmless answer for everybody, so that an SDK goes on."""
    return _foreign("posthog", method, path, handler, summary, scope="public", key_in="none")


def _otlp(path: str, handler: str, summary: str, *, key_in: KeyIn = "header") -> Route:
    return _foreign("otlp", "POST", path, handler, summary, key_in=key_in)


def _sentry(path: str, handler: str, summary: str) -> Route:
    return _foreign("sentry", "POST", path, handler, summary)


_POSTHOG_PATHS: Final = ("/batch", "/capture", "/e", "/i/v0/e", "/track", "/engage")
_CAPTURE: Final = "PostHog: events, one or many, in any of its shapes and encodings."

_WIRES: Final[tuple[Route, ...]] = (
    *(_posthog("POST", path, "capture", _CAPTURE) for path in _POSTHOG_PATHS),
    *(_posthog("GET", path, "capture", "PostHog: events in the parameter `data`.") for path in _POSTHOG_PATHS),
    _posthog("POST", "/i/v0/ai/batch", "capture", "PostHog: events of language models."),
    _posthog("POST", "/i/v1/analytics/events", "v1", "PostHog: events, with an answer for each."),
    _posthog("POST", "/i/v1/ai/events", "v1", "PostHog: events of language models, with an answer for each."),
    _posthog("POST", "/s", "replay", "PostHog: session recordings are taken, counted and not kept."),
    _posthog("POST", "/i/v1/logs", "logs", "posthog-js: log records."),
    _posthog("POST", "/i/v1/metrics", "metrics", "posthog-js: metrics."),
    _posthog("POST", "/i/v1/traces", "traces", "posthog-js: traces."),
    _posthog_quiet("POST", "/flags", "flags", "PostHog: there are no feature flags."),
    _posthog_quiet("POST", "/decide", "flags", "PostHog: there are no feature flags."),
    _posthog_quiet("GET", "/array/{id}/config", "config", "posthog-js: what is switched on, which is capturing."),
    _posthog_quiet("GET", "/array/{id}/config.js", "config_js", "posthog-js: the same, as a script."),
    _posthog_quiet(
        "POST", "/i/v0/ai", "ai_blobs", "PostHog: events with large parts are not taken; says where to send."
    ),
    _posthog_quiet("GET", "/api/surveys", "surveys", "PostHog: there are no surveys."),
    _posthog_quiet("GET", "/api/product_tours", "product_tours", "PostHog: there are no product tours."),
    _posthog_quiet("GET", "/api/web_experiments", "web_experiments", "PostHog: there are no experiments."),
    _posthog_quiet("GET", "/api/feature_flag/local_evaluation", "definitions", "PostHog: there are no feature flags."),
    _posthog_quiet("GET", "/flags/definitions", "definitions", "PostHog: there are no feature flags."),
    _posthog_quiet(
        "GET",
        "/api/projects/@current/feature_flags/{id}/remote_config",
        "remote_config",
        "PostHog: there is no such feature flag.",
    ),
    _otlp("/v1/traces", "traces", "OpenTelemetry: spans."),
    _otlp("/v1/metrics", "metrics", "OpenTelemetry: metrics."),
    _otlp("/v1/logs", "logs", "OpenTelemetry: log records."),
    _otlp("/api/public/otel/v1/traces", "traces", "Langfuse: spans; the key is the password.", key_in="basic"),
    _sentry("/api/{id}/envelope", "envelope", "Sentry: an envelope of items."),
    _sentry("/api/{id}/store", "store", "Sentry: one event, in its older form."),
)

# -- the gateway ---------------------------------------------------------------------------------------------------------


_BESIDE_OPENAI: Final = ("/v1/", "/chat/completions", "/embeddings", "/models")  # with and without the /v1


def wire_beside(path: str) -> Wire:
    """In whose form nothing is said to be at this path: SDKs show what they can read."""
    return "openai" if path.startswith(_BESIDE_OPENAI) else "native"


def _openai(method: Literal["GET", "POST"], path: str, handler: str, summary: str) -> Route:
    return Route(method=method, path=path, scope="chat", wire="openai", handler=handler, summary=summary)


_GATEWAY: Final[tuple[Route, ...]] = (
    _openai(
        "POST", "/v1/chat/completions", "chat_completions", "OpenAI: an answer to a conversation, whole or streamed."
    ),
    _openai("POST", "/v1/embeddings", "chat_embeddings", "OpenAI: vectors of texts."),
    _openai("GET", "/v1/models", "chat_models", "OpenAI: the models that may be asked for."),
    _openai("GET", "/v1/models/{id}", "chat_model", "OpenAI: one of them."),
    Route(
        method="GET",
        path="/api/providers",
        scope="read",
        handler="providers_list",
        summary="Ask how each AI provider is: health, circuit breaker, limits, latency.",
        gives=ProviderList,
        statuses=(401, 403, 429),
    ),
    Route(
        method="GET",
        path="/api/chaos",
        scope="admin",
        handler="chaos_list",
        summary="List the providers and the faults that are switched on for them.",
        gives=ChaosList,
        statuses=(401, 403, 429),
    ),
    Route(
        method="PUT",
        path="/api/chaos/{id}",
        scope="admin",
        handler="chaos_set",
        summary="Switch a fault on for a provider; it ends by itself.",
        takes=ChaosSet,
        gives=ChaosInfo,
        statuses=(*_BODY_STATUSES, 401, 403, 429, 404, 409),
    ),
    Route(
        method="DELETE",
        path="/api/chaos/{id}",
        scope="admin",
        handler="chaos_clear",
        summary="Switch a provider's fault off.",
        gives=ChaosInfo,
        statuses=(401, 403, 429, 404),
    ),
)

ROUTES: Final = (*_NATIVE, *_GATEWAY, *_WIRES)

"""What is sent: for each row of the table, requests as an SDK of that protocol makes them, as templates.

A load has several templates whose events differ from one to the next, so that neither a cache nor the store's
compression sees the same event all the time.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from benchmarks.ingest.templates import CLOCK_MARK, SECONDS_MARK, Template, fixed64_mark, random_mark
from benchmarks.loading import WORDS

DISTINCT_EVENTS: Final = 2000
MODELS: Final = (("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet"), ("mistral_ai", "mistral-large"))
PROTOBUF: Final = "application/x-protobuf"


class Load(NamedTuple):
    """Where requests go, what they say of themselves, and their bodies, each of so many items."""

    path: str
    headers: dict[str, str]
    templates: list[Template]
    items: int
    gzip: bool = False


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def _many(size: int, make: Callable[[int], Template]) -> list[Template]:
    return [make(number) for number in range(max(2, DISTINCT_EVENTS // size))]


# -- OTLP -----------------------------------------------------------------------------------------------------------------


def _attributes(values: dict[str, Any]) -> list[Any]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    fields: dict[type, str] = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return [KeyValue(key=key, value=AnyValue(**{fields[type(value)]: value})) for key, value in values.items()]


def _resource() -> Any:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return Resource(
        attributes=_attributes(
            {
                "service.name": "chat-backend",
                "service.version": "1.4.2",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.language": "python",
                "telemetry.sdk.version": "1.45.2",
            }
        )
    )


def _span(number: int, chance: random.Random) -> Any:
    """A call of a language model: ten attributes, about 460 bytes."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    provider, model = chance.choice(MODELS)
    low_ns = chance.randrange(1 << 24)
    return Span(
        trace_id=random_mark(3 * (number // 4), 16).encode(),  # four spans a trace
        span_id=random_mark(3 * number + 1, 8).encode(),
        parent_span_id=random_mark(3 * number + 2, 8).encode(),
        name=f"chat {model}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=fixed64_mark(low_ns),
        end_time_unix_nano=fixed64_mark(low_ns, chance.randrange(5, 100)),
        attributes=_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model,
                "gen_ai.response.model": f"{model}-2026-08-06",
                "gen_ai.usage.input_tokens": chance.randrange(4000),
                "gen_ai.usage.output_tokens": chance.randrange(900),
                "gen_ai.conversation.id": f"conv-{chance.getrandbits(40):x}",
                "gen_ai.request.temperature": round(chance.random(), 2),
                "server.address": f"api.{provider}.com",
                "app.note": _words(chance, 4),
            }
        ),
        status=Status(code=Status.STATUS_CODE_OK),
    )


def spans(size: int, key: str, _project: str) -> Load:
    """OTLP spans, protobuf."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

    chance = random.Random(size)

    def make(_: int) -> Template:
        made = [_span(number, chance) for number in range(size)]
        scope = ScopeSpans(scope=InstrumentationScope(name="chat.providers", version="1.4.2"), spans=made)
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=_resource(), scope_spans=[scope])])
        return Template(request.SerializeToString(), is_text=False)

    return Load("/v1/traces", {"content-type": PROTOBUF, "authorization": f"Bearer {key}"}, _many(size, make), size)


def _record(number: int, chance: random.Random) -> Any:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

    at = fixed64_mark(chance.randrange(1 << 24))
    provider, model = chance.choice(MODELS)
    return LogRecord(
        time_unix_nano=at,
        observed_time_unix_nano=at,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        body=AnyValue(string_value=_words(chance, 18)),
        attributes=_attributes(
            {
                "logger.name": "chat.providers",
                "code.function.name": chance.choice(("answer", "retry", "stream", "settle")),
                "code.line.number": chance.randrange(900),
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": model,
                "session.id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                "attempt": chance.randrange(4),
            }
        ),
        trace_id=random_mark(2 * number, 16).encode(),
        span_id=random_mark(2 * number + 1, 8).encode(),
        flags=1,
    )


def logs(size: int, key: str, _project: str) -> Load:
    """OTLP log records, protobuf."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs

    chance = random.Random(size)

    def make(_: int) -> Template:
        made = [_record(number, chance) for number in range(size)]
        scope = ScopeLogs(scope=InstrumentationScope(name="chat.providers"), log_records=made)
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=_resource(), scope_logs=[scope])])
        return Template(request.SerializeToString(), is_text=False)

    return Load("/v1/logs", {"content-type": PROTOBUF, "authorization": f"Bearer {key}"}, _many(size, make), size)


# -- JSON -----------------------------------------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    """As SDKs write it; a mark of seconds becomes part of a number."""
    return re.sub(rb'"(~s0+~[0-9]*)"', rb"\1", json.dumps(value, separators=(",", ":")).encode())


def _uuid(number: int) -> str:
    return f"{random_mark(2 * number, 8)}-6f4b-4{number % 4096:03x}-89c1-{random_mark(2 * number + 1, 12)}"


def _today(micros: int) -> str:
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}T{CLOCK_MARK}.{micros:06}"


def _posthog_event(number: int, chance: random.Random) -> dict[str, Any]:
    """As posthog-python sends it, about 470 bytes."""
    provider, model = chance.choice(MODELS)
    return {
        "properties": {
            "provider": provider,
            "model": model,
            "latency_ms": round(chance.uniform(80, 4000), 1),
            "input_tokens": chance.randrange(4000),
            "ok": True,
            "note": _words(chance, 9),
            "$lib": "posthog-python",
            "$lib_version": "7.91.1",
            "$is_server": True,
            "$geoip_disable": True,
            "$os": "Linux",
            "$python_version": "3.11.7",
        },
        "timestamp": f"{_today(chance.randrange(10**6))}+00:00",
        "distinct_id": f"user-{chance.randrange(10_000)}",
        "event": chance.choice(("message_sent", "message_received", "tool_called", "session_started")),
        "uuid": _uuid(number),
    }


def posthog(size: int, key: str, _project: str) -> Load:
    """A batch of posthog-python."""
    chance = random.Random(size)

    def make(_: int) -> Template:
        batch = [_posthog_event(number, chance) for number in range(size)]
        body = {"batch": batch, "sent_at": f"{_today(999_999)}+00:00", "api_key": key}
        return Template(_json(body), is_text=True)

    return Load("/batch/", {"content-type": "application/json"}, _many(size, make), size)


def posthog_gzip(size: int, key: str, project: str) -> Load:
    """The same, packed by the SDK."""
    plain = posthog(size, key, project)
    return plain._replace(headers={**plain.headers, "content-encoding": "gzip"}, gzip=True)


def _native_event(number: int, chance: random.Random) -> dict[str, Any]:
    provider, model = chance.choice(MODELS)
    return {
        "event_type": chance.choice(("message_sent", "message_received", "tool_called", "session_started")),
        "id": _uuid(number),
        "timestamp": f"{SECONDS_MARK}{chance.randrange(1000):03}",
        "distinct_id": f"user-{chance.randrange(10_000)}",
        "session_id": f"session-{chance.getrandbits(40):x}",
        "data": {
            "provider": provider,
            "model": model,
            "latency_ms": round(chance.uniform(80, 4000), 1),
            "input_tokens": chance.randrange(2000),
            "output_tokens": chance.randrange(800),
            "path": "/v1/chat/completions",
            "ok": True,
            "note": _words(chance, 26),
        },
    }


def native(size: int, key: str, _project: str) -> Load:
    """leeward's own wire: what the others are held against."""
    chance = random.Random(size)

    def make(_: int) -> Template:
        return Template(_json([_native_event(number, chance) for number in range(size)]), is_text=True)

    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    return Load("/api/telemetry/ingest", headers, _many(size, make), size)


# -- Sentry ---------------------------------------------------------------------------------------------------------------


def _frame(number: int, chance: random.Random) -> dict[str, Any]:
    function = f"{chance.choice(('answer', 'retry', 'stream', 'settle'))}_{number}"
    return {
        "filename": "chat/providers.py",
        "abs_path": "/srv/chat/providers.py",
        "function": function,
        "module": "chat.providers",
        "lineno": chance.randrange(1, 900),
        "pre_context": ["    for provider in self.providers:", "        try:"],
        "context_line": f"            return await self.{function}(provider, message)",
        "post_context": ["        except ProviderError as error:", "            self.note(error)"],
        "in_app": True,
    }


def _error(chance: random.Random) -> dict[str, Any]:
    """An error of a web service, about 3 KB, as sentry-python sends it."""
    provider, model = chance.choice(MODELS)
    names = (("ProviderError", "overloaded"), ("TimeoutError", "no answer"), ("KeyError", "choices"))
    kind, value = chance.choice(names)
    return {
        "level": "error",
        "exception": {
            "values": [
                {
                    "type": kind,
                    "value": f"{value}: {provider} after {chance.randrange(5000)} ms",
                    "module": "chat.errors",
                    "mechanism": {"type": "generic", "handled": False},
                    "stacktrace": {"frames": [_frame(number, chance) for number in range(4)]},
                }
            ]
        },
        "event_id": random_mark(1, 32),
        "timestamp": f"{_today(chance.randrange(10**6))}Z",
        "transaction": "/v1/chat/completions",
        "contexts": {
            "trace": {"trace_id": random_mark(2, 32), "span_id": random_mark(3, 16), "op": "http.server"},
            "runtime": {"name": "CPython", "version": "3.11.7", "build": "3.11.7 (main)"},
        },
        "breadcrumbs": {"values": [_crumb(chance) for _ in range(4)]},
        "tags": {"provider": provider, "model": model},
        "user": {"id": f"user-{chance.randrange(10_000)}"},
        "release": "chat@1.4.2",
        "environment": "production",
        "server_name": "chat-7",
        "sdk": {"name": "sentry.python", "version": "2.75.0", "packages": [{"name": "pypi:sentry-sdk"}]},
        "platform": "python",
    }


def _crumb(chance: random.Random) -> dict[str, Any]:
    return {
        "type": "log",
        "level": "info",
        "category": "chat.providers",
        "message": _words(chance, 10),
        "timestamp": f"{_today(chance.randrange(10**6))}Z",
    }


def sentry(size: int, key: str, project: str) -> Load:
    """Envelopes of one error each."""
    assert size == 1, "an envelope holds one error"
    chance = random.Random(size)

    def make(_: int) -> Template:
        payload = _json(_error(chance))
        head = _json({"event_id": random_mark(1, 32), "sent_at": f"{_today(999_999)}Z"})
        item = b'{"type":"event","content_type":"application/json","length":%d}' % len(payload)
        return Template(b"\n".join((head, item, payload)) + b"\n", is_text=True)

    headers = {
        "content-type": "application/x-sentry-envelope",
        "x-sentry-auth": f"Sentry sentry_key={key}, sentry_version=7, sentry_client=sentry.python/2.75.0",
    }
    return Load(f"/api/{project}/envelope/", headers, _many(20, make), size)


LOADS: Final[dict[str, Callable[[int, str, str], Load]]] = {
    "spans": spans,
    "logs": logs,
    "posthog": posthog,
    "posthog_gzip": posthog_gzip,
    "sentry": sentry,
    "native": native,
}

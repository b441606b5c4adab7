"""The clients under comparison, each behind the same three calls and with its default settings.

A package is imported by `start`, in the process that measures it. `lossless` is how many events may wait in the client
before it drops: the measure of sustained delivery stays below it. Each reports in the way its documentation tells for
events of one's own: PostHog's `capture`, Sentry's events and (the batched lane) its logs, OpenTelemetry's spans.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Protocol

KEY = "lw_" + "k" * 32


class Subject(Protocol):
    """One client."""

    name: str
    imports: str
    package: str
    lossless: int

    def start(self, url: str, spool_dir: str, /) -> None:
        """Import and configure."""
        ...

    def capture(self, name: str, properties: dict[str, Any], person: str) -> object:
        """Report one event."""
        ...

    def flush(self, timeout_s: float, /) -> None:
        """Send what waits."""
        ...


class Null:
    """No client: what the measuring itself costs."""

    name = "null"
    imports = "pass"
    package = ""
    lossless = 1_000_000

    def start(self, _url: str, _spool_dir: str) -> None:
        pass

    def capture(self, name: str, properties: dict[str, Any], person: str) -> None:
        pass

    def flush(self, _timeout_s: float) -> None:
        pass


class Leeward:
    name = "leeward"
    imports = "import leeward"
    package = "leeward"
    lossless = 1_000_000  # its spool is bounded by bytes

    def start(self, url: str, spool_dir: str) -> None:
        import leeward

        leeward.init(KEY, url, spool_dir=spool_dir)
        self._capture = leeward.capture
        self._flush = leeward.flush

    def capture(self, name: str, properties: dict[str, Any], person: str) -> object:
        return self._capture(name, properties, distinct_id=person)

    def flush(self, timeout_s: float) -> None:
        self._flush(timeout_s)


class Posthog:
    name = "posthog"
    imports = "import posthog"
    package = "posthog"
    lossless = 5_000

    def start(self, url: str, _spool_dir: str) -> None:
        from posthog import Posthog

        self._client = Posthog("phc_" + "k" * 32, host=url)

    def capture(self, name: str, properties: dict[str, Any], person: str) -> object:
        return self._client.capture(name, distinct_id=person, properties=properties)

    def flush(self, _timeout_s: float) -> None:
        self._client.flush()


class Sentry:
    """Its events: one request each."""

    name = "sentry"
    imports = "import sentry_sdk"
    package = "sentry-sdk"
    lossless = 50

    def start(self, url: str, _spool_dir: str) -> None:
        import sentry_sdk

        sentry_sdk.init(
            dsn=url.replace("http://", f"http://{'k' * 32}@") + "/1", enable_logs=self.name == "sentry-logs"
        )
        self._sdk = sentry_sdk

    def capture(self, name: str, properties: dict[str, Any], person: str) -> object:
        return self._sdk.capture_event({"message": name, "user": {"id": person}, "extra": properties})

    def flush(self, timeout_s: float) -> None:
        self._sdk.flush(timeout_s)


class SentryLogs(Sentry):
    """Its log records: batched."""

    name = "sentry-logs"
    lossless = 500

    def capture(self, name: str, properties: dict[str, Any], person: str) -> object:
        return self._sdk.logger.info(name, attributes={**properties, "user.id": person})


class OpenTelemetry:
    name = "otel"
    imports = (
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider; "
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor; "
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter"
    )
    package = "opentelemetry-sdk"
    lossless = 1_000

    def start(self, url: str, _spool_dir: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
        trace.set_tracer_provider(self._provider)
        self._tracer = trace.get_tracer("benchmark")

    def capture(self, name: str, properties: dict[str, Any], person: str) -> None:
        self._tracer.start_span(name, attributes={**properties, "user.id": person}).end()

    def flush(self, timeout_s: float) -> None:
        self._provider.force_flush(int(timeout_s * 1000))


class Logfire:
    name = "logfire"
    imports = "import logfire"
    package = "logfire"
    lossless = 1_000

    def start(self, url: str, _spool_dir: str) -> None:
        import logfire

        logfire.configure(
            send_to_logfire=True,
            token="k" * 32,
            console=False,  # printing every event would be all that is measured
            advanced=logfire.AdvancedOptions(base_url=url),
        )
        self._logfire = logfire

    def capture(self, name: str, properties: dict[str, Any], person: str) -> None:
        self._logfire.info(name, **properties, person=person)

    def flush(self, timeout_s: float) -> None:
        self._logfire.force_flush(int(timeout_s * 1000))


SUBJECTS: dict[str, type[Subject]] = {
    subject.name: subject for subject in (Leeward, Posthog, Sentry, SentryLogs, OpenTelemetry, Logfire, Null)
}
OURS = "leeward"
NONE = "null"


def version(name: str) -> str:
    """`name version` of an installed client; empty if it is not installed."""
    package = SUBJECTS[name].package
    if name == OURS:
        import leeward

        return f"leeward {leeward.__version__}"
    try:
        return f"{package} {metadata.version(package)}" if package else ""
    except metadata.PackageNotFoundError:
        return ""

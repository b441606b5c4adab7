"""OpenTelemetry through leeward: its spans, log records and metrics wait on disk until a collector has them.

    from leeward.integrations.otel import configure

    telemetry = configure(service_name="shop", endpoint="https://otel.example.com", api_key="…")   # once, at the start

Promises  What reached the spool outlives a kill -9 and an outage of the collector: spans and log records as they end,
          metrics as they are collected. The network is never waited for, but by `flush` and `shutdown`, as long as they
          are told. `configure` does not raise for what it is told or finds: without an endpoint, or where a person has
          opted out, it does nothing, and then OpenTelemetry's SDK is not even imported.
Needs     pip install "leeward[otel]"; without it this module's import says so.

Delivery is the client's: OTLP over HTTP in protobuf, bearer token, retries with Retry-After, one connection a signal.
That connection is not made by any library that OpenTelemetry instruments, so no span or log tells of it.
"""

from __future__ import annotations

import atexit
import os
from importlib.util import find_spec
from time import monotonic
from typing import NamedTuple

from leeward.sender import api
from leeward.sender.client import Client
from leeward.sender.config import HOST_DEFAULT
from leeward.sender.results import FlushResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import TracerProvider

    from leeward.integrations.otel_genai import GenAiMetrics
    from leeward.integrations.otel_providers import Providers
    from leeward.sender.results import Stats

__all__ = ["Telemetry", "configure"]

TRACES: Final = "traces"
LOGS: Final = "logs"
METRICS: Final = "metrics"
NO_ENDPOINT: Final = "no endpoint: pass endpoint=, or set LEEWARD_HOST or OTEL_EXPORTER_OTLP_ENDPOINT"

SIGNAL_PATHS: Final = ("/v1/traces", "/v1/logs", "/v1/metrics")

_current: list[Telemetry] = []  # at most one

if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
    raise ImportError('leeward.integrations.otel needs OpenTelemetry\'s SDK: pip install "leeward[otel]"')


def configure(
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    host: str | None = None,
    service_name: str | None = None,
    app: str | None = None,
    resource: Resource | Mapping[str, Any] | None = None,
    traces: bool = True,
    logs: bool = True,
    metrics: bool = True,
    metrics_interval_s: float | None = None,
    spool_dir: str | None = None,
    mode: str = "durable",
    disabled: bool | None = None,
    set_global: bool = True,
    instrument_logging: bool = True,
    log_level: int | str = "INFO",
) -> Telemetry:
    """Let the program's OpenTelemetry write into leeward's spool. Called again, it begins anew.

    Args:
        endpoint: The collector's base address: "https://name[:4318][/path]"; "/v1/traces" and so on are added. Else
            what `leeward.init` was told, LEEWARD_HOST, or OTEL_EXPORTER_OTLP_ENDPOINT.
        api_key: The bearer token; else what `leeward.init` was told, or LEEWARD_API_KEY. May be left out.
        host: Another name for `endpoint`.
        service_name: What the data come from; else OTEL_SERVICE_NAME, or `app`'s name.
        app: "name/1.2"; leads the User-Agent; else what `leeward.init` was told.
        resource: More about the source, as OpenTelemetry's Resource or as a mapping.
        traces: Whether spans are taken.
        logs: Whether log records are taken. They are on disk at once, and leave in batches: 5 seconds apart, or when
            500 wait.
        metrics: Whether metrics are taken.
        metrics_interval_s: How often metrics are collected; else OTEL_METRIC_EXPORT_INTERVAL, else 60 seconds.
        spool_dir: Where the data wait; else as for the client.
        mode: As for the client: "durable", or "memory", which loses on SIGKILL what was not sent.
        disabled: True switches it off, False on; else as for the client, and OTEL_SDK_DISABLED.
        set_global: Make this the program's OpenTelemetry; if it has providers already, ours join them.
        instrument_logging: Take what the program logs with `logging`, too.
        log_level: From which level on.

    Returns:
        A handle; `problem` says why it is off, if it is.
    """
    while _current:
        _current.pop()._give_way()
    telemetry = Telemetry()
    try:
        target = _target(endpoint or host, api_key, app, spool_dir, disabled)
        wanted = [name for name, is_wanted in ((TRACES, traces), (LOGS, logs), (METRICS, metrics)) if is_wanted]
        telemetry._open(target, wanted, mode)
        if telemetry._clients:
            telemetry._begin(
                service=service_name,
                app=target.app,
                resource=resource,
                metrics_interval_s=metrics_interval_s,
                set_global=set_global,
                log_level=log_level if instrument_logging else None,
            )
    except Exception as error:
        # Boundary: a wrong argument, or an SDK that is not as we know it, switches this off; the program goes on.
        telemetry._give_way()
        telemetry.problem = f"it could not be configured: {type(error).__name__}: {error}"
    return telemetry


class Telemetry:
    """What `configure` gives: the providers, and what the client's methods do, for all signals together.

    `problem` says why nothing is recorded; empty if it is, or if a person has opted out.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._clients: dict[str, Client] = {}
        self._providers: Providers | None = None
        self._genai: GenAiMetrics | None = None

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return all(client.disabled for client in self._clients.values())

    @property
    def tracer_provider(self) -> TracerProvider:
        """Whose tracers write into the spool; one that does nothing if this is off."""
        if self._providers is not None and self._providers.tracer is not None:
            return self._providers.tracer
        from opentelemetry.trace import NoOpTracerProvider

        return NoOpTracerProvider()

    @property
    def logger_provider(self) -> LoggerProvider:
        """As `tracer_provider`, for log records."""
        if self._providers is not None and self._providers.logger is not None:
            return self._providers.logger
        from opentelemetry._logs import NoOpLoggerProvider

        return NoOpLoggerProvider()

    @property
    def meter_provider(self) -> MeterProvider:
        """As `tracer_provider`, for metrics."""
        if self._providers is not None and self._providers.meter is not None:
            return self._providers.meter
        from opentelemetry.metrics import NoOpMeterProvider

        return NoOpMeterProvider()

    @property
    def genai(self) -> GenAiMetrics:
        """Ready-made metrics for calls to AI providers, of this `meter_provider`."""
        if self._genai is None:
            from leeward.integrations.otel_genai import GenAiMetrics

            self._genai = GenAiMetrics(self.meter_provider)
        return self._genai

    def flush(self, timeout_s: float = 2.0) -> FlushResult:
        """Collect the metrics and send what waits, waiting at most `timeout_s` seconds; never raises.

        Returns:
            Counts of the requests delivered and dropped, and of those still spooled: a span or log record is one.
        """
        deadline_s = monotonic() + timeout_s
        if self._providers is not None:
            self._providers.collect()
        results = [client.flush(max(0.0, deadline_s - monotonic())) for client in self._clients.values()]
        return FlushResult(
            delivered=sum(result.delivered for result in results),
            spooled=sum(result.spooled for result in results),
            dropped=sum(result.dropped for result in results),
        )

    def shutdown(self, timeout_s: float = 2.0) -> None:
        """Collect the metrics, send what waits, at most `timeout_s` seconds, and end the threads.

        What could not be sent stays on disk for the next process. At exit this happens by itself.
        """
        deadline_s = monotonic() + timeout_s
        for name, client in self._clients.items():
            if name != METRICS:
                _retire(client)
        if self._providers is not None:
            self._providers.close(timeout_s)
        for client in self._clients.values():
            client.shutdown(max(0.0, deadline_s - monotonic()))

    def stats(self) -> dict[str, Stats]:
        """The counts of each signal's client: "traces", "logs", "metrics"."""
        return {name: client.stats() for name, client in self._clients.items()}

    def _open(self, target: _Target, wanted: list[str], mode: str) -> None:
        """Make a client for each signal, unless there is nowhere to send to or the first one is off."""
        self.problem = target.problem
        for name in wanted if target.host else ():
            client = Client(
                target.api_key,
                target.host,
                wire="otlp",
                mode=mode,
                app=target.app,
                spool_dir=target.spool_dir,
                disabled=target.disabled,
                device_id=False,
            )
            if client.disabled:
                self.problem = client.stats().last_error
                return
            client._begin()  # touches no file and starts no thread
            self._clients[name] = client

    def _begin(self, **settings: Any) -> None:
        """Build the providers, and see to the end of the program."""
        from leeward.integrations.otel_providers import Providers  # brings the SDK: only who is on pays for it

        self._providers = Providers(self._clients, **settings)
        # At exit the last metrics are collected: before the clients' own exit, since what is registered later goes
        # first, and for a thread that is there already, since Python 3.12 starts none any more then.
        atexit.register(self._providers.collect)
        if METRICS in self._clients:
            self._clients[METRICS].flush(0.0)
        _current.append(self)

    def _give_way(self) -> None:
        """Record nothing any more; what waits is still sent."""
        if self._providers is not None:
            atexit.unregister(self._providers.collect)
        self.shutdown(0.0)
        for client in self._clients.values():
            client.disabled = True


class _Target(NamedTuple):
    """Where the data go, and what of that the program did not say itself."""

    host: str
    api_key: str
    app: str
    spool_dir: str | None
    disabled: bool | None
    problem: str


def _target(
    endpoint: str | None, api_key: str | None, app: str | None, spool_dir: str | None, disabled: bool | None
) -> _Target:
    """Arguments first, then what `leeward.init` was told, then the environment."""
    told = api.client._config
    if told is not None and told.usable:
        if disabled is None and api.client.disabled:
            disabled = True
        app = app or told.app
        if told.wire != "posthog":  # PostHog's host takes no OTLP
            endpoint = endpoint or told.host
            api_key = api_key or told.api_key
        if told.explicit_root:
            spool_dir = spool_dir or told.root
    if disabled is None and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        disabled = True
    api_key = api_key or os.environ.get("LEEWARD_API_KEY", "")
    host = endpoint or os.environ.get("LEEWARD_HOST") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
    if not host and api_key:
        host = HOST_DEFAULT
    host = host.rstrip("/")
    for path in SIGNAL_PATHS:
        host = host.removesuffix(path)
    return _Target(host, api_key, app or "", spool_dir, disabled, "" if host else NO_ENDPOINT)


def _retire(client: Client) -> None:
    """Let it come to an end without waiting for that, so that several do so side by side."""
    pipeline = client._pipeline
    if pipeline is not None and pipeline.pid == os.getpid():
        pipeline.retire(send=True)

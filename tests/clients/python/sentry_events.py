"""sentry-sdk: an error, a transaction with a span, a log line and a metric for each number."""

import sentry_sdk
from given import DSN, RUN, VARIANT, fail, numbers
from sentry_sdk import traces

sentry_sdk.init(
    DSN, release="app@1.2", environment="test", traces_sample_rate=1.0, enable_logs=True, shutdown_timeout=10, **VARIANT
)
streamed = VARIANT.get("_experiments", {}).get("trace_lifecycle") == "stream"
begin = traces.start_span if streamed else lambda name: sentry_sdk.start_transaction(name=name, op="task")
span = traces.start_span if streamed else lambda name: sentry_sdk.start_span(name=name, op="db")
sentry_sdk.set_user({"id": RUN})
sentry_sdk.set_tag("correlation_id", RUN)
for n in numbers():
    with begin(f"step {n}"):
        with span(f"query {n}"):
            pass
        try:
            fail(n)
        except ValueError as error:
            sentry_sdk.capture_exception(error)
        sentry_sdk.logger.warning("step {n} of {run}", n=n, run=RUN)
        sentry_sdk.metrics.count("steps", 1, attributes={"n": n, "run": RUN})
sentry_sdk.capture_message(f"{RUN} ends", level="info")
sentry_sdk.flush(10)

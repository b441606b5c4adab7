"""sentry-sdk: an error, a transaction with a span, a log line and a metric for each number."""

import sentry_sdk
from given import DSN, RUN, VARIANT, fail, numbers

sentry_sdk.init(
    DSN, release="app@1.2", environment="test", traces_sample_rate=1.0, enable_logs=True, shutdown_timeout=10, **VARIANT
)
sentry_sdk.set_user({"id": RUN})
sentry_sdk.set_tag("correlation_id", RUN)
for n in numbers():
    with sentry_sdk.start_transaction(name=f"step {n}", op="task"):
        with sentry_sdk.start_span(op="db", name=f"query {n}"):
            pass
        try:
            fail(n)
        except ValueError as error:
            sentry_sdk.capture_exception(error)
        sentry_sdk.logger.warning("step {n} of {run}", n=n, run=RUN)
        sentry_sdk.metrics.count("steps", 1, attributes={"n": n, "run": RUN})
sentry_sdk.capture_message(f"{RUN} ends", level="info")
sentry_sdk.flush(10)

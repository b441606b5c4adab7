"""The program whose envelopes lie here. Its lines stand in the stacks of the recorded errors."""

import sentry_sdk
from sentry_sdk import metrics, traces


def pay(amount):
    try:
        {}["card"]
    except KeyError as error:
        raise ValueError(f"cannot pay {amount}") from error


def an_error():
    sentry_sdk.set_user({"id": "u1", "email": "ada@example.org"})
    sentry_sdk.set_tag("correlation_id", "req-7")
    sentry_sdk.set_tag("service", "shop")
    try:
        pay(12)
    except ValueError:
        sentry_sdk.capture_exception()


def a_message():
    sentry_sdk.capture_message("disk nearly full", level="warning")


def a_transaction():
    with sentry_sdk.start_transaction(name="GET /cart", op="http.server"):
        with sentry_sdk.start_span(op="db", name="SELECT 1") as span:
            span.set_data("db.system", "sqlite")
        with sentry_sdk.start_span(op="gen_ai.chat", name="chat gpt-5") as span:
            span.set_data("gen_ai.request.model", "gpt-5")
            span.set_data("gen_ai.system", "openai")
            span.set_data("gen_ai.usage.input_tokens", 11)
            span.set_data("gen_ai.usage.output_tokens", 7)
        with sentry_sdk.start_span(op="http.client", name="GET /stock") as span:
            span.set_status("deadline_exceeded")


def streamed_spans():
    with traces.start_span(name="GET /cart", attributes={"sentry.op": "http.server"}):
        traces.start_span(name="SELECT 1").end()


def logs():
    sentry_sdk.logger.warning("cart of {user} is empty", user="u1", attributes={"cart.size": 0})
    sentry_sdk.logger.error("payment failed")


def points():
    metrics.count("orders", 1, attributes={"shop": "north"})
    metrics.distribution("latency", 12.5, unit="millisecond")
    metrics.gauge("queue", 3)


def a_session():
    sentry_sdk.get_isolation_scope().start_session()
    sentry_sdk.get_isolation_scope().end_session()

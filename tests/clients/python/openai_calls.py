"""openai, watched by the instrumentation that VARIANT names: plain calls, a streamed one, one that fails."""

import os

import openai
from given import HOST, KEY, RUN, VARIANT, numbers, otlp_environment

from chat_provider import provider

KIND = VARIANT["instrumentation"]
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
otlp_environment()


def instrument():
    """Have the calls watched; what makes the client, and what flushes."""
    if KIND == "posthog":
        from posthog import Posthog
        from posthog.ai.openai import OpenAI

        client = Posthog(KEY, host=HOST)
        return lambda **settings: OpenAI(posthog_client=client, **settings), client.shutdown
    if KIND == "langfuse":
        from langfuse import Langfuse
        from langfuse.openai import OpenAI

        client = Langfuse(public_key="pk-lf-anything", secret_key=KEY, base_url=HOST)
        return OpenAI, client.shutdown
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if KIND == "genai":
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    elif KIND == "traceloop":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    else:
        from openinference.instrumentation.openai import OpenAIInstrumentor
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return openai.OpenAI, provider.shutdown


def say(text):
    """One message of a conversation."""
    return [{"role": "user", "content": text}]


make, flush = instrument()
with provider() as url:
    client = make(api_key="of the provider", base_url=url, max_retries=0)
    for n in numbers():
        client.chat.completions.create(model="gpt-4o-mini", messages=say(f"{RUN} {n}"))
    streamed = client.chat.completions.create(
        model="gpt-4o-mini", messages=say(f"{RUN} streamed"), stream=True, stream_options={"include_usage": True}
    )
    for _ in streamed:
        pass
    try:
        client.chat.completions.create(model="gone", messages=say(f"{RUN} failed"))
    except openai.NotFoundError:
        flush()

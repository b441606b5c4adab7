"""PydanticAI with OpenAI's chat completions: agents that answer, stream, call a tool and give structured answers."""

import asyncio

import openai
from given import HOST, KEY, VARIANT
from pydantic_ai import Agent, Embedder, ModelHTTPError
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from steps import ASKS_FOR_TOOL, TOO_MANY_TOKENS, TOOL_SAYS, Wind, tell

runner = asyncio.Runner()  # one loop for all: the SDK's connections belong to it


def agent(model, *, key=KEY, host=HOST, max_retries=0, timeout=None, **more):
    of = openai.AsyncOpenAI(base_url=f"{host}/v1", api_key=key, max_retries=max_retries, timeout=timeout)
    return Agent(OpenAIChatModel(model, provider=OpenAIProvider(openai_client=of)), **more)


def told_of(error):
    headers = (error.headers or {}) if isinstance(error, ModelHTTPError) else {}
    body = getattr(error, "body", None) or {}
    return {
        "status": getattr(error, "status_code", None),
        "code": body.get("code"),
        "param": body.get("param"),
        "message": body.get("message"),
        "request_id": headers.get("x-request-id"),
        "retry_after": headers.get("retry-after"),
    }


def said(of, text="hello", **more):
    return runner.run(of.run(text, **more))


def shown(answer):
    return {
        "text": answer.output,
        "finish": answer.response.finish_reason,
        "tokens": [answer.usage.input_tokens, answer.usage.output_tokens],
    }


def gathered(of, text="hello"):
    async def work():
        async with of.run_stream(text) as stream:
            whole = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
        usage = stream.usage
        return {
            "text": "".join(whole),
            "finish": stream.response.finish_reason,
            "tokens": [usage.input_tokens, usage.output_tokens],
        }

    return runner.run(work())


def whole():
    return shown(said(agent("chat")))


def streamed():
    return gathered(agent("chat"))


def tools():
    return with_tools("chat", asked_by_run)


def tools_of_claude():
    return with_tools("claude", asked_by_run)


def tools_streamed():
    return with_tools("chat", asked_by_stream)


def tools_streamed_of_claude():
    return with_tools("claude", asked_by_stream)


def asked_by_run(of):
    return said(of, ASKS_FOR_TOOL).output


def asked_by_stream(of):
    return gathered(of, ASKS_FOR_TOOL)["text"]


def with_tools(model, ask):
    """A call, its result, the answer to it."""
    of, called = agent(model), []

    @of.tool_plain
    def get_weather(of: str) -> str:
        called.append(of)
        return TOOL_SAYS

    return {"then": ask(of), "called": len(called)}


def structured():
    return said(agent("chat", output_type=Wind)).output.model_dump()


def of_claude():
    return shown(said(agent("claude")))


def streamed_of_claude():
    return gathered(agent("claude"))


def embeddings():
    of = openai.AsyncOpenAI(base_url=f"{HOST}/v1", api_key=KEY)
    embedder = Embedder(OpenAIEmbeddingModel("chat", provider=OpenAIProvider(openai_client=of)))
    return runner.run(embedder.embed_documents(["one", "two"])).embeddings


def error_too_much():
    said(agent("chat"), "hello", model_settings={"max_tokens": TOO_MANY_TOKENS})


def error_of_provider():
    said(agent("bad"))


def error_key():
    said(agent("chat", key="lw_" + "0" * 32))


def error_scope():
    said(agent("chat", key=VARIANT["write_key"]))


def error_model():
    said(agent("of nobody"))


def error_limited():
    said(agent("limited"))


def error_failing():
    said(agent("failing"))


def error_slow():
    said(agent("slow"))


def error_streamed():
    gathered(agent("failing"))


def error_patience():
    said(agent("silent", timeout=0.3))


def cut():
    return gathered(agent("cut"))


def failover():
    return {"text": said(agent("failover")).output}


def failover_streamed():
    return gathered(agent("failover"))


def degraded():
    return {"text": said(agent("static")).output}


def degraded_streamed():
    return gathered(agent("static"))


def repeats():
    """With the SDK's own repeats on, and the gateway's default settings."""
    default = openai.DEFAULT_MAX_RETRIES
    said(agent(VARIANT["counted"], host=VARIANT["default_host"], max_retries=default))


def left():
    """Leave after the first piece."""

    async def work():
        async with agent("paced").run_stream("hello") as stream:
            return await anext(stream.stream_text(delta=True, debounce_by=None))

    return len(runner.run(work()))


with runner:
    tell(
        [
            whole,
            streamed,
            tools,
            tools_streamed,
            structured,
            of_claude,
            streamed_of_claude,
            tools_of_claude,
            tools_streamed_of_claude,
            embeddings,
            error_too_much,
            error_of_provider,
            error_key,
            error_scope,
            error_model,
            error_limited,
            error_failing,
            error_slow,
            error_streamed,
            error_patience,
            cut,
            failover,
            failover_streamed,
            degraded,
            degraded_streamed,
            repeats,
            left,
        ],
        told_of,
    )

"""openai for Python: everything that an application does with chat completions, embeddings and models."""

import asyncio
import itertools

import openai
from given import HOST, KEY, VARIANT
from steps import ASKS_FOR_TOOL, TOO_MANY_TOKENS, TOOL_SAYS, WEATHER, Wind, tell, told_of_openai

SETTINGS = {"base_url": f"{HOST}/v1", "api_key": KEY, "max_retries": 0}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
FORCED = {"type": "function", "function": {"name": "get_weather"}}
client = openai.OpenAI(**SETTINGS)


def say(text):
    return [{"role": "user", "content": text}]


def ask(model, text="hello", *, of=client, **more):
    return of.chat.completions.create(model=model, messages=say(text), **more)


def json():
    return ask("chat").model_dump()


def whole():
    with_headers = client.chat.completions.with_raw_response.create(model="chat", messages=say("hello"))
    answer = with_headers.parse()
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "tokens": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        "provider": with_headers.headers["x-leeward-provider"],
        "attempts": with_headers.headers["x-leeward-attempts"],
        "request_id": answer._request_id,
    }


def chunks():
    return [chunk.model_dump() for chunk in ask("chat", stream=True)]


def chunks_with_usage():
    return [chunk.model_dump() for chunk in ask("chat", stream=True, stream_options={"include_usage": True})]


def streamed():
    return gathered(ask("chat", stream=True, stream_options={"include_usage": True}))


def stream_headers():
    with ask("chat", stream=True) as stream:
        headers = stream.response.headers
        return [headers[name] for name in ("content-type", "x-leeward-provider", "x-leeward-attempts", "x-request-id")]


def error_elsewhere():
    client.responses.create(model="chat", input="hello")


def error_without_v1():
    ask("chat", of=client.with_options(base_url=HOST))


def streamed_without_usage():
    return gathered(ask("chat", stream=True))


def gathered(stream):
    text, finish, tokens = "", None, None
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        if chunk.usage is not None:
            tokens = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens]
    return {"text": text, "finish": finish, "tokens": tokens}


def awaited():
    async def work():
        async with openai.AsyncOpenAI(**SETTINGS) as of:
            answer = await ask("chat", of=of)
            pieces = [chunk async for chunk in await ask("chat", of=of, stream=True)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
        return [answer.choices[0].message.content, text]

    return asyncio.run(work())


def several_answers():
    return ask("chat", n=2).model_dump()


def tool_call():
    return ask("chat", ASKS_FOR_TOOL, tools=TOOLS, tool_choice=FORCED).model_dump()


def tool_chunks():
    return [chunk.model_dump() for chunk in ask("chat", ASKS_FOR_TOOL, tools=TOOLS, tool_choice=FORCED, stream=True)]


def tools():
    return with_tools("chat")


def tools_of_claude():
    return with_tools("claude")


def with_tools(model):
    """A call, its result, the answer to it."""
    called = ask(model, ASKS_FOR_TOOL, tools=TOOLS).choices[0]
    (call,) = called.message.tool_calls
    messages = [
        *say(ASKS_FOR_TOOL),
        called.message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": TOOL_SAYS},
    ]
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0]
    return {
        "name": call.function.name,
        "arguments": call.function.arguments,
        "finish": called.finish_reason,
        "then": answer.message.content,
    }


def tools_streamed():
    return with_tools_streamed("chat")


def tools_streamed_of_claude():
    return with_tools_streamed("claude")


def with_tools_streamed(model):
    with client.chat.completions.stream(model=model, messages=say(ASKS_FOR_TOOL), tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        called = stream.get_final_completion().choices[0]
    (call,) = called.message.tool_calls
    return {
        "name": call.function.name,
        "arguments": call.function.arguments,
        "finish": called.finish_reason,
        "deltas": "tool_calls.function.arguments.delta" in kinds,
    }


def structured():
    answer = client.chat.completions.parse(model="chat", messages=say("hello"), response_format=Wind)
    return answer.choices[0].message.parsed.model_dump()


def structured_streamed():
    with client.chat.completions.stream(model="chat", messages=say("hello"), response_format=Wind) as stream:
        return stream.get_final_completion().choices[0].message.parsed.model_dump()


def of_claude():
    answer = ask("claude")
    usage = answer.usage
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "tokens": [usage.prompt_tokens, usage.completion_tokens],
    }


def streamed_of_claude():
    return gathered(ask("claude", stream=True, stream_options={"include_usage": True}))


def embeddings():
    return client.embeddings.create(model="chat", input=["one", "two"]).model_dump()


def embeddings_as_floats():
    return client.embeddings.create(model="chat", input="one", encoding_format="float", dimensions=3).model_dump()


def models():
    return [model.id for model in client.models.list()]


def model():
    return client.models.retrieve("chat").model_dump()


def no_model():
    return client.models.retrieve("of nobody").model_dump()


def error_too_much():
    ask("chat", max_completion_tokens=TOO_MANY_TOKENS)


def error_of_provider():
    ask("bad")


def error_key():
    ask("chat", of=client.with_options(api_key="lw_" + "0" * 32))


def error_scope():
    ask("chat", of=client.with_options(api_key=VARIANT["write_key"]))


def error_model():
    ask("of nobody")


def error_limited():
    ask("limited")


def error_failing():
    ask("failing")


def error_slow():
    ask("slow")


def error_streamed():
    ask("failing", stream=True)


def error_patience():
    ask("silent", of=client.with_options(timeout=0.3))


def cut():
    return gathered(ask("cut", stream=True))


def cuts():
    """What becomes of a stream that ends in its middle, by how it ends."""
    return {model: [ending(model), awaited_ending(model)] for model in ("cut", "reset-mid", "error-mid", "stall")}


def ending(model):
    try:
        return gathered(ask(model, stream=True))
    except openai.APIError as error:
        return error.code


def awaited_ending(model):
    async def work():
        async with openai.AsyncOpenAI(**SETTINGS) as of:
            return [chunk.model_dump() async for chunk in await ask(model, of=of, stream=True)]

    try:
        return asyncio.run(work())
    except openai.APIError as error:
        return error.code


def failover():
    answer = client.chat.completions.with_raw_response.create(model="failover", messages=say("hello"))
    return {"text": answer.parse().choices[0].message.content, "provider": answer.headers["x-leeward-provider"]}


def failover_streamed():
    return gathered(ask("failover", stream=True))


def degraded():
    answer = client.chat.completions.with_raw_response.create(model="static", messages=say("hello"))
    return {
        "text": answer.parse().choices[0].message.content,
        "header": answer.headers["x-leeward-degraded"],
        "note": answer.parse().model_extra["x_leeward"],
    }


def degraded_streamed():
    stream = list(ask("static", stream=True))
    notes = [chunk.model_extra["x_leeward"] for chunk in stream if "x_leeward" in chunk.model_extra]
    return {**gathered(stream), "notes": notes}


def repeats():
    """With the SDK's own repeats on, and the gateway's default settings."""
    ask(VARIANT["counted"], of=openai.OpenAI(base_url=f"{VARIANT['default_host']}/v1", api_key=KEY))


def left():
    """Leave after the first pieces."""
    with ask("paced", stream=True) as stream:
        return len(list(itertools.islice(stream, 3)))


tell(
    [
        json,
        whole,
        chunks,
        chunks_with_usage,
        streamed,
        stream_headers,
        streamed_without_usage,
        awaited,
        several_answers,
        tool_call,
        tool_chunks,
        tools,
        tools_streamed,
        structured,
        structured_streamed,
        of_claude,
        streamed_of_claude,
        tools_of_claude,
        tools_streamed_of_claude,
        embeddings,
        embeddings_as_floats,
        models,
        model,
        no_model,
        error_elsewhere,
        error_without_v1,
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
        cuts,
        failover,
        failover_streamed,
        degraded,
        degraded_streamed,
        repeats,
        left,
    ],
    told_of_openai,
)

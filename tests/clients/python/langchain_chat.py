"""LangChain's ChatOpenAI, in its mode of chat completions."""

import itertools

from given import HOST, KEY, VARIANT
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from steps import ASKS_FOR_TOOL, TOO_MANY_TOKENS, TOOL_SAYS, Wind, tell, told_of_openai


def chat(model, *, key=KEY, host=HOST, max_retries=0, **more):
    return ChatOpenAI(
        model=model,
        base_url=f"{host}/v1",
        api_key=key,
        max_retries=max_retries,
        use_responses_api=False,
        stream_usage=True,
        include_response_headers=True,
        **more,
    )


@tool
def get_weather(city: str, unit: str) -> str:
    """The weather of a city."""
    return f"{city}, {unit}: {TOOL_SAYS}"


def shown(message):
    usage = message.usage_metadata
    return {
        "text": message.text,
        "finish": message.response_metadata.get("finish_reason"),
        "tokens": usage and [usage["input_tokens"], usage["output_tokens"]],
    }


def gathered(model):
    whole = None
    for chunk in model.stream("hello"):
        whole = chunk if whole is None else whole + chunk
    return whole


def whole():
    answer = chat("chat").invoke("hello")
    headers = answer.response_metadata["headers"]
    return {
        **shown(answer),
        "provider": headers["x-leeward-provider"],
        "attempts": headers["x-leeward-attempts"],
        "request_id": headers["x-request-id"],
    }


def streamed():
    return shown(gathered(chat("chat")))


def streamed_without_usage():
    return shown(gathered(chat("chat").bind(stream_usage=False)))


def tools():
    return with_tools("chat")


def tools_of_claude():
    return with_tools("claude")


def with_tools(model):
    knows = chat(model).bind_tools([get_weather])
    messages = [HumanMessage(ASKS_FOR_TOOL)]
    called = knows.invoke(messages)
    (call,) = called.tool_calls
    messages += [called, ToolMessage(TOOL_SAYS, tool_call_id=call["id"])]
    return {
        "name": call["name"],
        "arguments": call["args"],
        "finish": called.response_metadata["finish_reason"],
        "then": knows.invoke(messages).text,
    }


def tools_streamed():
    return with_tools_streamed("chat")


def tools_streamed_of_claude():
    return with_tools_streamed("claude")


def with_tools_streamed(model):
    whole, pieces = None, 0
    for chunk in chat(model).bind_tools([get_weather], tool_choice="get_weather").stream(ASKS_FOR_TOOL):
        pieces += len(chunk.tool_call_chunks)
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    return {
        "name": call["name"],
        "arguments": call["args"],
        "finish": whole.response_metadata["finish_reason"],
        "deltas": pieces > 1,
    }


def structured():
    return chat("chat").with_structured_output(Wind).invoke("hello").model_dump()


def of_claude():
    return shown(chat("claude").invoke("hello"))


def streamed_of_claude():
    return shown(gathered(chat("claude")))


def embeddings():
    settings = {"base_url": f"{HOST}/v1", "api_key": KEY, "check_embedding_ctx_length": False}
    return OpenAIEmbeddings(model="chat", **settings).embed_documents(["one", "two"])


def error_too_much():
    chat("chat", max_completion_tokens=TOO_MANY_TOKENS).invoke("hello")


def error_of_provider():
    chat("bad").invoke("hello")


def error_key():
    chat("chat", key="lw_" + "0" * 32).invoke("hello")


def error_scope():
    chat("chat", key=VARIANT["write_key"]).invoke("hello")


def error_model():
    chat("of nobody").invoke("hello")


def error_limited():
    chat("limited").invoke("hello")


def error_failing():
    chat("failing").invoke("hello")


def error_slow():
    chat("slow").invoke("hello")


def error_streamed():
    gathered(chat("failing"))


def error_patience():
    chat("silent", timeout=0.3).invoke("hello")


def cut():
    return shown(gathered(chat("cut")))


def failover():
    answer = chat("failover").invoke("hello")
    return {"text": answer.text, "provider": answer.response_metadata["headers"]["x-leeward-provider"]}


def failover_streamed():
    return shown(gathered(chat("failover")))


def degraded():
    answer = chat("static").invoke("hello")
    return {"text": answer.text, "header": answer.response_metadata["headers"]["x-leeward-degraded"]}


def degraded_streamed():
    return shown(gathered(chat("static")))


def repeats():
    """With the SDK's own repeats on, and the gateway's default settings."""
    chat(VARIANT["counted"], host=VARIANT["default_host"], max_retries=None).invoke("hello")


def left():
    """Leave after the first pieces."""
    stream = chat("paced").stream("hello")
    pieces = len(list(itertools.islice(stream, 3)))
    stream.close()
    return pieces


tell(
    [
        whole,
        streamed,
        streamed_without_usage,
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
    told_of_openai,
)

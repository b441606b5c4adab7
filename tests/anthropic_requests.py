"""Requests of Chat Completions for the tests of Anthropic's dialect, and what becomes of them."""

import json

import msgspec

from anthropic_provider import checked
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.chat import ChatRequest, Needs

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def chat(messages=HI, *, model="claude-haiku-4-5", stream=False, stream_usage=False, operation="chat", **fields):
    """A request as the gateway hands it to a dialect."""
    fields = {"model": model, "messages": messages, **fields}
    return ChatRequest(
        model,
        {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()},
        Needs(stream_usage=stream_usage),
        stream=stream,
        operation=operation,
    )


def sent(messages=HI, *, model="claude-haiku-4-5", **fields):
    """What Anthropic is sent for a request; it is one that Anthropic takes."""
    return checked(ANTHROPIC.encode(chat(messages, model=model, **fields), model))


def call(id, name="weather", arguments='{"city":"Rome"}'):
    """A call of a tool in an assistant's message."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

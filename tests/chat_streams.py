"""Answers of providers that speak as OpenAI does, in the shapes that each of them sends: whole, in steps, and errors."""

from __future__ import annotations

import json
from typing import Any


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, *, index: int = 0, **fields: Any) -> bytes:
    """One event with one choice."""
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return event(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        | {"choices": [choice]}
        | fields
    )


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def completion(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> bytes:
    """A whole answer with one choice."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
    about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps({**about, "usage": USAGE, **fields}).encode()


DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
ROLE = {"role": "assistant", "content": "", "refusal": None}
TEXT = chunk(ROLE) + chunk({"content": "Good "}) + chunk({"content": "mörning 🌅"}) + chunk(finish="stop")
FILTERS = {"hate": {"filtered": False, "severity": "safe"}}

STREAMS = {
    "openai": TEXT + chunk(choices=[], usage=USAGE) + DONE,
    "azure": event({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [FILTERS]}) + TEXT + DONE,
    "mistral": chunk({"role": "assistant", "content": ""}) + chunk({"content": "Good mörning 🌅"}, "stop", usage=USAGE) + DONE,
    "groq": chunk(ROLE, x_groq={"id": "req_1"})
    + chunk({"content": "Good mörning 🌅"})
    + chunk(finish="stop", x_groq={"id": "req_1", "usage": USAGE})
    + DONE,
    "deepseek": chunk({"role": "assistant", "content": None, "reasoning_content": ""})
    + chunk({"content": None, "reasoning_content": "A greeting."})
    + chunk({"content": "Good mörning 🌅", "reasoning_content": None})
    + chunk({"content": "", "reasoning_content": None}, "stop", usage=USAGE)
    + DONE,
    "openrouter": b": OPENROUTER PROCESSING\n\n" * 2
    + chunk({"role": "assistant", "content": "Good "}, native_finish_reason=None, provider="x")
    + b": OPENROUTER PROCESSING\n\n"
    + chunk({"role": "assistant", "content": "mörning 🌅"})
    + chunk({"role": "assistant", "content": ""}, "stop")
    + chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], usage=USAGE)
    + DONE,
    "together": chunk({"token_id": 7, "role": "assistant", "content": "Good mörning 🌅"}, warnings=None)
    + chunk({"token_id": 9, "role": "assistant", "content": ""}, "stop", usage=USAGE)
    + DONE,
    "gemini": chunk({"role": "assistant", "content": "Good "}) + chunk({"role": "assistant", "content": "mörning 🌅"}, "stop") + DONE,
    "ollama": chunk({"role": "assistant", "content": "Good mörning 🌅"}, system_fingerprint="fp_ollama")
    + chunk({"role": "assistant", "content": ""}, "stop")
    + DONE,
    "vllm": chunk({"role": "assistant", "content": ""})
    + chunk({"reasoning": "A greeting."})
    + chunk({"content": "Good mörning 🌅"}, usage={"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15})
    + chunk({"content": ""}, "stop", stop_reason=None, usage={"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17})
    + DONE,
    "magistral": chunk({"role": "assistant", "content": ""})
    + chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "A greeting."}]}]})
    + chunk({"content": "Good mörning 🌅"}, "stop", usage=USAGE)
    + DONE,
}  # fmt: skip

CALLS = {
    "openai": chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Köln"}'}}]})
    + chunk({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]})
    + chunk(finish="tool_calls")
    + DONE,
    "gemini": chunk({"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}},
        {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]}, "tool_calls")
    + DONE,
    "without numbers": chunk({"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}]})
    + chunk({"tool_calls": [{"function": {"arguments": '"Köln"}'}}]})
    + chunk({"tool_calls": [{"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]})
    + chunk(finish="tool_calls")
    + DONE,
}  # fmt: skip

# Errors inside a stream with status 200: the events, and the code that is told.
STREAM_ERRORS = {
    "openai": (event({"error": {"message": "boom", "type": "server_error", "param": None, "code": "overloaded"}}), "overloaded"),
    "named event": (b'event: error\ndata: {"error": {"message": "boom", "code": "slow_down"}}\n\n', "slow_down"),
    "named, without error around it": (b'event: error\ndata: {"message": "boom", "code": 503}\n\n', "503"),
    "openrouter": (chunk({"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"}), "502"),
    "openrouter, finish alone": (chunk(finish="error"), "error"),
    "deepseek, finish": (chunk(finish="insufficient_system_resource"), "insufficient_system_resource"),
    "gemini": (event([{"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}]), "503"),
    "anthropic": (b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n', ""),
    "vllm, older": (event({"object": "error", "message": "boom", "type": "InternalServerError", "code": 500}), "500"),
    "fastapi": (event({"detail": "Internal Server Error"}), ""),
    "a text": (event({"error": "boom"}), ""),
    "over several lines": (b'data: {"error":\ndata: {"code": "boom"}}\n\n', "boom"),
}  # fmt: skip

GARBAGE = {
    "no JSON": b"data: <html>502 Bad Gateway</html>\n\n",
    "cut JSON": b'data: {"choices":[{"index":0,"delta":{"content":"a"\n\n',
    "a number": b"data: 1\n\n",
    "null": b"data: null\n\n",
    "an empty list": b"data: []\n\n",
    "an error that is none": b"event: error\ndata: boom\n\n",
    "a content that is a number": b'data: {"choices":[{"delta":{"content":1}}]}\n\n',
    "no UTF-8": b'data: {"choices":[{"delta":{"content":"\xc3("}}]}\n\n',
    "no UTF-8 in a comment": b": \xff\n\n",
    "half of a character": "data: é\n\n".encode()[:7] + b"\n\n",
    "depth": b'data: {"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
    "depth behind a type": b'event: message\ndata: {"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
}

# Bodies of errors, as (status, body), and what is read from them: code, type, message.
ERRORS = {
    "openai": (429, b'{"error":{"message":"Slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}', ("rate_limit_exceeded", "requests", "Slow down")),
    "mistral": (400, b'{"object":"error","message":"Bad role","type":"invalid_request_error","param":null,"code":"3230"}', ("3230", "invalid_request_error", "Bad role")),
    "mistral, 422": (422, b'{"object":"error","message":{"detail":[{"loc":["body"],"msg":"no"}]},"type":"invalid_request_error","code":null}', ("", "invalid_request_error", '{"detail":[{"loc":["body"],"msg":"no"}]}')),
    "groq": (413, b'{"error":{"message":"Too large","type":"tokens","code":"rate_limit_exceeded"}}', ("rate_limit_exceeded", "tokens", "Too large")),
    "deepseek": (402, b'{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}', ("invalid_request_error", "unknown_error", "Insufficient Balance")),
    "openrouter": (502, b'{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"x","provider_name":"y"}},"user_id":"u"}', ("502", "", "Provider returned error")),
    "together": (404, b'{"id":"o","error":{"message":"No such model","type":"invalid_request_error","param":null,"code":"model_not_available"}}', ("model_not_available", "invalid_request_error", "No such model")),
    "gemini": (400, b'[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]', ("400", "INVALID_ARGUMENT", "API key not valid")),
    "ollama": (404, b'{"error":{"message":"model not found","type":"not_found_error","param":null,"code":null}}', ("", "not_found_error", "model not found")),
    "ollama, its own": (404, b'{"error":"model not found"}', ("", "", "model not found")),
    "vllm, older": (400, b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}', ("400", "BadRequestError", "too long")),
    "fastapi": (422, b'{"detail":"Not Found"}', ("", "", "Not Found")),
    "a page": (502, b"<html><h1>502 Bad Gateway</h1></html>", ("", "", "<html><h1>502 Bad Gateway</h1></html>")),
    "nothing": (500, b"", ("", "", "")),
    "a list of nothing": (500, b"[]", ("", "", "[]")),
    "no UTF-8": (500, b"\xff\xfe", ("", "", "\ufffd\ufffd")),
    "a number": (500, b"7", ("", "", "7")),
    "odd values": (500, b'{"error":{"message":null,"type":[1],"code":true,"param":{}}}', ("", "", "")),
    "depth": (500, b"[" * 100_000, ("", "", "[" * 2_000)),
}  # fmt: skip

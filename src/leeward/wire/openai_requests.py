"""Requests of Chat Completions and Embeddings: a caller's bytes → `ChatRequest` → a provider's bytes.

Promises  a field that leeward does not know goes on byte for byte. Whatever comes in, the answer is a request or
          `RequestInvalid`, with the field where one is to blame. Nothing that passes is nested deeper than `DEPTH_MAX`.
          Of a field that stands twice the last one counts, and only that one goes on. Text that is no valid UTF-8, or
          has half a surrogate pair in it, has U+FFFD in its place.
Limits    only what the gateway decides by is checked; the rest is the provider's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from leeward.wire.chat import ChatRequest, Needs, Operation, RequestInvalid
from leeward.wire.text import repair

__all__ = ["DEPTH_MAX", "FORBIDDEN_FIELDS", "RequestLimits", "decode_request", "encode_request", "without_tools"]

DEPTH_MAX = 64

# Fields by which SDKs and other gateways are told whom to call, and with whose key. That is for settings alone.
FORBIDDEN_FIELDS = frozenset({
    *("api_base", "base_url", "api_key", "api_type", "api_version", "azure_ad_token", "azure_endpoint", "proxy", "proxies"),
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_bedrock_runtime_endpoint", "organization"),
    *("custom_llm_provider", "litellm_params", "model_list", "fallbacks", "vertex_credentials", "http_client", "ssl_verify"),
    *("headers", "default_headers", "extra_headers", "extra_query", "extra_body"),
})  # fmt: skip
TOOL_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"})

_INCLUDE_USAGE = Raw(b'{"include_usage":true}')
_CONTAINERS = frozenset({dict, list})


class RequestLimits(Struct, frozen=True):
    """What a caller may ask for."""

    choices_max: int = 8
    output_tokens_max: int = 200_000
    bytes_max: int = 20 << 20


_DECODE_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_DECODE_VALUES = msgspec.json.Decoder(dict[str, Any]).decode
_ENCODE = msgspec.json.Encoder().encode


def decode_request(body: bytes, operation: Operation, limits: RequestLimits) -> ChatRequest:
    """A caller's request, or why it cannot be served.

    Raises:
        RequestInvalid: status 400, or 413 for too many bytes; `code` is one of `request_too_large`, `invalid_json`,
            `too_deep`, `forbidden_field`, `invalid_request`, `too_many_choices`, `too_many_tokens`.
    """
    if len(body) > limits.bytes_max:
        sentence = f"The request has {len(body):,} bytes; at most {limits.bytes_max:,} are taken."
        raise RequestInvalid(sentence, code="request_too_large", status=413)
    try:
        # Faster than one look that is told what to look for, and it proves every text and every number.
        values = _DECODE_VALUES(body)
    except (ValueError, RecursionError) as error:
        body, values = _decoded_again(body, error)
    if _is_deeper_than(values, DEPTH_MAX):
        raise _too_deep()
    if not FORBIDDEN_FIELDS.isdisjoint(values):
        name = next(name for name in values if name in FORBIDDEN_FIELDS)
        sentence = f"`{name}` is not taken from a request: who is called, and with which key, is set in the gateway."
        raise RequestInvalid(sentence, code="forbidden_field", param=name)
    model = values.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "must be the name of a model")
    fields = _DECODE_FIELDS(body)
    if operation == "embeddings":
        return ChatRequest(model, fields, _needs_of_embeddings(values, fields), operation=operation)
    return ChatRequest(model, fields, _needs_of_chat(values, fields, limits), _flag(values, "stream"))


def _needs_of_chat(values: dict[str, Any], fields: dict[str, Raw], limits: RequestLimits) -> Needs:
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list of messages")
    images = False
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{place}]", "must be an object with a role")
        if isinstance(message.get("content"), list):
            images = images or any(_is_image(part) for part in message["content"])
    choices = _count(values, "n") or 1
    if choices > limits.choices_max:
        sentence = f"`n` is {choices}; at most {limits.choices_max} answers are given for one request."
        raise RequestInvalid(sentence, code="too_many_choices", param="n")
    return Needs(
        tools=bool(_of_type(values, "tools", list, "a list") or _of_type(values, "functions", list, "a list")),
        images=images,
        json_schema=_object(values, "response_format").get("type") == "json_schema",
        choices=choices,
        output_tokens=_output_tokens(values, limits),
        prompt_bytes=len(memoryview(fields["messages"])),
        stream_usage=_flag(_object(values, "stream_options"), "include_usage"),
    )


def _needs_of_embeddings(values: dict[str, Any], fields: dict[str, Raw]) -> Needs:
    if not isinstance(values.get("input"), (str, list)) or not values["input"]:
        raise _wrong("input", "must be a text, or a list of texts or tokens")
    return Needs(prompt_bytes=len(memoryview(fields["input"])))


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def _output_tokens(values: dict[str, Any], limits: RequestLimits) -> int | None:
    asked = None
    for name in ("max_tokens", "max_completion_tokens"):
        count = _count(values, name)
        if count is not None and count > limits.output_tokens_max:
            sentence = f"`{name}` is {count}; at most {limits.output_tokens_max} may be asked for."
            raise RequestInvalid(sentence, code="too_many_tokens", param=name)
        asked = count or asked
    return asked


# --- values of fields, or what is wrong with them ---------------------------------------------------------------------


def _of_type(values: dict[str, Any], name: str, type: type, words: str) -> Any:
    value = values.get(name)
    if value is not None and not isinstance(value, type):
        raise _wrong(name, f"must be {words}")
    return value


def _flag(values: dict[str, Any], name: str) -> bool:
    return bool(_of_type(values, name, bool, "true or false"))


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    return _of_type(values, name, dict, "an object") or {}


def _count(values: dict[str, Any], name: str) -> int | None:
    value = _of_type(values, name, int, "a whole number")
    if value is None:
        return None
    if isinstance(value, bool) or value < 1:
        raise _wrong(name, "must be a whole number from 1 on")
    return int(value)


def _wrong(param: str, rule: str) -> RequestInvalid:
    return RequestInvalid(f"`{param}` {rule}.", param=param)


def _too_deep() -> RequestInvalid:
    return RequestInvalid(f"The request is nested deeper than {DEPTH_MAX} levels.", code="too_deep")


def _decoded_again(body: bytes, error: Exception) -> tuple[bytes, dict[str, Any]]:
    """The values of a text that only broken characters keep from being JSON, with U+FFFD in their place."""
    body, changed = repair(body)
    if changed:
        try:
            return body, _DECODE_VALUES(body)
        except (ValueError, RecursionError) as second_error:
            error = second_error
    if isinstance(error, RecursionError):
        raise _too_deep() from error
    if body.lstrip()[:1] != b"{":
        raise RequestInvalid("The request must be a JSON object.", code="invalid_json") from error
    raise RequestInvalid(f"The request cannot be read as JSON: {error}.", code="invalid_json") from error


def _is_deeper_than(value: Any, depth: int) -> bool:
    """Whether arrays and objects are nested deeper than that; level by level, so never deep itself."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return True


# --- to a provider ----------------------------------------------------------------------------------------------------


def encode_request(
    request: ChatRequest,
    model: str,
    *,
    add_usage: bool = False,
    drop: frozenset[str] = frozenset(),
    rename: Mapping[str, str] | None = None,
) -> bytes:
    """The request for a provider of the same dialect, whose name for the model is *model*; see `Dialect.encode`."""
    fields: dict[str, object] = {**request.fields, "model": model}
    if add_usage and request.stream and not request.needs.stream_usage:
        fields["stream_options"] = _with_usage(request.fields.get("stream_options"))
    for name in drop:
        fields.pop(name, None)
    if rename:
        fields = {rename.get(name, name): value for name, value in fields.items()}
    return _ENCODE(fields)


def _with_usage(options: Raw | None) -> Raw | dict[str, Raw]:
    if options is None or bytes(options) == b"null":
        return _INCLUDE_USAGE
    return {**_DECODE_FIELDS(options), "include_usage": Raw(b"true")}


def without_tools(request: ChatRequest) -> ChatRequest:
    """The same request of a caller who has no tools to offer; what earlier calls brought stays in the messages."""
    fields = {name: value for name, value in request.fields.items() if name not in TOOL_FIELDS}
    return msgspec.structs.replace(request, fields=fields, needs=msgspec.structs.replace(request.needs, tools=False))

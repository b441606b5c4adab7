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
MEMBERS_MAX = 100_000  # each costs a hundred times the memory of its bytes
LOOP_BYTES_MAX = 256 << 10  # of smaller ones, nothing can be too much
SHORT_BYTES = 2_000

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
# Of the fields that are looked at: what they must be, if they are there and not null.
_RULES: dict[str, tuple[type, str]] = {
    "max_completion_tokens": (int, "must be a whole number"),
    "max_tokens": (int, "must be a whole number"),
    "messages": (list, "must be a list of messages"),
    "model": (str, "must be the name of a model"),
    "n": (int, "must be a whole number"),
    "functions": (list, "must be a list"),
    "response_format": (dict, "must be an object"),
    "stream": (bool, "must be true or false"),
    "stream_options": (dict, "must be an object"),
    "tools": (list, "must be a list"),
}


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
            `too_deep`, `too_many_members`, `forbidden_field`, `invalid_request`, `too_many_choices`, `too_many_tokens`.
    """
    if len(body) > limits.bytes_max:
        sentence = f"The request has {len(body):,} bytes; at most {limits.bytes_max:,} are taken."
        raise RequestInvalid(sentence, code="request_too_large", status=413)
    if len(body) > LOOP_BYTES_MAX and body.count(b"[") + body.count(b"{") + body.count(b",") // 8 > MEMBERS_MAX:
        sentence = f"The request has more than {MEMBERS_MAX:,} lists and objects, or eight times as many members."
        raise RequestInvalid(sentence, code="too_many_members")
    try:
        # Faster than one look that is told what to look for, and it proves every text and every number.
        values = _DECODE_VALUES(body)
    except (ValueError, RecursionError) as error:
        body, values = _decoded_again(body, error)
    if not _is_surely_flat(body) and _is_deeper_than(values, DEPTH_MAX):
        raise _too_deep()
    if not FORBIDDEN_FIELDS.isdisjoint(values):
        name = next(name for name in values if name in FORBIDDEN_FIELDS)
        sentence = f"`{name}` is not taken from a request: who is called, and with which key, is set in the gateway."
        raise RequestInvalid(sentence, code="forbidden_field", param=name)
    for name, value in values.items():
        rule = _RULES.get(name)
        if rule is not None and type(value) is not rule[0] and value is not None:
            raise _wrong(name, rule[1])
    model = values.get("model")
    if not model:
        raise _wrong("model", "must be the name of a model")
    fields = _DECODE_FIELDS(body)
    if operation == "embeddings":
        return ChatRequest(model, fields, _needs_of_embeddings(values, fields), operation=operation)
    return ChatRequest(model, fields, _needs_of_chat(values, fields, limits), bool(values.get("stream")))


def _needs_of_chat(values: dict[str, Any], fields: dict[str, Raw], limits: RequestLimits) -> Needs:
    get = values.get
    messages = get("messages")
    if not messages:
        raise _wrong("messages", "must be a list of messages")
    images = False
    for place, message in enumerate(messages):
        if type(message) is not dict or type(message.get("role")) is not str:
            raise _wrong(f"messages[{place}]", "must be an object with a role")
        content = message.get("content")
        if type(content) is list:
            images = images or any(_is_image(part) for part in content)
    form, options = get("response_format"), get("stream_options")
    return Needs(
        tools=bool(get("tools") or get("functions")),
        images=images,
        json_schema=form is not None and form.get("type") == "json_schema",
        choices=_choices(get("n"), limits),
        output_tokens=_output_tokens(values, limits),
        prompt_bytes=len(memoryview(fields["messages"])),
        stream_usage=options is not None and options.get("include_usage") is True,
    )


def _needs_of_embeddings(values: dict[str, Any], fields: dict[str, Raw]) -> Needs:
    if not isinstance(values.get("input"), (str, list)) or not values["input"]:
        raise _wrong("input", "must be a text, or a list of texts or tokens")
    return Needs(prompt_bytes=len(memoryview(fields["input"])))


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def _choices(asked: int | None, limits: RequestLimits) -> int:
    if asked is None:
        return 1
    if asked < 1:
        raise _wrong("n", "must be 1 or more")
    if asked > limits.choices_max:
        sentence = f"`n` is {asked}; at most {limits.choices_max} answers are given for one request."
        raise RequestInvalid(sentence, code="too_many_choices", param="n")
    return asked


def _output_tokens(values: dict[str, Any], limits: RequestLimits) -> int | None:
    asked = None
    for name in ("max_tokens", "max_completion_tokens"):
        count = values.get(name)
        if count is None:
            continue
        if count < 1:
            raise _wrong(name, "must be 1 or more")
        if count > limits.output_tokens_max:
            sentence = f"`{name}` is {count}; at most {limits.output_tokens_max} may be asked for."
            raise RequestInvalid(sentence, code="too_many_tokens", param=name)
        asked = count
    return asked


# --- what is wrong with a request -------------------------------------------------------------------------------------


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


def _is_surely_flat(body: bytes) -> bool:
    """Whether a short text has too few brackets to be deep, which is quicker to see than how deep it is."""
    return len(body) <= SHORT_BYTES and body.count(b"[") + body.count(b"{") <= DEPTH_MAX


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

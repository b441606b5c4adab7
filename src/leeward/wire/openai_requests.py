"""Requests of Chat Completions and Embeddings: a caller's bytes → `ChatRequest` → a provider's bytes.

Promises  a field that leeward does not know goes on byte for byte; long prompts are looked through, but never become
          Python objects. Whatever comes in, the answer is a request or `RequestInvalid`, with the field where one is to
          blame. Of a field that stands twice the last one counts, and only that one goes on. Text that is no valid
          UTF-8, or has half a surrogate pair in it, has U+FFFD in its place.
Limits    only what the gateway decides by is checked; the rest is the provider's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from leeward.wire.chat import ChatRequest, Needs, Operation, RequestInvalid
from leeward.wire.json_depth import is_deeper_than
from leeward.wire.text import repair

__all__ = ["DEPTH_MAX", "FORBIDDEN_FIELDS", "RequestLimits", "decode_request", "encode_request", "without_tools"]

DEPTH_MAX = 64

# Fields by which SDKs and other gateways are told whom to call, and with whose key. That is for settings alone.
FORBIDDEN_FIELDS = frozenset(
    "api_base base_url api_key api_type api_version azure_ad_token azure_endpoint aws_access_key_id "  # noqa: SIM905 - a list of words reads better as one
    "aws_secret_access_key aws_session_token aws_bedrock_runtime_endpoint custom_llm_provider default_headers extra_body "
    "extra_headers extra_query fallbacks headers http_client litellm_params model_list organization proxies proxy "
    "ssl_verify vertex_credentials".split()
)
TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")

_INCLUDE_USAGE = Raw(b'{"include_usage":true}')


class RequestLimits(Struct, frozen=True):
    """What a caller may ask for."""

    choices_max: int = 8
    output_tokens_max: int = 200_000
    bytes_max: int = 20 << 20


class _Role(Struct, gc=False):
    role: str


class _StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class _Format(Struct, gc=False):
    type: str | None = None


Count = Annotated[int, Meta(ge=1)]


class _Chat(Struct, gc=False):
    """What is looked at in a chat request."""

    model: str
    messages: Annotated[list[_Role], Meta(min_length=1)]
    n: Count | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[Raw] | None = None
    functions: list[Raw] | None = None
    response_format: _Format | None = None


class _Embeddings(Struct, gc=False):
    """What is looked at in a request for embeddings."""

    model: str
    input: Raw


class _Part(Struct, gc=False):
    type: str | None = None


class _Content(Struct, gc=False):
    content: list[_Part] | str | None = None


_DECODE_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_DECODE_CHAT = msgspec.json.Decoder(_Chat).decode
_DECODE_EMBEDDINGS = msgspec.json.Decoder(_Embeddings).decode
_DECODE_CONTENTS = msgspec.json.Decoder(list[_Content]).decode
_DECODE_OPTIONS = msgspec.json.Decoder(dict[str, Raw]).decode
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
    if not body.isascii():
        body = _valid_text(body)
    try:
        fields = _DECODE_FIELDS(body)
    except (msgspec.DecodeError, RecursionError) as error:
        body, fields = _decoded_again(body, error)
    if is_deeper_than(body, DEPTH_MAX):
        raise _too_deep()
    if not FORBIDDEN_FIELDS.isdisjoint(fields):
        name = next(name for name in fields if name in FORBIDDEN_FIELDS)
        sentence = f"`{name}` is not taken from a request: who is called, and with which key, is set in the gateway."
        raise RequestInvalid(sentence, code="forbidden_field", param=name)
    try:
        if operation == "embeddings":
            return _embeddings(_DECODE_EMBEDDINGS(body), fields)
        return _chat(_DECODE_CHAT(body), fields, limits, has_image_word=b"image_url" in body)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from error


def _chat(known: _Chat, fields: dict[str, Raw], limits: RequestLimits, *, has_image_word: bool) -> ChatRequest:
    choices = known.n or 1
    if choices > limits.choices_max:
        sentence = f"`n` is {choices}; at most {limits.choices_max} answers are given for one request."
        raise RequestInvalid(sentence, code="too_many_choices", param="n")
    for name, asked in (("max_tokens", known.max_tokens), ("max_completion_tokens", known.max_completion_tokens)):
        if asked and asked > limits.output_tokens_max:
            sentence = f"`{name}` is {asked}; at most {limits.output_tokens_max} may be asked for."
            raise RequestInvalid(sentence, code="too_many_tokens", param=name)
    messages = fields["messages"]
    needs = Needs(
        tools=bool(known.tools or known.functions),
        images=has_image_word and _has_images(messages),
        json_schema=known.response_format is not None and known.response_format.type == "json_schema",
        choices=choices,
        output_tokens=known.max_completion_tokens or known.max_tokens,
        prompt_bytes=len(memoryview(messages)),
        stream_usage=known.stream_options is not None and bool(known.stream_options.include_usage),
    )
    return ChatRequest(known.model, fields, needs, bool(known.stream))


def _embeddings(known: _Embeddings, fields: dict[str, Raw]) -> ChatRequest:
    prompt = memoryview(known.input)
    if prompt[:1] not in {b'"', b"["}:
        sentence = "`input` must be a text, or a list of texts or tokens."
        raise RequestInvalid(sentence, param="input")
    return ChatRequest(known.model, fields, Needs(prompt_bytes=len(prompt)), operation="embeddings")


def _has_images(messages: Raw) -> bool:
    try:
        contents = _DECODE_CONTENTS(messages)
    except msgspec.DecodeError:
        return False  # parts of another shape: the provider's to judge
    return any(
        part.type == "image_url"
        for message in contents
        if isinstance(message.content, list)
        for part in message.content
    )


# --- what is wrong with a request -------------------------------------------------------------------------------------


def _valid_text(body: bytes) -> bytes:
    try:
        body.decode()
    except UnicodeDecodeError:
        return repair(body)[0]
    return body


def _decoded_again(body: bytes, error: Exception) -> tuple[bytes, dict[str, Raw]]:
    """The fields of a text that only half a surrogate pair keeps from being JSON."""
    body, changed = repair(body)
    if changed:
        try:
            return body, _DECODE_FIELDS(body)
        except (msgspec.DecodeError, RecursionError) as second_error:
            error = second_error
    if isinstance(error, RecursionError):
        raise _too_deep() from error
    if isinstance(error, msgspec.ValidationError):
        raise RequestInvalid("The request must be a JSON object.", code="invalid_json") from error
    raise RequestInvalid(f"The request is not JSON: {error}.", code="invalid_json") from error


def _too_deep() -> RequestInvalid:
    return RequestInvalid(f"The request is nested deeper than {DEPTH_MAX} levels.", code="too_deep")


def _wrong_type(error: msgspec.ValidationError) -> RequestInvalid:
    """In words, from "Expected `int | null`, got `str` - at `$.n`" or "Object missing required field `model`"."""
    what, _, path = str(error).partition(" - at `$")
    param = path.strip("`.")
    if what.startswith("Object missing required field `"):
        name = what.split("`")[1]
        param = f"{param}.{name}" if param else name
        return RequestInvalid(f"`{param}` is missing.", param=param)
    return RequestInvalid(f"`{param}`: {what[:1].lower()}{what[1:].replace('`', '')}.", param=param)


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
    return {**_DECODE_OPTIONS(options), "include_usage": Raw(b"true")}


def without_tools(request: ChatRequest) -> ChatRequest:
    """The same request of a caller who has no tools to offer."""
    fields = {name: value for name, value in request.fields.items() if name not in TOOL_FIELDS}
    return msgspec.structs.replace(request, fields=fields, needs=msgspec.structs.replace(request.needs, tools=False))

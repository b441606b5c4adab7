"""A provider that speaks Anthropic Messages on this machine: whole, streamed, and failing. As strict as the real one.

A request with a field that Messages does not know, or without one that it needs, is answered with 400. What comes back
hangs on the model's name: `gone` 404, `overloaded` 529, `limited` 429 with Retry-After, `cut` a stream that ends in its
middle, `error-mid` a stream with an error event in its middle, `refuses` a refusal, `thinks` some thinking first; any
other name is answered by an echo, or by a call of the first tool where one is forced or the text says "call".
"""

import contextlib
import http.server
import json
import threading
from typing import Annotated, Any, Literal

import msgspec

REQUEST_ID = "req_011CSHoEeqs5C35K2UUqR7Fy"
SHORT = "claude-haiku-5-5"


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a request."""


class _CacheControl(_Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Base64(_Strict, tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, msgspec.Meta(min_length=1)]


class _Url(_Strict, tag="url"):
    url: Annotated[str, msgspec.Meta(pattern="^https://")]


class _Pdf(_Strict, tag="base64"):
    media_type: Literal["application/pdf"]
    data: Annotated[str, msgspec.Meta(min_length=1)]


class _Text(_Strict, tag="text"):
    text: Annotated[str, msgspec.Meta(pattern=r"\S")]
    cache_control: _CacheControl | None = None


class _Image(_Strict, tag="image"):
    source: _Base64 | _Url
    cache_control: _CacheControl | None = None


class _Document(_Strict, tag="document"):
    source: _Pdf
    title: str | None = None
    cache_control: _CacheControl | None = None


_Id = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]+$")]
_Name = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]


class _ToolUse(_Strict, tag="tool_use"):
    id: _Id
    name: _Name
    input: dict[str, Any]
    cache_control: _CacheControl | None = None


class _ToolResult(_Strict, tag="tool_result"):
    tool_use_id: _Id
    content: str | list[_Text | _Image | _Document] = ""
    is_error: bool = False
    cache_control: _CacheControl | None = None


class _Turn(_Strict):
    role: Literal["user", "assistant"]
    content: (
        Annotated[str, msgspec.Meta(pattern=r"\S")]
        | Annotated[list[_Text | _Image | _Document | _ToolUse | _ToolResult], msgspec.Meta(min_length=1)]
    )


class _Tool(_Strict):
    name: _Name
    input_schema: dict[str, Any]
    description: str = ""
    strict: bool = False
    cache_control: _CacheControl | None = None


class _Auto(_Strict, tag="auto"):
    disable_parallel_tool_use: bool = False


class _Any(_Strict, tag="any"):
    disable_parallel_tool_use: bool = False


class _Named(_Strict, tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class _None(_Strict, tag="none"):
    pass


class _Metadata(_Strict):
    user_id: str | None = None


class _JsonSchema(_Strict):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(_Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _JsonSchema | None = None


class _Thinking(_Strict):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    display: Literal["summarized", "omitted"] | None = None


_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Request(_Strict):
    model: str
    max_tokens: Annotated[int, msgspec.Meta(ge=0)]
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    system: str | list[_Text] = ""
    stream: bool = False
    stop_sequences: list[Annotated[str, msgspec.Meta(pattern=r"\S")]] = []
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: int | None = None
    metadata: _Metadata | None = None
    output_config: _OutputConfig | None = None
    thinking: _Thinking | None = None
    tools: list[_Tool] = []
    tool_choice: _Auto | _Any | _Named | _None | None = None
    cache_control: _CacheControl | None = None


_DECODER = msgspec.json.Decoder(_Request)


class Refused(Exception):
    """What the real one would answer with 400; says why."""


def checked(body):
    """A request that Messages takes, as a document; else `Refused`."""
    try:
        request = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        raise Refused(f"{path.rstrip('`')}: {reason}") from error
    asked = json.loads(body)
    if any(model in request.model for model in ("opus-4-5", "sonnet-4-5", "haiku-4-5", "opus-4-6", "sonnet-4-6")):
        if request.temperature is not None and request.top_p is not None:
            raise Refused("temperature: `temperature` and `top_p` cannot both be specified for this model.")
    elif request.model.startswith("claude-") and (request.temperature, request.top_p, request.top_k) != (None,) * 3:
        raise Refused("temperature: `temperature` is deprecated for this model.")
    if request.tool_choice is not None and not request.tools:
        raise Refused("tool_choice: can only be specified with tools.")
    waiting = set()
    for index, turn in enumerate(request.messages):
        blocks = [] if isinstance(turn.content, str) else turn.content
        results = [block.tool_use_id for block in blocks if isinstance(block, _ToolResult)]
        if waiting - set(results):
            raise Refused(f"messages.{index}: `tool_use` ids were found without `tool_result` blocks right after")
        if set(results) - waiting:
            raise Refused(f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks")
        if results and not isinstance(blocks[0], _ToolResult):
            raise Refused(f"messages.{index}.content.0: `tool_result` blocks come first")
        waiting = {block.id for block in blocks if isinstance(block, _ToolUse)}
        if waiting and not request.tools:
            raise Refused("tools: Requests which include `tool_use` or `tool_result` blocks must define tools")
    return asked


def message(content, *, stop_reason="end_turn", model=SHORT, usage=None, id="msg_01XFDUDYJgAACzvnptvVoYEL", **more):
    """A whole answer."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": usage
        or {
            "input_tokens": 11,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 20,
            "output_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
            "output_tokens_details": {"thinking_tokens": 3},
        },
        **more,
    }


def error(type, text):
    """The body of an error."""
    return {"type": "error", "error": {"type": type, "message": text}, "request_id": REQUEST_ID}


def event(type, **fields):
    """One server-sent event."""
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


def events_of(whole, *, pieces=3):
    """The stream that brings the same answer, its texts in so many pieces."""
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield event("message_start", message=start)
    yield event("ping")
    for index, block in enumerate(whole["content"]):
        yield from _block_events(index, block, pieces)
    delta = {key: whole[key] for key in ("stop_reason", "stop_sequence", "stop_details", "container")}
    yield event("message_delta", delta=delta, usage=whole["usage"])
    yield event("message_stop")


def _block_events(index, block, pieces):
    field, delta = {
        "text": ("text", "text_delta"),
        "thinking": ("thinking", "thinking_delta"),
        "tool_use": ("input", "input_json_delta"),
    }.get(block["type"], ("", ""))
    yield event(
        "content_block_start",
        index=index,
        content_block={**block, field: {} if field == "input" else ""} if field else block,
    )
    text = block.get(field, "")
    if field == "input":
        text = json.dumps(text, separators=(",", ":"), ensure_ascii=False) if text else ""
        yield event("content_block_delta", index=index, delta={"type": delta, "partial_json": ""})
    step = max(1, -(-len(text) // pieces))
    for at in range(0, len(text), step):
        name = "partial_json" if field == "input" else field
        yield event("content_block_delta", index=index, delta={"type": delta, name: text[at : at + step]})
    if block["type"] == "thinking":
        yield event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": "EqQBCgIYAhIM"})
    yield event("content_block_stop", index=index)


def answer_to(asked):
    """What the model says to a request."""
    model, last = asked["model"], asked["messages"][-1]["content"]
    text = last if isinstance(last, str) else " ".join(_said(block) for block in last)
    choice = asked.get("tool_choice", {"type": "auto"})
    if model == "refuses":
        details = {"type": "refusal", "category": None, "explanation": "This is against the policy."}
        return message([], stop_reason="refusal", model=model, stop_details=details)
    if asked.get("tools") and (choice["type"] in ("any", "tool") or (choice["type"] == "auto" and "call" in text)):
        name = choice.get("name", asked["tools"][0]["name"])
        block = {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": name, "input": {"of": text}}
        return message([block], stop_reason="tool_use", model=model)
    thought = (
        [{"type": "thinking", "thinking": "An echo it is.", "signature": "EqQBCgIYAhIM"}] if model == "thinks" else []
    )
    return message([*thought, {"type": "text", "text": f"echo of {text}"}], model=model)


def _said(block):
    content = block.get("content", block.get("text", block["type"]))
    return content if isinstance(content, str) else " ".join(_said(inner) for inner in content)


FAILURES = {
    "gone": (404, "not_found_error", "model: gone"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "limited": (429, "rate_limit_error", "This request would exceed the rate limit of your organization."),
}


class _Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        models = [{"type": "model", "id": SHORT, "display_name": "Claude", "created_at": "2026-10-01T00:00:00Z"}]
        self._answer(200, {"data": models, "has_more": False, "first_id": SHORT, "last_id": SHORT})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(body)
        if not (self.headers.get("x-api-key") or self.headers.get("Authorization")):  # newer SDKs send the latter
            self._answer(401, error("authentication_error", "x-api-key header is required"))
        elif not self.headers.get("anthropic-version"):
            self._answer(400, error("invalid_request_error", "anthropic-version: header is required"))
        elif self.path != "/v1/messages":
            self._answer(404, error("not_found_error", "Not found"))
        else:
            self._messages(body)

    def _messages(self, body):
        try:
            asked = checked(body)
        except Refused as refused:
            return self._answer(400, error("invalid_request_error", str(refused)))
        if asked["model"] in FAILURES:
            status, kind, text = FAILURES[asked["model"]]
            return self._answer(status, error(kind, text), **({"Retry-After": "20"} if status == 429 else {}))
        answer = answer_to(asked)
        if not asked.get("stream"):
            return self._answer(200, answer)
        events = list(events_of(answer))
        if asked["model"] == "cut":
            events = events[:-2]
        if asked["model"] == "error-mid":
            events[-2:] = [event("error", error={"type": "overloaded_error", "message": "Overloaded"})]
        return self._send(200, b"".join(events), "text/event-stream; charset=utf-8")

    def _answer(self, status, document, **headers):
        self._send(status, json.dumps(document).encode(), "application/json", **headers)

    def _send(self, status, body, content_type, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Type": content_type, "request-id": REQUEST_ID}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def anthropic_provider():
    """A provider of Anthropic Messages on this machine: its base URL, and the bodies it was asked with."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

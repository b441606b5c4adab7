"""What a simulated provider says: chat completions whole and streamed, tool calls, embeddings. Deterministic by seed.

Every answer says that it is simulated and who gave it. The same seed and the same messages give the same words. What
does not depend on the call is made once and kept (`_KEPT_MAX` answers); of each call, only its id, its time and its
usage are filled in.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from leeward.gateway.faults import LAST_CHUNK, Reply, chunk, stream_head
from leeward.gateway.simulated_messages import AskedMessages, messages_reply

__all__ = ["Answers", "Asked", "AskedEmbeddings", "Stream"]

_WORDS: Final = (  # noqa: SIM905 - prose is read more easily than a list
    "a boat leans away from the wind and keeps its course while the water runs along its side no wave is the same as "
    "the one before yet each of them passes someone counts the lamps on the shore until morning and nothing is missing"
).split()
_VARIANTS: Final = 16
_KEPT_MAX: Final = 512
_DIMENSIONS: Final = 64
REFERENCES_MAX: Final = 3  # within each other; a schema may contain itself
_encode: Final = msgspec.json.encode


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function
    type: str = "function"


class _Choice(msgspec.Struct):
    function: _Function


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: Any = None


class Asked(msgspec.Struct):
    """What a chat request says that matters here."""

    messages: msgspec.Raw
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | str | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None


class AskedEmbeddings(msgspec.Struct):
    """What a request for embeddings says."""

    input: str | list[Any]
    model: str
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


class Stream(msgspec.Struct, frozen=True, gc=False):
    """A good stream as it is written; `end` still lacks usage and the last chunk."""

    groups: Sequence[bytes]
    reply: Reply


class _Said(msgspec.Struct, frozen=True):
    """What an answer consists of: pieces of text, or tool calls with their arguments."""

    pieces: tuple[str, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()
    finish: str = "stop"

    @property
    def tokens(self) -> int:
        return max(1, len(self.pieces) + sum(1 + len(arguments) // 4 for _, arguments in self.calls))


class _Kept(msgspec.Struct, frozen=True):
    """What is the same in each call: a body in two halves around the usage, and the events, with room for the stamp."""

    body: bytes
    events: tuple[bytes, ...]  # without the finish
    finish: bytes
    groups: tuple[bytes, ...]  # with it
    tokens: int


def _stamp(number: int, created_s: int) -> bytes:
    """Id and time of an answer. Always of one length, so that what is around it can be framed before it is known."""
    return b'"id":"chatcmpl-simulated-%012x","created":%010d,' % (number & 0xFFFFFFFFFFFF, created_s)


_ROOM: Final = b"\0" * len(_stamp(0, 0))  # no JSON has such a byte
_ONLY_DONE: Final = b"data: [DONE]\n\n"
_decode_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_decode_chat: Final = msgspec.json.Decoder(Asked).decode
_decode_anthropic: Final = msgspec.json.Decoder(AskedMessages).decode
_decode_embeddings: Final = msgspec.json.Decoder(AskedEmbeddings).decode


class Answers:
    """All that one provider can say."""

    def __init__(self, name: str, *, seed: int, words: int, events_per_write: int) -> None:
        self._name = name
        self._seed = seed
        self._words = words
        self._events_per_write = events_per_write
        self._kept: dict[tuple[object, ...], _Kept] = {}

    def chat(self, body: bytes, number: int, created_s: int, common: bytes) -> Reply | Stream:
        """Answer a chat request. Raises msgspec.MsgspecError where it is none."""
        asked = _decode_chat(body)
        kept = self._answer_to(asked, common)
        stamp = _stamp(number, created_s)
        prompt_tokens = max(1, len(asked.messages) // 4)
        usage = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            prompt_tokens,
            kept.tokens,
            prompt_tokens + kept.tokens,
        )
        if not asked.stream:
            return Reply(
                body=b'{%b%b"usage":%b}' % (stamp, kept.body, usage),
                empty=b'{%b"object":"chat.completion","model":%b,"choices":[]}' % (stamp, _encode(asked.model)),
            )
        tail = _ONLY_DONE
        nothing = b'data: {%b"object":"chat.completion.chunk","model":%b,"choices":[]' % (stamp, _encode(asked.model))
        if asked.stream_options is not None and asked.stream_options.include_usage:
            tail = b'%b,"usage":%b}\n\n%b' % (nothing, usage, _ONLY_DONE)
        groups = [group.replace(_ROOM, stamp) for group in kept.groups]
        groups[-1] += chunk(tail) + LAST_CHUNK
        finish = kept.finish.replace(_ROOM, stamp)
        empty = nothing + b"}\n\n" + _ONLY_DONE
        return Stream(groups, Reply(events=_Stamped(kept.events, stamp), tail=finish + tail, empty=empty))

    def _answer_to(self, asked: Asked, common: bytes) -> _Kept:
        limit = asked.max_completion_tokens or asked.max_tokens or 0
        special = asked.tools or asked.response_format is not None
        variant = self._variant(asked.messages)
        choices = asked.n or 1
        key = (asked.model, variant, limit if limit < self._words else 0, choices, common)
        if not special:
            kept = self._kept.get(key)
            if kept is not None:
                return kept
        said = (self._special(asked) if special else None) or self._plain(variant, limit)
        kept = self._made(said, asked.model, choices, common)
        if not special:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            self._kept[key] = kept
        return kept

    def _plain(self, variant: int, limit: int) -> _Said:
        dice = random.Random(f"{self._seed} {variant}")  # noqa: S311 - words, not secrets
        count = max(1, self._words)
        words = f"Simulated answer from {self._name}:".split()
        words += [dice.choice(_WORDS) for _ in range(count - len(words))]
        pieces = [words[0], *(f" {word}" for word in words[1:])][:count]
        if 0 < limit < len(pieces):
            return _Said(tuple(pieces[:limit]), finish="length")
        return _Said(tuple(pieces))

    def _special(self, asked: Asked) -> _Said | None:
        """Tool calls, or an answer in JSON; None where neither is called for."""
        called = _called_tools(asked)
        if called:
            return _Said(calls=tuple((tool.name, _example(tool.parameters)) for tool in called), finish="tool_calls")
        form = asked.response_format
        if form is None or form.type == "text":
            return None
        schema = form.json_schema.schema if form.json_schema is not None else None
        text = _example(schema) if schema is not None else _encode({"simulated": True, "by": self._name}).decode()
        return _Said(tuple(text[at : at + 4] for at in range(0, len(text), 4)))

    def _made(self, said: _Said, model: str, choices: int, common: bytes) -> _Kept:
        events = _events(said, _encode(model), choices)
        size = max(1, self._events_per_write)
        groups = [chunk(b"".join(events[at : at + size])) for at in range(0, len(events), size)]
        groups[0] = stream_head(common) + groups[0]
        return _Kept(
            body=_body(said, _encode(model), choices),
            events=tuple(events[:-choices]),
            finish=b"".join(events[-choices:]),
            groups=tuple(groups),
            tokens=said.tokens * choices,
        )

    def messages(self, body: bytes, number: int) -> Reply:
        """Answer a request of Anthropic's dialect. Raises msgspec.MsgspecError where it is none."""
        asked = _decode_anthropic(body)
        said = self._plain(self._variant(asked.messages), asked.max_tokens)
        return messages_reply(asked, said.pieces, said.finish, number)

    def _variant(self, messages: msgspec.Raw) -> int:
        return zlib.crc32(messages, self._seed) % _VARIANTS

    def embeddings(self, body: bytes) -> Reply:
        """Vectors of length one that depend on the text and the seed alone. Raises msgspec.MsgspecError."""
        asked = _decode_embeddings(body)
        inputs = asked.input if isinstance(asked.input, list) else [asked.input]
        if inputs and isinstance(inputs[0], int):
            inputs = [inputs]  # one text, as tokens
        count = min(max(1, asked.dimensions or _DIMENSIONS), 4096)
        as_text = asked.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _as_sent(self._vector(text, count), as_text=as_text)}
            for index, text in enumerate(inputs)
        ]
        tokens = max(1, len(body) // 4)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": asked.model, "usage": usage}
        return Reply(body=_encode(answer), empty=_encode({**answer, "data": []}))

    def _vector(self, text: object, dimensions: int) -> list[float]:
        dice = random.Random(zlib.crc32(_encode(text), self._seed))  # noqa: S311 - as above
        numbers = [dice.gauss(0.0, 1.0) for _ in range(dimensions)]
        length = sum(number * number for number in numbers) ** 0.5
        return [number / length for number in numbers]


class _Stamped(Sequence[bytes]):
    """Events with the stamp filled in when they are looked at: only faults do."""

    def __init__(self, events: Sequence[bytes], stamp: bytes) -> None:
        self._events = events
        self._stamp = stamp

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        return self._events[index].replace(_ROOM, self._stamp)


def _as_sent(vector: list[float], *, as_text: bool) -> list[float] | str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if as_text else vector


def _body(said: _Said, model: bytes, choices: int) -> bytes:
    """A whole answer without its opening brace, stamp and usage."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.pieces) or None, "refusal": None}
    if said.calls:
        message["tool_calls"] = [_call(index, name, arguments) for index, (name, arguments) in enumerate(said.calls)]
    rows = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": said.finish} for index in range(choices)
    ]
    return b'"object":"chat.completion","model":%b,"system_fingerprint":"simulated","choices":%b,' % (
        model,
        _encode(rows),
    )


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_simulated_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _events(said: _Said, model: bytes, choices: int) -> list[bytes]:
    """All events but usage and [DONE]: the opening one, a piece each, the finish. Each has the room for the stamp."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": "", "refusal": None}, None)]
    deltas += [({"content": piece}, None) for piece in said.pieces]
    for index, (name, arguments) in enumerate(said.calls):
        begun = _call(index, name, "")
        deltas.append(({"tool_calls": [{"index": index, **begun}]}, None))
        deltas += [
            ({"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 8]}}]}, None)
            for at in range(0, len(arguments), 8)
        ]
    deltas.append(({}, said.finish))
    return [
        b'data: {%b"object":"chat.completion.chunk","model":%b,"system_fingerprint":"simulated","choices":[%b]}\n\n'
        % (_ROOM, model, _encode({"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}))
        for delta, finish in deltas
        for choice in range(choices)
    ]


# Tools


def _called_tools(asked: Asked) -> list[_Function]:
    """The tool that the request forces, or those that its last message names, if a person wrote it."""
    tools = [tool.function for tool in asked.tools or ()]
    choice = asked.tool_choice
    if not tools or choice == "none":
        return []
    if isinstance(choice, _Choice):
        return [tool for tool in tools if tool.name == choice.function.name]
    messages = _decode_messages(asked.messages)
    last = messages[-1] if messages else _Message()
    if last.role != "user":
        return tools[:1] if choice == "required" else []
    text = last.content if isinstance(last.content, str) else _encode(last.content).decode()
    named = [tool for tool in tools if tool.name in text]
    if choice == "required":
        named = named or tools[:1]
    return named[:1] if asked.parallel_tool_calls is False else named


def _example(schema: Mapping[str, Any] | None) -> str:
    """JSON text that fits a schema."""
    return _encode(_value(schema or {"type": "object"}, schema or {}, 0)).decode()


def _value(schema: Any, root: Mapping[str, Any], references: int) -> Any:
    """A value that fits: the first of an enumeration, the first alternative, all properties of an object."""
    if not isinstance(schema, Mapping) or references > REFERENCES_MAX:
        return None
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if isinstance(schema.get("$ref"), str):
        return _value(_referred(schema["$ref"], root), root, references + 1)
    for word in ("enum", "anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            return schema[word][0] if word == "enum" else _value(schema[word][0], root, references)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    kind = str(kind or ("object" if "properties" in schema else ""))
    if kind == "object":
        properties = schema.get("properties")
        items = properties.items() if isinstance(properties, Mapping) else ()
        return {name: _value(inner, root, references) for name, inner in items}
    if kind == "array":
        return [_value(schema.get("items", {}), root, references)] if schema.get("minItems") else []
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(kind, "simulated")


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
